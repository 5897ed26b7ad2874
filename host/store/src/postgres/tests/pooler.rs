//! Poolers before the server. The conformance suite runs behind one in transaction mode as well.

use super::{check_lost_commits, create, open};
use crate::StoreError;
use crate::postgres::connection::{self, Connection};
use crate::postgres::test_server::TestDatabase;
use crate::postgres::tests::proxy::{COMMIT_ALONE, Proxy};

async fn connect(url: &str) -> Connection {
    Connection::open(&connection::config(url).expect("a URL")).await.expect("a connection")
}

/// Returns the message of a database that cannot be used.
#[track_caller]
fn refusal<T>(result: Result<T, StoreError>) -> String {
    match result.map(drop) {
        Err(StoreError::DatabaseUnfit(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_that_the_url_does_not_name_is_refused() {
    let database = TestDatabase::new().await;
    let pooler = database.start_pooler(2, "");
    let url = database.url_at(&pooler.folder);
    let message = refusal(open(&url, &database.master_key()).await);
    assert!(message.contains("add pooler=transaction to the URL"), "{message}");
    let mut config = connection::config(&url).expect("a URL");
    let connection = connect(&url).await;
    assert!(connection.require_own_session(&config).await.is_err());
    config.is_pooled = true;
    let connection = connect(&format!("{url} pooler=transaction")).await;
    connection.require_own_session(&config).await.expect("it needs none");
}

#[tokio::test]
async fn a_pooler_in_session_mode_is_like_a_server() {
    let database = TestDatabase::new().await;
    let pooler = database.start_pooler(30, "pool_mode = session");
    let (store, _store_events) = open(&database.url_at(&pooler.folder), &database.master_key()).await.expect("a store");
    create(&store, "a").await.expect("created");
}

#[tokio::test]
async fn a_statement_of_another_session_names_the_parameter() {
    let database = TestDatabase::new().await;
    let connection = database.connect().await;
    connection.query("SELECT 1", &[]).await.expect("prepared");
    connection.batch_execute("DEALLOCATE ALL").await.expect("as another session");
    let message = refusal(connection.query("SELECT 1", &[]).await);
    assert!(message.contains("add pooler=transaction to the URL"), "{message}");
}

/// Query of the things that a session has kept: settings that a host uses, prepared statements and channels.
const KEPT: &str = "SELECT name FROM pg_settings WHERE source = 'session' AND name IN
       ('default_transaction_read_only', 'enable_hashjoin', 'enable_mergejoin', 'enable_seqscan', 'idle_in_transaction_session_timeout', 'jit',
        'lock_timeout', 'statement_timeout', 'synchronous_commit')
     UNION ALL SELECT 'hookloom.host' WHERE current_setting('hookloom.host', true) <> ''
     UNION ALL SELECT name FROM pg_prepared_statements UNION ALL SELECT pg_listening_channels()";

#[tokio::test]
async fn one_connection_to_the_server_is_enough_and_keeps_nothing() {
    let database = TestDatabase::new().await;
    let pooler = database.start_pooler(1, "");
    let url = format!("{} pooler=transaction", database.url_at(&pooler.folder));
    let (store, _store_events) = open(&url, &database.master_key()).await.expect("a store");
    let beside = connect(&url).await;
    for number in 0..20 {
        create(&store, &number.to_string()).await.expect("created");
        store.changes(None, None, 5).await.expect("read");
        let kept = beside.query(KEPT, &[]).await.expect("a session");
        let kept: Vec<&str> = kept.iter().map(|row| row.get(0)).collect();
        assert!(kept.is_empty(), "{kept:?}");
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_behind_a_pooler_is_found_in_the_database() {
    let database = TestDatabase::new().await;
    let pooler = database.start_pooler(2, "");
    let proxy = Proxy::start(&pooler.folder, COMMIT_ALONE);
    let url = format!("{} pooler=transaction", proxy.url(&database));
    let (store, _store_events) = open(&url, &database.master_key()).await.expect("a store");
    check_lost_commits(&store, &proxy).await;
}

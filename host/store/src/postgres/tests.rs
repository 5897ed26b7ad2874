//! Tests of what only this backend has: its lock, lost connections, lost answers, and its master key.

mod fairness;
mod pooler;
pub(crate) mod proxy;
mod repeated;
mod settling;

pub(crate) use super::usage::tests::PostgresRows;

use super::Postgres;
use super::test_server::TestDatabase;
use crate::error::StoreError;
use crate::fair_queue::Owner;
use crate::vault::VaultError;
use crate::{Actor, Store, StoreEvent, StoreLimits, TenantChange};
use hookloom_model::subscription::TenantId;
use proxy::{COMMIT_ALONE, Loss, Proxy};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

pub(super) type Opened = Result<(Arc<Store>, UnboundedReceiver<StoreEvent>), StoreError>;

pub(super) async fn open(url: &str, master_key: &Path) -> Opened {
    Store::open_postgres(url, master_key, StoreLimits::default()).await
}

pub(super) async fn create(store: &Store, id: &str) -> Result<(), StoreError> {
    let id = TenantId(id.into());
    store.create_tenant(Actor::Host, id, TenantChange::default()).await.map(drop)
}

pub(super) fn shows(store: &Store, id: &str) -> bool {
    store.catalog().tenant(&TenantId(id.into())).is_some()
}

/// Returns the backend of a store.
fn backend(store: &Store) -> &Postgres {
    let backend: &dyn std::any::Any = &*store.backend;
    backend.downcast_ref().expect("a store on PostgreSQL")
}

/// Ends the connection of the writer, which is the one whose last statement named a fence.
const END_THE_WRITER: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%fence%'";

#[tokio::test]
async fn a_writer_whose_connection_ended_connects_again() {
    let database = TestDatabase::new().await;
    let (store, _store_events) = open(&database.url(), &database.master_key()).await.expect("a store");
    database.connect().await.batch_execute(END_THE_WRITER).await.expect("ended");
    // The first write may meet the end of the connection. It has changed nothing then.
    match create(&store, "a").await {
        Err(StoreError::Unavailable) => create(&store, "a").await.expect("written"),
        written => written.expect("written"),
    }
    assert!(shows(&store, "a"));
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_in_the_database() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database.socket_folder(), COMMIT_ALONE);
    let (store, _store_events) = open(&proxy.url(&database), &database.master_key()).await.expect("a store");
    check_lost_commits(&store, &proxy).await;
}

/// Loses the answer to a commit, and then a commit.
async fn check_lost_commits(store: &Store, proxy: &Proxy) {
    proxy.lose_next_commit(Loss::Answer);
    create(store, "a").await.expect("it was committed");
    assert!(shows(store, "a"));
    proxy.lose_next_commit(Loss::Request);
    let written = create(store, "b").await;
    assert!(matches!(written, Err(StoreError::Unavailable)), "{written:?}");
    assert!(!shows(store, "b"));
    create(store, "b").await.expect("nothing of it was written before");
}

#[tokio::test]
async fn a_write_that_fails_undoes_only_itself() {
    let database = TestDatabase::new().await;
    let (store, _store_events) = open(&database.url(), &database.master_key()).await.expect("a store");
    create(&store, "a").await.expect("created");
    let postgres = backend(&store);
    let insert = |number: i64| {
        postgres.write(Owner::Host, move |tx| {
            Box::pin(async move {
                let sql = "INSERT INTO readiness (only_row, checked_at_ms) VALUES ($1::int8 < 2, $1)";
                tx.execute(sql, &[&number]).await
            })
        })
    };
    let panics = postgres.write::<()>(Owner::Host, |_| Box::pin(async { panic!("a fault of the host") }));
    // Queued together, so that they share a transaction.
    let (first, refused, same, panicked) = tokio::join!(insert(1), insert(2), insert(1), panics);
    assert_eq!(first.expect("inserted"), 1);
    assert!(matches!(refused, Err(StoreError::Database(_))), "{refused:?}");
    assert!(matches!(same, Err(StoreError::Database(_))), "{same:?}");
    assert!(matches!(panicked, Err(StoreError::Panicked)), "{panicked:?}");
    let row = database.connect().await.query_one("SELECT count(*) FROM readiness", &[]).await.expect("a count");
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn another_master_key_is_refused() {
    let database = TestDatabase::new().await;
    drop(open(&database.url(), &database.master_key()).await.expect("a store"));
    let other = tempfile::tempdir().expect("a folder");
    let key = other.path().join("master.key");
    let opened = open(&database.url(), &key).await.map(drop);
    assert!(matches!(opened, Err(StoreError::Vault(VaultError::Missing { .. }))), "{opened:?}");
    crate::vault::Vault::open(&key).expect("another key");
    let opened = open(&database.url(), &key).await.map(drop);
    assert!(matches!(opened, Err(StoreError::Vault(VaultError::OtherKey { .. }))), "{opened:?}");
}

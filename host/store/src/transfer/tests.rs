//! Tests that a moved store answers as before, and that a move that cannot be completed changes nothing.

mod answers;
mod filled;
mod live;

use super::*;
use crate::FolderFault;
use crate::postgres::test_server::TestDatabase;
use crate::postgres::tests::PostgresRows;
use crate::postgres::tests::proxy::{COMMIT, Loss, Proxy};
use crate::usage_world::{World, sequences};
use crate::{Actor, Store, StoreLimits, TenantChange};
use answers::{Answers, answers, claims};
use filled::{Filled, filled_folder, folder_after};
use hookloom_model::subscription::TenantId;
use proptest::prelude::*;
use std::sync::Arc;
use tempfile::TempDir;

/// Opens the moved store, with the master key that is still in its folder.
async fn open_moved(folder: &Path, database: &TestDatabase) -> Arc<Store> {
    let limits = StoreLimits::default();
    let opened = Store::open_postgres(&database.url(), &folder.join("master.key"), limits).await;
    opened.expect("the moved store").0
}

async fn move_it(folder: &TempDir, database: &TestDatabase) -> Result<MoveReport, StoreError> {
    move_to_postgres(request(folder.path(), &database.url()), |_| ()).await
}

/// Returns the request of a move of a folder that no host uses.
fn request<'m>(folder: &'m Path, url: &'m str) -> MoveRequest<'m> {
    MoveRequest { folder, url, moved_to: "postgres://a.example/b on a day", is_live: false }
}

fn differences(before: &Answers, after: &Answers) -> Vec<String> {
    let pairs = before.iter().zip(after).filter(|(one, other)| one != other);
    let mut found: Vec<String> = pairs.map(|(one, other)| format!("{one:?}\n  is now\n{other:?}")).collect();
    if before.len() != after.len() {
        found.push(format!("{} answers are now {}", before.len(), after.len()));
    }
    found
}

/// Asserts that a database has no rows of a store, and that the folder has its store.
async fn assert_nothing_moved(folder: &TempDir, database: &TestDatabase) {
    let (store, _) = Store::open(folder.path()).expect("the store in its folder");
    assert!(!store.catalog().tenants().is_empty());
    let key = database.master_key();
    let (empty, _) = Store::open_postgres(&database.url(), &key, StoreLimits::default()).await.expect("a store");
    assert_eq!(empty.catalog().tenants().len(), 0);
    assert!(empty.catalog().keys(None).is_empty());
    empty.leave().await.expect("it has left");
}

#[tokio::test]
async fn a_moved_store_answers_as_before() {
    let database = TestDatabase::new().await;
    check_moved(&database, &database.url()).await;
}

#[tokio::test]
async fn a_store_that_was_moved_behind_a_pooler_answers_as_before() {
    let database = TestDatabase::new().await;
    check_moved(&database, &database.pooled_url()).await;
}

/// Moves a store by a URL of a database, and checks the answers.
async fn check_moved(database: &TestDatabase, url: &str) {
    let Filled { folder, before, claimed, key_hash } = filled_folder().await;
    let mut steps = Vec::new();
    let note = |step: MoveStep<'_>| steps.push(format!("{step:?}"));
    let report = move_to_postgres(request(folder.path(), url), note).await.expect("moved");
    for table in &report.tables {
        assert!(table.rows > 0, "the test has no rows in {}", table.table);
        assert!(steps.iter().any(|step| step.contains(&format!("{:?}", table.table))), "{steps:?}");
    }
    assert_eq!(steps[steps.len() - 2..], ["Checking", "Committing"]);
    let store = open_moved(folder.path(), database).await;
    let found = differences(&before, &answers(&store).await);
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(store.catalog().key(&key_hash).is_some(), "the key works");
    assert_eq!(claims(&store).await, claimed, "what was pending is pending");
    // What was under way goes on, and further rows follow the moved ones.
    store.complete_fan_outs().await.expect("complete");
    store.sweep().await.expect("swept");
    let tenant = TenantId("t0".into());
    let ledger = store.ledger(tenant.clone()).await.expect("a ledger");
    let event = crate::usage_world::contact(7, 10);
    store.accept(tenant.clone(), vec![event.clone()], crate::Caps::NONE).await.expect("accepted");
    let accepted = store.recent_events(tenant.clone(), vec![event.module], 1).await.expect("events").remove(0);
    let previous = store.previous(tenant.clone(), &accepted).await.expect("read").expect("the moved event");
    assert_eq!(previous.entity_id.as_deref(), Some("7"));
    let usage = store.usage(tenant.clone()).await.expect("usage");
    assert_eq!(usage.events, ledger.events + 1);
    store.prune(std::time::Duration::from_millis(1)).await.expect("pruned");
}

#[tokio::test]
async fn the_moved_folder_is_not_used_by_mistake() {
    let Filled { folder, .. } = filled_folder().await;
    let database = TestDatabase::new().await;
    move_it(&folder, &database).await.expect("moved");
    assert!(folder.path().join("hookloom.db.moved").exists() && !folder.path().join("hookloom.db").exists());
    for refused in [Store::open(folder.path()).map(drop), move_it(&folder, &database).await.map(drop)] {
        assert!(matches!(refused, Err(StoreError::Files(FolderFault::Moved { .. }))), "{refused:?}");
    }
    // Back to the store before the move.
    std::fs::rename(folder.path().join("hookloom.db.moved"), folder.path().join("hookloom.db")).expect("renamed");
    Store::open(folder.path()).map(drop).expect("as it was");
}

#[tokio::test]
async fn a_running_host_is_refused_and_so_is_a_folder_without_a_store() {
    let Filled { folder, .. } = filled_folder().await;
    let database = TestDatabase::new().await;
    let running = Store::open(folder.path()).expect("a store");
    let refused = move_it(&folder, &database).await;
    assert!(matches!(refused, Err(StoreError::Locked { .. })), "{refused:?}");
    drop(running);
    assert_nothing_moved(&folder, &database).await;
    let other = folder.path().join("other");
    let refused = move_to_postgres(request(&other, &database.url()), |_| ()).await;
    assert!(matches!(refused, Err(StoreError::Folder { .. })) && !other.exists(), "{refused:?}");
}

#[tokio::test]
async fn a_database_with_rows_or_a_host_is_refused() {
    let Filled { folder, .. } = filled_folder().await;
    let database = TestDatabase::new().await;
    let key = database.master_key();
    let (host, _) = Store::open_postgres(&database.url(), &key, StoreLimits::default()).await.expect("a host");
    let refused = move_it(&folder, &database).await;
    assert!(matches!(refused, Err(StoreError::DatabaseInUse)), "{refused:?}");
    host.create_tenant(Actor::Host, TenantId("a".into()), TenantChange::default()).await.expect("a tenant");
    host.leave().await.expect("it has left");
    drop(host);
    let refused = move_it(&folder, &database).await.expect_err("it has rows").to_string();
    assert!(refused.contains("it has rows already, in tenants; name an empty one"), "{refused}");
    let (store, _) = Store::open(folder.path()).expect("the store in its folder");
    assert_eq!(store.catalog().tenants().len(), 2);
    let (host, _) = Store::open_postgres(&database.url(), &key, StoreLimits::default()).await.expect("the host");
    assert_eq!(host.catalog().tenants().len(), 1);
}

#[tokio::test]
async fn a_failure_in_the_middle_leaves_the_database_empty() {
    let Filled { folder, .. } = filled_folder().await;
    let database = TestDatabase::new().await;
    // The last table.
    database.run("ALTER TABLE tenants ADD CONSTRAINT none CHECK (id <> 't1')").await;
    let refused = move_it(&folder, &database).await;
    assert!(matches!(refused, Err(StoreError::Database(_))), "{refused:?}");
    assert_nothing_moved(&folder, &database).await;
    database.run("ALTER TABLE tenants DROP CONSTRAINT none").await;
    move_it(&folder, &database).await.expect("moved");
}

#[tokio::test]
async fn a_lost_commit_is_undone_or_found() {
    let Filled { folder, .. } = filled_folder().await;
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database.socket_folder(), COMMIT);
    proxy.lose_next_commit(Loss::Request);
    let lost = move_to_postgres(request(folder.path(), &proxy.url(&database)), |_| ()).await;
    assert!(matches!(lost, Err(StoreError::Unavailable)), "{lost:?}");
    assert!(folder.path().join("hookloom.db").exists());
    proxy.lose_next_commit(Loss::Answer);
    move_to_postgres(request(folder.path(), &proxy.url(&database)), |_| ()).await.expect("it was committed");
    assert!(!folder.path().join("hookloom.db").exists());
    assert_eq!(open_moved(folder.path(), &database).await.catalog().tenants().len(), 2);
}

#[tokio::test]
async fn damaged_rows_and_wrong_sums_are_refused() {
    #[track_caller]
    fn check(refused: Result<MoveReport, StoreError>, part: &str) {
        let error = refused.expect_err("refused");
        let shown = hookloom_model::describe(&error);
        assert!(shown.contains(part) && shown.contains("hookloom rescue"), "{shown}");
    }
    for (sql, part) in [
        ("UPDATE attempts SET detail = 'x' WHERE number = 1", "row of attempts"),
        ("UPDATE components SET bytes = x'00'", "its bytes have the sha256"),
        ("INSERT INTO damage VALUES ('t0', 'event', x'', 0, 'a test')", "1 damaged rows, tables or indexes"),
        ("UPDATE deliveries SET state = 90000 WHERE state > 0", "deliveries.state"),
        ("UPDATE ledgers SET tests = tests + 1 WHERE tenant = 't1'", "the ledger of the tenant t1"),
    ] {
        let Filled { folder, .. } = filled_folder().await;
        let (store, _) = Store::open(folder.path()).expect("a store");
        store.sqlite().execute_batch(sql).await;
        drop(store);
        let database = TestDatabase::new().await;
        check(move_it(&folder, &database).await, part);
        assert!(folder.path().join("hookloom.db").exists());
    }
}

/// A table that is new in SQLite must be copied, or be named as one that is left out.
#[tokio::test]
async fn every_table_and_column_is_copied_or_says_why_not() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(Store::open(folder.path()).expect("a store"));
    let database = TestDatabase::new().await;
    let source = MoveSource::open(folder.path()).expect("a source");
    let tables = source.tables().expect("tables");
    for left_out in columns::left_out() {
        assert!(tables.iter().any(|table| table.name == left_out), "there is no table {left_out}");
    }
    let copied: Vec<&SourceTable> = tables.iter().filter(|table| columns::is_copied(&table.name)).collect();
    let names: Vec<&str> = copied.iter().map(|table| &*table.name).collect();
    let target = MoveTarget::open(&database.url(), &names).await.expect("a target");
    for table in copied {
        Columns::pair(table, target.columns(&table.name).await.expect("columns")).expect("every column has a place");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn any_store_can_be_moved_and_goes_on(steps in sequences(), further in sequences()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let found = runtime.block_on(async {
            let Filled { folder, before, claimed, .. } = folder_after(steps).await;
            let database = TestDatabase::new().await;
            move_it(&folder, &database).await.expect("moved");
            let store = open_moved(folder.path(), &database).await;
            let mut found = differences(&before, &answers(&store).await);
            found.extend((claims(&store).await != claimed).then(|| "claims".to_owned()));
            let world = World::on(store, PostgresRows::of(database).await);
            world.check().await;
            for step in further {
                world.take(step).await;
            }
            world.check().await;
            found
        });
        prop_assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

//! Fairness between tenants: writes in turns, and shares of the readers.

use super::{backend, open};
use crate::fair_queue::Owner;
use crate::postgres::test_server::TestDatabase;
use crate::write_queue::{Terms, WriteMode};
use futures_util::future::join_all;
use hookloom_model::subscription::TenantId;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Number of queued writes or reads of the tenant that wants everything.
const MANY: usize = 2_000;

/// Maximum wait for something that happens soon.
const SOON: Duration = Duration::from_secs(20);

fn owner(name: &str) -> Owner {
    Owner::Tenant(TenantId(name.into()))
}

#[tokio::test]
async fn a_burst_of_a_tenant_delays_the_write_of_another_by_one_transaction() {
    let database = TestDatabase::new().await;
    let (store, _store_events) = open(&database.url(), &database.master_key()).await.expect("a store");
    let writer = &backend(&store).writer;
    let (go, gone) = oneshot::channel::<()>();
    // While this write runs, the others are queued.
    let first = writer.run(
        WriteMode::Shared,
        Terms::small(owner("greedy")),
        |_| Box::pin(async move { Ok(gone.await.is_ok()) }),
        |_, _| {},
    );
    let order: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let queue = |mode, name: &'static str, what: &'static str| {
        let order = order.clone();
        writer.run(
            mode,
            Terms::small(owner(name)),
            |tx| Box::pin(async move { tx.execute("SELECT 1", &[]).await }),
            move |_, _| order.lock().push(what),
        )
    };
    let burst = join_all((0..MANY).map(|_| queue(WriteMode::Intake, "greedy", "greedy")));
    let late = async {
        let (modest, outcome, _) = tokio::join!(
            queue(WriteMode::Intake, "modest", "modest"),
            queue(WriteMode::Outcome, "greedy", "outcome"),
            async { go.send(()) },
        );
        modest.and(outcome)
    };
    let (first, burst, late) = tokio::join!(first, burst, late);
    assert!(first.expect("written"));
    assert_eq!((burst.len(), burst.iter().all(Result::is_ok)), (MANY, true));
    late.expect("written");
    let order = order.lock();
    assert_eq!(order[0], "outcome");
    let modest = order.iter().position(|what| *what == "modest").expect("written");
    assert!(modest <= 256, "after {modest} others, which are more than a transaction");
}

#[tokio::test]
async fn slow_queries_of_a_tenant_leave_readers_to_others_and_end_with_their_callers() {
    let database = TestDatabase::new().await;
    let (store, _store_events) = open(&database.url(), &database.master_key()).await.expect("a store");
    let readers = &backend(&store).readers;
    let slow = join_all((0..MANY).map(|_| {
        readers.read_one(owner("greedy"), |connection| {
            Box::pin(async move { connection.query("SELECT pg_sleep(100)", &[]).await })
        })
    }));
    let other = async {
        // After the slow ones have begun.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let read = readers
            .read_one(owner("modest"), |connection| Box::pin(async move { connection.query("SELECT 1", &[]).await }));
        tokio::time::timeout(SOON, read).await
    };
    tokio::select! {
        _ = slow => panic!("the slow queries end later"),
        read = other => assert!(matches!(&read, Ok(Ok(rows)) if rows.len() == 1), "{read:?}"),
    }
    let beside = database.connect().await;
    let running = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE '%pg_sleep(1%'
                      AND pid <> pg_backend_pid()";
    let ended = async {
        while beside.exists(running, &[]).await.expect("the server's list") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, ended).await.expect("queries without callers are cancelled");
}

//! Tests of requests that are repeated at another host while the first one's transaction is open.

use super::{backend, create, open};
use crate::backend::intake::{Accepted, AcceptedOnce, Repeatable};
use crate::fair_queue::Owner;
use crate::host_state::HostState;
use crate::postgres::connection::Connection;
use crate::postgres::job::{Job, SharedLocks, WriteJob, sort_by_shared_row};
use crate::postgres::test_server::TestDatabase;
use crate::postgres::transaction::{SqlFuture, WriteTx};
use crate::write_queue::Terms;
use crate::{Caps, NewEvent, Store, StoreError};
use bytes::Bytes;
use hookloom_model::event::{EventId, Module};
use hookloom_model::subscription::TenantId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Store with the tenant `t`, and connections of other hosts.
struct Hosts {
    store: Arc<Store>,
    other: Connection,
    watching: Connection,
    _database: TestDatabase,
}

impl Hosts {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let (store, _store_events) = open(&database.url(), &database.master_key()).await.expect("a store");
        create(&store, "t").await.expect("a tenant");
        let [other, watching] = [database.connect().await, database.connect().await];
        Hosts { store, other, watching, _database: database }
    }

    /// Begins to accept an event with a key.
    fn accept(&self, key: &str) -> JoinHandle<Result<AcceptedOnce, StoreError>> {
        let store = self.store.clone();
        let request = Repeatable { key: key.into(), body_sha256: [1; 32] };
        let name = "Contact is Created".into();
        let event = NewEvent { name, module: Module::Contact, entity_id: None, payload: Bytes::from_static(b"{}") };
        tokio::spawn(async move { store.accept_once(request, TenantId("t".into()), vec![event], Caps::NONE).await })
    }

    /// Runs a statement as another host.
    async fn run(&self, sql: &str) {
        self.other.batch_execute(sql).await.expect(sql);
    }

    /// Inserts a key as another host, in its open transaction.
    async fn insert(&self, key: &str) {
        let hash = "\\x".to_owned() + &"01".repeat(32);
        let sql = format!("INSERT INTO idempotency_keys VALUES ('t', '{key}', '{hash}', '[[\"{}\", 3]]', 0)", first());
        self.run(&sql).await;
    }

    /// Waits until a number of connections wait for a lock.
    async fn await_waiting(&self, count: i64) {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while self.number(sql).await != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn number(&self, sql: &str) -> i64 {
        self.watching.query_one(sql, &[]).await.expect("a number").get(0)
    }

    async fn last_transaction(&self) -> Option<Uuid> {
        self.watching.query_one("SELECT transaction FROM fences WHERE host = 1", &[]).await.expect("a row").get(0)
    }
}

/// Event that the other host has accepted.
fn first() -> Uuid {
    Uuid::from_u128(7)
}

#[tokio::test]
async fn a_key_that_another_host_is_accepting_gets_its_answer() {
    let hosts = Hosts::new().await;
    hosts.run("BEGIN").await;
    hosts.insert("a").await;
    let accepted = hosts.accept("a");
    hosts.await_waiting(1).await;
    hosts.run("COMMIT").await;
    let accepted = accepted.await.expect("joined").expect("answered");
    let events = vec![Accepted { event: EventId(first()), deliveries: 3 }];
    assert_eq!(accepted, AcceptedOnce { events, is_repetition: true });
    assert_eq!(hosts.number("SELECT count(*) FROM events").await, 0);
}

#[tokio::test]
async fn a_key_that_another_host_did_not_commit_is_accepted() {
    let hosts = Hosts::new().await;
    hosts.run("BEGIN").await;
    hosts.insert("a").await;
    let accepted = hosts.accept("a");
    hosts.await_waiting(1).await;
    hosts.run("ROLLBACK").await;
    assert!(!accepted.await.expect("joined").expect("accepted").is_repetition);
    assert_eq!(hosts.number("SELECT count(*) FROM events").await, 1);
}

#[tokio::test]
async fn a_repetition_is_answered_by_a_transaction_that_is_committed() {
    let hosts = Hosts::new().await;
    let request = Repeatable { key: "a".into(), body_sha256: [1; 32] };
    let first = hosts.accept("a").await.expect("joined").expect("accepted");
    let before = hosts.last_transaction().await;
    let again = hosts.accept("a").await.expect("joined").expect("answered");
    assert!(again.is_repetition && again.events == first.events);
    let after = hosts.last_transaction().await;
    assert_ne!(before, after);
    let answer = hosts.store.backend.answer(TenantId("t".into()), request).await.expect("answered");
    assert_eq!(answer, Some(first.events));
    assert_ne!(after, hosts.last_transaction().await);
}

#[tokio::test]
async fn hosts_that_wait_for_each_other_lose_one_write_only() {
    let hosts = Hosts::new().await;
    hosts.run("BEGIN").await;
    hosts.insert("b").await;
    // The writer is held in a first transaction, until two others are queued.
    let (go, gone) = oneshot::channel::<()>();
    let hold = backend(&hosts.store).writer.run_intake(
        Terms::small(Owner::Host),
        None,
        |_| Box::pin(async move { Ok(gone.await.is_ok()) }),
        |_, _| {},
    );
    let queue = async {
        let queued = [hosts.accept("b"), hosts.accept("a")];
        tokio::time::sleep(Duration::from_millis(50)).await;
        go.send(()).map(|()| queued)
    };
    let (held, queued) = tokio::join!(hold, queue);
    assert!(held.expect("written"));
    let [second, first] = queued.expect("the first transaction waits");
    // The writer has `a`, and waits for `b`. The other host must not do it in this order.
    hosts.await_waiting(1).await;
    let sql = "INSERT INTO idempotency_keys VALUES ('t', 'a', '', '', 0) ON CONFLICT DO NOTHING; COMMIT";
    let other = hosts.other.batch_execute(sql).await;
    let [first, second] = [first.await.expect("joined"), second.await.expect("joined")];
    assert!(first.is_ok(), "{first:?}");
    // The server has ended one of them. The answer of the host is 503, as for every other error of the database.
    let is_ended = matches!(second, Err(StoreError::Database(_)));
    assert!(is_ended != other.is_err() && is_ended == second.is_err(), "{second:?} {other:?}");
    hosts.accept("c").await.expect("joined").expect("the writer goes on");
}

#[test]
fn writes_that_lock_shared_rows_come_last_in_the_order_of_their_rows() {
    fn write(_: &WriteTx) -> SqlFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
    fn publish(_: &HostState, (): &mut ()) {}
    fn job(row: Option<&str>) -> Box<dyn Job> {
        let shared = SharedLocks { row: row.map(str::to_owned), ..SharedLocks::default() };
        Box::new(WriteJob::new(write, publish, shared).0)
    }
    let mut batch = [Some("t c"), None, Some("t a"), Some("s z"), None].map(job);
    sort_by_shared_row(&mut batch);
    let rows: Vec<_> = batch.iter().map(|job| job.shared_row()).collect();
    assert_eq!(rows, [None, None, Some("s z"), Some("t a"), Some("t c")]);
}

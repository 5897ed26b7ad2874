//! Tests of deliveries that settle while another host's transaction is open.

use super::{create, open};
use crate::postgres::connection::Connection;
use crate::postgres::test_server::TestDatabase;
use crate::{Actor, Caps, NewEvent, NewSubscription, Store};
use bytes::Bytes;
use hookloom_model::delivery::DeliveryId;
use hookloom_model::event::{Event, EventId, Module};
use hookloom_model::subscription::{LoadedSettings, Subscription, TenantId};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Begins the transaction of another host, with the locks of all entities.
const BEGIN: &str = "BEGIN; SELECT pg_advisory_xact_lock(7562612, n) FROM generate_series(0, 255) AS n";

/// Store with a subscription that settles, and the connection of another host.
struct SettlingHosts {
    store: Arc<Store>,
    subscription: Arc<Subscription>,
    other: Connection,
    watching: Connection,
    _database: TestDatabase,
}

fn tenant() -> TenantId {
    TenantId("t".into())
}

impl SettlingHosts {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let (store, _store_events) = open(&database.url(), &database.master_key()).await.expect("a store");
        create(&store, "t").await.expect("a tenant");
        let settings = json!({"notify_url": "http://a.example/", "modules": ["Contact"],
            "settle": {"quiet_s": 10, "max_wait_s": 60}});
        let settings = LoadedSettings::new(serde_json::from_value(settings).expect("settings"), BTreeMap::new());
        let new = NewSubscription { settings: settings.expect("a URL"), signing: Vec::new() };
        let subscription = store.create_subscription(Actor::Host, tenant(), new).await.expect("a subscription");
        let [other, watching] = [database.connect().await, database.connect().await];
        SettlingHosts { store, subscription, other, watching, _database: database }
    }

    /// Begins to accept an event of the contact.
    fn accept(&self) -> JoinHandle<EventId> {
        let store = self.store.clone();
        let payload = Bytes::from_static(b"{}");
        let name = "Contact is Updated".into();
        let event = NewEvent { name, module: Module::Contact, entity_id: Some("1".into()), payload };
        tokio::spawn(async move { store.accept(tenant(), vec![event], Caps::NONE).await.expect("accepted")[0].event })
    }

    /// Returns the delivery of an event.
    async fn delivery_of(&self, event: EventId) -> (DeliveryId, Arc<Event>) {
        let view = self.store.event(tenant(), event).await.expect("the event");
        (view.deliveries[0].id, view.event)
    }

    /// Waits until a connection waits for a lock.
    async fn await_waiting(&self) {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while self.watching.query_one(sql, &[]).await.expect("a number").get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn run(&self, sql: &str) {
        self.other.batch_execute(sql).await.expect(sql);
    }
}

#[tokio::test]
async fn an_event_does_not_supersede_what_its_owner_is_taking_up() {
    let hosts = SettlingHosts::new().await;
    let first = hosts.accept().await.expect("joined");
    hosts.run(BEGIN).await;
    hosts.run("UPDATE deliveries SET settles_key = NULL WHERE state = 0").await;
    let second = hosts.accept();
    hosts.await_waiting().await;
    hosts.run("COMMIT").await;
    let second = second.await.expect("joined");
    for event in [first, second] {
        let view = hosts.store.event(tenant(), event).await.expect("the event");
        assert_eq!((view.deliveries[0].state as u8, view.deliveries[0].superseded_by), (0, None));
    }
    let ledger = hosts.store.ledger(tenant()).await.expect("a ledger");
    assert_eq!((ledger.pending, ledger.superseded), (2, 0));
}

#[tokio::test]
async fn an_owner_does_not_take_up_what_another_host_is_superseding() {
    let hosts = SettlingHosts::new().await;
    let event = hosts.accept().await.expect("joined");
    let (delivery, event) = hosts.delivery_of(event).await;
    hosts.run(BEGIN).await;
    let by = Uuid::from_u128(7);
    // The row moves to another part of the table, for which nobody may wait.
    let sql = format!("UPDATE deliveries SET state = 5, settles_key = NULL, superseded_by = '{by}' WHERE state = 0");
    hosts.run(&sql).await;
    let store = hosts.store.clone();
    let subscription = hosts.subscription.clone();
    let ended = tokio::spawn(async move { store.backend.end_settling(&subscription, vec![(delivery, event)]).await });
    hosts.await_waiting().await;
    hosts.run("COMMIT").await;
    assert!(ended.await.expect("joined").expect("decided").is_empty());
}

#[tokio::test]
async fn of_two_hosts_that_accept_at_once_one_finds_the_delivery_of_the_other() {
    let hosts = SettlingHosts::new().await;
    let first = hosts.accept().await.expect("joined");
    hosts.run(BEGIN).await;
    // As the other host does for an event of the same contact.
    let copy = "INSERT INTO deliveries (tenant, id, event, subscription, kind, due_at_ms, state, age_from_ms, created_at_ms, updated_at_ms,
                  settles_key, settles_until_ms, settled_events, settled_first)
                SELECT tenant, '00000000-0000-7000-8000-000000000007', event, subscription, kind, due_at_ms, 0, age_from_ms, created_at_ms,
                  updated_at_ms, settles_key, settles_until_ms, 2, settled_first FROM deliveries WHERE state = 0";
    hosts.run(copy).await;
    let by = Uuid::from_u128(0x7000_8000_0000_0000_0007);
    let sql = format!(
        "UPDATE deliveries SET state = 5, settles_key = NULL, superseded_by = '{by}' WHERE state = 0 AND settled_events = 1"
    );
    hosts.run(&sql).await;
    let second = hosts.accept();
    hosts.await_waiting().await;
    hosts.run("COMMIT").await;
    let second = hosts.store.event(tenant(), second.await.expect("joined")).await.expect("the event");
    let settled = second.deliveries[0].settled.expect("a burst");
    assert_eq!((settled.count, settled.first), (3, first));
    let counted = hosts.watching.query_one("SELECT count(*) FROM deliveries WHERE state = 0", &[]).await;
    assert_eq!(counted.expect("a number").get::<_, i64>(0), 1);
}

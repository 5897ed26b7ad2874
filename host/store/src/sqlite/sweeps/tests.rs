//! Tests that a change makes all waiting deliveries due, in steps, also over a restart, and no others.

use super::*;
use crate::{
    Actor, AttemptClass, Caps, NewEvent, NewSubscription, PluginVersion, StateChange, Store, StoreEvent, TenantChange,
};
use bytes::Bytes;
use hookloom_model::clock::ManualClock;
use hookloom_model::event::Module;
use hookloom_model::subscription::{LoadedSettings, Subscription};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Number of deliveries: more than two steps.
const MANY: usize = 2 * STEP + 44;

fn tenant() -> TenantId {
    TenantId("t".into())
}

fn open(folder: &Path) -> Arc<Store> {
    Store::open(folder).expect("a store").0
}

fn new(description: &str) -> NewSubscription {
    let settings =
        json!({"notify_url": "http://a.example/", "modules": ["Contact"], "plugin": "p", "description": description});
    let settings = serde_json::from_value(settings).expect("settings");
    let settings = LoadedSettings::new(settings, BTreeMap::new()).expect("a URL");
    NewSubscription { settings, signing: Vec::new() }
}

async fn activate(store: &Arc<Store>, sha256: char) {
    let version = PluginVersion::example(sha256.to_string().repeat(64), 1);
    store
        .activate_plugin(Actor::Host, tenant(), "p".into(), version, Bytes::from_static(b"x"), || ())
        .await
        .expect("active");
}

/// Creates a store with subscriptions of one plugin, each with this number of deliveries that wait for another version.
async fn with_waiting(folder: &Path, subscriptions: usize, each: usize) -> (Arc<Store>, Vec<Arc<Subscription>>) {
    let store = open(folder);
    store.create_tenant(Actor::Host, tenant(), TenantChange::default()).await.expect("a tenant");
    activate(&store, 'a').await;
    for _ in 0..subscriptions {
        store.create_subscription(Actor::Host, tenant(), new("")).await.expect("a subscription");
    }
    let event = NewEvent {
        name: "Contact is Created".into(),
        module: Module::Contact,
        entity_id: None,
        payload: Bytes::from_static(b"{}"),
    };
    for _ in 0..each {
        store.accept(tenant(), vec![event.clone()], Caps::NONE).await.expect("accepted");
    }
    drop(store);
    let connection = Connection::open(folder.join("hookloom.db")).expect("the database");
    let sql = "UPDATE deliveries SET attempts_made = 1, awaiting_plugin = 1, due_at_ms = 9e15, updated_at_ms = updated_at_ms - 1000";
    connection.execute(sql, []).expect("they wait");
    drop(connection);
    let store = open(folder);
    let subscriptions = store.catalog().subscriptions(&tenant()).to_vec();
    (store, subscriptions)
}

async fn count(store: &Store, condition: &'static str) -> usize {
    let read = move |connection: &Connection| {
        let sql = format!("SELECT COUNT(*) FROM deliveries WHERE {condition}");
        Ok(connection.query_row(&sql, [], |row| row.get(0))?)
    };
    store.sqlite().readers.read(Owner::Host, read).await.expect("a number")
}

const DUE: &str = "state = 0 AND awaiting_plugin = 0 AND due_at_ms < 9e15";

#[tokio::test]
async fn deliveries_that_wait_for_a_version_become_due_in_steps_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = with_waiting(folder.path(), 1, MANY).await;
    activate(&store, 'b').await;
    assert_eq!(count(&store, DUE).await, STEP, "the transaction of the change has a bound");
    drop(store);
    let (store, mut store_events) = Store::open(folder.path()).expect("a restart");
    store.sweep().await.expect("swept");
    assert_eq!(count(&store, DUE).await, MANY);
    // Each step publishes a change of the subscription, because for new deliveries its lane would read only first attempts.
    let id = store.catalog().subscriptions(&tenant())[0].id;
    for _ in 0..2 {
        let event = store_events.try_recv().expect("an event");
        assert!(matches!(event, StoreEvent::Changed(changed) if changed == id), "{event:?}");
    }
    let left = store.sqlite().readers.read(Owner::Host, next_sweep).await.expect("a look");
    assert!(left.is_none(), "{left:?}");
}

#[tokio::test]
async fn what_was_attempted_after_the_change_waits_for_the_next_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, subscriptions) = with_waiting(folder.path(), 1, MANY).await;
    store.update_subscription(Actor::Host, &subscriptions[0], new("edited")).await.expect("edited");
    // The last one is judged with the new config before the sweep reaches it, and waits again.
    let late = now_ms() + 1;
    let write = move |tx: &AdminTx<'_, '_>| {
        let sql = "UPDATE deliveries SET attempts_made = 2, updated_at_ms = ?1
                   WHERE id = (SELECT MAX(id) FROM deliveries WHERE awaiting_plugin = 1)";
        Ok(tx.execute(sql, [late])?)
    };
    assert_eq!(store.sqlite().write(Owner::Host, write).await.expect("one"), 1);
    while now_ms() <= late {
        tokio::task::yield_now().await;
    }
    store.sweep().await.expect("swept");
    assert_eq!(count(&store, DUE).await, MANY - 1);
    assert_eq!(count(&store, "awaiting_plugin = 1 AND attempts_made = 2").await, 1);
}

#[tokio::test]
async fn every_webhook_of_a_plugin_is_reached_however_many_there_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let many = SUBSCRIPTIONS + 6;
    let (store, _) = with_waiting(folder.path(), many, 2).await;
    activate(&store, 'b').await;
    assert_eq!(count(&store, DUE).await, SUBSCRIPTIONS * 2);
    store.sweep().await.expect("swept");
    assert_eq!(count(&store, DUE).await, many * 2);
}

#[tokio::test]
async fn resuming_touches_no_delivery_and_its_age_begins_where_it_was() {
    let clock = Arc::new(ManualClock::at(now_ms()));
    let _entered = clock::enter(Some(clock.clone()));
    let folder = tempfile::tempdir().expect("a folder");
    let (store, subscriptions) = with_waiting(folder.path(), 1, 3).await;
    activate(&store, 'b').await;
    let id = subscriptions[0].id;
    let pause = StateChange::Pause { reason: "test".into(), by_host: false };
    store.set_subscription_state(Actor::Host, &tenant(), id, pause).await.expect("paused");
    const PAUSED_MS: u64 = 3 * 86_400_000;
    clock.pass(PAUSED_MS);
    let before = count(&store, "age_from_ms = created_at_ms").await;
    store.set_subscription_state(Actor::Host, &tenant(), id, StateChange::Resume).await.expect("resumed");
    assert_eq!((before, count(&store, "age_from_ms = created_at_ms").await), (3, 3));
    let check = |store: Arc<Store>| async move {
        let subscription = store.catalog().subscription(&tenant(), id).expect("it");
        let page = store.claim_due(&subscription, AttemptClass::Retry, 10).await.expect("a page");
        assert_eq!(page.due.len(), 3);
        for due in page.due {
            let younger_ms = due.delivery().age_from_ms - due.event.received_at_ms;
            // The event and its delivery have ids of the same second.
            assert!(PAUSED_MS.cast_signed().abs_diff(younger_ms) < 1_000, "{younger_ms} ms");
        }
    };
    check(store.clone()).await;
    drop(store);
    check(open(folder.path())).await;
}

//! Tests that every delivery of a large fan-out is made once, also over a restart and with concurrent changes of the subscriptions.

use super::*;
use crate::backend::intake::{SCATTERED_MIN, SCATTERED_STEP};
use crate::fan_out::{STEPS_AT_ONCE, takes_steps};
use crate::{
    Accepted, Actor, Caps, NewEvent, NewSubscription, PluginVersion, Repeatable, Store, StoreEvent, TenantChange,
};
use bytes::Bytes;
use hookloom_model::event::Module;
use hookloom_model::subscription::LoadedSettings;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

/// Number of deliveries: more than two steps, and not a multiple of one.
const MANY: usize = 5 * SCATTERED_STEP + 44;

type StoreEventReceiver = UnboundedReceiver<StoreEvent>;

fn tenant() -> TenantId {
    TenantId("t".into())
}

fn open(folder: &Path) -> (Arc<Store>, StoreEventReceiver) {
    Store::open(folder).expect("a store")
}

async fn subscribe(store: &Store, count: usize) -> Vec<SubscriptionId> {
    let settings = json!({"notify_url": "http://a.example/", "modules": ["Contact"], "plugin": "p"});
    let mut made = Vec::new();
    for _ in 0..count {
        let settings = serde_json::from_value(settings.clone()).expect("settings");
        let settings = LoadedSettings::new(settings, BTreeMap::new()).expect("a URL");
        let new = NewSubscription { settings, signing: Vec::new() };
        made.push(store.create_subscription(Actor::Host, tenant(), new).await.expect("a subscription").id);
    }
    made
}

async fn with_subscriptions(folder: &Path, count: usize) -> (Arc<Store>, StoreEventReceiver) {
    let (store, store_events) = open(folder);
    store.create_tenant(Actor::Host, tenant(), TenantChange::default()).await.expect("a tenant");
    let version = PluginVersion::example("a".repeat(64), 1);
    store
        .activate_plugin(Actor::Host, tenant(), "p".into(), version, Bytes::from_static(b"x"), || ())
        .await
        .expect("active");
    subscribe(&store, count).await;
    (store, store_events)
}

fn contact(entity: &str) -> NewEvent {
    NewEvent {
        name: "Contact is Created".into(),
        module: Module::Contact,
        entity_id: Some(entity.into()),
        payload: Bytes::from_static(b"{}"),
    }
}

/// Returns the number of deliveries that the store published, by event and subscription.
fn published(store_events: &mut StoreEventReceiver) -> HashMap<(EventId, SubscriptionId), usize> {
    let mut published = HashMap::new();
    while let Ok(event) = store_events.try_recv() {
        let StoreEvent::Accepted(new) = event else { continue };
        for due in new.due {
            *published.entry((due.delivery().event, due.delivery().subscription)).or_default() += 1;
        }
    }
    published
}

/// Compares the ledger with the number of deliveries that were promised.
async fn check_ledger(store: &Store, promised: u64) {
    let ledger = store.ledger(tenant()).await.expect("a ledger");
    assert_eq!((ledger.fan_out, ledger.pending + ledger.cancelled), (promised, promised));
}

/// Returns the number of rows in the table of deliveries.
async fn made(store: &Store) -> usize {
    let count = store.sqlite().readers.read(Owner::Host, |connection| {
        Ok(connection.query_row("SELECT COUNT(*) FROM deliveries", [], |row| row.get(0))?)
    });
    count.await.expect("a number")
}

/// Accepts events, with a request that ends after this number of steps.
async fn accept_and_leave(store: &Store, events: Vec<NewEvent>, steps: usize) {
    let accept = store.accept(tenant(), events, Caps::NONE);
    let mut accept = std::pin::pin!(accept);
    while made(store).await < steps * SCATTERED_STEP || all_of(store).await.is_empty() {
        let _ = futures_util::poll!(accept.as_mut());
    }
    // A step may be queued at the writer's thread. A tenant's writes run in their order.
    store.sqlite().write(&tenant(), |_| Ok(())).await.expect("written");
}

async fn all_of(store: &Store) -> Vec<(TenantId, Uuid)> {
    store.sqlite().readers.read(Owner::Host, all).await.expect("fan-outs")
}

#[tokio::test]
async fn a_large_fan_out_is_complete_when_it_is_answered() {
    let folder = TempDir::new().expect("a folder");
    let (store, mut store_events) = with_subscriptions(folder.path(), MANY).await;
    let accepted = store.accept(tenant(), vec![contact("1")], Caps::NONE).await.expect("accepted");
    assert_eq!(accepted[0].deliveries, MANY);
    assert_eq!((made(&store).await, all_of(&store).await.len()), (MANY, 0));
    let published = published(&mut store_events);
    assert!(published.len() == MANY && published.values().all(|count| *count == 1));
    check_ledger(&store, MANY as u64).await;
}

#[tokio::test]
async fn a_batch_is_complete_once_and_in_order() {
    check_batch(10, SCATTERED_MIN).await;
    check_batch(STEPS_AT_ONCE * STEP / 5 + 1, 5).await;
}

/// Accepts a batch twice with the same key, and compares the stored deliveries with the published ones.
async fn check_batch(count: usize, subscriptions: usize) {
    assert!(takes_steps((count * subscriptions) as u64, subscriptions));
    let folder = TempDir::new().expect("a folder");
    let (store, mut store_events) = with_subscriptions(folder.path(), subscriptions).await;
    let events: Vec<_> = (0..count).map(|_| contact("1")).collect();
    let request = Repeatable { key: "k".into(), body_sha256: [1; 32] };
    let first = store.accept_once(request.clone(), tenant(), events.clone(), Caps::NONE).await.expect("accepted");
    let again = store.accept_once(request, tenant(), events, Caps::NONE).await.expect("repeated");
    assert!(!first.is_repetition && again.is_repetition && first.events == again.events);
    assert_eq!(made(&store).await, count * subscriptions);
    assert_eq!(published(&mut store_events).len(), count * subscriptions);
    let mut by_subscription: HashMap<Uuid, Vec<Uuid>> = HashMap::new();
    for (subscription, event) in
        store.sqlite().readers.read(Owner::Host, subscriptions_and_events).await.expect("deliveries")
    {
        by_subscription.entry(subscription).or_default().push(event);
    }
    let expected: Vec<Uuid> = first.events.iter().map(|Accepted { event, .. }| event.0).collect();
    assert!(by_subscription.values().all(|events| *events == expected));
}

/// Returns subscription and event of every delivery, in the order in which they were made.
fn subscriptions_and_events(connection: &Connection) -> Result<Vec<(Uuid, Uuid)>, StoreError> {
    let mut statement = connection.prepare("SELECT subscription, event FROM deliveries ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, Uuid>(0)?, row.get::<_, Uuid>(1)?)))?;
    Ok(rows.collect::<Result<Vec<_>, _>>()?)
}

#[tokio::test]
async fn an_interrupted_fan_out_is_completed_after_a_restart() {
    let folder = TempDir::new().expect("a folder");
    let (store, _store_events) = with_subscriptions(folder.path(), MANY).await;
    accept_and_leave(&store, vec![contact("1"), contact("2")], 3).await;
    let before = made(&store).await;
    assert!((3 * SCATTERED_STEP..2 * MANY).contains(&before), "{before} deliveries are made");
    check_ledger(&store, 2 * MANY as u64).await;
    drop(store);
    let (store, mut store_events) = open(folder.path());
    check_ledger(&store, 2 * MANY as u64).await;
    store.complete_fan_outs().await.expect("complete");
    assert_eq!((made(&store).await, all_of(&store).await.len()), (2 * MANY, 0));
    assert_eq!(published(&mut store_events).len(), 2 * MANY - before);
    check_ledger(&store, 2 * MANY as u64).await;
}

#[tokio::test]
async fn an_interrupted_fan_out_is_completed_in_the_background() {
    let folder = TempDir::new().expect("a folder");
    let (store, _store_events) = with_subscriptions(folder.path(), MANY).await;
    accept_and_leave(&store, vec![contact("1")], 1).await;
    let background = tokio::spawn({
        let store = store.clone();
        async move { store.run_fan_outs().await }
    });
    while !all_of(&store).await.is_empty() {
        tokio::task::yield_now().await;
    }
    background.abort();
    assert_eq!(made(&store).await, MANY);
}

#[tokio::test]
async fn subscriptions_may_come_and_go_meanwhile() {
    let folder = TempDir::new().expect("a folder");
    let (store, _store_events) = with_subscriptions(folder.path(), MANY).await;
    accept_and_leave(&store, vec![contact("1"), contact("2")], 1).await;
    let last = store.catalog().subscriptions(&tenant()).iter().map(|one| one.id).max_by_key(|id| id.0).expect("one");
    store.delete_subscription(Actor::Host, &tenant(), last).await.expect("deleted");
    subscribe(&store, 3).await;
    store.complete_fan_outs().await.expect("complete");
    let made = made(&store).await;
    assert!(made >= 2 * (MANY - 1), "{made}");
    check_ledger(&store, made as u64).await;
}

#[tokio::test]
async fn a_tenant_that_is_deleted_meanwhile_leaves_nothing() {
    let folder = TempDir::new().expect("a folder");
    let (store, _store_events) = with_subscriptions(folder.path(), MANY).await;
    accept_and_leave(&store, vec![contact("1")], 1).await;
    let contents = store.tenant_contents(tenant()).await.expect("its contents");
    store.delete_tenant(Actor::Host, tenant(), contents, || ()).await.expect("deleted");
    store.complete_fan_outs().await.expect("complete");
    store.delete_discarded().await.expect("the rest");
    assert_eq!((made(&store).await, all_of(&store).await.len()), (0, 0));
}

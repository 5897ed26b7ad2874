//! Chains of superseded deliveries, from the oldest to the survivor.

use super::settling::{QUIET_MS, all, burst, deliveries_in_reverse, finish, settle};
use super::test_store::{TestStore, tenant};
use super::test_values::{contact, operator};
use crate::settled_chain::LISTED_MAX;
use crate::{DeliveryView, SettledChain};
use hookloom_model::delivery::{DeliveryId, DeliveryState};
use hookloom_model::event::EventId;
use serde_json::json;

conformance! {
    every_delivery_of_a_burst_has_its_chain,
    a_delivery_that_stands_for_itself_has_no_chain,
    entities_and_subscriptions_have_their_own_chains,
    two_bursts_of_an_entity_have_two_chains,
    a_long_chain_lists_its_end,
    the_delivery_of_an_earlier_event_is_in_the_chain,
    a_delivery_that_is_sent_by_hand_leaves_the_chain,
}

/// Returns the chain of a delivery.
async fn chain(store: &TestStore, id: DeliveryId) -> Option<SettledChain> {
    let mut chains = store.settled_chains(tenant(), vec![id]).await.expect("chains");
    let found = chains.remove(&id);
    assert!(chains.is_empty(), "{chains:?}");
    found
}

/// Returns the events of a chain in its order, with the number of the others.
fn events_of(chain: Option<SettledChain>) -> Option<(Vec<EventId>, u64)> {
    let SettledChain { deliveries, not_listed } = chain?;
    Some((deliveries.iter().map(|one| one.event).collect(), not_listed))
}

async fn every_delivery_of_a_burst_has_its_chain(store: &mut TestStore) {
    store.subscribe(settle()).await;
    let events = burst(store, 4).await;
    let deliveries: Vec<DeliveryId> = all(store).await.iter().map(|one| one.id).collect();
    let chains = store.settled_chains(tenant(), deliveries.clone()).await.expect("chains");
    assert_eq!(chains.len(), 4);
    for id in &deliveries {
        let SettledChain { deliveries: listed, not_listed } = &chains[id];
        assert_eq!((listed.iter().map(|one| one.event).collect::<Vec<_>>(), *not_listed), (events.clone(), 0));
        assert_eq!(listed.iter().map(|one| one.id).collect::<Vec<_>>(), deliveries);
        let (survivor, superseded) = listed.split_last().expect("a survivor");
        assert_eq!((survivor.state, survivor.is_settling), (DeliveryState::Pending, true));
        assert!(superseded.iter().all(|one| one.state == DeliveryState::Superseded));
    }
}

async fn a_delivery_that_stands_for_itself_has_no_chain(store: &mut TestStore) {
    store.subscribe(settle()).await;
    store.subscribe(json!({})).await;
    store.take(vec![contact("1"), contact("2"), contact("")]).await;
    let deliveries: Vec<DeliveryId> = all(store).await.iter().map(|one| one.id).collect();
    assert_eq!(deliveries.len(), 6);
    assert!(store.settled_chains(tenant(), deliveries).await.expect("chains").is_empty());
    let missing = DeliveryId(hookloom_model::ids::new_uuid());
    assert!(chain(store, missing).await.is_none());
}

async fn entities_and_subscriptions_have_their_own_chains(store: &mut TestStore) {
    let one = store.subscribe(settle()).await;
    store.subscribe(settle()).await;
    let mut own = Vec::new();
    for entity in ["1", "2", "1", "2", "1"] {
        store.pass(1_000);
        let event = store.take_one(entity).await.event;
        own.extend((entity == "1").then_some(event));
    }
    let is_last = |view: &DeliveryView| view.subscription == one.id && Some(&view.event) == own.last();
    let last = all(store).await.into_iter().find(is_last).expect("the last one");
    let found = chain(store, last.id).await.expect("a chain");
    assert!(found.deliveries.iter().all(|view| view.subscription == one.id));
    assert_eq!(events_of(Some(found)), Some((own, 0)));
}

async fn two_bursts_of_an_entity_have_two_chains(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    let first = burst(store, 3).await;
    store.pass(QUIET_MS);
    let claim = store.claim(&of).await;
    let delivered = claim.delivery().id;
    finish(store, claim, DeliveryState::Delivered).await;
    let second = burst(store, 2).await;
    assert_eq!(events_of(chain(store, delivered).await), Some((first, 0)));
    let waiting = all(store).await.pop().expect("the newest one").id;
    assert_eq!(events_of(chain(store, waiting).await), Some((second, 0)));
}

async fn a_long_chain_lists_its_end(store: &mut TestStore) {
    store.subscribe(settle()).await;
    let events = store.take((0..LISTED_MAX + 30).map(|_| contact("1")).collect()).await;
    let listed: Vec<EventId> = events[30..].iter().map(|one| one.event).collect();
    let oldest = store.event(tenant(), events[0].event).await.expect("the first event");
    assert_eq!(events_of(chain(store, oldest.deliveries[0].id).await), Some((listed, 30)));
}

async fn the_delivery_of_an_earlier_event_is_in_the_chain(store: &mut TestStore) {
    store.subscribe(settle()).await;
    let [survivor, superseded] = deliveries_in_reverse(store).await;
    let expected = Some((vec![superseded.event, survivor.event], 0));
    assert_eq!(events_of(chain(store, survivor.id).await), expected);
    assert_eq!(events_of(chain(store, superseded.id).await), expected);
}

async fn a_delivery_that_is_sent_by_hand_leaves_the_chain(store: &mut TestStore) {
    store.subscribe(settle()).await;
    let events = burst(store, 4).await;
    let deliveries: Vec<DeliveryId> = all(store).await.iter().map(|one| one.id).collect();
    store.retry(operator(), tenant(), deliveries[1]).await.expect("made pending");
    // It stands for the first two events, and the survivor for all of them.
    assert_eq!(events_of(chain(store, deliveries[0]).await), Some((events[..2].to_vec(), 0)));
    assert_eq!(events_of(chain(store, deliveries[1]).await), Some((events[..2].to_vec(), 0)));
    assert_eq!(events_of(chain(store, deliveries[3]).await), Some((events[2..].to_vec(), 2)));
}

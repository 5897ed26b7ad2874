//! Settling: events of one contact or deal that follow each other within the quiet time are delivered once.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::{again, contact, end, event_of, operator, record};
use crate::backend::intake::{FanOutAnswer, IntakeRequest};
use crate::{Caps, Claim, DeliveryView, NewEvent, Span, StateChange};
use hookloom_model::delivery::{DeliveryKind, DeliveryState};
use hookloom_model::event::{EventId, Module};
use hookloom_model::ids;
use hookloom_model::settle::SettledEvents;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

conformance! {
    a_burst_is_delivered_once_with_its_last_event,
    events_of_one_request_are_a_burst,
    a_burst_ends_after_its_longest_wait,
    a_delivery_that_is_taken_up_is_not_superseded,
    a_delivery_that_was_released_is_not_superseded,
    a_delivery_that_was_attempted_is_not_superseded,
    a_delivery_that_was_superseded_is_not_taken_up,
    entities_and_subscriptions_settle_apart,
    an_event_without_an_entity_is_delivered_at_once,
    a_burst_in_a_pause_is_delivered_once_after_it,
    a_superseded_delivery_blocks_nothing,
    a_retry_by_hand_ends_the_settling,
    a_superseded_delivery_can_be_retried,
    a_cancelled_delivery_is_not_superseded,
    replays_and_tests_do_not_settle,
    the_delivery_of_an_earlier_event_does_not_supersede,
    a_restart_keeps_what_settles,
    pruned_deliveries_stay_counted,
    a_new_setting_leaves_what_waits,
}

pub(super) const QUIET_MS: i64 = 10_000;
const MAX_WAIT_MS: i64 = 60_000;

pub(super) fn settle() -> Value {
    json!({"settle": {"quiet_s": 10, "max_wait_s": 60, "keep": "last"}})
}

/// Returns all deliveries, oldest first.
pub(super) async fn all(store: &TestStore) -> Vec<DeliveryView> {
    let mut all = store.all_deliveries().await;
    all.reverse();
    all
}

/// Accepts events of one contact, a second after each other.
pub(super) async fn burst(store: &mut TestStore, count: usize) -> Vec<EventId> {
    let mut events = Vec::new();
    for _ in 0..count {
        store.pass(1_000);
        events.push(store.take_one("1").await.event);
    }
    events
}

pub(super) async fn finish(store: &TestStore, claim: Claim, state: DeliveryState) {
    let outcome = record(claim.delivery(), end(state));
    store.finish(claim, outcome).await.expect("recorded");
}

/// Asserts that the deliveries end as a chain: each names the next one, and only the last one is pending.
#[track_caller]
fn check_chain(all: &[DeliveryView], events: &[EventId]) {
    assert_eq!(all.iter().map(|view| view.event).collect::<Vec<_>>(), events);
    for (index, view) in all.iter().enumerate() {
        let next = all.get(index + 1).map(|next| next.id);
        assert_eq!(view.superseded_by, next);
        let state = if next.is_some() { DeliveryState::Superseded } else { DeliveryState::Pending };
        assert_eq!((view.state, view.is_settling, view.attempts_made), (state, next.is_none(), 0));
        let settled = SettledEvents { count: index as u64 + 1, first: events[0] };
        assert_eq!(view.settled, Some(settled));
    }
}

async fn a_burst_is_delivered_once_with_its_last_event(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    let events = burst(store, 4).await;
    check_chain(&all(store).await, &events);
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.fan_out, ledger.superseded, ledger.pending), (4, 3, 1));
    store.pass(QUIET_MS - 1);
    assert!(store.claims(&of).await.is_empty(), "the quiet time counts from the last event");
    store.pass(1);
    let claim = store.claim(&of).await;
    let delivery = claim.delivery();
    assert_eq!(delivery.event, events[3]);
    assert_eq!(delivery.settled, Some(SettledEvents { count: 4, first: events[0] }));
    finish(store, claim, DeliveryState::Delivered).await;
    store.pass(HOUR_MS);
    assert!(store.claims(&of).await.is_empty());
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.delivered, ledger.superseded, ledger.pending), (1, 3, 0));
}

async fn events_of_one_request_are_a_burst(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    let accepted = store.take(vec![contact("1"), contact("2"), contact("1"), contact("1")]).await;
    store.pass(QUIET_MS);
    let mut found: Vec<EventId> = store.claims(&of).await.iter().map(|claim| claim.delivery().event).collect();
    found.sort_unstable();
    assert_eq!(found, [accepted[1].event, accepted[3].event]);
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.superseded, ledger.pending), (2, 2));
}

async fn a_burst_ends_after_its_longest_wait(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    let begun_ms = store.now_ms();
    let first = store.take_one("1").await.event;
    let mut last = first;
    for _ in 0..9 {
        store.pass(6_000);
        last = store.take_one("1").await.event;
    }
    let due_at_ms = all(store).await.pop().expect("the last one").due_at_ms;
    assert_eq!(due_at_ms, Some(begun_ms + MAX_WAIT_MS), "the latest due time is inherited");
    store.pass(6_000);
    let claim = store.claim(&of).await;
    assert_eq!((claim.delivery().event, store.now_ms()), (last, begun_ms + MAX_WAIT_MS));
    let next = store.take_one("1").await.event;
    let newest = all(store).await.pop().expect("the newest one");
    assert_eq!(newest.due_at_ms, Some(store.now_ms() + QUIET_MS), "another burst begins");
    assert_eq!(newest.settled, Some(SettledEvents::of_first(next)));
}

async fn a_delivery_that_is_taken_up_is_not_superseded(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    let events = burst(store, 2).await;
    store.pass(QUIET_MS);
    let claim = store.claim(&of).await;
    let taken_up = claim.delivery().id;
    let later = burst(store, 2).await;
    let view = store.view(taken_up).await;
    assert_eq!((view.state, view.event, view.superseded_by), (DeliveryState::Pending, events[1], None));
    assert!(!view.is_settling);
    finish(store, claim, DeliveryState::Delivered).await;
    assert_eq!(store.view(taken_up).await.state, DeliveryState::Delivered);
    store.pass(QUIET_MS);
    let claim = store.claim(&of).await;
    assert_eq!(claim.delivery().settled, Some(SettledEvents { count: 2, first: later[0] }));
    assert_eq!(store.lawful_ledger().await.superseded, 2);
}

async fn a_delivery_that_was_released_is_not_superseded(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    let event = store.take_one("1").await.event;
    store.pass(QUIET_MS);
    store.claim(&of).await.release();
    // As a host that ended during the attempt would leave it.
    store.reopen().await;
    let of = store.current(of.id);
    store.take_one("1").await;
    let claim = store.claim(&of).await;
    assert_eq!(claim.delivery().event, event, "its attempt may have reached the receiver");
    store.pass(QUIET_MS);
    assert_eq!(store.claims(&of).await.len(), 1, "the one that is claimed already is left out");
}

async fn a_delivery_that_was_attempted_is_not_superseded(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    store.take_one("1").await;
    store.pass(QUIET_MS);
    let claim = store.claim(&of).await;
    let failed = claim.delivery().id;
    let outcome = record(claim.delivery(), again(store.now_ms() + HOUR_MS));
    store.finish(claim, outcome).await.expect("recorded");
    burst(store, 2).await;
    let view = store.view(failed).await;
    assert_eq!((view.state, view.attempts_made), (DeliveryState::Pending, 1));
    store.pass(HOUR_MS);
    assert_eq!(store.claims(&of).await.len(), 2);
}

async fn a_delivery_that_was_superseded_is_not_taken_up(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    let first = store.take_one("1").await.event;
    let waiting = all(store).await.pop().expect("a delivery");
    store.take_one("1").await;
    let event = store.event(tenant(), first).await.expect("the event").event;
    // A page that was read before the last event shows the first one as settling.
    let ended = store.seam().end_settling(&of, vec![(waiting.id, event)]).await.expect("decided");
    assert!(ended.is_empty(), "{ended:?}");
    assert_eq!(store.view(waiting.id).await.state, DeliveryState::Superseded);
}

async fn entities_and_subscriptions_settle_apart(store: &mut TestStore) {
    let mut more = settle();
    more["modules"] = json!(["Contact", "Deal"]);
    let one = store.subscribe(more.clone()).await;
    let two = store.subscribe(more).await;
    let plain = store.subscribe(json!({})).await;
    store.take(vec![contact("1"), event_of(Module::Deal, "1"), contact("2")]).await;
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.superseded, ledger.pending), (0, 8), "a deal with the id of a contact is another entity");
    store.take_one("1").await;
    assert_eq!(store.lawful_ledger().await.superseded, 2, "one for each subscription that settles");
    assert_eq!(store.claims(&plain).await.len(), 3);
    store.pass(QUIET_MS);
    assert_eq!((store.claims(&one).await.len(), store.claims(&two).await.len()), (3, 3));
}

async fn an_event_without_an_entity_is_delivered_at_once(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    store.take(vec![contact(""), contact("")]).await;
    let claims = store.claims(&of).await;
    assert_eq!(claims.len(), 2);
    assert!(claims.iter().all(|claim| claim.delivery().settled.is_none()));
    assert_eq!(store.lawful_ledger().await.superseded, 0);
}

async fn a_burst_in_a_pause_is_delivered_once_after_it(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    let pause = StateChange::Pause { reason: "test".into(), by_host: false };
    store.set_subscription_state(operator(), &tenant(), of.id, pause).await.expect("paused");
    let mut last = None;
    for _ in 0..4 {
        last = Some(store.take_one("1").await.event);
        store.pass(MAX_WAIT_MS);
    }
    let of = store.resume(of.id).await;
    let claim = store.claim(&of).await;
    assert_eq!(Some(claim.delivery().event), last);
    assert_eq!(claim.delivery().settled.map(|settled| settled.count), Some(4));
}

async fn a_superseded_delivery_blocks_nothing(store: &mut TestStore) {
    let mut more = settle();
    more["ordering"] = json!({"on_failure": "block"});
    let of = store.subscribe(more).await;
    let events = burst(store, 2).await;
    store.pass(QUIET_MS);
    let claim = store.claim(&of).await;
    assert_eq!(claim.delivery().event, events[1]);
    let later = burst(store, 2).await;
    store.pass(QUIET_MS);
    assert!(store.claims(&of).await.is_empty(), "the order holds between two bursts");
    finish(store, claim, DeliveryState::Delivered).await;
    assert_eq!(store.claim(&of).await.delivery().event, later[1]);
}

async fn a_retry_by_hand_ends_the_settling(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    let event = store.take_one("1").await.event;
    let waiting = all(store).await[0].id;
    store.retry(operator(), tenant(), waiting).await.expect("made due");
    store.take_one("1").await;
    let claim = store.claim(&of).await;
    assert_eq!((claim.delivery().event, claim.delivery().is_settling), (event, false));
    assert_eq!(store.lawful_ledger().await.superseded, 0);
}

async fn a_superseded_delivery_can_be_retried(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    let events = burst(store, 2).await;
    let superseded = all(store).await[0].id;
    store.retry(operator(), tenant(), superseded).await.expect("made pending");
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.superseded, ledger.pending), (0, 2));
    let view = store.view(superseded).await;
    assert_eq!((view.state, view.superseded_by, view.is_settling), (DeliveryState::Pending, None, false));
    let claim = store.claim(&of).await;
    assert_eq!(claim.delivery().event, events[0]);
    finish(store, claim, DeliveryState::Delivered).await;
    store.take_one("1").await;
    assert_eq!(store.view(superseded).await.state, DeliveryState::Delivered);
}

async fn a_cancelled_delivery_is_not_superseded(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    store.take_one("1").await;
    let first = all(store).await[0].id;
    store.cancel(operator(), tenant(), first).await.expect("cancelled");
    let second = store.take_one("1").await.event;
    assert_eq!(store.view(first).await.state, DeliveryState::Cancelled);
    let newest = all(store).await.pop().expect("the newest one");
    assert_eq!(newest.settled, Some(SettledEvents::of_first(second)));
    let states = vec![DeliveryState::Cancelled];
    store.redrive(operator(), &of, states, Span { from_ms: 0, to_ms: i64::MAX }).await.expect("redriven");
    store.take_one("1").await;
    let view = store.view(first).await;
    assert_eq!((view.state, view.is_settling), (DeliveryState::Pending, false));
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.superseded, ledger.cancelled, ledger.pending), (1, 0, 2));
}

async fn replays_and_tests_do_not_settle(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    store.take_one("1").await;
    store.replay(operator(), &of, Span { from_ms: 0, to_ms: i64::MAX }).await.expect("replayed");
    store.test(operator(), &of, contact("1")).await.expect("a test");
    store.take_one("1").await;
    let claims = store.claims(&of).await;
    let kinds: Vec<DeliveryKind> = claims.iter().map(|claim| claim.delivery().kind).collect();
    assert_eq!(kinds, [DeliveryKind::Replay, DeliveryKind::Test], "due at once");
    assert!(claims.iter().all(|claim| claim.delivery().settled.is_none()));
    assert_eq!(store.lawful_ledger().await.superseded, 1);
}

/// Accepts an event whose delivery follows in a step, and returns it with the id of the fan-out.
async fn accept_in_steps(store: &TestStore, event: NewEvent) -> Uuid {
    let id = ids::new_uuid();
    let events = vec![event];
    let receivers = store.catalog().receivers(&tenant()).match_events(&events).await;
    let caps = Caps::NONE;
    let request =
        IntakeRequest { tenant: tenant(), events, receivers, caps, once: None, steps: Some(id), replaces: None };
    store.seam().accept(request).await.expect("accepted");
    id
}

/// Accepts two events of a contact, of which the later one gets its delivery first. Returns both deliveries, that one first.
pub(super) async fn deliveries_in_reverse(store: &TestStore) -> [DeliveryView; 2] {
    let early = accept_in_steps(store, contact("1")).await;
    let late = accept_in_steps(store, contact("1")).await;
    for id in [late, early] {
        let receivers = store.catalog().receivers(&tenant());
        let answer = store.seam().fan_out_step(&tenant(), id, receivers).await.expect("a step");
        assert_eq!(answer, FanOutAnswer::Complete);
    }
    <[DeliveryView; 2]>::try_from(all(store).await).expect("two deliveries")
}

async fn the_delivery_of_an_earlier_event_does_not_supersede(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    let [first, second] = deliveries_in_reverse(store).await;
    assert!(first.event > second.event);
    assert_eq!((first.state, second.state), (DeliveryState::Pending, DeliveryState::Superseded));
    assert_eq!(second.superseded_by, Some(first.id));
    store.lawful_ledger().await;
    store.pass(QUIET_MS);
    let claim = store.claim(&of).await;
    assert_eq!(claim.delivery().settled, Some(SettledEvents { count: 2, first: second.event }));
}

async fn a_restart_keeps_what_settles(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    let mut events = burst(store, 2).await;
    store.reopen().await;
    events.extend(burst(store, 2).await);
    check_chain(&all(store).await, &events);
    store.reopen().await;
    store.lawful_ledger().await;
    store.pass(QUIET_MS);
    let of = store.current(of.id);
    assert_eq!(store.claim(&of).await.delivery().event, events[3]);
}

async fn pruned_deliveries_stay_counted(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    burst(store, 3).await;
    store.pass(QUIET_MS);
    let claim = store.claim(&of).await;
    finish(store, claim, DeliveryState::Delivered).await;
    store.pass(48 * HOUR_MS);
    store.prune(Duration::from_secs(3_600)).await.expect("pruned");
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.superseded, ledger.pruned.superseded, ledger.pruned.delivered), (0, 2, 1));
    store.reopen().await;
    assert_eq!(store.lawful_ledger().await, ledger);
}

async fn a_new_setting_leaves_what_waits(store: &mut TestStore) {
    let of = store.subscribe(settle()).await;
    let waiting = store.take_one("1").await.event;
    let plain = super::test_values::subscription_of(super::test_values::settings(json!({})));
    let of = store.update_subscription(operator(), &of, plain).await.expect("edited");
    let at_once = store.take_one("1").await.event;
    assert_eq!(store.claim(&of).await.delivery().event, at_once);
    store.pass(QUIET_MS);
    assert_eq!(store.claims(&of).await.iter().filter(|claim| claim.delivery().event == waiting).count(), 1);
    assert_eq!(store.lawful_ledger().await.superseded, 0);
}

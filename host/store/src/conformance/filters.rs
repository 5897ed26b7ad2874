//! Event names and filters: an event that they refuse makes no delivery.

use super::test_store::{TestStore, tenant};
use super::test_values::{contact, event_of, operator, settings, subscription_of};
use crate::{Accepted, Actor, Caps, NewEvent, NewSubscription, Span, StateChange};
use bytes::Bytes;
use futures_util::future::join_all;
use hookloom_model::event::Module;
use hookloom_model::subscription::SubscriptionId;
use serde_json::{Value, json};

conformance! {
    an_event_that_is_refused_makes_no_delivery,
    event_names_are_chosen_beside_modules,
    a_filter_is_kept_as_it_was_written,
    an_edit_of_a_filter_holds_for_the_next_event,
    a_change_is_seen_against_the_last_event_of_the_contact,
    a_change_is_seen_within_a_request,
    changes_are_seen_in_the_order_of_acceptance,
    a_refused_request_is_no_event_before,
    a_repeated_request_is_no_second_change,
    a_fan_out_in_steps_is_filtered,
    a_host_event_is_filtered,
    a_replay_goes_through_the_filter,
}

const EVERYTHING: Span = Span { from_ms: 0, to_ms: i64::MAX };

fn stage_changed() -> Value {
    json!({"filter": {"fields": {"stage": {"$changed": true}}}})
}

/// Returns an event of a contact with a stage.
fn staged(entity: &str, stage: &str) -> NewEvent {
    let payload = json!({"eventName": "Contact is Created", "eventData": {"id": entity, "stage": stage}});
    NewEvent { payload: Bytes::from(payload.to_string()), ..contact(entity) }
}

fn deliveries(accepted: &[Accepted]) -> Vec<usize> {
    accepted.iter().map(|one| one.deliveries).collect()
}

async fn an_event_that_is_refused_makes_no_delivery(store: &mut TestStore) {
    let of = store.subscribe(json!({"filter": {"fields": {"stage": "won"}}})).await;
    let all = store.subscribe(json!({})).await;
    let accepted = store.take(vec![staged("1", "new"), staged("2", "won")]).await;
    assert_eq!(deliveries(&accepted), [1, 2]);
    let made = store.all_deliveries().await;
    let of_filtered: Vec<_> = made.iter().filter(|view| view.subscription == of.id).map(|view| view.event).collect();
    assert_eq!(of_filtered, [accepted[1].event]);
    assert_eq!(made.iter().filter(|view| view.subscription == all.id).count(), 2);
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.events, ledger.fan_out, ledger.pending), (2, 3, 3));
}

async fn event_names_are_chosen_beside_modules(store: &mut TestStore) {
    store.subscribe(json!({"modules": ["Contact", "Deal"], "events": ["Contact is Created"]})).await;
    let updated = NewEvent { name: "Contact is Updated".into(), ..contact("1") };
    let accepted = store.take(vec![contact("1"), updated, event_of(Module::Deal, "1")]).await;
    assert_eq!(deliveries(&accepted), [1, 0, 0]);
    store.lawful_ledger().await;
}

async fn a_filter_is_kept_as_it_was_written(store: &mut TestStore) {
    let text = r#"{"fields":{"z":{"$gt":12345678901234567890.10},"a":{"$regex":"^a"}},"eventName":{"$exist":true}}"#;
    let filter: Value = serde_json::from_str(text).expect("JSON");
    let of = store.subscribe(json!({"filter": filter, "events": ["a", "b"]})).await;
    store.reopen().await;
    let kept = store.current(of.id);
    let filter = kept.settings.filter.as_ref().expect("a filter");
    assert_eq!(
        (filter.source().to_string().as_str(), &kept.settings.events[..]),
        (text, &["a".into(), "b".into()][..])
    );
}

async fn an_edit_of_a_filter_holds_for_the_next_event(store: &mut TestStore) {
    let of = store.subscribe(json!({"filter": {"fields": {"stage": "won"}}})).await;
    assert_eq!(deliveries(&store.take(vec![staged("1", "new")]).await), [0]);
    let of = edit(store, of.id, json!({"filter": {"fields": {"stage": "new"}}})).await;
    assert_eq!(deliveries(&store.take(vec![staged("1", "new")]).await), [1]);
    edit(store, of, json!({})).await;
    assert_eq!(deliveries(&store.take(vec![staged("1", "lost")]).await), [1]);
}

async fn edit(store: &TestStore, id: SubscriptionId, more: Value) -> SubscriptionId {
    let new: NewSubscription = subscription_of(settings(more));
    store.update_subscription(operator(), &store.current(id), new).await.expect("edited").id
}

async fn a_change_is_seen_against_the_last_event_of_the_contact(store: &mut TestStore) {
    store.subscribe(stage_changed()).await;
    let mut made = Vec::new();
    for (entity, stage) in
        [("1", "a"), ("1", "a"), ("2", "a"), ("1", "b"), ("2", "a"), ("1", "b"), ("1", "a"), ("", "a"), ("", "a")]
    {
        made.extend(deliveries(&store.take(vec![staged(entity, stage)]).await));
    }
    // Without an id, each event is the first one.
    assert_eq!(made, [1, 0, 1, 1, 0, 0, 1, 1, 1]);
    let deal = NewEvent { module: Module::Deal, ..staged("1", "a") };
    store.subscribe(json!({"modules": ["Deal"], "filter": {"fields": {"stage": {"$changed": true}}}})).await;
    assert_eq!(deliveries(&store.take(vec![deal]).await), [1], "a deal with the id of a contact is another entity");
    store.reopen().await;
    assert_eq!(deliveries(&store.take(vec![staged("1", "a"), staged("1", "c")]).await), [0, 1]);
}

async fn a_change_is_seen_within_a_request(store: &mut TestStore) {
    store.subscribe(stage_changed()).await;
    let events = ["a", "a", "b", "b", "a"].map(|stage| staged("1", stage)).to_vec();
    assert_eq!(deliveries(&store.take(events).await), [1, 0, 1, 0, 1]);
    store.lawful_ledger().await;
}

/// Number of requests that are accepted at once, with two events each.
const REQUESTS: usize = 40;

async fn changes_are_seen_in_the_order_of_acceptance(store: &mut TestStore) {
    store.subscribe(stage_changed()).await;
    let request = |nth: usize| {
        let stage = if nth.is_multiple_of(3) { "b" } else { "a" };
        store.accept(tenant(), vec![staged("1", stage), staged("2", stage)], Caps::NONE)
    };
    let answers = join_all((0..REQUESTS).map(request)).await;
    let mut accepted: Vec<(usize, Accepted)> = Vec::new();
    for (nth, answer) in answers.into_iter().enumerate() {
        accepted.extend(answer.expect("accepted").into_iter().map(|one| (nth, one)));
    }
    // Ids grow in the order of acceptance.
    accepted.sort_by_key(|(_, one)| one.event);
    for entity in ["1", "2"] {
        let mut before = None;
        for (nth, one) in &accepted {
            let event = store.event(tenant(), one.event).await.expect("the event").event;
            if event.entity_id.as_deref() != Some(entity) {
                continue;
            }
            let is_b = nth.is_multiple_of(3);
            assert_eq!(one.deliveries, usize::from(before != Some(is_b)), "{nth} after {before:?}");
            before = Some(is_b);
        }
    }
    store.lawful_ledger().await;
}

async fn a_refused_request_is_no_event_before(store: &mut TestStore) {
    store.subscribe(stage_changed()).await;
    store.take(vec![staged("1", "a")]).await;
    let full = Caps { events: 1, bytes: u64::MAX };
    let refused = store.accept(tenant(), vec![staged("1", "b")], full);
    let accepted = store.accept(tenant(), vec![staged("1", "b")], Caps::NONE);
    let (refused, accepted) = futures_util::future::join(refused, accepted).await;
    assert!(refused.is_err());
    assert_eq!(deliveries(&accepted.expect("accepted")), [1]);
}

async fn a_repeated_request_is_no_second_change(store: &mut TestStore) {
    store.subscribe(stage_changed()).await;
    for is_repetition in [false, true] {
        let request = crate::Repeatable { key: "k".into(), body_sha256: [1; 32] };
        let events = vec![staged("1", "a"), staged("1", "b"), staged("1", "b")];
        let answer = store.accept_once(request, tenant(), events, Caps::NONE).await.expect("accepted");
        assert_eq!((answer.is_repetition, deliveries(&answer.events)), (is_repetition, vec![1, 1, 0]));
    }
}

/// Number of subscriptions of each kind: together more than make their deliveries in one step.
const SUBSCRIPTIONS: usize = 150;

async fn a_fan_out_in_steps_is_filtered(store: &mut TestStore) {
    let kinds = [
        json!({"filter": {"fields": {"stage": "b"}}}),
        stage_changed(),
        json!({"events": ["Contact is Updated"]}),
        json!({"filter": {"fields": {"stage": {"$regex": "^[ab]$"}}}}),
    ];
    for kind in kinds {
        join_all((0..SUBSCRIPTIONS).map(|_| store.subscribe(kind.clone()))).await;
    }
    let events = ["a", "b", "b"].map(|stage| staged("1", stage)).to_vec();
    let accepted = store.take(events).await;
    assert_eq!(deliveries(&accepted), [2, 3, 2].map(|kinds| kinds * SUBSCRIPTIONS));
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.fan_out, ledger.pending), (7 * SUBSCRIPTIONS as u64, 7 * SUBSCRIPTIONS as u64));
    let made = store.all_deliveries().await;
    assert_eq!(made.len(), 7 * SUBSCRIPTIONS);
    assert!(store.seam().fan_outs().await.expect("fan-outs").is_empty());
}

/// Returns settings for events of the host, with a condition on the state that they tell.
fn of_state(condition: Value) -> Value {
    json!({"modules": ["Subscription"], "filter": {"fields": {"state": condition}}})
}

async fn a_host_event_is_filtered(store: &mut TestStore) {
    let failing = store.subscribe(json!({})).await;
    store.subscribe(of_state(json!("disabled"))).await;
    let paused = store.subscribe(of_state(json!("paused"))).await;
    store.subscribe(of_state(json!({"$changed": true}))).await;
    for expected in [2, 1] {
        let before = store.all_deliveries().await.len();
        let pause = StateChange::Pause { reason: "by a test".to_owned(), by_host: true };
        store.set_subscription_state(Actor::Host, &tenant(), failing.id, pause).await.expect("paused");
        assert_eq!(store.all_deliveries().await.len() - before, expected);
        store.resume(failing.id).await;
    }
    assert!(store.all_deliveries().await.iter().filter(|view| view.subscription == paused.id).count() == 2);
    store.lawful_ledger().await;
}

async fn a_replay_goes_through_the_filter(store: &mut TestStore) {
    let events = ["a", "a", "b", "b", "c"].map(|stage| staged("1", stage)).to_vec();
    let updated = NewEvent { name: "Contact is Updated".into(), ..staged("1", "d") };
    let accepted = store.take([events, vec![updated, event_of(Module::Deal, "1")]].concat()).await;
    let expected = [accepted[0].event, accepted[2].event, accepted[4].event];
    let mut more = stage_changed();
    more["events"] = json!(["Contact is Created"]);
    let of = store.subscribe(more).await;
    assert_eq!(store.count_replayable(&of, EVERYTHING).await.expect("a number"), 3);
    assert_eq!(store.replay(operator(), &of, EVERYTHING).await.expect("replayed"), 3);
    let mut replayed: Vec<_> = store.all_deliveries().await.iter().map(|view| view.event).collect();
    replayed.sort();
    assert_eq!(replayed, expected);
    assert_eq!(store.lawful_ledger().await.replayed, 3);
}

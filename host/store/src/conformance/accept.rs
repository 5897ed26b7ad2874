//! Intake: events with their deliveries, all or none.

use super::test_store::{TestStore, tenant};
use super::test_values::{contact, event_of, many, operator};
use crate::backend::inspector::{REJECTED_KEPT_MS, REJECTED_MAX};
use crate::{AttemptClass, Caps, EventFilter, NewEvent, StoreError, StoreEvent, StoreLimits};
use bytes::Bytes;
use futures_util::future::join_all;
use hookloom_model::delivery::{DeliveryKind, DeliveryState};
use hookloom_model::event::{EventId, Module};
use hookloom_model::subscription::TenantId;
use serde_json::json;

conformance! {
    all_events_of_a_request_or_none,
    an_event_has_a_delivery_for_each_matching_subscription,
    an_event_keeps_its_exact_bytes,
    an_initial_delay_is_part_of_the_due_time,
    deliveries_that_are_due_are_published_with_their_claims,
    events_are_in_the_order_of_their_transactions,
    nothing_is_accepted_for_an_unknown_tenant,
    a_request_may_not_make_too_many_deliveries,
    a_rejected_request_is_accepted_once,
    rejected_requests_are_few_and_young,
}

async fn all_events_of_a_request_or_none(store: &mut TestStore) {
    store.subscribe(json!({})).await;
    let caps = Caps { events: 2, bytes: u64::MAX };
    let refused = store.accept(tenant(), many(3), caps).await;
    assert!(matches!(refused, Err(StoreError::TenantFull(usage)) if usage.events == 0 && usage.events_max == 2));
    let ledger = store.lawful_ledger().await;
    assert_eq!((ledger.events, ledger.fan_out, store.all_deliveries().await.len()), (0, 0, 0));
    assert!(store.store_events().is_empty(), "nothing was made");
    assert_eq!(store.accept(tenant(), many(2), caps).await.expect("accepted").len(), 2);
    let refused = store.accept(tenant(), many(1), caps).await;
    assert!(matches!(refused, Err(StoreError::TenantFull(usage)) if usage.events == 2));
    let bytes = Caps { events: u64::MAX, bytes: store.usage(tenant()).await.expect("a usage").bytes };
    assert!(matches!(store.accept(tenant(), many(1), bytes).await, Err(StoreError::TenantFull(_))));
    assert_eq!(store.lawful_ledger().await.events, 2);
}

async fn an_event_has_a_delivery_for_each_matching_subscription(store: &mut TestStore) {
    let one = store.subscribe(json!({})).await;
    let both = store.subscribe(json!({"modules": ["Deal", "Contact"]})).await;
    store.subscribe(json!({"modules": ["Deal"]})).await;
    let accepted = store.take_one("1").await;
    assert_eq!(accepted.deliveries, 2);
    let event = store.event(tenant(), accepted.event).await.expect("the event");
    assert_eq!((event.fan_out, event.previous), (2, None));
    let mut receivers: Vec<_> = event.deliveries.iter().map(|one| one.subscription).collect();
    receivers.sort();
    assert_eq!(receivers, [one.id, both.id]);
    for delivery in event.deliveries {
        assert_eq!((delivery.event, delivery.kind), (accepted.event, DeliveryKind::Usual));
        assert_eq!((delivery.state, delivery.awaiting_plugin), (DeliveryState::Pending, false));
        assert_eq!((delivery.attempts_made, delivery.reason), (0, None));
        assert_eq!(delivery.due_at_ms, Some(delivery.created_at_ms));
        assert_eq!((delivery.created_at_ms, delivery.updated_at_ms), (store.now_ms(), store.now_ms()));
    }
    assert_eq!(store.take(vec![event_of(Module::Subscription, "")]).await[0].deliveries, 0);
    assert_eq!(store.lawful_ledger().await.fan_out, 2);
}

async fn an_event_keeps_its_exact_bytes(store: &mut TestStore) {
    let payload = Bytes::from_static("{ \"b\":1.0,\t\"a\": \"\u{e9}\" , \"a\":null}\n".as_bytes());
    let new =
        NewEvent { name: "Opportunity is Updated".into(), payload: payload.clone(), ..event_of(Module::Deal, "é") };
    let accepted = store.take(vec![new]).await[0];
    store.reopen().await;
    let event = store.event(tenant(), accepted.event).await.expect("the event").event;
    assert_eq!((event.id, &event.payload, &*event.name), (accepted.event, &payload, "Opportunity is Updated"));
    assert_eq!((event.module, event.entity_id.as_deref()), (Module::Deal, Some("é")));
    assert_eq!(event.received_at_ms, store.now_ms());
    let filter = EventFilter { limit: 9, ..EventFilter::default() };
    let listed = store.events(tenant(), filter).await.expect("events");
    assert_eq!(
        (listed.len(), listed[0].bytes, listed[0].received_at_ms),
        (1, payload.len() as u64, event.received_at_ms)
    );
    assert_eq!(store.ledger(tenant()).await.expect("a ledger").bytes, payload.len() as u64);
}

async fn an_initial_delay_is_part_of_the_due_time(store: &mut TestStore) {
    let of = store.subscribe(json!({"retry": {"schedule_s": [60]}})).await;
    store.take_one("1").await;
    let delivery = &store.all_deliveries().await[0];
    assert_eq!(delivery.due_at_ms, Some(delivery.created_at_ms + 60_000));
    let page = store.page(&of, AttemptClass::First, 9).await;
    assert_eq!((page.due.len(), page.next_due_at_ms), (0, delivery.due_at_ms));
}

async fn deliveries_that_are_due_are_published_with_their_claims(store: &mut TestStore) {
    let at_once = store.subscribe(json!({})).await;
    let delayed = store.subscribe(json!({"retry": {"schedule_s": [60]}})).await;
    let ordered = store.subscribe(json!({"ordering": {"on_failure": "block"}})).await;
    store.store_events();
    store.accept(tenant(), vec![contact("1")], Caps::NONE).await.expect("accepted");
    let mut published = store.store_events();
    assert_eq!(published.len(), 1, "{published:?}");
    let Some(StoreEvent::Accepted(new)) = published.pop() else { panic!("no new deliveries") };
    let due: Vec<_> = new.due.iter().map(|due| due.delivery().subscription).collect();
    assert_eq!((due, new.later), (vec![at_once.id], vec![delayed.id, ordered.id]));
    assert_eq!(new.due[0].event.entity_id.as_deref(), Some("1"));
    assert_eq!(store.claims(&at_once).await.len(), 0, "it is claimed");
    drop(new.due);
    assert_eq!(store.claims(&at_once).await.len(), 1);
}

async fn events_are_in_the_order_of_their_transactions(store: &mut TestStore) {
    let mut ids: Vec<EventId> = Vec::new();
    for count in 1..4 {
        ids.extend(store.take(many(count)).await.iter().map(|accepted| accepted.event));
        // Ids do not follow a clock that was set back.
        store.set_wall(-60_000);
    }
    assert!(ids.is_sorted() && ids.len() == 6, "{ids:?}");
}

async fn nothing_is_accepted_for_an_unknown_tenant(store: &mut TestStore) {
    let nobody = TenantId("nobody".into());
    let refused = store.accept(nobody.clone(), many(1), Caps::NONE).await;
    assert!(matches!(refused, Err(StoreError::NotFound("tenant"))), "{refused:?}");
    let refused = store.reject(nobody.clone(), "no event".into(), Bytes::new(), false).await;
    assert!(matches!(refused, Err(StoreError::NotFound("tenant"))), "{refused:?}");
    assert!(store.events(nobody, EventFilter { limit: 9, ..EventFilter::default() }).await.expect("none").is_empty());
}

async fn a_request_may_not_make_too_many_deliveries(store: &mut TestStore) {
    store.reopen_with(StoreLimits { request_deliveries_max: 3, ..StoreLimits::default() }).await;
    store.subscribe(json!({})).await;
    store.subscribe(json!({})).await;
    let refused = store.accept(tenant(), many(2), Caps::NONE).await;
    let is_refused = matches!(refused, Err(StoreError::TooManyDeliveries { events: 2, deliveries: 4, most: 3 }));
    assert!(is_refused, "{refused:?}");
    store.subscribe(json!({})).await;
    store.subscribe(json!({})).await;
    assert_eq!(store.take_one("1").await.deliveries, 4, "one event is always accepted");
}

async fn a_rejected_request_is_accepted_once(store: &mut TestStore) {
    store.subscribe(json!({})).await;
    let body = Bytes::from_static(b"[");
    let id = store.reject(tenant(), "no event".into(), body.clone(), true).await.expect("kept");
    let kept = store.rejected_request(tenant(), id).await.expect("the request");
    assert_eq!((&*kept.reason, kept.truncated, kept.body), ("no event", true, body));
    let full = Caps { events: 0, bytes: u64::MAX };
    let refused = store.accept_rejected(operator(), tenant(), id, contact("1"), full).await;
    assert!(matches!(refused, Err(StoreError::TenantFull(_))));
    let entries = store.changes(Some(tenant()), None, 9).await.expect("changes").0.len();
    assert_eq!(entries, 0, "nothing was written");
    store.accept_rejected(operator(), tenant(), id, contact("1"), Caps::NONE).await.expect("accepted");
    let again = store.accept_rejected(operator(), tenant(), id, contact("1"), Caps::NONE).await;
    assert!(matches!(again, Err(StoreError::NotFound("rejected request"))), "{again:?}");
    assert!(matches!(store.rejected_request(tenant(), id).await, Err(StoreError::NotFound(_))));
    assert_eq!(store.lawful_ledger().await.events, 1);
    let entries = store.changes(Some(tenant()), None, 9).await.expect("changes").0;
    assert_eq!(
        (entries.len(), &*entries[0].action, &entries[0].subject),
        (1, "rejected-request.resubmit", &id.to_string())
    );
}

async fn rejected_requests_are_few_and_young(store: &mut TestStore) {
    let reject = || store.reject(tenant(), "no\0 event".into(), Bytes::from_static(b"\0"), false);
    let kept = async || store.rejected_requests(tenant(), None, 2 * REJECTED_MAX).await.expect("requests").len();
    for rejected in join_all((0..REJECTED_MAX + 2).map(|_| reject())).await {
        rejected.expect("kept");
    }
    assert_eq!(kept().await, REJECTED_MAX);
    store.pass(REJECTED_KEPT_MS + 1);
    reject().await.expect("kept");
    assert_eq!(kept().await, REJECTED_MAX + 1 - 16, "each that arrives deletes some of the old ones");
}

//! Races of an operation with a change of the subscriptions: nothing is written with former receivers.

use super::test_store::{TestStore, tenant};
use super::test_values::{contact, operator, settings, subscription_of};
use crate::backend::intake::{IntakeAnswer, IntakeRequest};
use crate::backend::subscriptions::{StateAnswer, StateRequest};
use crate::catalog::Receivers;
use crate::{Actor, Caps, NewSubscription, StateChange, StoreError, StoreEvent};
use futures_util::future::{join, join_all};
use hookloom_model::delivery::{DeliveryState, Reason};
use hookloom_model::subscription::SubscriptionState;
use serde_json::json;

conformance! {
    an_intake_with_former_receivers_is_stale,
    an_intake_is_matched_again,
    a_change_by_the_host_with_former_receivers_is_stale,
    a_disabled_subscription_gets_nothing,
    a_deleted_subscription_gets_nothing,
    a_new_subscription_gets_the_next_event,
    an_edit_is_refused_after_another_one,
    many_changes_and_intakes_at_once,
}

fn edited(description: &str) -> NewSubscription {
    subscription_of(settings(json!({"description": description})))
}

/// Returns a request with one event for these receivers.
async fn request(receivers: Receivers) -> IntakeRequest {
    let events = vec![contact("1")];
    let receivers = receivers.match_events(&events).await;
    IntakeRequest { tenant: tenant(), events, receivers, caps: Caps::NONE, once: None, steps: None, replaces: None }
}

async fn an_intake_with_former_receivers_is_stale(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let former = store.catalog().receivers(&tenant());
    store.delete_subscription(operator(), &tenant(), of.id).await.expect("deleted");
    drop(store.store_events());
    let answer = store.seam().accept(request(former).await).await.expect("an answer");
    let IntakeAnswer::Stale(returned) = answer else { panic!("{answer:?}") };
    assert_eq!(returned.events.len(), 1, "the request is returned");
    assert_eq!(store.lawful_ledger().await.events, 0);
    assert!(store.store_events().is_empty());
    let receivers = store.catalog().receivers(&tenant()).match_events(&returned.events).await;
    let answer = store.seam().accept(IntakeRequest { receivers, ..*returned }).await.expect("an answer");
    assert!(matches!(answer, IntakeAnswer::Accepted(events) if events.len() == 1 && events[0].deliveries == 0));
}

async fn an_intake_is_matched_again(store: &mut TestStore) {
    let one = store.subscribe(json!({})).await;
    for former in [true, false] {
        let receivers = store.catalog().receivers(&tenant());
        if former {
            store.subscribe(json!({})).await;
        }
        let answer = store.seam().accept(request(receivers).await).await.expect("an answer");
        assert_eq!(matches!(answer, IntakeAnswer::Stale(_)), former, "{answer:?}");
    }
    let new = subscription_of(settings(json!({"modules": ["Deal"]})));
    store.update_subscription(operator(), &one, new).await.expect("edited");
    let accepted = store.accept(tenant(), vec![contact("2")], Caps::NONE).await.expect("accepted");
    assert_eq!(accepted[0].deliveries, 1, "the edited one does not match any more");
}

async fn a_change_by_the_host_with_former_receivers_is_stale(store: &mut TestStore) {
    let failing = store.subscribe(json!({})).await;
    let receivers = store.catalog().receivers(&tenant());
    let watching = store.subscribe(json!({"modules": ["Subscription"]})).await;
    let request = StateRequest {
        actor: Actor::Host,
        tenant: tenant(),
        subscription: failing.id,
        change: disabling(),
        cause: None,
        receivers,
    };
    let answer = store.seam().set_subscription_state(request.clone()).await.expect("an answer");
    assert_eq!(answer, StateAnswer::Stale);
    assert_eq!(store.current(failing.id).state, SubscriptionState::Active);
    assert_eq!(store.lawful_ledger().await.events, 0);
    let receivers = store.catalog().receivers(&tenant());
    let answer = store.seam().set_subscription_state(StateRequest { receivers, ..request }).await.expect("an answer");
    assert_eq!(answer, StateAnswer::Done);
    assert_eq!(store.current(failing.id).state, SubscriptionState::Disabled);
    assert_eq!(store.all_deliveries().await[0].subscription, watching.id);
}

async fn a_disabled_subscription_gets_nothing(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    let disabled = store.disable(of.id).await;
    assert_eq!(
        (disabled.state, disabled.state_reason.as_deref()),
        (SubscriptionState::Disabled, Some("disabled by a test"))
    );
    let view = &store.all_deliveries().await[0];
    assert_eq!((view.state, view.reason.as_ref().map(|reason| &*reason.code)), (DeliveryState::Dead, Some("test")));
    assert_eq!(store.take_one("2").await.deliveries, 0);
    store.reopen().await;
    assert_eq!(store.take_one("3").await.deliveries, 0);
    store.resume(of.id).await;
    assert_eq!(store.take_one("4").await.deliveries, 1);
    assert_eq!(store.claims(&of).await.len(), 1);
}

async fn a_deleted_subscription_gets_nothing(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take_one("1").await;
    drop(store.store_events());
    store.delete_subscription(operator(), &tenant(), of.id).await.expect("deleted");
    let published = store.store_events();
    assert!(published.iter().any(|event| matches!(event, StoreEvent::Changed(id) if *id == of.id)), "{published:?}");
    let view = &store.all_deliveries().await[0];
    let reason = view.reason.as_ref().map(|reason| &*reason.code);
    assert_eq!((view.state, reason), (DeliveryState::Cancelled, Some("subscription-deleted")));
    assert_eq!(store.take_one("2").await.deliveries, 0);
    assert!(store.catalog().subscription_by_id(of.id).is_none());
    let again = store.delete_subscription(operator(), &tenant(), of.id).await;
    assert!(matches!(again, Err(StoreError::NotFound("subscription"))), "{again:?}");
    store.reopen().await;
    assert!(store.catalog().all_subscriptions().is_empty());
}

async fn a_new_subscription_gets_the_next_event(store: &mut TestStore) {
    assert_eq!(store.take_one("1").await.deliveries, 0);
    store.subscribe(json!({})).await;
    assert_eq!(store.take_one("1").await.deliveries, 1);
}

async fn an_edit_is_refused_after_another_one(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    // A change of the state is not an edit.
    store.disable(of.id).await;
    let one = store.update_subscription(operator(), &of, edited("one")).await.expect("edited");
    assert_eq!((one.generation, one.state), (2, SubscriptionState::Disabled));
    let two = store.update_subscription(operator(), &of, edited("two")).await;
    assert!(matches!(two, Err(StoreError::Edited)), "{two:?}");
    let rotated = store.rotate_signing_keys(operator(), &of, Vec::new()).await;
    assert!(matches!(rotated, Err(StoreError::Edited)), "{rotated:?}");
    assert_eq!(store.current(of.id).settings.description, "one");
    store.delete_subscription(operator(), &tenant(), of.id).await.expect("deleted");
    let late = store.update_subscription(operator(), &one, edited("late")).await;
    assert!(matches!(late, Err(StoreError::NotFound("subscription"))), "{late:?}");
}

async fn many_changes_and_intakes_at_once(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let intakes = join_all((0..20).map(|_| store.accept(tenant(), vec![contact("1")], Caps::NONE)));
    let id = tenant();
    let changes = join_all((0..20).map(|index| {
        let change = if index % 2 == 0 { disabling() } else { StateChange::Resume };
        store.set_subscription_state(Actor::Host, &id, of.id, change)
    }));
    let (accepted, changed) = join(intakes, changes).await;
    assert!(changed.iter().all(Result::is_ok), "{changed:?}");
    let made: usize = accepted.iter().map(|accepted| accepted.as_ref().expect("accepted")[0].deliveries).sum();
    let ledger = store.lawful_ledger().await;
    assert_eq!(ledger.fan_out, made as u64);
    store.disable(of.id).await;
    assert_eq!(store.lawful_ledger().await.dead, made as u64);
}

fn disabling() -> StateChange {
    StateChange::Disable { reason: Reason::new("gone", "410"), generation: None }
}

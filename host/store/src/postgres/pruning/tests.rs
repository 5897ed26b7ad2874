//! Tests of the selection of a step, and of an event whose deliveries take several steps.

use super::*;
use crate::postgres::test_server::TestDatabase;
use crate::{Actor, Caps, NewEvent, TenantChange, UsageKind};
use bytes::Bytes;
use hookloom_model::event::Module;

fn old(id: u128, previous: Option<u128>, deliveries: u64) -> OldEvent {
    let previous = previous.map(Uuid::from_u128);
    OldEvent { id: Uuid::from_u128(id), fan_out: deliveries, bytes: 10, previous, is_needed: false, deliveries }
}

/// Returns the numbers of the selected events, of the one that is deleted in part, and of the one after which the next step continues.
fn selected(old: &[OldEvent]) -> (Vec<u128>, Option<u128>, Option<u128>) {
    let selection = Selection::of(old, Uuid::from_u128(7));
    let events = selection.events.iter().map(Uuid::as_u128).collect();
    (events, selection.in_part.map(|id| id.as_u128()), selection.after.map(|event| event.0.as_u128()))
}

#[test]
fn an_event_is_deleted_after_the_ones_before_of_its_entity() {
    assert_eq!(selected(&[]), (vec![], None, None));
    let chain = [old(11, None, 1), old(12, Some(11), 1), old(13, Some(12), 1)];
    assert_eq!(selected(&chain), (vec![11, 12, 13], None, Some(13)));
    let needed = OldEvent { is_needed: true, ..old(12, Some(11), 1) };
    let broken = [old(11, None, 1), needed, old(13, Some(12), 1), old(14, Some(5), 1), old(15, None, 0)];
    assert_eq!(selected(&broken), (vec![11, 15], None, Some(15)));
}

#[test]
fn a_step_has_a_bound_and_the_next_one_begins_where_it_ended() {
    let most = DELIVERIES_MAX;
    assert_eq!(selected(&[old(11, None, most)]), (vec![11], None, Some(11)));
    assert_eq!(selected(&[old(11, None, most), old(12, None, 1)]), (vec![11], None, Some(11)));
    let needed = OldEvent { is_needed: true, ..old(11, None, 1) };
    assert_eq!(selected(&[needed, old(12, None, most + 1), old(13, None, 1)]), (vec![], Some(12), Some(11)));
    assert_eq!(selected(&[old(11, None, most + 1)]), (vec![], Some(11), Some(7)));
    let large = OldEvent { bytes: BYTES_MAX + 1, ..old(11, None, 1) };
    assert_eq!(selected(&[large, old(12, None, 1)]), (vec![11], None, Some(11)));
}

#[tokio::test]
async fn an_event_of_many_deliveries_is_deleted_after_the_last_of_them() {
    const MANY: u64 = 2 * DELIVERIES_MAX + 88;
    let database = TestDatabase::new().await;
    let (store, _store_events) = database.open().await;
    let tenant = TenantId("t".into());
    store.create_tenant(Actor::Host, tenant.clone(), TenantChange::default()).await.expect("a tenant");
    let payload = Bytes::from_static(b"{}");
    let event = NewEvent { name: "n".into(), module: Module::Contact, entity_id: None, payload };
    store.accept(tenant.clone(), vec![event], Caps::NONE).await.expect("accepted");
    let fill = format!(
        "INSERT INTO deliveries (tenant, id, event, subscription, kind, state, due_at_ms, age_from_ms, created_at_ms, updated_at_ms)
         SELECT tenant, gen_random_uuid(), id, id, 0, 1 + n % 4, 0, 0, 0, 0 FROM events, generate_series(1, {MANY}) n;
         INSERT INTO attempts (tenant, delivery, number, detail) SELECT tenant, id, 1, '{{}}' FROM deliveries;
         UPDATE events SET fan_out = {MANY}"
    );
    database.connect().await.batch_execute(&fill).await.expect("filled");
    let mut after = None;
    let mut steps = 0;
    loop {
        let step = store.backend.prune_events(&tenant, after, i64::MAX).await.expect("a step");
        let ledger = store.ledger(tenant.clone()).await.expect("a ledger");
        let pruned = ledger.pruned;
        let gone = pruned.delivered + pruned.dropped + pruned.dead + pruned.cancelled;
        let left = ledger.delivered + ledger.dropped + ledger.dead + ledger.cancelled;
        assert_eq!((ledger.fan_out, gone + left), (MANY, MANY), "the law holds after each step");
        assert_eq!(ledger.events, u64::from(left > 0), "{ledger:?}");
        let Some(next) = step.after else { break };
        after = Some(next);
        steps += 1;
    }
    assert_eq!(steps, 3);
    let usage = store.usage(tenant).await.expect("a usage");
    let left = [UsageKind::Events, UsageKind::Deliveries, UsageKind::Attempts].map(|kind| usage.of(kind));
    assert_eq!((usage.events, left), (0, [0; 3]));
}

//! Tests of pages of a lane with more deliveries than one statement reads.

use super::super::sql_param::SqlParams;
use super::super::test_server::TestDatabase;
use super::*;
use crate::{Actor, AttemptClass, Caps, ClaimedPage, NewEvent, NewSubscription, Store, TenantChange};
use bytes::Bytes;
use hookloom_model::event::Module;
use hookloom_model::subscription::{LoadedSettings, Subscription};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Number of deliveries: more than two statements read, and not a multiple.
const MANY: usize = 2 * ROWS_MAX + 88;

fn tenant() -> TenantId {
    TenantId("t".into())
}

/// Opens a store whose published claims are released, with a subscription for contacts.
async fn open(database: &TestDatabase, ordering: Value) -> (Arc<Store>, Arc<Subscription>) {
    let (store, _store_events) = database.open().await;
    store.create_tenant(Actor::Host, tenant(), TenantChange::default()).await.expect("a tenant");
    let settings = json!({"notify_url": "http://a.example/", "modules": ["Contact"], "ordering": ordering});
    let settings = LoadedSettings::new(serde_json::from_value(settings).expect("settings"), BTreeMap::new());
    let new = NewSubscription { settings: settings.expect("a URL"), signing: Vec::new() };
    let subscription = store.create_subscription(Actor::Host, tenant(), new).await.expect("a subscription");
    (store, subscription)
}

fn contact(entity: &str, bytes: usize) -> NewEvent {
    NewEvent {
        name: "Contact is Created".into(),
        module: Module::Contact,
        entity_id: Some(entity.into()),
        payload: Bytes::from(vec![b'x'; bytes]),
    }
}

async fn accept(store: &Store, events: Vec<NewEvent>) -> Vec<EventId> {
    let accepted = store.accept(tenant(), events, Caps::NONE).await.expect("accepted");
    accepted.iter().map(|one| one.event).collect()
}

async fn page(store: &Store, of: &Subscription, limit: usize) -> ClaimedPage {
    store.claim_due(of, AttemptClass::First, limit).await.expect("a page")
}

fn events_of(page: &ClaimedPage) -> Vec<EventId> {
    page.due.iter().map(|due| due.delivery().event).collect()
}

#[tokio::test]
async fn pages_of_many_deliveries_have_each_of_them_once() {
    let database = TestDatabase::new().await;
    let (store, of) = open(&database, Value::Null).await;
    let events = accept(&store, (0..MANY).map(|index| contact(&index.to_string(), 2)).collect()).await;
    let first = page(&store, &of, MANY - 50).await;
    assert!(first.more && first.due.len() == MANY - 50);
    // All that the first statements find has a claim.
    let second = page(&store, &of, 10).await;
    assert!(second.more && second.due.len() == 10);
    let third = page(&store, &of, usize::MAX).await;
    assert!(!third.more && third.next_due_at_ms.is_none());
    assert_eq!([first, second, third].map(|page| events_of(&page)).concat(), events);
    assert_eq!(page(&store, &of, ROWS_MAX).await.due.len(), ROWS_MAX, "their claims have ended");
}

#[tokio::test]
async fn the_next_due_time_is_found_behind_many_claimed_deliveries() {
    let database = TestDatabase::new().await;
    let (store, of) = open(&database, Value::Null).await;
    accept(&store, vec![contact("1", 2); MANY]).await;
    let later_ms = now_ms() + 3_600_000;
    let beside = database.connect().await;
    let sql = "UPDATE deliveries SET due_at_ms = $1 WHERE id = (SELECT id FROM deliveries ORDER BY id DESC LIMIT 1)";
    assert_eq!(beside.execute(sql, &[&later_ms]).await.expect("one is due later"), 1);
    let claimed = page(&store, &of, usize::MAX).await;
    assert_eq!((claimed.due.len(), claimed.more, claimed.next_due_at_ms), (MANY - 1, false, Some(later_ms)));
    let rest = page(&store, &of, 1).await;
    assert_eq!((rest.due.len(), rest.more, rest.next_due_at_ms), (0, false, Some(later_ms)));
}

#[tokio::test]
async fn many_blocked_deliveries_do_not_hide_one_of_another_entity() {
    let database = TestDatabase::new().await;
    let (store, of) = open(&database, json!({"on_failure": "block"})).await;
    let mut all = vec![contact("1", 2); MANY];
    all.push(contact("2", 2));
    let events = accept(&store, all).await;
    let claimed = page(&store, &of, usize::MAX).await;
    assert_eq!((events_of(&claimed), claimed.more), (vec![events[0], events[MANY]], false));
}

#[tokio::test]
async fn a_page_ends_at_its_size() {
    let database = TestDatabase::new().await;
    let (store, of) = open(&database, Value::Null).await;
    let bytes = PAGE_BYTES_MAX / 2;
    let events = accept(&store, (0..5).map(|index| contact(&index.to_string(), bytes)).collect()).await;
    let first = page(&store, &of, 5).await;
    assert_eq!((events_of(&first), first.more), (events[..3].to_vec(), true));
    let rest = page(&store, &of, 5).await;
    assert_eq!((events_of(&rest), rest.more), (events[3..].to_vec(), false));
    assert!(rest.due.iter().all(|due| due.event.payload.len() == bytes));
}

/// Adds pending deliveries of a subscription, every fourth with an attempt.
const BACKLOG: &str = "WITH new AS (SELECT gen_random_uuid() AS id, i FROM generate_series(1, 20000) i),
     event AS (INSERT INTO events (tenant, id, name, module, received_at_ms, fan_out, payload)
               SELECT 't', id, 'Contact is Created', 'Contact', i, 1, '' FROM new)
     INSERT INTO deliveries (tenant, id, event, subscription, kind, state, due_at_ms, attempts_made, age_from_ms, created_at_ms, updated_at_ms)
     SELECT 't', id, id, $1, 0, 0, i, CASE WHEN i % 4 = 0 THEN 1 ELSE 0 END, i, i, i FROM new";

#[tokio::test]
async fn a_page_of_a_backlog_reads_only_its_own_rows() {
    let database = TestDatabase::new().await;
    let (store, of) = open(&database, Value::Null).await;
    let beside = database.connect().await;
    beside.execute(BACKLOG, &[&of.id.0]).await.expect("a backlog");
    for statistics in ["SELECT 1", "ANALYZE"] {
        beside.batch_execute(statistics).await.expect(statistics);
        for (class, count) in [(AttemptClass::First, 15_000), (AttemptClass::Retry, 5_000)] {
            let is_retry = class == AttemptClass::Retry;
            let params: SqlParams<'_> = &[&"t", &of.id.0, &is_retry, &0_i64, &i64::MIN, &Uuid::nil(), &11_i64];
            let rows = beside.query(&format!("EXPLAIN {NEXT}"), params).await.expect("a plan");
            let plan: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
            let plan = plan.join("\n");
            assert!(plan.contains("using deliveries_due") && plan.contains("((attempts_made > 0) = $"), "{plan}");
            assert!(!plan.contains("Sort"), "{plan}");
            let claimed = store.claim_due(&of, class, 10).await.expect("a page");
            assert!(claimed.more && claimed.due.len() == 10);
            let all = store.claim_due(&of, class, usize::MAX).await.expect("a page");
            assert_eq!(all.due.len(), count - 10);
        }
    }
}

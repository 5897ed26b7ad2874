//! Tests of counts while this host and another one write.

use super::*;
use crate::postgres::hot_path::load::Load;
use crate::postgres::test_server::TestDatabase;
use crate::postgres::{Postgres, connection};
use std::collections::HashMap;
use std::sync::atomic::AtomicI16;

fn tenant() -> TenantId {
    TenantId("t".into())
}

fn subscription() -> SubscriptionId {
    SubscriptionId(Uuid::from_u128(1))
}

fn changes(by: i64) -> Vec<PendingChange> {
    vec![PendingChange { tenant: tenant(), subscription: subscription(), by }]
}

fn count(number: u64, seen: u128) -> PendingCount {
    let counts = HashMap::from([(tenant(), HashMap::from([(subscription(), number)]))]);
    PendingCount { counts, seen: Some(Uuid::from_u128(seen)) }
}

/// Numbers of a database with 10 pending deliveries after transaction 1.
fn numbers() -> PendingNumbers {
    PendingNumbers::new(count(10, 1))
}

fn number(numbers: &PendingNumbers) -> u64 {
    numbers.of(&tenant()).get(&subscription()).copied().unwrap_or_default()
}

#[test]
fn a_count_keeps_what_it_has_not_seen() {
    // Transactions 2 and 3 add 1 and 2; another host has added 100. The count has seen the transactions up to `seen`.
    for (seen, counted) in [(1, 110), (2, 111), (3, 113)] {
        let numbers = numbers();
        let under_way = numbers.begin_count();
        numbers.apply(Uuid::from_u128(2), changes(1));
        numbers.apply(Uuid::from_u128(3), changes(2));
        assert_eq!(number(&numbers), 13, "the changes show during a count");
        under_way.finish(count(counted, seen));
        assert_eq!(number(&numbers), 113, "{seen}");
        numbers.apply(Uuid::from_u128(4), changes(-1));
        assert_eq!(number(&numbers), 112, "{seen}");
    }
}

#[test]
fn a_commit_that_a_count_sees_before_this_host_hears_of_it_is_applied_once() {
    let numbers = numbers();
    let under_way = numbers.begin_count();
    numbers.apply(Uuid::from_u128(2), changes(1));
    under_way.finish(count(13, 3));
    assert_eq!(number(&numbers), 13);
    numbers.apply(Uuid::from_u128(3), changes(2));
    assert_eq!(number(&numbers), 13);
    numbers.apply(Uuid::from_u128(4), changes(4));
    assert_eq!(number(&numbers), 17);
}

#[test]
fn a_count_that_fails_changes_nothing_and_a_deleted_tenant_stays_away() {
    let numbers = numbers();
    let under_way = numbers.begin_count();
    numbers.apply(Uuid::from_u128(2), changes(1));
    drop(under_way);
    assert_eq!(number(&numbers), 11);
    let under_way = numbers.begin_count();
    numbers.apply(Uuid::from_u128(3), Vec::new());
    numbers.forget(&tenant());
    under_way.finish(count(11, 2));
    assert_eq!(number(&numbers), 0);
}

/// Adds pending deliveries of the subscription of a load as another host, as copies of one.
async fn add_as_other(load: &Load, count: u32) {
    let sql = format!(
        "INSERT INTO deliveries (tenant, id, event, subscription, kind, due_at_ms, state, age_from_ms, created_at_ms, updated_at_ms)
         SELECT tenant, gen_random_uuid(), event, subscription, kind, due_at_ms, 0, 0, 0, 0
         FROM (SELECT * FROM deliveries LIMIT 1) d, generate_series(1, {count})"
    );
    load.database.connect().await.batch_execute(&sql).await.expect("added");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_numbers_are_exact_when_writes_stop_though_counts_went_on() {
    let mut load = Load::new(TestDatabase::new().await).await;
    let backend: &dyn std::any::Any = &*load.store.clone().backend;
    let pending = backend.downcast_ref::<Postgres>().expect("a store on PostgreSQL").pending.clone();
    let config = connection::config(&load.database.url()).expect("a URL");
    let readers = || Readers::new(config.clone(), Duration::from_secs(60), Arc::new(AtomicI16::new(1)));
    let of = |tenant: &TenantId| pending.of(tenant).into_values().sum::<u64>();
    let counting = tokio::spawn({
        let pending = pending.clone();
        let readers = readers();
        async move {
            loop {
                recount(&readers, &pending).await.expect("counted");
            }
        }
    });
    for _ in 0..40 {
        load.accept(8).await;
    }
    counting.abort();
    assert!(counting.await.is_err_and(|error| error.is_cancelled()));
    let tenant = load.tenant.clone();
    assert_eq!(of(&tenant), 320);
    add_as_other(&load, 5).await;
    assert_eq!(of(&tenant), 320, "not counted yet");
    let others_live = Arc::new(AtomicBool::new(true));
    let kept = tokio::spawn(keep_counting(readers(), Arc::downgrade(&pending), others_live.clone()));
    while of(&tenant) != 325 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What the other host wrote last is counted after its end.
    add_as_other(&load, 1).await;
    others_live.store(false, Ordering::Relaxed);
    while of(&tenant) != 326 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    kept.abort();
}

//! A guard on the hot path: how many allocations an event costs from its bytes to its commit, and a webhook from its body to its
//! signature. Counts are the same on every machine, as times are not; one that grows wants a reason in its commit.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use bytes::Bytes;
use hookloom::cpu_pool::CpuPool;
use hookloom::operations::Intake;
use hookloom::signature::{SigningKey, SigningSecret, signature_header};
use hookloom::store::{Actor, Caps, NewSubscription, Store, TenantChange};
use hookloom::subscription::{LoadedSettings, TenantId};
use std::collections::BTreeMap;

#[global_allocator]
static COUNTED: dhat::Alloc = dhat::Alloc;

fn event(number: usize) -> String {
    format!("{{\"eventName\":\"Contact is Created\",\"eventData\":{{\"id\":{number},\"properties\":[]}}}}\n")
}

const EVENTS: usize = 1_000;

/// Allocations of everything that happens meanwhile, for each event.
fn per_event(before: u64) -> f64 {
    (dhat::HeapStats::get().total_blocks - before) as f64 / EVENTS as f64
}

#[test]
fn the_hot_path_allocates_no_more_than_it_did() {
    let _counting = dhat::Profiler::builder().testing().build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let accepted = runtime.block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, mut store_events) = Store::open(folder.path()).expect("a store");
        let tenant = TenantId::parse("t").expect("a name");
        store.create_tenant(Actor::Host, tenant.clone(), TenantChange::default()).await.expect("a tenant");
        let settings = serde_json::json!({"notify_url": "http://127.0.0.1:8000/", "modules": ["Contact"]});
        let settings = serde_json::from_value(settings).expect("settings");
        let settings = LoadedSettings::new(settings, BTreeMap::new()).expect("a URL");
        let subscription = NewSubscription { settings, signing: Vec::new() };
        store.create_subscription(Actor::Host, tenant.clone(), subscription).await.expect("a subscription");
        let caps = Caps { events: 1_000_000, bytes: 1 << 40 };
        let cpu = CpuPool::new(2);
        let intake = Intake { store: &store, cpu: &cpu, event_bytes_max: 1 << 20, caps };
        fn batch(from: usize) -> Bytes {
            Bytes::from((from..from + EVENTS).map(event).collect::<String>())
        }
        // The first one fills caches of statements and pages.
        intake.accept(&tenant, &batch(0), None).await.expect("accepted");
        let body = batch(EVENTS);
        let before = dhat::HeapStats::get().total_blocks;
        intake.accept(&tenant, &body, None).await.expect("accepted");
        let accepted = per_event(before);
        while store_events.try_recv().is_ok() {}
        accepted
    });
    let keys = [SigningKey::current(SigningSecret::generate())];
    let before = dhat::HeapStats::get().total_blocks;
    for number in 0..EVENTS {
        let header = signature_header(&keys, "01a2136f-aad5-7301-9607-05cad38ff3d4", number as i64, b"{\"a\":1}");
        assert!(header.starts_with("v1,"));
    }
    let signed = per_event(before);
    assert!(accepted <= 5.5, "{accepted} allocations an accepted event");
    assert!(signed <= 7.0, "{signed} allocations a signature");
    // A guard that is far off guards nothing.
    assert!(accepted >= 4.0 && signed >= 2.0, "{accepted} and {signed}: lower the bounds");
}

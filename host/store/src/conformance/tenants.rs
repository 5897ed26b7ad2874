//! Tenants: settings, usage, share and deletion.

use super::test_store::{TestStore, tenant};
use super::test_values::{again, component, contact, many, operator, record, settings, subscription_of, version};
use crate::{
    Actor, Caps, EventTypesChange, Ledger, NewEvent, Quarantine, Repeatable, StoreError, StoreEvent, StoreLimits,
    TenantChange, UsageKind,
};
use bytes::Bytes;
use hookloom_model::access::credential_hash;
use hookloom_model::delivery::Attempt;
use hookloom_model::event::Module;
use hookloom_model::event_type::{EventType, EventTypes};
use hookloom_model::inspector::{BinSettings, RequestHead};
use hookloom_model::subscription::TenantId;
use serde_json::json;
use std::collections::BTreeMap;

conformance! {
    a_tenant_keeps_its_settings,
    event_types_come_and_go_one_by_one,
    the_id_of_a_tenant_is_taken_once,
    the_contents_of_a_tenant_are_counted,
    usage_grows_with_each_kind_and_shrinks_with_its_deletion,
    a_full_tenant_adds_nothing,
    a_full_tenant_may_make_things_smaller,
    rejected_requests_have_a_tenth_more,
    a_deleted_tenant_ends_at_once,
    a_deleted_tenant_leaves_nothing,
    figures_are_summed_by_span,
}

async fn a_tenant_keeps_its_settings(store: &mut TestStore) {
    let ticket = EventType { module: Module::Deal, description: "A ticket".to_owned(), schema: None };
    let types = EventTypes::default().with("Ticket is Created", ticket.clone()).expect("it fits");
    let limits = BTreeMap::from([("cpu_ms".to_owned(), 5)]);
    let change = types_change(EventTypesChange::All(types.clone()));
    store.update_tenant(operator(), tenant(), change).await.expect("changed");
    let change = TenantChange { limits_max: Some(limits.clone()), ..TenantChange::default() };
    store.update_tenant(operator(), tenant(), change).await.expect("changed");
    for _ in 0..2 {
        let found = store.catalog().tenant(&tenant()).expect("the tenant");
        assert_eq!((&found.event_types, &found.limits_max), (&types, &limits), "an absent setting stays");
        assert_eq!(store.catalog().module_of(&tenant(), "Ticket is Created"), Some(Module::Deal));
        store.reopen().await;
    }
    let unknown = store.update_tenant(operator(), TenantId("u".into()), TenantChange::default()).await;
    assert!(matches!(unknown, Err(StoreError::NotFound("tenant"))), "{unknown:?}");
}

fn types_change(change: EventTypesChange) -> TenantChange {
    TenantChange { event_types: Some(change), ..TenantChange::default() }
}

async fn event_types_come_and_go_one_by_one(store: &mut TestStore) {
    fn of(module: Module) -> EventType {
        EventType { module, description: String::new(), schema: None }
    }
    fn put(name: &str, module: Module) -> TenantChange {
        types_change(EventTypesChange::Put(name.to_owned(), of(module)))
    }
    fn remove(name: &str) -> TenantChange {
        types_change(EventTypesChange::Remove(name.to_owned()))
    }
    for change in [put("One", Module::Deal), put("Two", Module::Deal), put("One", Module::Contact), remove("Two")] {
        store.update_tenant(operator(), tenant(), change).await.expect("changed");
    }
    for _ in 0..2 {
        let found = store.catalog().tenant(&tenant()).expect("the tenant");
        assert_eq!(found.event_types, EventTypes::default().with("One", of(Module::Contact)).expect("it fits"));
        assert_eq!(store.catalog().module_of(&tenant(), "One"), Some(Module::Contact));
        assert_eq!(store.catalog().module_of(&tenant(), "Two"), None);
        store.reopen().await;
    }
    let unknown = store.update_tenant(operator(), tenant(), remove("Two")).await;
    assert!(matches!(unknown, Err(StoreError::NotFound("event type"))), "{unknown:?}");
    let taken = store.update_tenant(operator(), tenant(), put("Contact is Created", Module::Deal)).await;
    assert!(matches!(taken, Err(StoreError::EventTypes(_))), "{taken:?}");
}

async fn the_id_of_a_tenant_is_taken_once(store: &mut TestStore) {
    let again = store.create_tenant(operator(), tenant(), TenantChange::default()).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))), "{again:?}");
    let contents = store.tenant_contents(tenant()).await.expect("contents");
    store.delete_tenant(operator(), tenant(), contents, || ()).await.expect("deleted");
    let early = store.create_tenant(operator(), tenant(), TenantChange::default()).await;
    assert!(matches!(early, Err(StoreError::Conflict(_))), "it is still being deleted: {early:?}");
    store.delete_discarded().await.expect("deleted");
    store.create_tenant(operator(), tenant(), TenantChange::default()).await.expect("the id is free");
    assert_eq!(store.catalog().tenants().len(), 1);
}

/// Adds at least one thing of each kind, and returns the text of an intake token.
async fn fill(store: &mut TestStore, of: &TenantId) -> String {
    let uploaded = store.activate_plugin(Actor::Host, of.clone(), "p".into(), version("a"), component("a"), || ());
    uploaded.await.expect("active");
    store.add_version(Actor::Host, of.clone(), "p".into(), version("b"), component("b")).await.expect("added");
    let new = subscription_of(settings(json!({"plugin": "p"})));
    let subscription = store.create_subscription(operator(), of.clone(), new).await.expect("a subscription");
    let request = Repeatable { key: "a".into(), body_sha256: [0; 32] };
    store.accept_once(request, of.clone(), many(2), Caps::NONE).await.expect("accepted");
    drop(store.store_events());
    let claim = store.claims(&subscription).await.remove(0);
    let outcome = record(claim.delivery(), again(store.now_ms()));
    store.finish(claim, outcome).await.expect("recorded");
    let bin = store.create_bin(Actor::Host, of.clone(), BinSettings::default()).await.expect("a bin");
    store.receive_in_bin(of, &bin, RequestHead::default(), Bytes::from_static(b"x")).await.expect("received");
    store.reject(of.clone(), "no event".into(), Bytes::from_static(b"x"), false).await.expect("kept");
    let (key, _) = store.create_key(Actor::Host, Some(of.clone()), Vec::new(), "key".into()).await.expect("a key");
    store.create_sign_in_link(Actor::Host, key).await.expect("a link");
    let (_, token) = store.create_token(Actor::Host, of.clone(), "token".into()).await.expect("a token");
    let quarantine = Quarantine { tenant: of.clone(), sha256: version("b").sha256, since_ms: 0, reason: "test".into() };
    store.quarantine(quarantine).await.expect("quarantined");
    token
}

async fn the_contents_of_a_tenant_are_counted(store: &mut TestStore) {
    fill(store, &tenant()).await;
    let found = store.tenant_contents(tenant()).await.expect("contents");
    assert_eq!((&*found.tenant, found.deleting_since_ms, found.events, found.deliveries), ("t", None, 2, 2));
    assert_eq!((found.plugins, found.versions, found.subscriptions, found.bins), (1, 2, 1, 1));
    assert_eq!((found.keys, found.intake_tokens), (1, 1));
    assert_eq!(found.bytes, store.usage(tenant()).await.expect("a usage").bytes);
    let other = store.add_tenant("u").await;
    let empty = store.tenant_contents(other).await.expect("contents");
    assert_eq!((empty.events, empty.subscriptions, empty.keys), (0, 0, 0));
    let unknown = store.tenant_contents(TenantId("nobody".into())).await;
    assert!(matches!(unknown, Err(StoreError::NotFound("tenant"))), "{unknown:?}");
    let unknown = store.usage(TenantId("nobody".into())).await;
    assert!(matches!(unknown, Err(StoreError::NotFound("tenant"))), "{unknown:?}");
}

async fn usage_grows_with_each_kind_and_shrinks_with_its_deletion(store: &mut TestStore) {
    let empty = store.usage(tenant()).await.expect("a usage");
    assert_eq!(empty.events, 0);
    fill(store, &tenant()).await;
    let filled = store.usage(tenant()).await.expect("a usage");
    assert_eq!((filled.events, filled.bytes), (2, filled.by_kind.iter().map(|one| one.bytes).sum::<u64>()));
    for kind in UsageKind::ALL.into_iter().filter(|kind| *kind != UsageKind::Statistics) {
        assert!(filled.of(kind) > empty.of(kind), "{kind:?} of {filled:?}");
    }
    store.reopen().await;
    assert_eq!(store.usage(tenant()).await.expect("a usage"), filled);
    let bin = store.bins(tenant()).await.expect("bins").remove(0);
    store.delete_bin(Actor::Host, tenant(), bin.id).await.expect("deleted");
    let token = store.catalog().tokens(&tenant()).remove(0);
    store.revoke_token(Actor::Host, tenant(), token.id).await.expect("revoked");
    let after = store.usage(tenant()).await.expect("a usage");
    assert_eq!(after.of(UsageKind::Bins), 0);
    assert!(after.of(UsageKind::Access) < filled.of(UsageKind::Access));
    assert_eq!(after.of(UsageKind::Events), filled.of(UsageKind::Events));
    let payload = Bytes::from(vec![b' '; 10_000]);
    store.take(vec![NewEvent { payload, ..contact("") }]).await;
    let more = store.usage(tenant()).await.expect("a usage");
    assert!(more.of(UsageKind::Events) >= after.of(UsageKind::Events) + 10_000);
}

async fn a_full_tenant_adds_nothing(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.take(many(3)).await;
    store.reopen_with_room(0).await;
    let before = store.usage(tenant()).await.expect("a usage");
    assert_eq!(before.bytes, before.bytes_max);
    let new = subscription_of(settings(json!({})));
    let refused = [
        store.create_subscription(Actor::Host, tenant(), new).await.map(drop),
        store.create_bin(Actor::Host, tenant(), BinSettings::default()).await.map(drop),
        store.create_token(Actor::Host, tenant(), "a".into()).await.map(drop),
        store.create_key(Actor::Host, Some(tenant()), Vec::new(), "a".into()).await.map(drop),
        store.activate_plugin(Actor::Host, tenant(), "p".into(), version("a"), component("a"), || ()).await,
        store.test(Actor::Host, &of, contact("")).await.map(drop),
    ];
    assert!(refused.iter().all(|one| matches!(one, Err(StoreError::TenantFull(_)))), "{refused:?}");
    assert_eq!(store.usage(tenant()).await.expect("a usage"), before);
    assert_eq!(store.lawful_ledger().await.tests, 0);
    assert!(store.plugins().await.expect("plugins").is_empty() && store.catalog().tokens(&tenant()).is_empty());
    let other = store.add_tenant("u").await;
    store.create_token(Actor::Host, other, "a".into()).await.expect("another tenant has room");
}

async fn a_full_tenant_may_make_things_smaller(store: &mut TestStore) {
    let of = store.subscribe(json!({"description": "a long description"})).await;
    store.take_one("1").await;
    let token = store.create_token(Actor::Host, tenant(), "a token".into()).await.expect("a token").0;
    let used = store.usage(tenant()).await.expect("a usage").bytes;
    // The share was lowered, so that the tenant stays over it.
    let share = Caps { events: 0, bytes: used / 2 };
    store.reopen_with(StoreLimits { share, ..StoreLimits::default() }).await;
    let smaller = subscription_of(settings(json!({"description": "short"})));
    store.update_subscription(Actor::Host, &of, smaller).await.expect("it is smaller");
    let larger = subscription_of(settings(json!({"description": "x".repeat(1_000)})));
    let refused = store.update_subscription(Actor::Host, &store.current(of.id), larger).await;
    assert!(matches!(refused, Err(StoreError::TenantFull(_))), "{refused:?}");
    assert_eq!(store.current(of.id).settings.description, "short");
    let delivery = store.all_deliveries().await[0].id;
    store.cancel(operator(), tenant(), delivery).await.expect("cancelled");
    store.revoke_token(operator(), tenant(), token.id).await.expect("revoked");
    store.delete_subscription(operator(), &tenant(), of.id).await.expect("deleted");
}

async fn rejected_requests_have_a_tenth_more(store: &mut TestStore) {
    let payload = Bytes::from(vec![b' '; 100_000]);
    store.take(vec![NewEvent { payload, ..contact("") }]).await;
    store.reopen_with_room(0).await;
    let reject =
        async |bytes: usize| store.reject(tenant(), "no event".into(), Bytes::from(vec![0; bytes]), false).await;
    let refused = reject(20_000).await;
    assert!(matches!(refused, Err(StoreError::TenantFull(_))), "{refused:?}");
    reject(5_000).await.expect("kept");
    assert_eq!(store.rejected_requests(tenant(), None, 9).await.expect("requests").len(), 1);
}

async fn a_deleted_tenant_ends_at_once(store: &mut TestStore) {
    let token = fill(store, &tenant()).await;
    let of = store.catalog().subscriptions(&tenant())[0].clone();
    let bin = store.bins(tenant()).await.expect("bins").remove(0);
    let contents = store.tenant_contents(tenant()).await.expect("contents");
    drop(store.store_events());
    store.delete_tenant(operator(), tenant(), contents.clone(), || ()).await.expect("deleted");
    let published = store.store_events();
    assert!(published.iter().any(|event| matches!(event, StoreEvent::Changed(id) if *id == of.id)), "{published:?}");
    for _ in 0..2 {
        assert!(store.catalog().tenant(&tenant()).is_none() && store.catalog().all_subscriptions().is_empty());
        assert!(store.catalog().token(&credential_hash(&token)).is_none());
        assert!(store.catalog().keys(Some(&tenant())).is_empty() && store.pending(&tenant()).is_empty());
        assert!(matches!(store.bin_by_url(bin.id.clone()).await, Err(StoreError::NotFound("bin"))));
        assert!(store.plugins().await.expect("plugins").is_empty());
        assert!(store.active_versions().await.expect("versions").is_empty());
        assert_eq!(store.tenants_being_deleted().await.expect("tenants"), [tenant()]);
        let accepted = store.accept(tenant(), many(1), Caps::NONE).await;
        assert!(matches!(accepted, Err(StoreError::NotFound("tenant"))), "{accepted:?}");
        let since = store.tenant_contents(tenant()).await.expect("contents").deleting_since_ms;
        assert_eq!(since, Some(store.now_ms()));
        store.reopen().await;
    }
    let again = store.delete_tenant(operator(), tenant(), contents, || ()).await;
    assert!(matches!(again, Err(StoreError::NotFound("tenant"))), "{again:?}");
}

async fn a_deleted_tenant_leaves_nothing(store: &mut TestStore) {
    let other = store.add_tenant("u").await;
    store.create_token(Actor::Host, other.clone(), "kept".into()).await.expect("a token");
    fill(store, &tenant()).await;
    let contents = store.tenant_contents(tenant()).await.expect("contents");
    store.delete_tenant(operator(), tenant(), contents, || ()).await.expect("deleted");
    store.delete_discarded().await.expect("deleted");
    assert!(store.tenants_being_deleted().await.expect("tenants").is_empty());
    assert!(matches!(store.tenant_contents(tenant()).await, Err(StoreError::NotFound("tenant"))));
    assert!(matches!(store.component(version("a").sha256).await, Err(StoreError::NotFound("component"))));
    assert!(store.quarantined().await.expect("quarantined versions").is_empty());
    assert!(store.all_deliveries().await.is_empty());
    store.add_tenant("t").await;
    store.reopen().await;
    let found = store.tenant_contents(tenant()).await.expect("contents");
    assert_eq!((found.events, found.deliveries, found.versions, found.bins), (0, 0, 0, 0));
    assert_eq!((found.subscriptions, found.keys, found.intake_tokens), (0, 0, 0));
    assert_eq!(store.lawful_ledger().await, Ledger::default());
    assert!(store.changes(Some(tenant()), None, 9).await.expect("changes").0.is_empty());
    assert!(store.rejected_requests(tenant(), None, 9).await.expect("requests").is_empty());
    let request = Repeatable { key: "a".into(), body_sha256: [1; 32] };
    assert!(!store.accept_once(request, tenant(), many(1), Caps::NONE).await.expect("accepted").is_repetition);
    assert_eq!(store.catalog().tokens(&other).len(), 1);
}

async fn figures_are_summed_by_span(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let attempt = json!({"number": 1, "started_at_ms": 0, "config_generation": 1, "outcome": "delivered",
        "echoed": false, "log": [], "post_us": 5});
    let attempt: Attempt = serde_json::from_value(attempt).expect("an attempt");
    let from_s = store.now_ms() / 1_000 - 60;
    for minutes in [0, 0, 2] {
        store.pass(minutes * 60_000);
        store.count(&tenant(), of.id, &attempt);
        store.flush_figures().await.expect("written");
    }
    store.reopen().await;
    let minutes = store.figures(tenant(), from_s).await.expect("figures");
    let times: Vec<i64> = minutes.iter().map(|one| one.at_s).collect();
    assert!(times.len() == 2 && times[1] == times[0] + 120 && times[0] % 60 == 0, "{times:?}");
    assert!(minutes.iter().all(|one| one.subscription == of.id && one.plugin.is_empty()));
    let hours = store.seam().figures(tenant(), 3_600, 0).await.expect("figures");
    assert!(!hours.is_empty() && hours.iter().all(|one| one.at_s % 3_600 == 0));
    let later = store.seam().figures(tenant(), 60, times[0] + 60).await.expect("figures");
    assert_eq!(later.len(), 1);
}

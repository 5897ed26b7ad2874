//! Plugins: versions, active versions, components and deletions.

use super::test_store::{TestStore, tenant};
use super::test_values::{component, operator, settings, subscription_of, version};
use crate::{Actor, PluginVersion, StoreError};
use hookloom_model::subscription::TenantId;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

conformance! {
    an_upload_is_active_at_once,
    a_version_is_added_without_being_active,
    an_existing_version_is_activated,
    versions_are_listed_newest_first,
    a_component_keeps_its_bytes,
    a_component_of_other_bytes_is_not_returned,
    a_plugin_in_use_is_not_deleted,
    a_version_in_use_is_not_deleted,
    a_deleted_plugin_leaves_its_name_and_components_when_they_are_unused,
    a_subscription_needs_its_plugins,
    the_component_of_a_file_is_remembered,
}

/// Uploads a component as the active version of a plugin.
async fn upload(store: &TestStore, of: &TenantId, name: &str, text: &'static str) {
    let uploaded = store.activate_plugin(operator(), of.clone(), name.into(), version(text), component(text), || ());
    uploaded.await.expect("active");
}

/// Adds a component as a version of the plugin `p`.
async fn add(store: &TestStore, text: &'static str) {
    store.add_version(operator(), tenant(), "p".into(), version(text), component(text)).await.expect("added");
}

async fn versions(store: &TestStore) -> Vec<PluginVersion> {
    store.plugin_versions(tenant(), "p".into()).await.expect("versions")
}

async fn file(store: &TestStore, name: &str) -> Option<String> {
    store.plugin_file(tenant(), name.into()).await.expect("a read")
}

async fn has(store: &TestStore, text: &'static str) -> bool {
    store.has_version(tenant(), "p".into(), version(text).sha256).await.expect("a read")
}

async fn an_upload_is_active_at_once(store: &mut TestStore) {
    let installed = Arc::new(AtomicBool::new(false));
    let installs = installed.clone();
    let install = move || installs.store(true, Ordering::SeqCst);
    let uploaded = store.activate_plugin(operator(), tenant(), "p".into(), version("a"), component("a"), install);
    uploaded.await.expect("active");
    assert!(installed.load(Ordering::SeqCst));
    store.reopen().await;
    let plugins = store.plugins().await.expect("plugins");
    assert_eq!((plugins.len(), &*plugins[0].name, &plugins[0].tenant), (1, "p", &tenant()));
    assert_eq!((&plugins[0].active_sha256, &*plugins[0].activated_by), (&version("a").sha256, operator().shown()));
    assert_eq!(plugins[0].activated_at_ms, store.now_ms());
    let active = store.active_versions().await.expect("versions");
    assert_eq!((active.len(), &active[0].sha256, &*active[0].report), (1, &version("a").sha256, "report of a"));
    upload(store, &tenant(), "p", "b").await;
    let active = store.active_versions().await.expect("versions");
    assert_eq!((active.len(), &active[0].sha256), (1, &version("b").sha256));
    assert!(has(store, "a").await && has(store, "b").await && !has(store, "c").await);
}

async fn a_version_is_added_without_being_active(store: &mut TestStore) {
    let first = store.add_version(operator(), tenant(), "p".into(), version("a"), component("a")).await;
    assert!(matches!(first, Err(StoreError::NotFound(_))), "the first version is uploaded to be active: {first:?}");
    upload(store, &tenant(), "p", "a").await;
    add(store, "b").await;
    let active: Vec<bool> = versions(store).await.iter().map(|one| one.active).collect();
    assert_eq!(active.iter().filter(|active| **active).count(), 1);
    assert_eq!(store.active_versions().await.expect("versions")[0].sha256, version("a").sha256);
    let again = PluginVersion { report: "another report".into(), ..version("b") };
    store.add_version(operator(), tenant(), "p".into(), again, component("b")).await.expect("added");
    let report = store.version_report(tenant(), "p".into(), version("b").sha256).await.expect("a read");
    assert_eq!((report.as_deref(), versions(store).await.len()), (Some("another report"), 2));
    let report = store.version_report(tenant(), "p".into(), version("c").sha256).await.expect("a read");
    assert_eq!(report, None);
}

async fn an_existing_version_is_activated(store: &mut TestStore) {
    upload(store, &tenant(), "p", "a").await;
    upload(store, &tenant(), "p", "b").await;
    let sha256 = version("a").sha256;
    store.activate_version(operator(), tenant(), "p".into(), sha256.clone(), || ()).await.expect("active");
    assert_eq!(store.active_versions().await.expect("versions")[0].sha256, sha256);
    let unknown = store.activate_version(operator(), tenant(), "p".into(), version("c").sha256, || ()).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))), "{unknown:?}");
    let other = store.add_tenant("u").await;
    let foreign = store.activate_version(operator(), other, "p".into(), sha256, || ()).await;
    assert!(matches!(foreign, Err(StoreError::NotFound(_))), "{foreign:?}");
}

async fn versions_are_listed_newest_first(store: &mut TestStore) {
    let texts = ["b", "d", "a", "c"];
    upload(store, &tenant(), "p", "first").await;
    for (created_at_ms, text) in (1..).zip(texts) {
        let new = PluginVersion { created_at_ms, created_by: "somebody".into(), ..version(text) };
        store.add_version(operator(), tenant(), "p".into(), new, component(text)).await.expect("added");
    }
    let found = versions(store).await;
    let expected: Vec<String> = ["c", "a", "d", "b", "first"].map(|text| version(text).sha256).into();
    assert_eq!(found.iter().map(|one| one.sha256.clone()).collect::<Vec<_>>(), expected);
    assert_eq!((found[0].created_at_ms, &*found[0].created_by, found[0].size), (4, "somebody", 1));
    assert!(store.plugin_versions(tenant(), "q".into()).await.expect("a read").is_empty());
}

async fn a_component_keeps_its_bytes(store: &mut TestStore) {
    upload(store, &tenant(), "p", "the bytes").await;
    store.reopen().await;
    let bytes = store.component(version("the bytes").sha256).await.expect("the component");
    assert_eq!(bytes, component("the bytes"));
    let unknown = store.component(version("other").sha256).await;
    assert!(matches!(unknown, Err(StoreError::NotFound("component"))), "{unknown:?}");
}

async fn a_component_of_other_bytes_is_not_returned(store: &mut TestStore) {
    let wrong = store.activate_plugin(operator(), tenant(), "p".into(), version("a"), component("other"), || ());
    wrong.await.expect("the backend does not check an upload");
    let damaged = store.component(version("a").sha256).await;
    assert!(matches!(damaged, Err(StoreError::DamagedComponent { .. })), "{damaged:?}");
    add(store, "a").await;
    assert_eq!(store.component(version("a").sha256).await.expect("repaired"), component("a"));
}

async fn a_plugin_in_use_is_not_deleted(store: &mut TestStore) {
    upload(store, &tenant(), "p", "a").await;
    let of = store.subscribe(json!({"plugin": ["p"]})).await;
    let refused = store.delete_plugin(operator(), tenant(), "p".into(), || ()).await;
    assert!(matches!(refused, Err(StoreError::InUse { by, .. }) if by == [of.id]));
    assert!(has(store, "a").await);
    store.delete_subscription(operator(), &tenant(), of.id).await.expect("deleted");
    store.delete_plugin(operator(), tenant(), "p".into(), || ()).await.expect("deleted");
    assert!(!has(store, "a").await);
    let again = store.delete_plugin(operator(), tenant(), "p".into(), || ()).await;
    assert!(matches!(again, Err(StoreError::NotFound("plugin"))), "{again:?}");
}

async fn a_version_in_use_is_not_deleted(store: &mut TestStore) {
    upload(store, &tenant(), "p", "a").await;
    for text in ["b", "c"] {
        add(store, text).await;
    }
    let [a, b, c] = ["a", "b", "c"].map(|text| version(text).sha256);
    let of = store.subscribe(json!({"plugin": format!("p@{b}")})).await;
    let delete = async |sha256: &String| store.delete_version(operator(), tenant(), "p".into(), sha256.clone()).await;
    assert!(matches!(delete(&a).await, Err(StoreError::Conflict(_))), "it is active");
    assert!(matches!(delete(&b).await, Err(StoreError::InUse { by, .. }) if by == [of.id]));
    delete(&c).await.expect("deleted");
    assert!(matches!(delete(&c).await, Err(StoreError::NotFound(_))), "it is gone");
    let new = subscription_of(settings(json!({"plugin": "p"})));
    store.update_subscription(operator(), &of, new).await.expect("edited");
    delete(&b).await.expect("deleted");
    assert_eq!(versions(store).await.len(), 1);
    store.delete_discarded().await.expect("deleted");
    assert!(matches!(store.component(b).await, Err(StoreError::NotFound(_))));
    assert_eq!(store.component(a).await.expect("the component"), component("a"));
}

async fn a_deleted_plugin_leaves_its_name_and_components_when_they_are_unused(store: &mut TestStore) {
    let other = store.add_tenant("u").await;
    upload(store, &tenant(), "p", "a").await;
    upload(store, &tenant(), "p", "shared").await;
    upload(store, &other, "q", "shared").await;
    let before = store.tenant_contents(tenant()).await.expect("contents");
    assert_eq!((before.plugins, before.versions), (1, 2));
    store.delete_plugin(operator(), tenant(), "p".into(), || ()).await.expect("deleted");
    assert_eq!(store.plugins().await.expect("plugins").len(), 1);
    assert!(versions(store).await.is_empty());
    let report = store.version_report(tenant(), "p".into(), version("a").sha256).await.expect("a read");
    assert_eq!(report, None, "versions of a deleted plugin are not found");
    // The name is free at once.
    upload(store, &tenant(), "p", "new").await;
    store.reopen().await;
    store.delete_discarded().await.expect("deleted");
    let found = versions(store).await;
    assert_eq!((found.len(), &found[0].sha256), (1, &version("new").sha256));
    assert!(matches!(store.component(version("a").sha256).await, Err(StoreError::NotFound(_))));
    assert_eq!(store.component(version("shared").sha256).await.expect("of `q`"), component("shared"));
    let after = store.tenant_contents(tenant()).await.expect("contents");
    assert_eq!((after.plugins, after.versions), (1, 1));
}

async fn a_subscription_needs_its_plugins(store: &mut TestStore) {
    upload(store, &tenant(), "p", "a").await;
    let unknown = version("b").sha256;
    for plugin in [json!("q"), json!(["p", "q"]), json!(format!("p@{unknown}"))] {
        let new = || subscription_of(settings(json!({"plugin": plugin})));
        let created = store.create_subscription(Actor::Host, tenant(), new()).await;
        assert!(matches!(created, Err(StoreError::Conflict(_))), "{plugin}");
    }
    let of = store.subscribe(json!({"plugin": format!("p@{}", version("a").sha256)})).await;
    let edited = store.update_subscription(operator(), &of, subscription_of(settings(json!({"plugin": "q"})))).await;
    assert!(matches!(edited, Err(StoreError::Conflict(_))), "{edited:?}");
    assert_eq!((store.catalog().all_subscriptions().len(), store.current(of.id).generation), (1, 1));
}

async fn the_component_of_a_file_is_remembered(store: &mut TestStore) {
    assert_eq!(file(store, "p").await, None);
    for sha256 in ["one", "two"] {
        store.note_plugin_file(tenant(), "p".into(), sha256.into()).await.expect("noted");
    }
    store.reopen().await;
    assert_eq!((file(store, "p").await.as_deref(), file(store, "q").await), (Some("two"), None));
    upload(store, &tenant(), "p", "a").await;
    store.delete_plugin(operator(), tenant(), "p".into(), || ()).await.expect("deleted");
    assert_eq!(file(store, "p").await.as_deref(), Some("two"), "the file does not bring the plugin back");
}

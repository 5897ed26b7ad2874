//! Log of changes: author, action, and the states before and after.

use super::test_store::{TestStore, tenant};
use super::test_values::{component, operator, settings, subscription_of, version};
use crate::{Actor, Change, StateChange, TenantChange};
use hookloom_model::subscription::TenantId;
use serde_json::json;
use std::collections::BTreeMap;

conformance! {
    a_change_has_an_entry_with_its_author,
    the_host_leaves_no_entry,
    a_refused_change_leaves_no_entry,
    an_edit_shows_both_states,
    entries_have_no_secrets,
    changes_of_tenants_are_in_the_log_of_the_host,
    a_full_share_leaves_out_the_states,
}

/// Returns the entries of a log, newest first.
async fn log(store: &TestStore, of: Option<TenantId>) -> Vec<Change> {
    let (changes, more) = store.changes(of, None, 99).await.expect("changes");
    assert!(!more);
    changes
}

async fn a_change_has_an_entry_with_its_author(store: &mut TestStore) {
    assert!(!store.seam().has_changes().await.expect("a read"));
    let new = subscription_of(settings(json!({})));
    let of = store.create_subscription(operator(), tenant(), new).await.expect("a subscription");
    store.pass(1_000);
    let pause = StateChange::Pause { reason: "maintenance".into(), by_host: false };
    store.set_subscription_state(operator(), &tenant(), of.id, pause).await.expect("paused");
    store.reopen().await;
    let entries = log(store, Some(tenant())).await;
    let actions: Vec<_> = entries.iter().map(|one| &*one.action).collect();
    assert_eq!(actions, ["subscription.state", "subscription.create"]);
    for entry in &entries {
        assert_eq!((&*entry.who, &entry.subject), (operator().shown(), &of.id.to_string()));
    }
    assert_eq!((&entries[0].before, &entries[0].after), (&Some(json!("active")), &Some(json!("paused"))));
    assert_eq!((entries[0].at_ms, entries[1].at_ms), (store.now_ms(), store.now_ms() - 1_000));
    assert!(entries[1].before.is_none() && entries[1].after.as_ref().is_some_and(|after| after["state"] == "active"));
    assert!(store.seam().has_changes().await.expect("a read"));
}

async fn the_host_leaves_no_entry(store: &mut TestStore) {
    for actor in [Actor::Host, Actor::PluginsFolder] {
        store.create_token(actor.clone(), tenant(), "a".into()).await.expect("a token");
        let text = "a";
        let uploaded =
            store.activate_plugin(actor.clone(), tenant(), "p".into(), version(text), component(text), || ());
        uploaded.await.expect("active");
        let new = subscription_of(settings(json!({"plugin": "p"})));
        let of = store.create_subscription(actor.clone(), tenant(), new).await.expect("a subscription");
        store.delete_subscription(actor, &tenant(), of.id).await.expect("deleted");
    }
    assert!(!store.seam().has_changes().await.expect("a read"));
    assert_eq!(store.plugins().await.expect("plugins")[0].activated_by, Actor::PluginsFolder.shown());
}

async fn a_refused_change_leaves_no_entry(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.subscribe(json!({})).await;
    store.update_subscription(Actor::Host, &of, subscription_of(settings(json!({})))).await.expect("edited");
    assert!(store.update_subscription(operator(), &of, subscription_of(settings(json!({})))).await.is_err());
    assert!(store.create_tenant(operator(), tenant(), TenantChange::default()).await.is_err());
    assert!(store.revoke_token(operator(), tenant(), of.id.0).await.is_err());
    assert!(store.delete_plugin(operator(), tenant(), "p".into(), || ()).await.is_err());
    assert!(!store.seam().has_changes().await.expect("a read"));
}

async fn an_edit_shows_both_states(store: &mut TestStore) {
    let of = store.subscribe(json!({"description": "old"})).await;
    let new = subscription_of(settings(json!({"description": "new"})));
    let edited = store.update_subscription(operator(), &of, new).await.expect("edited");
    store.rotate_signing_keys(operator(), &edited, Vec::new()).await.expect("rotated");
    let entries = log(store, Some(tenant())).await;
    let [before, after] = [&entries[1].before, &entries[1].after].map(|state| state.as_ref().expect("a state"));
    assert_eq!((&before["description"], &before["config_generation"]), (&json!("old"), &json!(1)));
    assert_eq!((&after["description"], &after["config_generation"]), (&json!("new"), &json!(2)));
    assert_eq!(after["secrets"], json!(["token"]));
    assert_eq!((&*entries[0].action, &entries[0].after), ("subscription.rotate-secret", &None));
}

async fn entries_have_no_secrets(store: &mut TestStore) {
    let new = subscription_of(settings(json!({"headers": {"a": "{{secret:token}}"}})));
    store.create_subscription(operator(), tenant(), new).await.expect("a subscription");
    let (_, key) = store.create_key(operator(), Some(tenant()), Vec::new(), "key".into()).await.expect("a key");
    let (_, token) = store.create_token(operator(), tenant(), "token".into()).await.expect("a token");
    let entries = format!("{:?}", log(store, Some(tenant())).await);
    for secret in ["s3cret", &key, &token] {
        assert!(!entries.contains(secret), "{entries}");
    }
    assert!(entries.contains("{{secret:token}}"));
}

async fn changes_of_tenants_are_in_the_log_of_the_host(store: &mut TestStore) {
    let id = TenantId("u".into());
    store.create_tenant(operator(), id.clone(), TenantChange::default()).await.expect("a tenant");
    let limits_max = Some(BTreeMap::from([("cpu_ms".to_owned(), 1)]));
    let change = TenantChange { limits_max, ..TenantChange::default() };
    store.update_tenant(operator(), id.clone(), change).await.expect("changed");
    let contents = store.tenant_contents(id.clone()).await.expect("contents");
    store.delete_tenant(operator(), id.clone(), contents, || ()).await.expect("deleted");
    store.delete_discarded().await.expect("deleted");
    store.create_key(operator(), None, Vec::new(), "admin".into()).await.expect("a key");
    assert!(log(store, Some(id)).await.is_empty());
    let entries = log(store, None).await;
    let actions: Vec<_> = entries.iter().map(|one| &*one.action).collect();
    assert_eq!(actions, ["admin-key.create", "tenant.delete", "tenant.update", "tenant.create"]);
    let [before, after] = [&entries[2].before, &entries[2].after].map(|state| state.as_ref().expect("a state"));
    assert_eq!((&before["limits_max"], &after["limits_max"]), (&json!({}), &json!({"cpu_ms": 1})));
    assert_eq!(entries[1].before.as_ref().expect("the contents")["tenant"], "u");
}

async fn a_full_share_leaves_out_the_states(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    store.reopen_with_room(0).await;
    let pause = StateChange::Pause { reason: "maintenance".into(), by_host: false };
    store.set_subscription_state(operator(), &tenant(), of.id, pause).await.expect("paused all the same");
    let entries = log(store, Some(tenant())).await;
    assert_eq!((entries.len(), &*entries[0].action), (1, "subscription.state"));
    assert_eq!((&entries[0].before, &entries[0].after), (&None, &None));
}

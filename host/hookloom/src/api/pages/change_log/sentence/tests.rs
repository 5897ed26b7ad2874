//! Tests of the sentences about entries.

use super::*;
use serde_json::json;
use uuid::Uuid;

const ID: &str = "019a2136-faad-7301-9607-05cad38ff3d4";

fn change(who: &str, action: &str, subject: &str, before: Value, after: Value) -> Change {
    let [before, after] = [before, after].map(|state| Some(state).filter(|state| !state.is_null()));
    Change { id: Uuid::nil(), at_ms: 0, who: who.into(), action: action.into(), subject: subject.into(), before, after }
}

/// Returns a sentence as text.
fn told(change: &Change) -> String {
    let Sentence { author, verb, thing, rest } = of(change, &Things::default());
    let thing = thing.map(|thing| format!(" *{}*", thing.name)).unwrap_or_default();
    format!("{author} {verb}{thing}{rest}.")
}

#[track_caller]
fn check(action: &str, subject: &str, before: Value, after: Value, expected: &str) {
    let told = told(&change("Anna (hlk_8sQ2…)", action, subject, before, after));
    assert_eq!(told, format!("Anna’s key {expected}."));
}

#[test]
fn an_edit_of_a_webhook_says_what_was_changed() {
    fn webhook(rate: Value) -> Value {
        json!({"description": "CRM to ERP", "notify_url": "https://a.example/?key=1", "rate_per_s": rate, "timeout_ms": 5_000})
    }
    const UPDATE: &str = "subscription.update";
    let expected = "changed the rate of the webhook *CRM to ERP* from 5/s to 10/s";
    check(UPDATE, ID, webhook(json!(5)), webhook(json!(10)), expected);
    check(UPDATE, ID, webhook(json!(null)), webhook(json!(10)), "set the rate of the webhook *CRM to ERP* to 10/s");
    check(UPDATE, ID, webhook(json!(5)), webhook(json!(null)), "removed the rate of the webhook *CRM to ERP* (5/s)");
    check(UPDATE, ID, webhook(json!(5)), webhook(json!(5)), "changed the webhook *CRM to ERP*");
    check(UPDATE, ID, json!(null), json!(null), "changed the webhook *05cad38ff3d4*");
    let mut other = webhook(json!(9));
    other["timeout_ms"] = json!(1_000);
    check(UPDATE, ID, webhook(json!(5)), other.clone(), "changed the rate and timeout of the webhook *CRM to ERP*");
    other["filter"] = json!({"a": 1});
    other["headers"] = json!({"x-a": "s3cret"});
    check(UPDATE, ID, webhook(json!(5)), other, "changed 4 settings of the webhook *CRM to ERP*");
    let nameless = json!({"description": "", "notify_url": "https://a.example/?key=1"});
    let header = json!({"description": "", "notify_url": "https://a.example/?key=1", "headers": {"x-a": "s3cret"}});
    check(UPDATE, ID, nameless, header, "changed the header x-a of the webhook *https://a.example/?…*");
}

#[test]
fn states_and_actions_have_verbs() {
    check("subscription.state", ID, json!("active"), json!("paused"), "paused the webhook *05cad38ff3d4*");
    check("subscription.state", ID, json!("paused"), json!("active"), "resumed the webhook *05cad38ff3d4*");
    check("subscription.state", ID, json!("disabled"), json!("active"), "enabled the webhook *05cad38ff3d4*");
    let selection = json!({"from_ms": 1, "deliveries": 1});
    let expected = "redrove ended deliveries of the webhook *05cad38ff3d4* (1 delivery)";
    check("subscription.redrive", ID, json!(null), selection, expected);
    check("delivery.cancel", ID, json!(null), json!(null), "cancelled the delivery *05cad38ff3d4*");
    let expected = "activated a version of the plugin *flatten* (version 9f86d081884c)";
    check("plugin.activate", "flatten", json!(null), json!("9f86d081884c7d659a2feaa0c55ad015"), expected);
    let canary = json!({"kind": "canary", "sha256": "9f", "percent": 5.0});
    let expected = "began a canary of the plugin *p* with 5 % of its events";
    check("plugin.begin-rollout", "p", json!(null), canary, expected);
    check("plugin.delete", "p", json!({"versions": ["a", "b"]}), json!(null), "deleted the plugin *p* with 2 versions");
    check("bin.forget", "q1W2e3R4/019a", json!(null), json!(null), "deleted a request of the bin *q1W2e3*");
    check("bin.replay", "019a to a.example", json!(null), json!(null), "replayed a request of a bin to *a.example*");
    let key = json!({"label": "b", "hint": "hlk_1", "scopes": ["send", "read"]});
    check("key.create", "b (hlk_1…)", json!(null), key, "created the key *b (hlk_1…)*, which may send and read");
    check("admin-key.revoke", "b (hlk_1…)", json!(null), json!(null), "revoked the admin key *b (hlk_1…)*");
    check("session.sign-in", "127.0.0.1", json!(null), json!(null), "signed in from *127.0.0.1*");
    let token = json!({"label": "CRM", "hint": "hlt_1"});
    check("intake-token.rotate", ID, token, json!({"label": "CRM", "hint": "hlt_2"}), "replaced the address *CRM*");
    let contents = json!({"tenant": "acme", "subscriptions": 3, "events": 1});
    check("tenant.delete", "acme", contents, json!(null), "deleted the tenant *acme* with 3 webhooks and 1 event");
    let [before, after] = [json!({"limits_max": {}}), json!({"limits_max": {"cpu_ms": 20}})];
    check("tenant.update", "acme", before, after, "set the plugin limit cpu_ms of the tenant *acme* to 20 ms");
    check("shard.move", "47 to host 2", json!(null), json!(null), "moved the shard 47 to host 2");
    check("new.action", "x", json!(null), json!(null), "did new.action with *x*");
}

#[test]
fn an_author_is_a_key() {
    #[track_caller]
    fn check(who: &str, expected: &str) {
        assert_eq!(author(who), expected);
    }
    check("Anna (hlk_8sQ2…)", "Anna’s key");
    check("Key of Anna (hlk_8sQ2…)", "Key of Anna’s key");
    check("Anna's key (hlk_8sQ2…)", "Anna's key");
    check("a (b) (hlk_8sQ2…)", "a (b)’s key");
    check("hlk_8sQ2…", "The key hlk_8sQ2…");
    check("HOOKLOOM_ADMIN_KEY", "The key HOOKLOOM_ADMIN_KEY");
    check("given by HOOKLOOM_ADMIN_KEY (given…)", "The key HOOKLOOM_ADMIN_KEY");
    check("made at the first start (hlk_8sQ2…)", "The first admin key");
}

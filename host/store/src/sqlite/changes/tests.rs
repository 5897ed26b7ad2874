//! Tests that an entry is committed with its change, and that no entry has a secret.

mod world;

use crate::audit::{Actor, AuditAction, RolloutAudit, SelectionAudit};
use crate::usage::TenantContents;
use hookloom_model::access::{ApiKey, IntakeToken, KEY_PREFIX, TOKEN_PREFIX, credential_hash, new_credential};
use hookloom_model::address::Egress;
use hookloom_model::alerts::AlertSettings;
use hookloom_model::delivery::DeliveryId;
use hookloom_model::event_type::EventTypes;
use hookloom_model::ids::BinId;
use hookloom_model::inspector::{Bin, BinSettings};
use hookloom_model::pauses::Pauses;
use hookloom_model::signature::{SigningKey, SigningSecret};
use hookloom_model::subscription::{LoadedSettings, Subscription, SubscriptionId, SubscriptionState, Tenant, TenantId};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;
use world::AuditedStore;

/// Every action, in an order in which each is possible after those before it. True: its entry is in the host's log.
const ACTIONS: [(&str, bool); 38] = [
    ("tenant.create", true),
    ("alerts.update", false),
    ("tenant.update", true),
    ("admin-key.create", true),
    ("admin-key.revoke", true),
    ("sign-in-link.create", true),
    ("key.create", false),
    ("session.sign-in", false),
    ("key.revoke", false),
    ("intake-token.create", false),
    ("intake-token.rotate", false),
    ("intake-token.revoke", false),
    ("plugin.end-rollout", false),
    ("plugin.begin-rollout", false),
    ("plugin.upload", false),
    ("plugin.add-version", false),
    ("plugin.activate", false),
    ("plugin.delete-version", false),
    ("plugin.delete", false),
    ("subscription.create", false),
    ("subscription.update", false),
    ("subscription.rotate-secret", false),
    ("subscription.test", false),
    ("delivery.cancel", false),
    ("delivery.retry", false),
    ("subscription.redrive", false),
    ("subscription.replay", false),
    ("subscription.state", false),
    ("subscription.delete", false),
    ("bin.create", false),
    ("bin.update", false),
    ("bin.replay", false),
    ("bin.forget", false),
    ("bin.clear", false),
    ("bin.delete", false),
    ("rejected-request.resubmit", false),
    ("rejected-request.delete", false),
    ("tenant.delete", true),
];

/// Actions that need several hosts, which a store on SQLite never has. Tests of several hosts take them.
const OF_SEVERAL_HOSTS: [&str; 1] = ["shard.move"];

#[tokio::test]
async fn a_change_and_its_entry_are_committed_together_or_not_at_all() {
    let world = AuditedStore::new().await;
    let before = world.rows().await;
    world.execute("CREATE TRIGGER refused AFTER INSERT ON changes BEGIN SELECT RAISE(ABORT, 'refused'); END").await;
    for (action, _) in ACTIONS {
        let refused = world.take(action).await;
        assert!(refused.is_err_and(|error| hookloom_model::describe(&error).contains("refused")), "{action}");
        assert_eq!(world.rows().await, before, "{action} without its entry");
    }
    world.execute("DROP TRIGGER refused").await;
    for (index, (action, is_of_host)) in ACTIONS.into_iter().enumerate() {
        world.take(action).await.unwrap_or_else(|error| panic!("{action}: {}", hookloom_model::describe(&error)));
        let newest = world.newest(is_of_host).await;
        assert_eq!((&*newest.action, &*newest.who), (action, "operator (hlk_1234…)"));
        if action != "tenant.delete" {
            assert_eq!(world.entries().await, index + 1, "{action} has one entry");
        }
    }
}

#[tokio::test]
async fn a_refused_change_and_a_change_by_the_host_have_no_entry() {
    let world = AuditedStore::new().await;
    for action in ["delivery.cancel", "key.revoke", "bin.delete", "plugin.delete", "rejected-request.delete"] {
        world.take(action).await.expect(action);
        let entries = world.entries().await;
        assert!(world.take(action).await.is_err(), "{action} twice");
        assert_eq!(world.entries().await, entries, "{action} was refused");
    }
    let entries = world.entries().await;
    let world = world.changed_by(Actor::Host);
    world.take("subscription.create").await.expect("created");
    let world = world.changed_by(Actor::PluginsFolder);
    world.take("plugin.upload").await.expect("uploaded");
    assert_eq!(world.entries().await, entries);
}

#[tokio::test]
async fn the_entry_of_many_deliveries_is_committed_with_the_first_of_them() {
    let world = AuditedStore::new().await;
    world.accept(600).await;
    // The second step fails, and the first stays.
    world.execute("CREATE TRIGGER refused AFTER UPDATE ON ledgers WHEN new.replayed > 500 BEGIN SELECT RAISE(ABORT, 'refused'); END").await;
    assert!(world.take("subscription.replay").await.is_err());
    let newest = world.newest(false).await;
    let after = newest.after.expect("the selection");
    assert_eq!((&*newest.action, &after["from_ms"]), ("subscription.replay", &json!(0)));
    assert!(after.get("deliveries").is_none() && after.get("states").is_none(), "{after}");
    // One transaction is enough: the number is known when it commits.
    world.take("subscription.redrive").await.expect("redriven");
    let after = world.newest(false).await.after.expect("the selection");
    assert_eq!(after, json!({"states": ["dead", "cancelled"], "from_ms": 0, "deliveries": 0}));
}

/// Marked value, which no entry may have.
const SECRET: &str = "marked-secret-value";

fn subscription() -> Subscription {
    let settings = json!({
        "notify_url": "https://ä.example/", "modules": ["Contact"], "config": {"a": "b"},
        "headers": {"authorization": "Bearer {{secret:token}}"},
        "transport": {"proxy": "http://proxy.example", "proxy_authorization": "{{secret:token}}", "client_certificate": "token"},
    });
    let settings = serde_json::from_value(settings).expect("settings");
    let secrets = BTreeMap::from([("token".to_owned(), SECRET.to_owned().into())]);
    let signing = [SigningSecret::generate(), SigningSecret::generate_pair()].map(SigningKey::current);
    Subscription {
        id: SubscriptionId::new(),
        tenant: TenantId("t".into()),
        settings: LoadedSettings::new(settings, secrets).expect("a URL"),
        state: SubscriptionState::Active,
        state_reason: None,
        failing_since_ms: None,
        pauses: Pauses::default(),
        generation: 1,
        signing: signing.into(),
        created_at_ms: 0,
    }
}

/// Things with secrets, and the texts that no entry may have.
struct Samples {
    subscription: Subscription,
    key: ApiKey,
    token: IntakeToken,
    secrets: Vec<String>,
}

impl Samples {
    fn new() -> Self {
        let (key_text, key_hash, key_hint) = new_credential(KEY_PREFIX);
        let (token_text, token_hash, token_hint) = new_credential(TOKEN_PREFIX);
        assert_eq!(credential_hash(&key_text), key_hash);
        let tenant = TenantId("t".into());
        let label = "k".to_owned();
        let id = Uuid::nil();
        let tenant_of_key = Some(tenant.clone());
        let key = ApiKey { id, tenant: tenant_of_key, scopes: Vec::new(), hint: key_hint, label, created_at_ms: 0 };
        let token = IntakeToken { id, tenant, hint: token_hint, label: "t".to_owned(), created_at_ms: 0 };
        let subscription = subscription();
        let mut secrets = vec![SECRET.to_owned(), key_text, token_text, hex::encode(key_hash), hex::encode(token_hash)];
        // Without the prefix, after which the bytes follow.
        let revealed = subscription.signing.iter().map(|key| key.secret.reveal());
        secrets.extend(revealed.filter_map(|text| text.split_once('_').map(|(_, bytes)| bytes.to_owned())));
        assert_eq!(secrets.len(), 7);
        Samples { subscription, key, token, secrets }
    }
}

#[test]
fn no_entry_has_a_secret() {
    let samples = Samples::new();
    let tenant = Tenant {
        id: TenantId("t".into()),
        event_types: EventTypes::default(),
        alerts: AlertSettings::default(),
        limits_max: BTreeMap::new(),
        egress: Egress::default(),
        created_at_ms: 0,
    };
    let contents = TenantContents {
        tenant: "t".into(),
        deleting_since_ms: None,
        events: 1,
        deliveries: 1,
        plugins: 1,
        versions: 1,
        subscriptions: 1,
        bins: 1,
        keys: 1,
        intake_tokens: 1,
        bytes: 1,
    };
    let bin =
        Bin { id: BinId::parse("b").expect("an id"), settings: BinSettings::default(), created_at_ms: 0, received: 0 };
    let mut actions = of_keys(&samples);
    actions.extend(of_subscriptions(&samples.subscription));
    actions.extend(of_bins(&bin));
    actions.extend(of_plugins());
    actions.push(AuditAction::AlertsUpdate { before: &tenant.alerts, after: &tenant.alerts });
    actions.push(AuditAction::TenantCreate(&tenant));
    actions.push(AuditAction::TenantUpdate { before: &tenant, after: &tenant });
    actions.push(AuditAction::TenantDelete(&contents));
    let texts: BTreeSet<&str> = actions.iter().map(AuditAction::as_str).collect();
    let tried = ACTIONS.into_iter().map(|(action, _)| action).chain(OF_SEVERAL_HOSTS);
    assert_eq!(texts, tried.collect(), "every action is tried");
    for action in &actions {
        let states = serde_json::to_string(&action.states()).expect("JSON");
        let entry = format!("{} {} {states}", action.as_str(), action.subject());
        for secret in &samples.secrets {
            assert!(!entry.contains(secret), "{secret} in {entry}");
        }
    }
    let created = AuditAction::SubscriptionCreate(&samples.subscription);
    let shown = serde_json::to_value(&created.states()[1]).expect("JSON");
    assert_eq!((&shown["secrets"], &shown["ascii_host"]), (&json!(["token"]), &json!("xn--4ca.example")));
    assert_eq!(shown["headers"]["authorization"], "Bearer {{secret:token}}");
    assert!(shown["signing_keys"][1]["public_key"].is_string(), "{shown}");
}

fn of_keys(samples: &Samples) -> Vec<AuditAction<'_>> {
    let Samples { key, token, .. } = samples;
    vec![
        AuditAction::AdminKeyCreate(key),
        AuditAction::AdminKeyRevoke(key),
        AuditAction::KeyCreate(key),
        AuditAction::KeyRevoke(key),
        AuditAction::SignInLinkCreate(key),
        AuditAction::ShardMove { shard: 5, to: Some(2) },
        AuditAction::ShardMove { shard: 5, to: None },
        AuditAction::SessionSignIn([127, 0, 0, 1].into()),
        AuditAction::IntakeTokenCreate(token),
        AuditAction::IntakeTokenRevoke(token.id),
        AuditAction::IntakeTokenRotate { before: token, after: token },
    ]
}

fn of_subscriptions(subscription: &Subscription) -> Vec<AuditAction<'_>> {
    let id = subscription.id;
    let selection = SelectionAudit { states: None, from_ms: 0, to_ms: Some(1), deliveries: Some(1) };
    vec![
        AuditAction::SubscriptionCreate(subscription),
        AuditAction::SubscriptionDelete(subscription),
        AuditAction::SubscriptionUpdate { before: subscription, after: subscription },
        AuditAction::SubscriptionRedrive { id, selection: selection.clone() },
        AuditAction::SubscriptionReplay { id, selection },
        AuditAction::SubscriptionRotateSecret(id),
        AuditAction::SubscriptionState { id, before: SubscriptionState::Active, after: SubscriptionState::Paused },
        AuditAction::SubscriptionTest(id),
        AuditAction::DeliveryCancel(DeliveryId::new()),
        AuditAction::DeliveryRetry(DeliveryId::new()),
    ]
}

fn of_bins(bin: &Bin) -> Vec<AuditAction<'_>> {
    let Bin { id, settings, .. } = bin;
    vec![
        AuditAction::BinCreate(bin),
        AuditAction::BinUpdate { id, before: settings, after: settings },
        AuditAction::BinDelete(id),
        AuditAction::BinClear(id),
        AuditAction::BinForget { bin: id, request: Uuid::nil() },
        AuditAction::BinReplay { request: Uuid::nil(), host: "a.example" },
        AuditAction::RejectedRequestDelete(Uuid::nil()),
        AuditAction::RejectedRequestResubmit(Uuid::nil()),
    ]
}

fn of_plugins() -> Vec<AuditAction<'static>> {
    let name = "p";
    let sha256 = "a";
    vec![
        AuditAction::PluginActivate { name, sha256 },
        AuditAction::PluginAddVersion { name, sha256 },
        AuditAction::PluginBeginRollout { name, rollout: RolloutAudit { kind: "shadow", sha256, percent: None } },
        AuditAction::PluginDelete { name, versions: &[] },
        AuditAction::PluginDeleteVersion { name, sha256 },
        AuditAction::PluginEndRollout(name),
        AuditAction::PluginUpload { name, sha256 },
    ]
}

//! Store with one thing of each kind, and every change of them.

use crate::{
    Actor, Caps, Change, DeliveryFilter, NewEvent, NewSubscription, PluginVersion, RolloutKind, Span, StateChange,
    Store, StoreError, StoreEvent, StoredRollout, TenantChange,
};
use bytes::Bytes;
use hookloom_model::delivery::{DeliveryId, DeliveryState, Reason};
use hookloom_model::event::Module;
use hookloom_model::ids::BinId;
use hookloom_model::inspector::{BinSettings, RequestHead};
use hookloom_model::signature::{SigningKey, SigningSecret};
use hookloom_model::subscription::{LoadedSettings, Subscription, SubscriptionId, TenantId};
use rusqlite::Connection;
use rusqlite::types::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

fn tenant() -> TenantId {
    TenantId("t".into())
}

fn event() -> NewEvent {
    NewEvent {
        name: "Contact is Created".into(),
        module: Module::Contact,
        entity_id: None,
        payload: Bytes::from_static(b"{}"),
    }
}

fn new_subscription(description: &str) -> NewSubscription {
    let settings = json!({"notify_url": "http://a.example/", "modules": ["Contact"], "description": description});
    let settings = serde_json::from_value(settings).expect("settings");
    NewSubscription {
        settings: LoadedSettings::new(settings, BTreeMap::new()).expect("a URL"),
        signing: vec![SigningKey::current(SigningSecret::generate())],
    }
}

fn version(letter: &str) -> PluginVersion {
    PluginVersion::example(letter.repeat(64), 1)
}

fn rollout() -> StoredRollout {
    StoredRollout {
        tenant: tenant(),
        name: "p".into(),
        kind: RolloutKind::Canary,
        sha256: version("d").sha256,
        percent: 5.0,
        started_at_ms: 0,
        earlier: Vec::new(),
        ended_reason: None,
        counts: String::new(),
        counts_elsewhere: Vec::new(),
    }
}

pub(super) struct AuditedStore {
    /// Author of the changes.
    actor: Actor,
    store: Arc<Store>,
    subscription: SubscriptionId,
    delivery: DeliveryId,
    bin: BinId,
    request: Uuid,
    /// One to resubmit, and one to delete.
    rejected: [Uuid; 2],
    _store_events: UnboundedReceiver<StoreEvent>,
    _folder: tempfile::TempDir,
}

impl AuditedStore {
    /// Makes the things as the host, which leaves no entry.
    pub(super) async fn new() -> AuditedStore {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, store_events) = Store::open(folder.path()).expect("a store");
        let host = Actor::Host;
        store.create_tenant(host.clone(), tenant(), TenantChange::default()).await.expect("a tenant");
        store.create_key(host.clone(), None, Vec::new(), "admin".into()).await.expect("an admin key");
        store.create_key(host.clone(), Some(tenant()), Vec::new(), "key".into()).await.expect("a key");
        for label in ["one", "two"] {
            store.create_token(host.clone(), tenant(), label.into()).await.expect("a token");
        }
        let component = Bytes::from_static(b"x");
        let uploaded = store.activate_plugin(host.clone(), tenant(), "p".into(), version("a"), component, || ());
        uploaded.await.expect("a plugin");
        for letter in ["c", "d"] {
            let component = Bytes::from_static(b"x");
            store.add_version(host.clone(), tenant(), "p".into(), version(letter), component).await.expect("added");
        }
        store.begin_rollout(host.clone(), rollout(), || ()).await.expect("a rollout");
        let subscription = store.create_subscription(host.clone(), tenant(), new_subscription("old")).await;
        let subscription = subscription.expect("a subscription").id;
        store.accept(tenant(), vec![event()], Caps::NONE).await.expect("an event");
        let filter = DeliveryFilter { limit: 1, ..DeliveryFilter::default() };
        let delivery = store.deliveries(tenant(), filter).await.expect("deliveries")[0].id;
        let bin = store.create_bin(host, tenant(), BinSettings::default()).await.expect("a bin");
        let received = store.receive_in_bin(&tenant(), &bin, RequestHead::default(), Bytes::new()).await;
        let (request, _) = received.expect("a request");
        let mut rejected = [Uuid::nil(); 2];
        for id in &mut rejected {
            *id = store.reject(tenant(), "no event".into(), Bytes::new(), false).await.expect("kept");
        }
        AuditedStore {
            actor: Actor::Key("operator (hlk_1234…)".into()),
            store,
            subscription,
            delivery,
            bin: bin.id,
            request,
            rejected,
            _store_events: store_events,
            _folder: folder,
        }
    }

    /// Returns the same store, which another author changes from now on.
    pub(super) fn changed_by(self, actor: Actor) -> AuditedStore {
        AuditedStore { actor, ..self }
    }

    pub(super) async fn accept(&self, count: usize) {
        self.store.accept(tenant(), vec![event(); count], Caps::NONE).await.expect("accepted");
    }

    pub(super) async fn execute(&self, sql: &'static str) {
        self.store.sqlite().execute_batch(sql).await;
    }

    /// Returns the newest entry of the tenant's log, or of the host's.
    pub(super) async fn newest(&self, is_of_host: bool) -> Change {
        let of = (!is_of_host).then(tenant);
        self.store.changes(of, None, 1).await.expect("changes").0.remove(0)
    }

    /// Returns the number of entries in all logs.
    pub(super) async fn entries(&self) -> usize {
        self.store.sqlite().read_rows(count_entries).await
    }

    /// Returns every row of the database, and what the catalog shows.
    pub(super) async fn rows(&self) -> Vec<String> {
        let catalog = self.store.catalog();
        let mut all = self.store.sqlite().read_rows(every_row).await;
        all.push(format!("{:?}", catalog.tenants()));
        all.push(format!("{:?}", catalog.all_subscriptions()));
        all.push(format!("{:?} {:?}", catalog.keys(None), catalog.keys(Some(&tenant()))));
        all.push(format!("{:?}", catalog.tokens(&tenant())));
        all
    }

    fn subscription(&self) -> Arc<Subscription> {
        self.store.catalog().subscription(&tenant(), self.subscription).expect("the subscription")
    }

    /// Makes the change of this name.
    pub(super) async fn take(&self, action: &str) -> Result<(), StoreError> {
        match action.split_once('.').map(|(kind, _)| kind) {
            Some("alerts" | "tenant" | "admin-key" | "key" | "session" | "sign-in-link") => {
                self.change_access(action).await
            }
            Some("intake-token") => self.change_token(action).await,
            Some("subscription") => self.change_subscription(action).await,
            Some("plugin") => self.change_plugin(action).await,
            _ => self.change_rest(action).await,
        }
    }

    async fn change_access(&self, action: &str) -> Result<(), StoreError> {
        let AuditedStore { store, .. } = self;
        let actor = self.actor.clone();
        let admin = store.catalog().keys(None).remove(0);
        let keys = store.catalog().keys(Some(&tenant()));
        match action {
            "alerts.update" => {
                let settings = serde_json::from_value(json!({"recipients": ["a@example.com"]})).expect("settings");
                store.put_alert_settings(actor, tenant(), settings).await.map(drop)
            }
            "tenant.create" => {
                store.create_tenant(actor, TenantId("u".into()), TenantChange::default()).await.map(drop)
            }
            "tenant.update" => {
                let limits_max = Some(BTreeMap::from([("cpu_ms".to_owned(), 1)]));
                let change = TenantChange { limits_max, ..TenantChange::default() };
                store.update_tenant(actor, tenant(), change).await.map(drop)
            }
            "tenant.delete" => {
                let contents = store.tenant_contents(tenant()).await?;
                store.delete_tenant(actor, tenant(), contents, || ()).await
            }
            "admin-key.create" => store.create_key(actor, None, Vec::new(), "new".into()).await.map(drop),
            "admin-key.revoke" => store.revoke_key(actor, None, admin.id).await,
            "key.create" => store.create_key(actor, Some(tenant()), Vec::new(), "new".into()).await.map(drop),
            "key.revoke" => {
                let key = keys.iter().find(|key| key.label == "key").ok_or(StoreError::NotFound("key"))?;
                store.revoke_key(actor, Some(tenant()), key.id).await
            }
            "sign-in-link.create" => store.create_sign_in_link(actor, (*admin).clone()).await.map(drop),
            _ => {
                // The key is the author, so it has the name of the author.
                let mut key = (*keys[0]).clone();
                key.label = "operator".into();
                key.hint = "hlk_1234".into();
                store.sign_in(Arc::new(key), [127, 0, 0, 1].into()).await.map(drop)
            }
        }
    }

    async fn change_token(&self, action: &str) -> Result<(), StoreError> {
        let AuditedStore { store, .. } = self;
        let actor = self.actor.clone();
        let tokens = store.catalog().tokens(&tenant());
        match action {
            "intake-token.create" => store.create_token(actor, tenant(), "new".into()).await.map(drop),
            "intake-token.rotate" => store.rotate_token(actor, tenant(), tokens[0].id).await.map(drop),
            _ => store.revoke_token(actor, tenant(), tokens[0].id).await,
        }
    }

    async fn change_subscription(&self, action: &str) -> Result<(), StoreError> {
        let AuditedStore { store, subscription: id, .. } = self;
        let actor = self.actor.clone();
        let everything = Span { from_ms: 0, to_ms: i64::MAX };
        match action {
            "subscription.create" => {
                store.create_subscription(actor, tenant(), new_subscription("new")).await.map(drop)
            }
            "subscription.update" => {
                store.update_subscription(actor, &self.subscription(), new_subscription("new")).await.map(drop)
            }
            "subscription.rotate-secret" => {
                let signing = vec![SigningKey::current(SigningSecret::generate())];
                store.rotate_signing_keys(actor, &self.subscription(), signing).await.map(drop)
            }
            "subscription.test" => store.test(actor, &self.subscription(), event()).await.map(drop),
            "subscription.redrive" => {
                let states = vec![DeliveryState::Dead, DeliveryState::Cancelled];
                store.redrive(actor, &self.subscription(), states, everything).await.map(drop)
            }
            "subscription.replay" => store.replay(actor, &self.subscription(), everything).await.map(drop),
            "subscription.state" => {
                let change = StateChange::Disable { reason: Reason::new("test", "disabled"), generation: None };
                store.set_subscription_state(actor, &tenant(), *id, change).await.map(drop)
            }
            _ => store.delete_subscription(actor, &tenant(), *id).await,
        }
    }

    async fn change_plugin(&self, action: &str) -> Result<(), StoreError> {
        let AuditedStore { store, .. } = self;
        let actor = self.actor.clone();
        let name = "p".to_owned();
        let component = Bytes::from_static(b"x");
        match action {
            "plugin.upload" => store.activate_plugin(actor, tenant(), name, version("b"), component, || ()).await,
            "plugin.add-version" => store.add_version(actor, tenant(), name, version("e"), component).await,
            "plugin.activate" => store.activate_version(actor, tenant(), name, version("a").sha256, || ()).await,
            "plugin.begin-rollout" => store.begin_rollout(actor, rollout(), || ()).await,
            "plugin.end-rollout" => store.end_rollout(actor, rollout().id(), "ended".into(), None, || ()).await,
            "plugin.delete-version" => store.delete_version(actor, tenant(), name, version("c").sha256).await,
            _ => store.delete_plugin(actor, tenant(), name, || ()).await,
        }
    }

    async fn change_rest(&self, action: &str) -> Result<(), StoreError> {
        let AuditedStore { store, delivery, request, rejected: [resubmitted, deleted], .. } = self;
        let actor = self.actor.clone();
        let bin = self.bin.clone();
        match action {
            "delivery.cancel" => store.cancel(actor, tenant(), *delivery).await,
            "delivery.retry" => store.retry(actor, tenant(), *delivery).await,
            "bin.create" => store.create_bin(actor, tenant(), BinSettings::default()).await.map(drop),
            "bin.update" => {
                let settings = BinSettings { name: "new".into(), ..BinSettings::default() };
                store.update_bin(actor, tenant(), bin, settings).await.map(drop)
            }
            "bin.replay" => store.record_bin_replay(actor, tenant(), *request, "a.example".into()).await,
            "bin.forget" => store.forget_bin_requests(actor, tenant(), bin, Some(*request)).await,
            "bin.clear" => store.forget_bin_requests(actor, tenant(), bin, None).await,
            "bin.delete" => store.delete_bin(actor, tenant(), bin).await,
            "rejected-request.resubmit" => {
                store.accept_rejected(actor, tenant(), *resubmitted, event(), Caps::NONE).await.map(drop)
            }
            _ => store.forget_rejected_request(actor, tenant(), *deleted).await,
        }
    }
}

fn count_entries(connection: &Connection) -> Result<usize, StoreError> {
    Ok(connection.query_row("SELECT COUNT(*) FROM changes", [], |row| row.get(0))?)
}

/// Returns every row of every table as text.
fn every_row(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut tables = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    let tables: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut all = Vec::new();
    for table in tables {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}"))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let values: Vec<Value> = (0..columns).map(|column| row.get(column)).collect::<Result<_, _>>()?;
            all.push(format!("{table} {values:?}"));
        }
    }
    Ok(all)
}

//! Operations on subscriptions and tenants.

use super::lanes::{component, tenant_of};
use super::operation::{TwinStep, TwinWhat};
use super::side::{TwinSide, actor, told};
use crate::{EventTypesChange, NewSubscription, StateChange, StoreError, TenantChange};
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::Reason;
use hookloom_model::event::Module;
use hookloom_model::event_type::{EventType, EventTypes};
use hookloom_model::signature::{SigningKey, SigningSecret};
use hookloom_model::subscription::{LoadedSettings, Subscription, TenantId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Settings by two numbers: modules, event names, filter and order, and plugins and delay.
fn new(pick: usize, more: usize) -> NewSubscription {
    let modules = match pick % 4 {
        0 => json!(["Contact"]),
        1 => json!(["Contact", "Deal"]),
        2 => json!(["Contact", "Subscription"]),
        _ => json!(["Deal", "Contact", "Subscription"]),
    };
    let ordering = match pick % 8 {
        1 | 6 => json!({"on_failure": "block"}),
        3 => json!({"on_failure": "skip-after", "attempts": 1}),
        _ => Value::Null,
    };
    let settle = match (pick + more) % 5 {
        0 => json!({"quiet_s": 5, "max_wait_s": 90}),
        2 => json!({"quiet_s": 1, "max_wait_s": 8}),
        _ => json!(null),
    };
    let events = if pick % 6 == 1 { json!(["Contact is Updated"]) } else { json!([]) };
    let filter = match pick % 5 {
        1 => json!({"eventData": {"n": {"$gt": 3}}}),
        2 => json!({"eventData": {"n": {"$changed": true}}}),
        3 => json!({"$or": [{"eventName": "Contact is Created"}, {"eventData": {"n": {"$changed": false}}}]}),
        _ => Value::Null,
    };
    let (_, sha256) = component(more % 2);
    let plugin = match more {
        3 | 4 => json!("p0"),
        5 => json!(format!("p0@{sha256}")),
        6 => json!(["p0", "p1"]),
        _ => json!([]),
    };
    let first_wait_s = if more == 2 || more == 3 { 5 } else { 0 };
    let settings = json!({"notify_url": "http://a.example/", "modules": modules, "events": events, "filter": filter, "plugin": plugin, "ordering": ordering, "settle": settle,
        "description": format!("settings {pick} {more}"), "headers": {"x-a": "{{secret:one}}"},
        "retry": {"schedule_s": [first_wait_s, 60], "age_max_s": 86_400}});
    let secrets = BTreeMap::from([("one".to_owned(), format!("secret {pick}").into_bytes().into())]);
    let settings = serde_json::from_value(settings).expect("settings");
    let settings = LoadedSettings::new(settings, secrets).expect("a URL");
    let signing = (0..more % 2).map(|_| SigningKey::current(signing_secret())).collect();
    NewSubscription { settings, signing }
}

fn signing_secret() -> SigningSecret {
    SigningSecret::Hmac(vec![7_u8; 24].into())
}

fn event_types(pick: usize) -> Option<EventTypesChange> {
    let name = format!("Extra {}", pick / 4 % 4);
    let one = EventType { module: Module::Deal, description: format!("number {pick}"), schema: None };
    match pick % 4 {
        0 => None,
        1 => Some(EventTypesChange::All(EventTypes::default().with(&name, one).expect("it fits"))),
        2 => Some(EventTypesChange::Put(name, one)),
        _ => Some(EventTypesChange::Remove(name)),
    }
}

fn change(pick: usize) -> TenantChange {
    TenantChange {
        event_types: event_types(pick),
        limits_max: (!pick.is_multiple_of(3)).then(|| BTreeMap::from([("fuel".to_owned(), pick as u64)])),
        egress: None,
    }
}

impl TwinSide {
    /// Runs an operation on a subscription or a tenant. None: it is of another kind.
    pub(super) async fn subscribe(&mut self, step: &TwinStep) -> Option<String> {
        let TwinStep { what, pick, more, .. } = *step;
        let tenant = tenant_of(step);
        let store = self.store();
        Some(match what {
            TwinWhat::Subscribe => told(store.create_subscription(actor(), tenant, new(pick, more)).await),
            TwinWhat::CreateTenant => told(store.create_tenant(actor(), tenant, change(pick)).await),
            TwinWhat::UpdateTenant => told(store.update_tenant(actor(), tenant, change(pick)).await),
            TwinWhat::DeleteTenant => self.delete_tenant(tenant).await,
            TwinWhat::DeleteDiscarded => told(store.delete_discarded().await),
            TwinWhat::EditOld | TwinWhat::DisableOld => {
                let old = self.earlier.get(pick % self.earlier.len().max(1)).cloned();
                self.change_one(old, step).await
            }
            TwinWhat::Edit
            | TwinWhat::RotateSigning
            | TwinWhat::Pause
            | TwinWhat::PauseByHost
            | TwinWhat::Resume
            | TwinWhat::Disable
            | TwinWhat::NoteFailing
            | TwinWhat::Unsubscribe => {
                let found = self.subscription(&tenant, pick);
                self.change_one(found, step).await
            }
            _ => return None,
        })
    }

    async fn change_one(&mut self, found: Option<Arc<Subscription>>, step: &TwinStep) -> String {
        let Some(old) = found else { return "no subscription".into() };
        let store = self.store();
        let TwinStep { what, pick, more, .. } = *step;
        match what {
            TwinWhat::Edit | TwinWhat::EditOld => told(store.update_subscription(actor(), &old, new(more, pick)).await),
            TwinWhat::RotateSigning => {
                let ended = SigningKey { secret: signing_secret(), until_ms: Some(now_ms() + 1_000) };
                let keys = vec![SigningKey::current(signing_secret()), ended];
                told(store.rotate_signing_keys(actor(), &old, keys).await)
            }
            TwinWhat::NoteFailing => {
                let since_ms = (more > 2).then(now_ms);
                told(store.note_failing(&old.tenant, old.id, since_ms).await)
            }
            TwinWhat::Unsubscribe => told(store.delete_subscription(actor(), &old.tenant, old.id).await),
            _ => {
                let change = state_change(step, &old);
                told(store.set_subscription_state(actor(), &old.tenant, old.id, change).await)
            }
        }
    }

    async fn delete_tenant(&mut self, tenant: TenantId) -> String {
        match self.store().tenant_contents(tenant.clone()).await {
            Ok(mut contents) => {
                contents.bytes = 0;
                told(self.store().delete_tenant(actor(), tenant, contents, || ()).await)
            }
            Err(error) => told::<()>(Err::<(), StoreError>(error)),
        }
    }
}

fn state_change(step: &TwinStep, old: &Subscription) -> StateChange {
    let more = step.more;
    match step.what {
        TwinWhat::Resume => StateChange::Resume,
        TwinWhat::Pause => StateChange::Pause { reason: "p".repeat(more), by_host: false },
        TwinWhat::PauseByHost => StateChange::Pause { reason: "q".repeat(more), by_host: true },
        what => {
            let generation = matches!(what, TwinWhat::DisableOld).then_some(old.generation);
            StateChange::Disable { reason: Reason::new("test", "d".repeat(more * 600)), generation }
        }
    }
}

//! Subscriptions in the database: settings in the clear, secrets sealed.

use super::batch::AdminTx;
use super::endings::end_pending;
use super::share::within_share;
use super::{Sqlite, plugins, sweeps};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::subscriptions::{Edit, NewSubscription, SubscriptionBackend};
use crate::backend::upkeep::Changed;
use crate::endings::deleted;
use crate::sealed_secrets::{seal, unseal};
use crate::vault::Vault;
use async_trait::async_trait;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::subscription::{LoadedSettings, Subscription, SubscriptionId, SubscriptionState, TenantId};
use rusqlite::{Connection, params};
use std::sync::Arc;

#[async_trait]
impl SubscriptionBackend for Sqlite {
    async fn create_subscription(&self, actor: Actor, new: Subscription) -> Result<Arc<Subscription>, StoreError> {
        let subscription = Arc::new(new);
        let sealed = seal(&self.vault, &subscription)?;
        let owner = subscription.tenant.clone();
        let share = self.limits.share;
        let write = move |tx: &AdminTx<'_, '_>| {
            plugins::require_versions(tx, &subscription)?;
            let sql = "INSERT INTO subscriptions (tenant, id, settings, sealed, state, generation, created_at_ms) VALUES (?1, ?2, ?3, ?4, 0, 1, ?5)";
            let settings = serde_json::to_string(&*subscription.settings)?;
            let created_at_ms = subscription.created_at_ms;
            let row = params![&*subscription.tenant.0, subscription.id.0, settings, sealed, created_at_ms];
            within_share(tx, &subscription.tenant, share, |tx| Ok(tx.execute(sql, row)?))?;
            tx.record(&actor, Some(&subscription.tenant), &AuditAction::SubscriptionCreate(&subscription))?;
            Ok(subscription)
        };
        self.change(&owner, write, |catalog, subscription| catalog.put_subscriptions(vec![subscription.clone()])).await
    }

    async fn update_subscription(
        &self,
        actor: Actor,
        old: &Subscription,
        new: NewSubscription,
        edit: Edit,
    ) -> Result<Arc<Subscription>, StoreError> {
        let id = old.id;
        let generation = old.generation;
        let mut changed = old.clone();
        changed.settings = new.settings;
        changed.signing = new.signing;
        let sealed = seal(&self.vault, &changed)?;
        let state = self.state.clone();
        let share = self.limits.share;
        let damage = self.damage.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let current =
                state.catalog.subscription(&changed.tenant, id).ok_or(StoreError::NotFound("subscription"))?;
            if current.generation != generation {
                return Err(StoreError::Edited);
            }
            changed.generation = current.generation + 1;
            changed.state = current.state;
            changed.state_reason = current.state_reason.clone();
            changed.failing_since_ms = current.failing_since_ms;
            changed.pauses = current.pauses.clone();
            plugins::require_versions(tx, &changed)?;
            let sql =
                "UPDATE subscriptions SET settings = ?3, sealed = ?4, generation = ?5 WHERE tenant = ?1 AND id = ?2";
            let settings = serde_json::to_string(&*changed.settings)?;
            let row = params![&*changed.tenant.0, id.0, settings, sealed, changed.generation];
            within_share(tx, &changed.tenant, share, |tx| Ok(tx.execute(sql, row)?))?;
            sweeps::judge_again(tx, &changed.tenant, &Changed::Subscription(id), &[id], &damage)?;
            let action = match edit {
                Edit::Settings => AuditAction::SubscriptionUpdate { before: &current, after: &changed },
                Edit::SigningKeys => AuditAction::SubscriptionRotateSecret(id),
            };
            tx.record(&actor, Some(&changed.tenant), &action)?;
            Ok(Arc::new(changed))
        };
        let changed = self.change_of(&old.tenant, vec![id], write, |catalog, changed| {
            catalog.put_subscriptions(vec![changed.clone()]);
        });
        changed.await
    }

    async fn delete_subscription(&self, actor: Actor, tenant: &TenantId, id: SubscriptionId) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let shown = tenant.clone();
        let state = self.state.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let before = state.catalog.subscription(&owner, id).ok_or(StoreError::NotFound("subscription"))?;
            tx.execute("DELETE FROM subscriptions WHERE tenant = ?1 AND id = ?2", params![&*owner.0, id.0])?;
            end_pending(tx, &owner, id, DeliveryState::Cancelled, &deleted())?;
            tx.record(&actor, Some(&owner), &AuditAction::SubscriptionDelete(&before))
        };
        self.change_of(tenant, vec![id], write, move |catalog, ()| catalog.remove_subscription(&shown, id)).await
    }
}

/// Loads all subscriptions. One whose Notify URL cannot be parsed is paused until it is edited, so that its deliveries wait and the
/// others are sent.
pub(super) fn load(connection: &Connection, vault: &Vault) -> Result<Vec<Subscription>, StoreError> {
    let sql = "SELECT tenant, id, settings, sealed, state, state_reason, generation, created_at_ms, failing_since_ms, pauses FROM subscriptions";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut subscriptions = Vec::new();
    while let Some(row) = rows.next()? {
        let tenant = TenantId(row.get::<_, String>(0)?.into());
        let id = SubscriptionId(row.get(1)?);
        let (signing, secrets) = unseal(vault, &tenant, id, &row.get::<_, Vec<u8>>(3)?)?;
        let (settings, unreadable) = LoadedSettings::stored(serde_json::from_str(&row.get::<_, String>(2)?)?, secrets);
        let mut state = SubscriptionState::ALL[row.get::<_, usize>(4)?.min(2)];
        let mut state_reason = row.get(5)?;
        if let Some(error) = unreadable.filter(|_| state == SubscriptionState::Active) {
            tracing::error!(%tenant, subscription = %id, %error, "a subscription is paused until it is edited");
            state = SubscriptionState::Paused;
            state_reason = Some(format!("{error}; edit the subscription and resume it"));
        }
        subscriptions.push(Subscription {
            settings,
            state,
            state_reason,
            generation: row.get(6)?,
            created_at_ms: row.get(7)?,
            failing_since_ms: row.get(8)?,
            pauses: serde_json::from_str(&row.get::<_, String>(9)?)?,
            id,
            tenant,
            signing,
        });
    }
    Ok(subscriptions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StateChange, Store, TenantChange};
    use serde_json::json;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn a_stored_url_that_cannot_be_parsed_pauses_its_subscription() {
        let folder = tempfile::tempdir().expect("a folder");
        let tenant = TenantId("t".into());
        fn new(url: &str) -> NewSubscription {
            let settings =
                serde_json::from_value(json!({"notify_url": url, "modules": ["Contact"]})).expect("settings");
            let settings = LoadedSettings::new(settings, BTreeMap::new()).expect("a URL");
            NewSubscription { settings, signing: Vec::new() }
        }
        let (store, events) = Store::open(folder.path()).expect("a store");
        store.create_tenant(Actor::Host, tenant.clone(), TenantChange::default()).await.expect("a tenant");
        let damaged =
            store.create_subscription(Actor::Host, tenant.clone(), new("https://a.example/")).await.expect("one").id;
        let healthy =
            store.create_subscription(Actor::Host, tenant.clone(), new("https://b.example/")).await.expect("one").id;
        drop((store, events));
        let connection = Connection::open(folder.path().join("hookloom.db")).expect("the database");
        let sql = "UPDATE subscriptions SET settings = replace(settings, 'https://a.example', 'https://[a.example')";
        connection.execute(sql, []).expect("an update");
        drop(connection);

        let (store, _events) = Store::open(folder.path()).expect("the store opens all the same");
        let state = |id| store.catalog().subscription(&tenant, id).expect("a subscription").state;
        assert_eq!((state(damaged), state(healthy)), (SubscriptionState::Paused, SubscriptionState::Active));
        let current = store.catalog().subscription(&tenant, damaged).expect("a subscription");
        assert!(current.state_reason.as_ref().is_some_and(|reason| reason.contains("the Notify URL cannot be read")));
        store.update_subscription(Actor::Host, &current, new("https://c.example/")).await.expect("an edit");
        let resumed =
            store.set_subscription_state(Actor::Host, &tenant, damaged, StateChange::Resume).await.expect("resumed");
        assert_eq!((resumed.state, resumed.settings.url().as_str()), (SubscriptionState::Active, "https://c.example/"));
    }
}

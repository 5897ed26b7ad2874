//! Subscriptions in the database: settings in the clear, secrets sealed.

use super::Postgres;
use super::connection::Connection;
use super::endings::end_pending;
use super::rows::{int, number};
use super::share::ShareCheck;
use super::transaction::WriteTx;
use super::{plugins, rows, sweeps};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::subscriptions::{Edit, NewSubscription, SubscriptionBackend};
use crate::backend::upkeep::Changed;
use crate::endings::deleted;
use crate::fair_queue::Owner;
use crate::sealed_secrets::{seal, unseal};
use crate::vault::Vault;
use async_trait::async_trait;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::subscription::{LoadedSettings, Subscription, SubscriptionId, SubscriptionState, TenantId};
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

#[async_trait]
impl SubscriptionBackend for Postgres {
    async fn create_subscription(&self, actor: Actor, new: Subscription) -> Result<Arc<Subscription>, StoreError> {
        let subscription = Arc::new(new);
        let sealed = seal(&self.vault, &subscription)?;
        self.change(
            Owner::from(&subscription.tenant),
            move |tx| {
                Box::pin(async move {
                    insert(tx, &subscription, &sealed).await?;
                    let action = AuditAction::SubscriptionCreate(&subscription);
                    tx.record(&actor, Some(&subscription.tenant), &action).await?;
                    Ok(subscription)
                })
            },
            |catalog, subscription| catalog.put_subscriptions(vec![subscription.clone()]),
        )
        .await
    }

    async fn update_subscription(
        &self,
        actor: Actor,
        old: &Subscription,
        new: NewSubscription,
        edit: Edit,
    ) -> Result<Arc<Subscription>, StoreError> {
        let id = old.id;
        let changed = Subscription { settings: new.settings, signing: new.signing, ..old.clone() };
        let sealed = seal(&self.vault, &changed)?;
        self.change_of(
            Owner::from(&old.tenant),
            vec![id],
            move |tx| {
                Box::pin(async move {
                    let current = tx.catalog().subscription(&changed.tenant, id);
                    let current = current.ok_or(StoreError::NotFound("subscription"))?;
                    let changed = update(tx, &current, changed, &sealed).await?;
                    let action = match edit {
                        Edit::Settings => AuditAction::SubscriptionUpdate { before: &current, after: &changed },
                        Edit::SigningKeys => AuditAction::SubscriptionRotateSecret(id),
                    };
                    tx.record(&actor, Some(&changed.tenant), &action).await?;
                    Ok(Arc::new(changed))
                })
            },
            |catalog, changed| catalog.put_subscriptions(vec![changed.clone()]),
        )
        .await
    }

    async fn delete_subscription(&self, actor: Actor, tenant: &TenantId, id: SubscriptionId) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let shown = tenant.clone();
        self.change_of(
            Owner::from(tenant),
            vec![id],
            move |tx| {
                Box::pin(async move {
                    let before = tx.catalog().subscription(&owner, id).ok_or(StoreError::NotFound("subscription"))?;
                    let sql = "DELETE FROM subscriptions WHERE tenant = $1 AND id = $2";
                    tx.execute(sql, &[&&*owner.0, &id.0]).await?;
                    end_pending(tx, &owner, id, DeliveryState::Cancelled, &deleted()).await?;
                    tx.record(&actor, Some(&owner), &AuditAction::SubscriptionDelete(&before)).await
                })
            },
            move |catalog, ()| catalog.remove_subscription(&shown, id),
        )
        .await
    }
}

async fn insert(tx: &WriteTx, subscription: &Subscription, sealed: &[u8]) -> Result<(), StoreError> {
    plugins::require_versions(tx, subscription).await?;
    let check = ShareCheck::begin(tx, &subscription.tenant, tx.share()).await?;
    let sql = "INSERT INTO subscriptions (tenant, id, settings, sealed, state, generation, created_at_ms)
               VALUES ($1, $2, $3, $4, 0, 1, $5)";
    let settings = serde_json::to_string(&*subscription.settings)?;
    let Subscription { tenant, id, created_at_ms, .. } = subscription;
    tx.execute(sql, &[&&*tenant.0, &id.0, &settings, &sealed, created_at_ms]).await?;
    check.end(tx).await
}

/// Replaces the settings and keys of a subscription. `changed` has the generation that was edited.
async fn update(
    tx: &WriteTx,
    current: &Subscription,
    mut changed: Subscription,
    sealed: &[u8],
) -> Result<Subscription, StoreError> {
    if current.generation != changed.generation {
        return Err(StoreError::Edited);
    }
    changed.generation = current.generation + 1;
    changed.state = current.state;
    changed.state_reason = current.state_reason.clone();
    changed.failing_since_ms = current.failing_since_ms;
    changed.pauses = current.pauses.clone();
    plugins::require_versions(tx, &changed).await?;
    let check = ShareCheck::begin(tx, &changed.tenant, tx.share()).await?;
    let sql = "UPDATE subscriptions SET settings = $3, sealed = $4, generation = $5 WHERE tenant = $1 AND id = $2";
    let settings = serde_json::to_string(&*changed.settings)?;
    let generation = int(changed.generation);
    tx.execute(sql, &[&&*changed.tenant.0, &changed.id.0, &settings, &sealed, &generation]).await?;
    check.end(tx).await?;
    sweeps::judge_again(tx, &changed.tenant, &Changed::Subscription(changed.id), &[changed.id]).await?;
    Ok(changed)
}

/// Loads these subscriptions, or all. One whose Notify URL cannot be parsed is paused until it is edited, so that its deliveries wait and the
/// others are sent.
pub(super) async fn load(
    connection: &Connection,
    vault: &Vault,
    ids: Option<&[Uuid]>,
) -> Result<Vec<Subscription>, StoreError> {
    let sql =
        "SELECT tenant, id, settings, sealed, state, state_reason, generation, created_at_ms, failing_since_ms, pauses
               FROM subscriptions WHERE $1::uuid[] IS NULL OR id = ANY ($1)";
    connection.query(sql, &[&ids]).await?.iter().map(|row| subscription_row(row, vault)).collect()
}

fn subscription_row(row: &Row, vault: &Vault) -> Result<Subscription, StoreError> {
    let tenant = rows::tenant(row, 0)?;
    let id = SubscriptionId(row.try_get(1)?);
    let (signing, secrets) = unseal(vault, &tenant, id, row.try_get(3)?)?;
    let (settings, unreadable) = LoadedSettings::stored(serde_json::from_str(row.try_get(2)?)?, secrets);
    let index = usize::try_from(row.try_get::<_, i16>(4)?).unwrap_or(0);
    let mut state = SubscriptionState::ALL[index.min(SubscriptionState::ALL.len() - 1)];
    let mut state_reason = row.try_get(5)?;
    if let Some(error) = unreadable.filter(|_| state == SubscriptionState::Active) {
        tracing::error!(%tenant, subscription = %id, %error, "a subscription is paused until it is edited");
        state = SubscriptionState::Paused;
        state_reason = Some(format!("{error}; edit the subscription and resume it"));
    }
    Ok(Subscription {
        settings,
        state,
        state_reason,
        generation: number(row, 6)?,
        created_at_ms: row.try_get(7)?,
        failing_since_ms: row.try_get(8)?,
        pauses: serde_json::from_str(row.try_get(9)?)?,
        id,
        tenant,
        signing,
    })
}

//! Subscriptions in the database: settings in the clear, secrets sealed.

use super::accept::publish;
use super::batch::Transaction;
use super::credentials::found;
use super::endings::{deleted, end_pending};
use super::sweeps::{self, Changed};
use super::usage::within_share;
use super::vault::{Vault, VaultError};
use super::{Catalog, NewDeliveries, Store, StoreError, host_events, now_ms, plugins};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hookloom_model::delivery::{DeliveryState, Reason};
use hookloom_model::limits::{REASON_BYTES_MAX, shortened};
use hookloom_model::pauses::Pauses;
use hookloom_model::signature::{SigningKey, SigningSecret};
use hookloom_model::subscription::{LoadedSettings, Secret, Subscription, SubscriptionId, SubscriptionState, TenantId};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// New or changed subscription.
#[derive(Debug)]
pub struct NewSubscription {
    /// Settings of the owner, and secrets for the plugins.
    pub settings: LoadedSettings,
    /// Keys that sign the webhooks.
    pub signing: Vec<SigningKey>,
}

/// Change of a subscription's state.
#[derive(Debug, Clone)]
pub enum StateChange {
    /// Sends again. The time of the pause does not count as age of deliveries.
    Resume,
    /// Stops sending. Deliveries wait.
    Pause {
        /// Reason of the pause.
        reason: String,
        /// True if the host has decided it; a host event is accepted then.
        by_host: bool,
    },
    /// Matches no more events, and ends pending deliveries for this reason.
    Disable {
        /// Reason for the subscription and its deliveries.
        reason: Reason,
        /// Applies only if the config has this generation.
        generation: Option<u64>,
    },
}

/// Plaintext of the sealed secrets. All keys are texts, so that the database does not show their kinds.
#[derive(Serialize, Deserialize)]
struct SealedSecrets {
    signing: Vec<String>,
    /// Time at which each signing key expires, in milliseconds since the epoch.
    #[serde(default)]
    until_ms: Vec<Option<i64>>,
    secrets: BTreeMap<String, String>,
}

impl Store {
    /// Creates a subscription.
    pub async fn create_subscription(
        &self,
        tenant: TenantId,
        new: NewSubscription,
    ) -> Result<Arc<Subscription>, StoreError> {
        let subscription = Arc::new(Subscription {
            id: SubscriptionId::new(),
            tenant,
            settings: new.settings,
            state: SubscriptionState::Active,
            state_reason: None,
            failing_since_ms: None,
            pauses: Pauses::default(),
            generation: 1,
            signing: new.signing,
            created_at_ms: now_ms(),
        });
        let sealed = seal(&self.vault, &subscription)?;
        let owner = subscription.tenant.clone();
        let share = self.limits.share;
        let write = move |tx: &Transaction<'_>| {
            plugins::require_versions(tx, &subscription)?;
            let sql = "INSERT INTO subscriptions (tenant, id, settings, sealed, state, generation, created_at_ms) VALUES (?1, ?2, ?3, ?4, 0, 1, ?5)";
            let settings = serde_json::to_string(&*subscription.settings)?;
            let created_at_ms = subscription.created_at_ms;
            let row = params![&*subscription.tenant.0, subscription.id.0, settings, sealed, created_at_ms];
            within_share(tx, &subscription.tenant, share, |tx| Ok(tx.execute(sql, row)?))?;
            Ok(subscription)
        };
        self.change(&owner, write, |catalog, subscription| catalog.put_subscriptions(vec![subscription.clone()])).await
    }

    /// Replaces a subscription, if it is unchanged since `old`; otherwise another edit would be lost, and the error is
    /// [`StoreError::Edited`]. Deliveries that wait for another config become due.
    pub async fn update_subscription(
        &self,
        old: &Subscription,
        new: NewSubscription,
    ) -> Result<Arc<Subscription>, StoreError> {
        let id = old.id;
        let generation = old.generation;
        let mut changed = old.clone();
        changed.settings = new.settings;
        changed.signing = new.signing;
        let sealed = seal(&self.vault, &changed)?;
        let catalog = self.catalog.clone();
        let share = self.limits.share;
        let damage = self.damage.clone();
        let write = move |tx: &Transaction<'_>| {
            let current = catalog.subscription(&changed.tenant, id).ok_or(StoreError::NotFound("subscription"))?;
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
            Ok(Arc::new(changed))
        };
        let changed = self.change_of(&old.tenant, vec![id], write, |catalog, changed| {
            catalog.put_subscriptions(vec![changed.clone()]);
        });
        let changed = changed.await?;
        self.sweeps.notify_one();
        Ok(changed)
    }

    /// Pauses, resumes or disables a subscription.
    pub async fn set_subscription_state(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        change: StateChange,
    ) -> Result<Arc<Subscription>, StoreError> {
        self.set_state_after(|_| Ok(()), tenant, id, change).await?;
        self.catalog().subscription(tenant, id).ok_or(StoreError::NotFound("subscription"))
    }

    /// Runs `first` and changes a subscription's state in one transaction. If the subscription does not exist any more, `first` is
    /// committed nevertheless.
    pub(super) async fn set_state_after(
        &self,
        first: impl FnOnce(&Transaction<'_>) -> Result<(), StoreError> + Send + 'static,
        tenant: &TenantId,
        id: SubscriptionId,
        change: StateChange,
    ) -> Result<(), StoreError> {
        let rest = match &change {
            StateChange::Disable { reason, .. } => Some((DeliveryState::Dead, reason.clone())),
            StateChange::Pause { .. } | StateChange::Resume => None,
        };
        let owner = tenant;
        let tenant = tenant.clone();
        let catalog = self.catalog.clone();
        let store_events = self.store_events.clone();
        let write = move |tx: &Transaction<'_>| {
            first(tx)?;
            let before = catalog.subscription(&tenant, id).map(|current| current.state);
            let changed = match set_state(tx, &catalog, &tenant, id, &change) {
                Err(StoreError::NotFound(_)) => return Ok((None, NewDeliveries::default())),
                changed => changed?,
            };
            let by_host = matches!(change, StateChange::Disable { .. } | StateChange::Pause { by_host: true, .. });
            let new_deliveries = if by_host && before != Some(changed.state) {
                host_events::accept_state_change(tx, &catalog, &changed)?
            } else {
                NewDeliveries::default()
            };
            Ok((Some(changed), new_deliveries))
        };
        let show = move |catalog: &Catalog, (changed, new_deliveries): &(Option<Arc<Subscription>>, NewDeliveries)| {
            catalog.put_subscriptions(changed.iter().cloned().collect());
            publish(&store_events, new_deliveries.clone());
        };
        self.change_of(owner, vec![id], write, show).await?;
        if rest.is_some() {
            self.end_rest(owner, id, rest).await?;
        }
        Ok(())
    }

    /// Records since when the receiver of a subscription fails, or that it no longer fails.
    pub async fn note_failing(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        since_ms: Option<i64>,
    ) -> Result<(), StoreError> {
        let owner = tenant;
        let catalog = self.catalog.clone();
        let tenant = tenant.clone();
        let write = move |tx: &Transaction<'_>| {
            let current = catalog.subscription(&tenant, id).ok_or(StoreError::NotFound("subscription"))?;
            let sql = "UPDATE subscriptions SET failing_since_ms = ?3 WHERE tenant = ?1 AND id = ?2";
            tx.execute(sql, params![&*tenant.0, id.0, since_ms])?;
            Ok(Arc::new(Subscription { failing_since_ms: since_ms, ..Subscription::clone(&current) }))
        };
        self.change(owner, write, |catalog, changed| catalog.put_subscriptions(vec![changed.clone()])).await.map(drop)
    }

    /// Deletes a subscription and cancels its pending deliveries.
    pub async fn delete_subscription(&self, tenant: &TenantId, id: SubscriptionId) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let shown = tenant.clone();
        let write = move |tx: &Transaction<'_>| {
            let sql = "DELETE FROM subscriptions WHERE tenant = ?1 AND id = ?2";
            found(tx.execute(sql, params![&*owner.0, id.0])?, "subscription")?;
            end_pending(tx, &owner, id, DeliveryState::Cancelled, &deleted()).map(drop)
        };
        self.change_of(tenant, vec![id], write, move |catalog, ()| catalog.remove_subscription(&shown, id)).await?;
        self.end_rest(tenant, id, Some((DeliveryState::Cancelled, deleted()))).await
    }
}

fn set_state(
    tx: &Transaction<'_>,
    catalog: &Catalog,
    tenant: &TenantId,
    id: SubscriptionId,
    change: &StateChange,
) -> Result<Arc<Subscription>, StoreError> {
    let current = catalog.subscription(tenant, id).ok_or(StoreError::NotFound("subscription"))?;
    let mut changed = Subscription::clone(&current);
    let now_ms = now_ms();
    let paused_at_ms = match change {
        StateChange::Resume => {
            if let Some(paused_at_ms) = paused_at_ms(tx, tenant, id)? {
                changed.pauses.add(paused_at_ms, now_ms);
            }
            (changed.state, changed.state_reason, changed.failing_since_ms) = (SubscriptionState::Active, None, None);
            None
        }
        StateChange::Pause { .. } if current.state == SubscriptionState::Disabled => {
            return Err(StoreError::Conflict("a disabled subscription cannot be paused; resume it first".into()));
        }
        StateChange::Pause { reason, .. } => {
            changed.state_reason = Some(shortened(reason, REASON_BYTES_MAX));
            let was_active = changed.state == SubscriptionState::Active;
            changed.state = SubscriptionState::Paused;
            was_active.then_some(now_ms)
        }
        StateChange::Disable { generation, .. } if generation.is_some_and(|seen| seen != current.generation) => {
            return Ok(current);
        }
        StateChange::Disable { reason, .. } => {
            end_pending(tx, tenant, id, DeliveryState::Dead, reason)?;
            (changed.state, changed.state_reason) =
                (SubscriptionState::Disabled, Some(reason.bounded().message.clone()));
            None
        }
    };
    let sql = "UPDATE subscriptions SET state = ?3, state_reason = ?4,
                      paused_at_ms = CASE WHEN ?3 = 1 THEN COALESCE(?5, paused_at_ms) END, failing_since_ms = ?6, pauses = ?7
               WHERE tenant = ?1 AND id = ?2";
    let Subscription { state_reason, failing_since_ms, pauses, .. } = &changed;
    let pauses = serde_json::to_string(pauses)?;
    let row = params![&*tenant.0, id.0, changed.state as u8, state_reason, paused_at_ms, failing_since_ms, pauses];
    tx.execute(sql, row)?;
    Ok(Arc::new(changed))
}

/// Returns the time at which the current pause began, if there is one.
fn paused_at_ms(connection: &Connection, tenant: &TenantId, id: SubscriptionId) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT paused_at_ms FROM subscriptions WHERE tenant = ?1 AND id = ?2";
    Ok(connection.prepare_cached(sql)?.query_row(params![&*tenant.0, id.0], |row| row.get(0))?)
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

fn owner(tenant: &TenantId, id: SubscriptionId) -> String {
    format!("{tenant}/{id}")
}

fn seal(vault: &Vault, subscription: &Subscription) -> Result<Vec<u8>, StoreError> {
    let secrets = subscription.settings.secrets().iter();
    let plain = SealedSecrets {
        signing: subscription.signing.iter().map(|key| key.secret.reveal()).collect(),
        until_ms: subscription.signing.iter().map(|key| key.until_ms).collect(),
        secrets: secrets.map(|(name, secret)| (name.clone(), BASE64.encode(secret.expose()))).collect(),
    };
    Ok(vault.seal(&owner(&subscription.tenant, subscription.id), &serde_json::to_vec(&plain)?))
}

type OpenedSecrets = (Vec<SigningKey>, BTreeMap<String, Secret>);

fn unseal(vault: &Vault, tenant: &TenantId, id: SubscriptionId, sealed: &[u8]) -> Result<OpenedSecrets, StoreError> {
    let plain: SealedSecrets = serde_json::from_slice(&vault.open_sealed(&owner(tenant, id), sealed)?)?;
    let ends = plain.until_ms.into_iter().chain(std::iter::repeat(None));
    let signing = plain.signing.iter().zip(ends).map(|(text, until_ms)| {
        let secret = SigningSecret::parse(text).map_err(|_| does_not_open())?;
        Ok(SigningKey { secret, until_ms })
    });
    let secrets = plain.secrets.into_iter().map(|(name, text)| {
        let bytes = BASE64.decode(text).map_err(|_| does_not_open())?;
        Ok((name, bytes.into()))
    });
    Ok((signing.collect::<Result<_, StoreError>>()?, secrets.collect::<Result<_, StoreError>>()?))
}

fn does_not_open() -> StoreError {
    StoreError::Vault(VaultError::DoesNotOpen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TenantChange;
    use serde_json::json;

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
        store.create_tenant(tenant.clone(), TenantChange::default()).await.expect("a tenant");
        let damaged = store.create_subscription(tenant.clone(), new("https://a.example/")).await.expect("one").id;
        let healthy = store.create_subscription(tenant.clone(), new("https://b.example/")).await.expect("one").id;
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
        store.update_subscription(&current, new("https://c.example/")).await.expect("an edit");
        let resumed = store.set_subscription_state(&tenant, damaged, StateChange::Resume).await.expect("resumed");
        assert_eq!((resumed.state, resumed.settings.url().as_str()), (SubscriptionState::Active, "https://c.example/"));
    }
}

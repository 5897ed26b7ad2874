//! Subscriptions. Settings are validated in [`mod@write`].

mod selection;
mod warnings;
mod write;

pub(crate) use selection::{EventSelection, event_names, filter_problem, read_filter, selection_faults};
#[cfg(test)]
pub(crate) use write::READ_ONLY;
pub(crate) use write::{SubscriptionPatch, SubscriptionWrite};

use super::{Access, Operations, Problem, ToManage, ToRead};
use crate::clock::now_ms;
use crate::deliver::LaneStatus;
use crate::signature::SigningKey;
use crate::store::{StateChange, StoreError};
use crate::subscription::{Settings, Subscription, SubscriptionId, SubscriptionState, TenantId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;
use write::TEXT_BYTES_MAX;

/// Maximum number of subscriptions of a tenant. Each event is matched against all of them.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 10_000;

/// Signing key.
#[derive(Serialize, ToSchema)]
pub(crate) struct SigningKeyBody {
    /// `v1` (HMAC-SHA256) or `v1a` (ed25519).
    scheme: &'static str,
    /// Public key with which receivers verify `v1a` signatures.
    public_key: Option<String>,
    /// Time at which a rotated key stops signing.
    until_ms: Option<i64>,
}

impl From<&SigningKey> for SigningKeyBody {
    fn from(key: &SigningKey) -> Self {
        let SigningKey { secret, until_ms } = key;
        SigningKeyBody { scheme: secret.scheme(), public_key: secret.public_key(), until_ms: *until_ms }
    }
}

/// Subscription of a tenant.
#[derive(Serialize, ToSchema)]
pub(crate) struct SubscriptionBody {
    pub(crate) id: Uuid,
    #[serde(flatten)]
    settings: Settings,
    /// Host of the Notify URL as it is resolved (punycode), if that differs from the written form.
    #[serde(skip_serializing_if = "Option::is_none")]
    ascii_host: Option<String>,
    /// Names of the secrets, whose values are never shown.
    secrets: Vec<String>,
    /// Keys that sign the webhooks, current one first. The secrets are never shown again.
    signing_keys: Vec<SigningKeyBody>,
    state: SubscriptionState,
    /// Reason why the subscription is not active.
    state_reason: Option<String>,
    /// Time since which the receiver fails, if it has failed for a while.
    failing_since_ms: Option<i64>,
    /// Present state of the deliveries. Absent if there were none since the host started.
    lane: Option<LaneStatus>,
    /// Number that grows with every edit. An attempt has the number of its config.
    config_generation: u64,
    created_at_ms: i64,
    /// Secret with which the receiver verifies webhooks: only in the answer to the subscription's creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signing_secret: Option<String>,
    /// Predicted failures of the plugins or their config, found by judging a few events. Only in the answer to a write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

impl SubscriptionBody {
    pub(crate) fn new(subscription: &Subscription, signing_secret: Option<String>) -> Self {
        SubscriptionBody {
            id: subscription.id.0,
            ascii_host: subscription.settings.ascii_host(),
            settings: Settings::clone(&subscription.settings),
            secrets: subscription.settings.secrets().keys().cloned().collect(),
            signing_keys: subscription.signing.iter().filter(|key| key.signs_at(now_ms())).map(Into::into).collect(),
            state: subscription.state,
            state_reason: subscription.state_reason.clone(),
            failing_since_ms: subscription.failing_since_ms,
            lane: None,
            config_generation: subscription.generation,
            created_at_ms: subscription.created_at_ms,
            signing_secret,
            warnings: Vec::new(),
        }
    }

    /// Adds the warnings, for the answer to a write.
    async fn with_warnings(self, operations: &Operations, subscription: &Subscription) -> Self {
        SubscriptionBody { warnings: warnings::warnings(operations, subscription).await, ..self }
    }
}

/// Reason for a pause.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pause {
    /// Reason for people.
    pub(crate) reason: String,
}

/// Maximum number of times that an edit is repeated because a concurrent edit was committed first.
pub(crate) const EDITS_MAX: usize = 16;

impl Operations {
    /// Returns a subscription of the tenant.
    pub(crate) fn subscription(&self, tenant: &TenantId, id: Uuid) -> Result<Arc<Subscription>, Problem> {
        self.store.catalog().subscription(tenant, SubscriptionId(id)).ok_or_else(|| Problem::not_found("subscription"))
    }

    /// Lists the tenant's subscriptions.
    pub(crate) fn list_subscriptions(&self, access: &Access<ToRead>) -> Vec<Arc<Subscription>> {
        self.store.catalog().subscriptions(&access.tenant).to_vec()
    }

    /// Returns a subscription with the state of its lane.
    pub(crate) fn get_subscription(&self, access: &Access<ToRead>, id: Uuid) -> Result<SubscriptionBody, Problem> {
        let subscription = self.subscription(&access.tenant, id)?;
        let lane = self.lanes.status(subscription.id);
        Ok(SubscriptionBody { lane, ..SubscriptionBody::new(&subscription, None) })
    }

    /// Creates a subscription. The result has the signing secret, which is not shown again.
    pub(crate) async fn create_subscription(
        &self,
        access: &Access<ToManage>,
        write: SubscriptionWrite,
    ) -> Result<SubscriptionBody, Problem> {
        if self.store.catalog().subscriptions(&access.tenant).len() >= SUBSCRIPTIONS_MAX {
            return Err(Problem::too_many("subscriptions", SUBSCRIPTIONS_MAX));
        }
        let new = write.check(self, &access.tenant, None).await?;
        let shown = new.signing.first().map(|key| key.secret.reveal());
        let subscription = self.store.create_subscription(access.actor(), access.tenant.clone(), new).await?;
        let body = SubscriptionBody::new(&subscription, shown);
        Ok(body.with_warnings(self, &subscription).await)
    }

    /// Edits a subscription, from the next attempt on, also of pending deliveries. `read` makes the new settings from the present
    /// ones; it is called again if another edit comes first.
    pub(crate) async fn edit_subscription(
        &self,
        access: &Access<ToManage>,
        id: Uuid,
        read: impl Fn(&Subscription) -> Result<SubscriptionWrite, Problem>,
    ) -> Result<SubscriptionBody, Problem> {
        for _ in 0..EDITS_MAX {
            let old = self.subscription(&access.tenant, id)?;
            let write = read(&old)?;
            write.read_only.check_id(&id)?;
            write.read_only.check_unchanged("state", &old.state, "POST …/pause and POST …/resume change it")?;
            let new = write.check(self, &access.tenant, Some(&old)).await?;
            match self.store.update_subscription(access.actor(), &old, new).await {
                Err(StoreError::Edited) => {}
                edited => {
                    let subscription = edited?;
                    let body = SubscriptionBody::new(&subscription, None);
                    return Ok(body.with_warnings(self, &subscription).await);
                }
            }
        }
        Err(StoreError::Edited.into())
    }

    /// Deletes a subscription. Its pending deliveries are cancelled.
    pub(crate) async fn delete_subscription(&self, access: &Access<ToManage>, id: Uuid) -> Result<(), Problem> {
        Ok(self.store.delete_subscription(access.actor(), &access.tenant, SubscriptionId(id)).await?)
    }

    /// Pauses a subscription. Events still match, and their deliveries wait.
    pub(crate) async fn pause_subscription(
        &self,
        access: &Access<ToManage>,
        id: Uuid,
        pause: Pause,
    ) -> Result<SubscriptionBody, Problem> {
        if pause.reason.len() > TEXT_BYTES_MAX {
            return Err(Problem::field("/reason", format!("at most {TEXT_BYTES_MAX} bytes")));
        }
        self.set_state(access, id, StateChange::Pause { reason: pause.reason, by_host: false }).await
    }

    /// Resumes a paused or disabled subscription.
    pub(crate) async fn resume_subscription(
        &self,
        access: &Access<ToManage>,
        id: Uuid,
    ) -> Result<SubscriptionBody, Problem> {
        self.set_state(access, id, StateChange::Resume).await
    }

    async fn set_state(
        &self,
        access: &Access<ToManage>,
        id: Uuid,
        change: StateChange,
    ) -> Result<SubscriptionBody, Problem> {
        let id = self.subscription(&access.tenant, id)?.id;
        let subscription = self.store.set_subscription_state(access.actor(), &access.tenant, id, change).await?;
        Ok(SubscriptionBody::new(&subscription, None))
    }
}

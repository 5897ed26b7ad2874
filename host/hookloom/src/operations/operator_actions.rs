//! Actions of operators: retry, cancel, redrive, replay and test.

use super::{Access, DeliveryDetail, Operations, Problem, ToManage};
use crate::delivery::{DeliveryId, DeliveryState};
use crate::store::Span;
use crate::subscription::{Subscription, SubscriptionState};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;
use uuid::Uuid;

/// Selection of deliveries to redrive.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedriveWrite {
    /// Final states to match: `dead`, `cancelled`, `dropped`, `superseded` or `delivered`. Only `dead` if absent.
    #[serde(default = "only_dead")]
    states: Vec<DeliveryState>,
    /// Only deliveries made at this time or later, in milliseconds since the epoch. From the beginning if absent.
    #[serde(default)]
    from_ms: i64,
    /// Only deliveries made before this time, in milliseconds since the epoch. Until now if absent.
    to_ms: Option<i64>,
    /// Only counts.
    #[serde(default)]
    preview: bool,
}

impl RedriveWrite {
    /// Selects all dead deliveries.
    pub(crate) fn of_dead(preview: bool) -> Self {
        RedriveWrite { states: only_dead(), from_ms: 0, to_ms: None, preview }
    }
}

fn only_dead() -> Vec<DeliveryState> {
    vec![DeliveryState::Dead]
}

/// Selection of events to replay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayWrite {
    /// Only events accepted at this time or later, in milliseconds since the epoch.
    pub(crate) from_ms: i64,
    /// Only events accepted before this time, in milliseconds since the epoch.
    pub(crate) to_ms: i64,
    /// Only counts.
    #[serde(default)]
    pub(crate) preview: bool,
}

/// Number of matching or changed deliveries.
#[derive(Serialize, ToSchema)]
pub(crate) struct Counted {
    pub(crate) deliveries: u64,
    /// True if the deliveries were only counted.
    pub(crate) preview: bool,
}

fn span(from_ms: i64, to_ms: i64) -> Result<Span, Problem> {
    if from_ms < to_ms {
        Ok(Span { from_ms, to_ms })
    } else {
        Err(Problem::field("/to_ms", "to_ms must be later than from_ms"))
    }
}

fn enabled(subscription: &Subscription) -> Result<(), Problem> {
    match subscription.state {
        SubscriptionState::Disabled => Err(Problem::conflict("the subscription is disabled; resume it first")),
        _ => Ok(()),
    }
}

/// Interval at which a test checks whether its delivery has ended.
const TEST_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Time that a test allows beyond the POST: for the plugin and for waiting in the lane.
const TEST_SLACK: Duration = Duration::from_secs(15);

impl Operations {
    /// Attempts a delivery now. If it had ended, its schedule and its age start over.
    pub(crate) async fn retry_delivery(
        &self,
        access: &Access<ToManage>,
        id: DeliveryId,
    ) -> Result<DeliveryDetail, Problem> {
        self.store.retry(access.actor(), access.tenant.clone(), id).await?;
        self.delivery(&access.tenant, id).await
    }

    /// Cancels a pending delivery.
    pub(crate) async fn cancel_delivery(
        &self,
        access: &Access<ToManage>,
        id: DeliveryId,
    ) -> Result<DeliveryDetail, Problem> {
        self.store.cancel(access.actor(), access.tenant.clone(), id).await?;
        self.delivery(&access.tenant, id).await
    }

    /// Makes deliveries that ended pending again, or counts them.
    pub(crate) async fn redrive_subscription(
        &self,
        access: &Access<ToManage>,
        id: Uuid,
        wanted: RedriveWrite,
    ) -> Result<Counted, Problem> {
        let subscription = self.subscription(&access.tenant, id)?;
        let RedriveWrite { states, from_ms, to_ms, preview } = wanted;
        let span = span(from_ms, to_ms.unwrap_or(i64::MAX))?;
        let deliveries = if preview {
            self.store.count_ended(&subscription, states, span).await?
        } else {
            enabled(&subscription)?;
            self.store.redrive(access.actor(), &subscription, states, span).await?
        };
        Ok(Counted { deliveries, preview })
    }

    /// Delivers the events of a time span again, to this subscription only, or counts them.
    pub(crate) async fn replay_to_subscription(
        &self,
        access: &Access<ToManage>,
        id: Uuid,
        wanted: ReplayWrite,
    ) -> Result<Counted, Problem> {
        let subscription = self.subscription(&access.tenant, id)?;
        let ReplayWrite { from_ms, to_ms, preview } = wanted;
        let span = span(from_ms, to_ms)?;
        let deliveries = if preview {
            self.store.count_replayable(&subscription, span).await?
        } else {
            enabled(&subscription)?;
            self.store.replay(access.actor(), &subscription, span).await?
        };
        Ok(Counted { deliveries, preview })
    }

    /// Sends a test event to this subscription only, through its plugin, and returns the receiver's answer. Attempted once.
    /// `event`: one such as the subscription gets, if it is empty.
    pub(crate) async fn test_subscription(
        &self,
        access: &Access<ToManage>,
        id: Uuid,
        event: Bytes,
    ) -> Result<DeliveryDetail, Problem> {
        let subscription = self.subscription(&access.tenant, id)?;
        if subscription.state != SubscriptionState::Active {
            return Err(Problem::conflict("the subscription is not active; resume it first"));
        }
        let event = self.test_event(&subscription, event).await?;
        let delivery = self.store.test(access.actor(), &subscription, event).await?;
        let timeout = Duration::from_millis(subscription.settings.timeout_ms);
        let give_up = tokio::time::Instant::now() + timeout + TEST_SLACK;
        loop {
            let found = self.delivery(&access.tenant, delivery).await?;
            if found.has_ended() || tokio::time::Instant::now() > give_up {
                return Ok(found);
            }
            tokio::time::sleep(TEST_POLL_INTERVAL).await;
        }
    }
}

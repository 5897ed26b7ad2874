//! Deliveries with their attempts, as operators see them.

use super::{Access, Operations, Problem, ToRead};
use crate::delivery::{Attempt, DeliveryId, DeliveryKind, DeliveryState, Reason};
use crate::settle::SettledEvents;
use crate::store::{DeliveryFilter, DeliveryView};
use crate::subscription::TenantId;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Delivery of an event.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeliveryBody {
    /// Id of the delivery, and its `webhook-id`.
    pub(crate) id: Uuid,
    event: Uuid,
    subscription: Uuid,
    /// Origin of the delivery: `usual`, `replay` or `test`.
    kind: DeliveryKind,
    pub(crate) state: DeliveryState,
    /// True while the delivery waits for another plugin version or config.
    awaiting_plugin: bool,
    /// Time of the next attempt of a pending delivery, in milliseconds since the epoch.
    due_at_ms: Option<i64>,
    attempts_made: u32,
    /// Reason for the delivery's current state.
    reason: Option<Reason>,
    created_at_ms: i64,
    updated_at_ms: i64,
    /// Events that the delivery stands for, if its subscription settles them.
    settled: Option<SettledBody>,
    /// True while a later event of the same contact or deal may supersede the pending delivery.
    settling: bool,
    /// Delivery that stands for this one, if it is superseded.
    superseded_by: Option<Uuid>,
}

/// Events that a delivery stands for: those of one contact or deal that followed each other within the quiet time.
#[derive(Serialize, ToSchema)]
pub(crate) struct SettledBody {
    /// Number of events, with the one that is delivered.
    events: u64,
    /// First of the events.
    first_event: Uuid,
    /// Time at which the first was accepted, in milliseconds since the epoch.
    since_ms: i64,
}

impl From<SettledEvents> for SettledBody {
    fn from(settled: SettledEvents) -> Self {
        SettledBody { events: settled.count, first_event: settled.first.0, since_ms: settled.since_ms() }
    }
}

impl From<DeliveryView> for DeliveryBody {
    fn from(view: DeliveryView) -> Self {
        DeliveryBody {
            id: view.id.0,
            event: view.event.0,
            subscription: view.subscription.0,
            kind: view.kind,
            state: view.state,
            awaiting_plugin: view.awaiting_plugin,
            due_at_ms: view.due_at_ms,
            attempts_made: view.attempts_made,
            reason: view.reason,
            created_at_ms: view.created_at_ms,
            updated_at_ms: view.updated_at_ms,
            settled: view.settled.map(Into::into),
            settling: view.is_settling,
            superseded_by: view.superseded_by.map(|by| by.0),
        }
    }
}

/// Delivery with its attempts.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeliveryDetail {
    #[serde(flatten)]
    pub(crate) delivery: DeliveryBody,
    pub(crate) attempts: Vec<Attempt>,
}

impl DeliveryDetail {
    /// Returns true if the delivery is in a final state.
    pub(crate) fn has_ended(&self) -> bool {
        self.delivery.state != DeliveryState::Pending
    }
}

/// Page of deliveries.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeliveryPage {
    /// Deliveries, newest first.
    deliveries: Vec<DeliveryBody>,
    /// Value of `cursor` in the request for the next page. Absent on the last one.
    cursor: Option<Uuid>,
}

impl Operations {
    /// Lists deliveries, newest first.
    pub(crate) async fn list_deliveries(
        &self,
        access: &Access<ToRead>,
        filter: DeliveryFilter,
    ) -> Result<DeliveryPage, Problem> {
        let limit = filter.limit;
        let views = self.store.deliveries(access.tenant.clone(), filter).await?;
        let cursor = (views.len() == limit).then(|| views.last().map(|view| view.id.0)).flatten();
        Ok(DeliveryPage { deliveries: views.into_iter().map(DeliveryBody::from).collect(), cursor })
    }

    /// Returns a delivery with its attempts.
    pub(crate) async fn get_delivery(
        &self,
        access: &Access<ToRead>,
        id: DeliveryId,
    ) -> Result<DeliveryDetail, Problem> {
        self.delivery(&access.tenant, id).await
    }

    pub(super) async fn delivery(&self, tenant: &TenantId, id: DeliveryId) -> Result<DeliveryDetail, Problem> {
        let (view, attempts) = self.store.delivery(tenant.clone(), id).await?;
        Ok(DeliveryDetail { delivery: view.into(), attempts })
    }
}

//! Large fan-outs: the events become durable first, and their deliveries follow in steps.
//!
//! # Guarantees
//! - A step makes at most as many deliveries as [`step_of`] says. Other owners write between two steps, so a fan-out to thousands of
//!   subscriptions does not delay them.
//! - Every delivery is made exactly once: the position of the fan-out is written in the transaction of its deliveries, and the next
//!   start continues from there.
//! - The request is answered after the last step. So a later request of the same sender finds all deliveries made, and the order of
//!   an entity's events is the order of their answers.
//! - The conservation law holds in between: deliveries that have not been made count as pending.
//!
//! # Limits
//! A subscription that is deleted during the fan-out may get no delivery, and a subscription that is created meanwhile may get one;
//! `fan_out` of the event is corrected to the final number. A step may fail, on a full disk for example. The request is accepted
//! nevertheless, and the steps are repeated later.

use crate::backend::intake::{FanOutAnswer, step_of};
use crate::background::run_when_woken;
use crate::{Store, StoreError};
use hookloom_model::ids;
use hookloom_model::subscription::TenantId;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;

/// Number of steps that fit into the transaction of the events.
pub(crate) const STEPS_AT_ONCE: usize = 4;

/// Returns true if this number of deliveries is made in steps.
pub(crate) fn takes_steps(deliveries: u64, subscriptions: usize) -> bool {
    deliveries > (STEPS_AT_ONCE * step_of(subscriptions)) as u64
}

/// Fan-outs whose requests make the steps, and the wake-up of the task that completes all others.
#[derive(Default)]
pub(crate) struct FanOuts {
    under_way: Mutex<HashSet<Uuid>>,
    abandoned: tokio::sync::Notify,
}

/// Fan-out whose request makes the steps. If the request ends before the last step, the background task makes the others.
pub(crate) struct FanOutGuard {
    fan_outs: Arc<FanOuts>,
    id: Uuid,
    completed: bool,
}

impl FanOuts {
    /// Begins a fan-out, with a new id.
    pub(crate) fn begin(self: &Arc<Self>) -> FanOutGuard {
        let id = ids::new_uuid();
        self.under_way.lock().insert(id);
        FanOutGuard { fan_outs: self.clone(), id, completed: false }
    }

    fn is_under_way(&self, id: Uuid) -> bool {
        self.under_way.lock().contains(&id)
    }
}

impl FanOutGuard {
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }
}

impl Drop for FanOutGuard {
    fn drop(&mut self) {
        self.fan_outs.under_way.lock().remove(&self.id);
        if !self.completed {
            self.fan_outs.abandoned.notify_one();
        }
    }
}

impl Store {
    /// Makes the deliveries of a request. A failure leaves the rest to [`Store::run_fan_outs`].
    pub(crate) async fn fan_out(&self, tenant: &TenantId, mut guard: FanOutGuard) {
        match self.make_steps(tenant, guard.id).await {
            Ok(()) => guard.completed = true,
            Err(StoreError::Stopped) => {}
            Err(error) => {
                let error = hookloom_model::describe(&error);
                tracing::error!(%tenant, %error, "deliveries of accepted events could not be made; trying again");
            }
        }
    }

    /// Completes fan-outs whose requests ended early. Runs until the store stops.
    pub async fn run_fan_outs(&self) {
        run_when_woken(&self.fan_outs.abandoned, "deliveries of accepted events could not be made", || {
            self.complete_fan_outs()
        })
        .await;
    }

    pub(crate) async fn complete_fan_outs(&self) -> Result<(), StoreError> {
        let mut failed = None;
        for (tenant, id) in self.backend.fan_outs().await? {
            if self.fan_outs.is_under_way(id) {
                continue;
            }
            // A failure does not stop the others.
            if let Err(error) = self.make_steps(&tenant, id).await {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn make_steps(&self, tenant: &TenantId, id: Uuid) -> Result<(), StoreError> {
        loop {
            let receivers = self.catalog().receivers(tenant);
            match self.backend.fan_out_step(tenant, id, receivers).await? {
                FanOutAnswer::Complete => return Ok(()),
                FanOutAnswer::More => {}
                // A step is one of many, so that a change meanwhile is usual.
                FanOutAnswer::Stale => self.quiet_step(tenant, id).await?,
            }
        }
    }

    /// Makes a step while no change of the catalog runs.
    async fn quiet_step(&self, tenant: &TenantId, id: Uuid) -> Result<(), StoreError> {
        let _quiet = self.changes.write().await;
        let receivers = self.catalog().receivers(tenant);
        self.backend.fan_out_step(tenant, id, receivers).await.map(drop)
    }
}

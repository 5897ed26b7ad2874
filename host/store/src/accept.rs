//! Accepting events: the request behind `202`.

use crate::audit::Actor;
use crate::backend::intake::{Accepted, AcceptedOnce, IntakeAnswer, IntakeRequest, NewEvent, Repeatable};
use crate::caps::Caps;
use crate::catalog::Receivers;
use crate::{Store, StoreError, fan_out};
use hookloom_model::event::Module;
use hookloom_model::subscription::TenantId;
use uuid::Uuid;

/// Number of stale answers after which no other change of the catalog may run until the events are accepted.
const STALE_MAX: u32 = 3;

impl Store {
    /// Stores events, all or none, with one pending delivery for each matching subscription.
    ///
    /// When this returns `Ok`, the deliveries are durable and will be attempted, even if the process ends.
    pub async fn accept(
        &self,
        tenant: TenantId,
        events: Vec<NewEvent>,
        caps: Caps,
    ) -> Result<Vec<Accepted>, StoreError> {
        Ok(self.accept_by(None, None, tenant, events, caps).await?.events)
    }

    /// Accepts events as [`Store::accept`] does, once for each idempotency key. A repetition gets the answer of the first request.
    pub async fn accept_once(
        &self,
        request: Repeatable,
        tenant: TenantId,
        events: Vec<NewEvent>,
        caps: Caps,
    ) -> Result<AcceptedOnce, StoreError> {
        self.accept_by(Some(request), None, tenant, events, caps).await
    }

    /// Accepts a rejected request, deletes its record and adds an entry to the log of changes in one transaction, so that it can be
    /// accepted only once.
    pub async fn accept_rejected(
        &self,
        actor: Actor,
        tenant: TenantId,
        id: Uuid,
        event: NewEvent,
        caps: Caps,
    ) -> Result<Accepted, StoreError> {
        Ok(self.accept_by(None, Some((actor, id)), tenant, vec![event], caps).await?.events[0])
    }

    /// Accepts events, once if a key is given, and instead of a rejected request if its id is given.
    async fn accept_by(
        &self,
        once: Option<Repeatable>,
        replaces: Option<(Actor, Uuid)>,
        tenant: TenantId,
        events: Vec<NewEvent>,
        caps: Caps,
    ) -> Result<AcceptedOnce, StoreError> {
        let volume = Volume::of(&events);
        let receivers = self.catalog().receivers(&tenant);
        let mut request = IntakeRequest { tenant, events, receivers, caps, once, steps: None, replaces };
        let mut stale = 0;
        let mut quiet = None;
        loop {
            let matching = volume.matching(&request.receivers);
            if let Err(error) = volume.check(matching.deliveries, self.limits.request_deliveries_max) {
                // A repetition gets the answer of the first request, even if more subscriptions match by now.
                let Some(once) = request.once else { return Err(error) };
                let events = self.backend.answer(request.tenant, once).await?.ok_or(error)?;
                return Ok(AcceptedOnce { events, is_repetition: true });
            }
            let takes_steps = fan_out::takes_steps(matching.deliveries, matching.subscriptions);
            let steps = takes_steps.then(|| (self.fan_outs.begin(), request.tenant.clone()));
            request.steps = steps.as_ref().map(|(guard, _)| guard.id());
            let (events, is_repetition) = match self.backend.accept(request).await? {
                IntakeAnswer::Accepted(events) => (events, false),
                IntakeAnswer::Repetition(events) => (events, true),
                IntakeAnswer::Stale(returned) => {
                    request = *returned;
                    stale += 1;
                    if stale == STALE_MAX {
                        quiet = Some(self.changes.write().await);
                    }
                    request.receivers = self.catalog().receivers(&request.tenant);
                    continue;
                }
            };
            drop(quiet);
            if let Some((guard, tenant)) = steps {
                self.fan_out(&tenant, guard).await;
            }
            return Ok(AcceptedOnce { events, is_repetition });
        }
    }
}

/// Size of a request, known before any row is built.
#[derive(Clone, Copy)]
struct Volume {
    /// Number of events by module.
    events: [usize; Module::ALL.len()],
}

/// Size of a request's fan-out.
struct Matching {
    deliveries: u64,
    /// Number of matching subscriptions. A subscription of two modules counts twice.
    subscriptions: usize,
}

impl Volume {
    fn of(events: &[NewEvent]) -> Self {
        let mut volume = Volume { events: [0; Module::ALL.len()] };
        for event in events {
            volume.events[event.module as usize] += 1;
        }
        volume
    }

    /// Counts the deliveries that the events would make, and the matching subscriptions.
    fn matching(self, receivers: &Receivers) -> Matching {
        let mut matching = Matching { deliveries: 0, subscriptions: 0 };
        for module in Module::ALL {
            let events = self.events[module as usize];
            if events > 0 {
                let subscriptions = receivers.of(module).len();
                matching.deliveries += events as u64 * subscriptions as u64;
                matching.subscriptions += subscriptions;
            }
        }
        matching
    }

    /// Refuses two or more events that make more deliveries than one transaction may. One event is always accepted.
    fn check(self, deliveries: u64, most: u64) -> Result<(), StoreError> {
        let events: usize = self.events.iter().sum();
        if events <= 1 || deliveries <= most {
            return Ok(());
        }
        Err(StoreError::TooManyDeliveries { events, deliveries, most })
    }
}

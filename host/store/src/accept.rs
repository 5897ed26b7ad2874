//! Accepting events: the request behind `202`.

use crate::audit::Actor;
use crate::backend::intake::{Accepted, AcceptedOnce, IntakeAnswer, IntakeRequest, NewEvent, Repeatable};
use crate::caps::Caps;
use crate::matching::MatchedReceivers;
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
        let owner = tenant.clone();
        let receivers = self.catalog().receivers(&tenant).match_events(&events).await;
        let mut request = IntakeRequest { tenant, events, receivers, caps, once, steps: None, replaces };
        let mut stale = 0;
        let mut quiet = None;
        loop {
            let volume = Volume::of(&request.events, &request.receivers);
            if let Err(error) = volume.check(self.limits.request_deliveries_max) {
                // A repetition gets the answer of the first request, even if more subscriptions match by now.
                let Some(once) = request.once else { return Err(error) };
                let events = self.backend.answer(request.tenant, once).await?.ok_or(error)?;
                return Ok(AcceptedOnce { events, is_repetition: true });
            }
            let takes_steps = fan_out::takes_steps(volume.deliveries, volume.subscriptions);
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
                    request.receivers = self.catalog().receivers(&request.tenant).match_events(&request.events).await;
                    continue;
                }
            };
            drop(quiet);
            if !is_repetition {
                self.count_accepted(owner, events.len());
            }
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
    events: usize,
    /// Maximum number of deliveries: conditions on the event before may refuse some.
    deliveries: u64,
    /// Number of matching subscriptions. A subscription of two modules counts twice.
    subscriptions: usize,
}

impl Volume {
    /// Counts the deliveries that the events would make, and the matching subscriptions.
    fn of(events: &[NewEvent], receivers: &MatchedReceivers) -> Self {
        let mut volume = Volume { events: events.len(), deliveries: 0, subscriptions: 0 };
        let mut of_module = [0; Module::ALL.len()];
        for (event, receivers) in events.iter().zip(&receivers.events) {
            let matching = receivers.len_max();
            volume.deliveries += matching as u64;
            let most = &mut of_module[event.module as usize];
            *most = matching.max(*most);
        }
        volume.subscriptions = of_module.iter().sum();
        volume
    }

    /// Refuses two or more events that make more deliveries than one transaction may. One event is always accepted.
    fn check(self, most: u64) -> Result<(), StoreError> {
        let Volume { events, deliveries, .. } = self;
        if events <= 1 || deliveries <= most {
            return Ok(());
        }
        Err(StoreError::TooManyDeliveries { events, deliveries, most })
    }
}

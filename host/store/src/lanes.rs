//! Deliveries of lanes: claimed page by page, until their claim ends by an outcome.
//!
//! # Guarantees
//! - An outcome that is recorded is durable when the function returns, and its claim has ended.
//! - The outcome of a claim is dropped if another host has taken over since the claim was made: that host decides about the delivery.
//! - A delivery that settles is claimed only when its settling has ended in the database: from then on, it is never superseded.
//! - An outcome that is not recorded leaves the claim to the caller, who can try again.

use crate::activity::AttemptUnderWay;
use crate::audit::Actor;
use crate::backend::lanes::{AttemptClass, AttemptRecord, DuePage, LaneRead};
use crate::claims::{Claim, ClaimPage};
use crate::state_change::StateChange;
use crate::store_event::Due;
use crate::{Store, StoreError};
use delegate::delegate;
use hookloom_model::delivery::{DueDelivery, Reason};
use hookloom_model::event::Event;
use hookloom_model::settle::SettledEvents;
use hookloom_model::subscription::{Ordering, Subscription, SubscriptionId, TenantId};
use std::sync::Arc;
use std::time::Duration;

/// Page of a lane's due deliveries.
#[derive(Debug)]
pub struct ClaimedPage {
    /// Claimed deliveries, earliest due time first.
    pub due: Vec<Due>,
    /// True if there are more due deliveries.
    pub more: bool,
    /// Due time of the next delivery after these, in milliseconds since the epoch, if there is one.
    pub next_due_at_ms: Option<i64>,
}

/// Claim whose outcome could not be recorded.
#[derive(Debug, thiserror::Error)]
#[error("an outcome could not be recorded")]
pub struct Unfinished {
    /// The claim, which still holds the delivery.
    pub claim: Claim,
    /// Cause of the failure.
    #[source]
    pub error: StoreError,
}

impl Unfinished {
    /// Ends the claim if the write succeeded, and returns it otherwise.
    fn unless(written: Result<(), StoreError>, claim: Claim) -> Result<(), Box<Unfinished>> {
        written.map_err(|error| Box::new(Unfinished { claim, error }))
    }
}

impl ClaimedPage {
    /// Claims the deliveries of a page.
    fn of(page: DuePage, claims: &Arc<ClaimPage>) -> Self {
        let DuePage { due, more, next_due_at_ms } = page;
        let claimed = |(delivery, event)| Some(Due { claim: claims.claim(delivery)?, event });
        ClaimedPage { due: due.into_iter().filter_map(claimed).collect(), more, next_due_at_ms }
    }
}

impl Store {
    /// Returns true if this host runs the lane of a subscription.
    pub fn owns(&self, id: SubscriptionId) -> bool {
        self.state.claims.ownership.owns(id)
    }

    /// Returns true if attempts of subscriptions that this host owns may begin now: its lease has not ended.
    pub fn may_begin_attempts(&self) -> bool {
        self.state.claims.ownership.may_begin()
    }

    /// Returns the time for which attempts of a former owner of a subscription may still be under way, if each takes at most `time_max`.
    pub fn rests_after_takeover(&self, id: SubscriptionId, time_max: Duration) -> Option<Duration> {
        self.state.claims.ownership.rests_for(id, time_max)
    }

    /// Counts an attempt that begins, until the returned value is dropped.
    pub fn begin_attempt(&self) -> AttemptUnderWay {
        self.state.activity.begin()
    }

    /// Claims at most `limit` due deliveries of a lane, earliest due time first. Deliveries that have a claim are left out, and so are
    /// those that are superseded meanwhile.
    pub async fn claim_due(
        &self,
        subscription: &Subscription,
        class: AttemptClass,
        limit: usize,
    ) -> Result<ClaimedPage, StoreError> {
        let lane = LaneRead {
            tenant: subscription.tenant.clone(),
            subscription: subscription.id,
            class,
            blocks_below: match subscription.settings.ordering {
                None => 0,
                Some(Ordering::Block) => u32::MAX,
                Some(Ordering::SkipAfter { attempts }) => attempts,
            },
            pauses: subscription.pauses.clone(),
            limit,
        };
        let claims = Arc::new(self.state.claims.begin_page(subscription.id));
        let page = ClaimedPage::of(self.backend.due(lane, claims.clone()).await?, &claims);
        self.end_settling(subscription, page).await
    }

    /// Ends the settling of the deliveries of a page. Those that were superseded since it was read leave the page.
    async fn end_settling(
        &self,
        subscription: &Subscription,
        mut page: ClaimedPage,
    ) -> Result<ClaimedPage, StoreError> {
        let settling = page.due.iter().filter(|due| due.delivery().is_settling);
        let settling: Vec<_> = settling.map(|due| (due.delivery().id, due.event.clone())).collect();
        if !settling.is_empty() {
            let ended = self.backend.end_settling(subscription, settling).await?;
            page.due.retain(|due| !due.delivery().is_settling || ended.contains(&due.delivery().id));
        }
        Ok(page)
    }

    /// Records an attempt, updates its delivery, disables the subscription if required, and ends the claim. Durable when it returns.
    ///
    /// # Errors
    /// The claim is returned with the error, so that the caller can try again.
    pub async fn finish(&self, claim: Claim, record: Arc<AttemptRecord>) -> Result<(), Box<Unfinished>> {
        if self.state.claims.is_void(&claim) {
            return Ok(());
        }
        Unfinished::unless(self.record(claim.delivery(), record).await, claim)
    }

    pub(crate) async fn record(&self, delivery: &DueDelivery, record: Arc<AttemptRecord>) -> Result<(), StoreError> {
        let Some(reason) = record.disables.clone() else { return self.backend.record(delivery, record).await };
        let tenant = delivery.tenant.clone();
        let id = delivery.subscription;
        let change = StateChange::Disable { reason, generation: Some(record.attempt.config_generation) };
        self.change_state(Actor::Host, &tenant, id, change, Some((delivery.clone(), record))).await
    }

    /// Ends a pending delivery without an attempt, and its claim.
    ///
    /// # Errors
    /// The claim is returned with the error, as by [`Store::finish`].
    pub async fn give_up(&self, claim: Claim, reason: Reason) -> Result<(), Box<Unfinished>> {
        if self.state.claims.is_void(&claim) {
            return Ok(());
        }
        Unfinished::unless(self.backend.give_up(claim.delivery(), reason).await, claim)
    }

    /// Returns the event of the same entity before those that a delivery stands for: the last one whose state its receiver may have seen.
    /// None: there was none, or it has been pruned.
    pub async fn history(
        &self,
        tenant: &TenantId,
        event: &Event,
        settled: Option<SettledEvents>,
    ) -> Result<Option<Arc<Event>>, StoreError> {
        match settled {
            Some(SettledEvents { first, .. }) if first != event.id => {
                let first = Event { id: first, ..event.clone() };
                self.previous(tenant.clone(), &first).await
            }
            _ => self.previous(tenant.clone(), event).await,
        }
    }

    delegate! {
        to self.backend {
            /// Returns the last event of the same entity that was accepted before another one. None: there was none, or it has been
            /// pruned.
            pub async fn previous(&self, tenant: TenantId, event: &Event) -> Result<Option<Arc<Event>>, StoreError>;

            /// Returns the event of a delivery. None: both are gone.
            pub async fn event_of(&self, delivery: &DueDelivery) -> Result<Option<Arc<Event>>, StoreError>;
        }
    }
}

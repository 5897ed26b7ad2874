//! Permits of attempts, which bound the attempts under way and are shared fairly between tenants.
//!
//! # Guarantees
//! - An attempt holds a permit of [`Stage::Judge`] while its plugins judge or its request waits for a permit to send, and a permit of
//!   [`Stage::Send`] while its request is under way. So no permit to send is held while an attempt waits for a plugin thread, and
//!   slow plugins do not delay subscriptions without a plugin.
//! - Each stage is a [`FairSemaphore`]: a tenant may use permits that no other tenant needs, and a tenant that comes late finds a
//!   permit however many the others hold.
//! - A lane takes up to [`PERMIT_BATCH`] permits at a time. So events of one lane that were accepted together are attempted together,
//!   and a plugin is called again while its code is still in the processor's caches, even if a thousand lanes wait. A lane returns
//!   unused permits before it sleeps.
//!
//! # Cost and gain of batches
//! Cost: two constants, and lanes that return unused permits. Gain: a thousand plugins in turn make 12,080 deliveries a second
//! instead of 9,750. Remove it, and take single permits, when that row of the bench no longer falls.
//!
//! # Limits
//! Permits are not revoked. A permit to send ends with its request, which has a deadline. While the first waiting lane waits for a
//! batch, fewer permits than a batch may stay free.

use hookloom_fair_share::{FairPermit, FairSemaphore};
use hookloom_model::subscription::{Subscription, TenantId};

/// Maximum number of permits that a lane takes at once.
const PERMIT_BATCH: u64 = 8;

/// Divisor of the free permits that bounds a batch, so that many tenants at their thresholds still find single permits.
const BATCH_FRACTION: u64 = 8;

/// Maximum numbers of attempts under way.
#[derive(Clone, Copy, Debug)]
pub struct AttemptLimits {
    /// Maximum in each stage, for the whole host (`attempts_max`). Bounds sockets and memory.
    pub host: u64,
    /// Maximum in each stage, for one tenant (`attempts_per_tenant_max`).
    pub tenant: u64,
}

/// Part of an attempt that has a separate capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Plugins judge the event, or the prepared request waits for a permit to send.
    Judge,
    /// The request is under way, or its outcome waits to be recorded.
    Send,
}

impl Stage {
    /// The stage in which attempts of a subscription begin.
    pub(super) fn first(subscription: &Subscription) -> Self {
        if subscription.settings.plugin.0.is_empty() { Stage::Send } else { Stage::Judge }
    }
}

/// One or more permits, released on drop.
pub(super) type Permit = FairPermit<TenantId>;

/// Permits of all attempts, by stage.
pub(super) struct AttemptPermits {
    judge: FairSemaphore<TenantId>,
    send: FairSemaphore<TenantId>,
}

impl AttemptPermits {
    pub(super) fn new(limits: AttemptLimits) -> Self {
        AttemptPermits {
            judge: FairSemaphore::new(limits.host, limits.tenant),
            send: FairSemaphore::new(limits.host, limits.tenant),
        }
    }

    pub(super) fn of(&self, stage: Stage) -> &FairSemaphore<TenantId> {
        match stage {
            Stage::Judge => &self.judge,
            Stage::Send => &self.send,
        }
    }
}

/// Permits that a lane has acquired and not used.
#[derive(Default)]
pub(super) struct LanePermits(Option<(Stage, Permit)>);

impl LanePermits {
    /// Returns a permit: an unused one, or else one of a new batch of up to `usable`. Unused permits of another stage are released
    /// first, because waiting while holding permits would delay other lanes.
    pub(super) async fn next(
        &mut self,
        permits: &AttemptPermits,
        stage: Stage,
        tenant: &TenantId,
        usable: u32,
    ) -> Permit {
        if let Some((_, rest)) = self.0.as_mut().filter(|(of, _)| *of == stage)
            && let Some(permit) = rest.split(1)
        {
            return permit;
        }
        self.release();
        let semaphore = permits.of(stage);
        let batch = (semaphore.free() / BATCH_FRACTION).clamp(1, PERMIT_BATCH).min(u64::from(usable).max(1));
        let mut taken = semaphore.acquire(tenant, batch).await;
        match taken.split(1) {
            Some(permit) => {
                self.0 = Some((stage, taken));
                permit
            }
            None => taken,
        }
    }

    /// Releases the unused permits.
    pub(super) fn release(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).expect(name)
    }

    fn permits(host: u64, tenant: u64) -> AttemptPermits {
        AttemptPermits::new(AttemptLimits { host, tenant })
    }

    #[tokio::test]
    async fn a_lane_takes_several_in_its_turn_and_gives_back_what_it_does_not_use() {
        let permits = permits(2_048, 512);
        let a = tenant("a");
        let held = || (permits.of(Stage::Judge).held(&a), permits.of(Stage::Send).held(&a));
        let mut lane = LanePermits::default();
        let mut used = Vec::new();
        for usable in [20, 12, 3] {
            used.push(lane.next(&permits, Stage::Send, &a, usable).await);
            assert_eq!(held(), (0, 8), "a whole batch, for all three");
        }
        lane.release();
        assert_eq!(held(), (0, 3));
        used.push(lane.next(&permits, Stage::Send, &a, 2).await);
        assert_eq!(held(), (0, 5), "no more than are usable");
        used.push(lane.next(&permits, Stage::Judge, &a, 4).await);
        assert_eq!(held(), (4, 4), "a plugin was added meanwhile: what is left of the other stage is given back");
        used.push(lane.next(&permits, Stage::Judge, &a, 0).await);
        lane.release();
        used.push(lane.next(&permits, Stage::Judge, &a, 0).await);
        assert_eq!(held(), (3, 4), "at least one");
        drop((used, lane));
        assert_eq!(held(), (0, 0));
    }

    #[tokio::test]
    async fn lanes_of_a_tenant_that_wait_take_turns() {
        let permits = permits(2_048, 512);
        let a = tenant("a");
        let mut full = permits.of(Stage::Send).acquire(&a, 512).await;
        let mut first = LanePermits::default();
        let mut second = LanePermits::default();
        let mut one = Box::pin(first.next(&permits, Stage::Send, &a, 100));
        let mut other = Box::pin(second.next(&permits, Stage::Send, &a, 100));
        assert!(poll!(&mut one).is_pending() && poll!(&mut other).is_pending());
        for _ in 0..PERMIT_BATCH {
            assert!(poll!(&mut one).is_pending(), "a batch is not free yet");
            drop(full.split(1));
        }
        let of_first = one.await;
        assert!(of_first.units() == 1 && poll!(&mut other).is_pending(), "one had the whole batch");
        drop(full.split(8));
        assert_eq!(other.await.units(), 1);
    }

    /// Tenants whose receivers hang take what is free, and a tenant that comes late does not wait for any of them.
    #[tokio::test]
    async fn a_late_tenant_finds_a_permit_whatever_the_others_hold() {
        let permits = permits(2_048, 1_024);
        let mut held = Vec::new();
        for number in 0..8 {
            let greedy = tenant(&format!("greedy-{number}"));
            let mut lane = LanePermits::default();
            loop {
                let mut next = Box::pin(lane.next(&permits, Stage::Send, &greedy, 32));
                match poll!(&mut next) {
                    std::task::Poll::Ready(permit) => held.push(permit),
                    std::task::Poll::Pending => break,
                }
            }
        }
        assert!(held.len() > 2_000, "{} of 2,048 are used", held.len());
        let mut lane = LanePermits::default();
        let late = tenant("late");
        let mut next = Box::pin(lane.next(&permits, Stage::Send, &late, 32));
        assert!(poll!(&mut next).is_ready());
    }

    #[tokio::test]
    async fn judging_takes_no_permit_to_send() {
        let permits = permits(16, 16);
        let a = tenant("a");
        let judging: Vec<_> = std::iter::from_fn(|| permits.of(Stage::Judge).try_acquire(&a, 1)).collect();
        assert_eq!((judging.len(), permits.of(Stage::Send).free()), (8, 16));
    }
}

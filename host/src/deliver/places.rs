//! The places of attempts under way: so many in the whole host, and so many of them one tenant's.
//!
//! Lanes wait for places in turn, and each takes up to [`TURN`] of them when its turn has come. So events of one lane that
//! came together are attempted together, and a plugin is called again while its code is still in the processor's caches,
//! also where a thousand lanes wait. A lane that cannot use what it has gives it back. While the first in turn waits for
//! several, fewer than that may be free: at most seven of a tenant's 512.

use crate::subscription::TenantId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many attempts may be under way in the whole host: it bounds sockets and memory.
const IN_FLIGHT_MAX: usize = 2_048;

/// How many of them may be one tenant's, so that its slow receivers leave room for the others.
const IN_FLIGHT_TENANT_MAX: usize = 512;

/// How many places a lane takes at once.
const TURN: u32 = 8;

/// All places.
pub(super) struct Places {
    of_host: Arc<Semaphore>,
    of_tenants: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
}

impl Default for Places {
    fn default() -> Self {
        Places { of_host: Arc::new(Semaphore::new(IN_FLIGHT_MAX)), of_tenants: Mutex::default() }
    }
}

impl Places {
    fn of_tenant(&self, tenant: &TenantId) -> Arc<Semaphore> {
        let mut tenants = self.of_tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.entry(tenant.clone()).or_insert_with(|| Arc::new(Semaphore::new(IN_FLIGHT_TENANT_MAX))).clone()
    }
}

/// One attempt's place, or several; free when this is dropped.
pub(super) struct Place {
    of_tenant: OwnedSemaphorePermit,
    of_host: OwnedSemaphorePermit,
}

/// The places that a lane took in its turn and has not used.
#[derive(Default)]
pub(super) struct OwnPlaces(Option<Place>);

impl OwnPlaces {
    /// A place: one at hand, or else one of as many as the lane could use, after waiting for them. None: there are no
    /// places any more, which does not happen.
    pub(super) async fn next(&mut self, places: &Places, tenant: &TenantId, of_use: u32) -> Option<Place> {
        let one =
            |place: &mut Place| Some(Place { of_tenant: place.of_tenant.split(1)?, of_host: place.of_host.split(1)? });
        if let Some(place) = self.0.as_mut().and_then(one) {
            return Some(place);
        }
        let many = of_use.clamp(1, TURN);
        // In this order everywhere, and by lanes that have none: nobody waits for a place of who waits.
        self.give_back();
        let of_tenant = places.of_tenant(tenant).acquire_many_owned(many).await.ok()?;
        let of_host = places.of_host.clone().acquire_many_owned(many).await.ok()?;
        one(self.0.insert(Place { of_tenant, of_host }))
    }

    /// Nothing more begins for now.
    pub(super) fn give_back(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lane_takes_several_in_its_turn_and_gives_back_what_it_does_not_use() {
        let (places, tenant) = (Places::default(), TenantId::parse("a").expect("a name"));
        let taken = || IN_FLIGHT_TENANT_MAX - places.of_tenant(&tenant).available_permits();
        let taken_of_host = || IN_FLIGHT_MAX - places.of_host.available_permits();
        let mut own = OwnPlaces::default();
        let mut used = Vec::new();
        for wanted in [20, 12, 3] {
            used.push(own.next(&places, &tenant, wanted).await.expect("a place"));
            assert_eq!((taken(), taken_of_host()), (8, 8), "as many as a turn has, for all three");
        }
        own.give_back();
        assert_eq!((taken(), taken_of_host()), (3, 3));
        used.push(own.next(&places, &tenant, 2).await.expect("a place"));
        assert_eq!(taken(), 5, "no more than are of use");
        used.push(own.next(&places, &tenant, 1).await.expect("a place"));
        used.push(own.next(&places, &tenant, 0).await.expect("a place"));
        assert_eq!(taken(), 6, "and at least one");
        drop((used, own));
        assert_eq!((taken(), taken_of_host()), (0, 0));
    }

    #[tokio::test]
    async fn lanes_that_wait_take_turns() {
        let (places, tenant) = (Places::default(), TenantId::parse("a").expect("a name"));
        let all = u32::try_from(IN_FLIGHT_TENANT_MAX).expect("few");
        let mut full = places.of_tenant(&tenant).acquire_many_owned(all).await.expect("all places");
        let (mut first, mut second) = (OwnPlaces::default(), OwnPlaces::default());
        let mut one = Box::pin(first.next(&places, &tenant, 100));
        let mut other = Box::pin(second.next(&places, &tenant, 100));
        assert!(futures_util::poll!(&mut one).is_pending() && futures_util::poll!(&mut other).is_pending());
        for _ in 0..TURN {
            assert!(futures_util::poll!(&mut one).is_pending(), "a turn is not full yet");
            drop(full.split(1));
        }
        let first_place = one.await;
        assert!(first_place.is_some() && futures_util::poll!(&mut other).is_pending(), "one had the whole turn");
        drop(full.split(8));
        assert!(other.await.is_some());
    }
}

//! Bounded pool for computations that would block a network thread for more than about a millisecond: rendering pages, comparing
//! bodies, parsing batches.
//!
//! # Guarantees
//! A network thread never waits for such work; only the request does. The number of concurrent computations is one more than the
//! number of cores. Tenants share the capacity by [`FairSemaphore`], so that a tenant with much work leaves capacity to the others.
//!
//! # Limits
//! Work that has begun runs to its end, so callers bound it: the size of parsed data, the duration of a comparison. Work whose
//! caller has gone is not begun.

use crate::fair_share::FairSemaphore;
use crate::ids::TenantId;

/// Reason why a computation has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuPoolError {
    /// The computation panicked, which is a bug of this program.
    #[error("the computation failed inside this host")]
    Panicked,
    /// The host stops.
    #[error("the host is stopping")]
    Stopped,
}

/// Pool of computations. Work of the host itself has the key `None`.
#[derive(Clone, Debug)]
pub struct CpuPool {
    permits: FairSemaphore<Option<TenantId>>,
}

impl CpuPool {
    /// Creates a pool for a machine with this number of cores.
    pub fn new(cores: usize) -> Self {
        let capacity = cores as u64 + 1;
        CpuPool { permits: FairSemaphore::new(capacity, capacity) }
    }

    /// Runs `work` outside of the network threads, when the tenant's turn comes, and returns its result.
    pub async fn run<T: Send + 'static>(
        &self,
        tenant: Option<&TenantId>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CpuPoolError> {
        let permit = self.permits.acquire(&tenant.cloned(), 1).await;
        let work = move || {
            // The work owns the permit, so that a caller that gives up does not free a core that is still busy.
            let _permit = permit;
            work()
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| if error.is_panic() { CpuPoolError::Panicked } else { CpuPoolError::Stopped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_tenant_that_asks_for_a_lot_leaves_room_to_another() {
        let pool = CpuPool::new(2);
        let greedy = TenantId::parse("greedy");
        let honest = TenantId::parse("honest");
        let greedy = greedy.expect("a name");
        let honest = honest.expect("a name");
        let (release, released) = mpsc::channel::<()>();
        let released = std::sync::Arc::new(parking_lot::Mutex::new(released));
        let blocked: Vec<_> = (0..5)
            .map(|_| {
                let pool = pool.clone();
                let greedy = greedy.clone();
                let released = released.clone();
                tokio::spawn(async move { pool.run(Some(&greedy), move || released.lock().recv().is_ok()).await })
            })
            .collect();
        while pool.permits.held(&Some(greedy.clone())) < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(Some(&honest), || 7).await, Ok(7));
        assert_eq!(pool.permits.held(&Some(greedy)), 2, "the other three wait");
        for _ in 0..5 {
            release.send(()).expect("somebody waits");
        }
        for one in blocked {
            assert_eq!(one.await.expect("it ends"), Ok(true));
        }
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_frees_its_place() {
        let pool = CpuPool::new(1);
        assert_eq!(pool.run(None, || panic!("on purpose")).await.map(|(): ()| ()), Err(CpuPoolError::Panicked));
        assert_eq!(pool.permits.free(), 2);
    }
}

//! Sweeps: after a change of a plugin's version or of a config, the deliveries that wait for it become due.
//!
//! # Guarantees
//! - The transaction of the change makes a limited number of deliveries due. If there may be more, it records a sweep, which makes the
//!   others due in transactions of the same size, between which other writes run. A restart continues the sweep.
//! - A delivery that was attempted after the change is not made due: it waits for the next change.
//! - Rows of a backlog that do not wait for a change are not read.
//!
//! # Limits
//! If the clock is set back, an attempt after the change can look like one before it. That delivery is attempted once more.

use crate::backend::upkeep::{Changed, Sweep};
use crate::background::{let_others_write, run_when_woken};
use crate::{Store, StoreError};
use hookloom_model::subscription::SubscriptionId;

impl Store {
    /// Completes sweeps. Runs until the store stops.
    pub async fn run_sweeps(&self) {
        run_when_woken(&self.sweeps, "deliveries that wait for a plugin could not be made due", || self.sweep()).await;
    }

    /// Completes the recorded sweeps.
    pub(crate) async fn sweep(&self) -> Result<(), StoreError> {
        while let Some(sweep) = self.backend.next_sweep().await? {
            let users = match &sweep.changed {
                Changed::Plugin(name) => self.users_of(&sweep.tenant, name),
                Changed::Subscription(id) => vec![*id],
            };
            for id in users {
                self.sweep_one(&sweep, id).await?;
            }
            self.backend.end_sweep(sweep).await?;
        }
        Ok(())
    }

    async fn sweep_one(&self, sweep: &Sweep, id: SubscriptionId) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let found = self.backend.waiting(&sweep.tenant, id, after).await?;
            after = found.last().copied();
            if after.is_none() {
                return Ok(());
            }
            let_others_write(self.backend.make_due(&sweep.tenant, id, found, sweep.at_ms).await?).await;
        }
    }
}

//! Giving shards to other hosts: to one that has fewer, or to all before this host ends.
//!
//! # Guarantees
//! - A shard is given when no delivery of it has a claim: no attempt is under way, and none is begun any more.

use super::database::{FleetDatabase, Hint, Registration};
use super::membership::{Excess, Membership};
use crate::StoreError;
use crate::ownership::ShardSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Interval in which a host that gives shards looks whether their attempts have ended.
const DRAIN_POLL: Duration = Duration::from_millis(5);

impl Membership {
    /// Gives shards: begins no attempt of them any more, waits for those under way, and changes the owner.
    pub(crate) async fn give<D: FleetDatabase + ?Sized>(&self, database: &D, excess: Excess) {
        let Excess { registration, to, shards } = excess;
        self.stop_attempts(shards);
        let mut left = shards;
        while !left.is_empty() && self.registration() == Some(registration) {
            let free = self.host.claims.without_claims(left);
            if !free.is_empty() {
                if let Err(error) = give_now(database, registration, to, free).await {
                    tracing::warn!(error = %hookloom_model::describe(&error), "shards could not be given");
                    break;
                }
                left = left.without(&free);
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
        let mut current = self.current.lock();
        current.giving = current.giving.without(&shards);
        current.given = current.given.with(&shards);
    }

    fn stop_attempts(&self, shards: ShardSet) {
        {
            let mut current = self.current.lock();
            current.giving = current.giving.with(&shards);
        }
        self.host.claims.disown(shards);
        self.host.publish_ownership();
    }

    /// Takes over from nobody any more, and registers no more. Returns the registration.
    pub(crate) fn begin_to_leave(&self) -> Option<Registration> {
        self.leaves.store(true, Ordering::Relaxed);
        self.registration()
    }

    /// Gives all shards to the other hosts. See [`FleetBackend::give_away`](crate::backend::fleet::FleetBackend::give_away).
    pub(crate) async fn give_all<D: FleetDatabase + ?Sized>(
        &self,
        database: &D,
        registration: Registration,
    ) -> Result<(), StoreError> {
        let fleet = database.read().await?;
        let others = fleet.others(registration.host);
        let mut left = fleet.of(registration.host);
        self.stop_attempts(left);
        while !left.is_empty() {
            let free = self.host.claims.without_claims(left);
            if !others.is_empty() && !free.is_empty() {
                for (place, to) in others.iter().enumerate() {
                    let part: ShardSet = free.iter().skip(place).step_by(others.len()).collect();
                    database.give(registration, *to, part).await?;
                }
                database.hint(&Hint::Fleet).await?;
            }
            left = left.without(&free);
            if !left.is_empty() {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        }
        Ok(())
    }
}

async fn give_now<D: FleetDatabase + ?Sized>(
    database: &D,
    registration: Registration,
    to: i16,
    shards: ShardSet,
) -> Result<(), StoreError> {
    database.give(registration, to, shards).await?;
    database.hint(&Hint::Fleet).await
}

//! Giving shards to other hosts: to one that has fewer, or to all before this host ends.
//!
//! # Guarantees
//! - A shard is given when no delivery of it has a claim: no attempt is under way, and none is begun any more.

use super::super::connection::Connection;
use super::super::writer_handle::Writer;
use super::hints::{self, Hint};
use super::membership::Membership;
use super::registration::Registration;
use super::shards::{self, FleetState};
use crate::StoreError;
use crate::ownership::ShardSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Interval in which a host that gives shards looks whether their attempts have ended.
const DRAIN_POLL: Duration = Duration::from_millis(5);

impl Membership {
    /// Gives shards: begins no attempt of them any more, waits for those under way, and changes the owner.
    pub(super) async fn give(self: Arc<Self>, registration: Registration, to: i16, shards: ShardSet, writer: Writer) {
        self.stop_attempts(shards);
        let mut left = shards;
        while !left.is_empty() && self.registration() == Some(registration) {
            let free = self.host.claims.without_claims(left);
            if !free.is_empty() {
                if let Err(error) = self.give_now(registration, to, free, &writer).await {
                    tracing::warn!(error = %hookloom_model::describe(&error), "shards could not be given");
                    break;
                }
                left = left.without(&free);
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
        let mut current = self.current.lock();
        current.giving = current.giving.without(&shards);
    }

    fn stop_attempts(&self, shards: ShardSet) {
        {
            let mut current = self.current.lock();
            current.giving = current.giving.with(&shards);
        }
        self.host.claims.disown(shards);
        self.host.publish_ownership();
    }

    async fn give_now(
        &self,
        registration: Registration,
        to: i16,
        shards: ShardSet,
        writer: &Writer,
    ) -> Result<(), StoreError> {
        writer
            .write_as_host(move |tx| Box::pin(async move { shards::give(tx, registration, to, shards).await }))
            .await?;
        let connection = Connection::open(&self.config).await?;
        hints::send(&connection, &Hint::Fleet).await
    }

    /// Gives all shards to the other hosts. See [`FleetBackend::give_away`](crate::backend::fleet::FleetBackend::give_away).
    pub(super) async fn give_away(&self, writer: &Writer) {
        self.leaves.store(true, Ordering::Relaxed);
        let Some(registration) = self.registration() else { return };
        let result = self.give_all(registration, writer).await;
        if let Err(error) = result {
            tracing::warn!(error = %hookloom_model::describe(&error), "the other hosts take over when the lease of this host ends");
        }
    }

    async fn give_all(&self, registration: Registration, writer: &Writer) -> Result<(), StoreError> {
        let connection = Connection::open(&self.config).await?;
        let fleet = FleetState::read(&connection).await?;
        let others = fleet.others(registration.host);
        let mut left = fleet.of(registration.host);
        self.stop_attempts(left);
        while !left.is_empty() {
            let free = self.host.claims.without_claims(left);
            if !others.is_empty() && !free.is_empty() {
                for (place, to) in others.iter().enumerate() {
                    let part: ShardSet = free.iter().skip(place).step_by(others.len()).collect();
                    let to = *to;
                    let give = writer.write_as_host(move |tx| {
                        Box::pin(async move { shards::give(tx, registration, to, part).await })
                    });
                    give.await?;
                }
                hints::send(&connection, &Hint::Fleet).await?;
            }
            left = left.without(&free);
            if !left.is_empty() {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        }
        Ok(())
    }
}

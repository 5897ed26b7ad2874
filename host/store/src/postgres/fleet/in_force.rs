//! Wait until a change is in force at every host.
//!
//! # Guarantees
//! - When the wait ends without a name, no host that may begin attempts is without the change: each has loaded it, or its lease has ended.

use super::super::Postgres;
use super::super::connection::Connection;
use super::view;
use crate::StoreError;
use crate::audit::Actor;
use crate::backend::fleet::{FleetBackend, FleetView, PluginChange};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::clock;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Maximum duration of the wait. A lease of a host that does not answer ends earlier.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Pauses between two looks: the shortest and the longest.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(50)];

#[async_trait]
impl FleetBackend for Postgres {
    async fn in_force(&self) -> Result<Vec<String>, StoreError> {
        let host = self.fleet.number.load(Ordering::Relaxed);
        // Of all hosts, because this one may not know the last change of its own: the answer to its commit was lost.
        let read = self.readers.read_one(Owner::Host, |connection| Box::pin(last_change(connection)));
        let generation = read.await?;
        let begun = clock::instant();
        let mut pause = LOOK_AGAIN[0];
        loop {
            let read = self.readers.read_one(Owner::Host, move |connection| {
                Box::pin(async move { lagging(connection, host, generation).await })
            });
            let names = read.await?;
            if names.is_empty() || clock::since(begun) > WAIT_MAX {
                return Ok(names);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN[1]);
        }
    }

    async fn fleet(&self) -> Result<Option<FleetView>, StoreError> {
        view::fleet(self).await.map(Some)
    }

    async fn pin_shard(&self, actor: Actor, shard: u8, to: Option<i16>) -> Result<(), StoreError> {
        view::pin_shard(self, actor, shard, to).await
    }

    fn note_in_force(&self, change: &PluginChange) {
        self.fleet.membership.note_in_force(change.generation);
    }

    async fn give_away(&self) {
        self.fleet.give_away(&self.writer).await;
    }

    async fn leave(&self) -> Result<(), StoreError> {
        self.fleet.leave().await
    }
}

async fn last_change(connection: &Connection) -> Result<i64, StoreError> {
    connection
        .query_one("SELECT coalesce(max(generation), 0) FROM fleet_changes", &[])
        .await?
        .try_get(0)
        .map_err(Into::into)
}

/// Returns the names of the hosts other than one that may begin attempts and have not loaded a change.
async fn lagging(connection: &Connection, host: i16, generation: i64) -> Result<Vec<String>, StoreError> {
    let sql =
        "SELECT name FROM hosts WHERE host <> $1 AND generation < $2 AND lease_until > clock_timestamp() ORDER BY name";
    connection.query(sql, &[&host, &generation]).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

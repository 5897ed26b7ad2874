//! Hosts of the fleet and their shards, as operators see them, and shards that operators move.

use super::super::Postgres;
use super::super::connection::Connection;
use super::super::rows::number;
use super::registration::IS_KEPT;
use super::shards;
use crate::StoreError;
use crate::activity::AttemptLoad;
use crate::audit::{Actor, AuditAction};
use crate::backend::fleet::{FleetView, LostHost, SharedShard, SharingHost};
use crate::fair_queue::Owner;
use std::sync::atomic::Ordering;
use tokio_postgres::Row;

/// One row for each host, also for one whose lease has ended.
const HOSTS: &str = "SELECT host, name, version, (extract(epoch FROM started_at) * 1000)::int8,
    (extract(epoch FROM lease_until - clock_timestamp()) * 1000)::int8,
    (SELECT count(*) FROM fleet_changes c WHERE c.generation > h.generation), generation IS NULL, attempts_per_s, under_way
  FROM hosts h ORDER BY host";

const SHARDS: &str = "SELECT owner, pinned_to IS NOT NULL, host
  FROM shards LEFT JOIN hosts ON identity = pinned_to ORDER BY shard";

/// A host that has registered since has no row.
const LOST: &str = "SELECT host, name, version, (extract(epoch FROM lost_at) * 1000)::int8 FROM lost_hosts";

fn host(row: &Row, own: i16) -> Result<SharingHost, StoreError> {
    let host: i16 = row.try_get(0)?;
    let left_ms: i64 = row.try_get(4)?;
    let is_loading: bool = row.try_get(6)?;
    let under_way: i64 = row.try_get(8)?;
    Ok(SharingHost {
        number: host,
        name: row.try_get(1)?,
        version: row.try_get(2)?,
        started_at_ms: row.try_get(3)?,
        lease_ms: Some(u64::try_from(left_ms).unwrap_or_default()),
        has_ended: left_ms <= 0,
        changes_behind: if is_loading { None } else { Some(number(row, 5)?) },
        attempts: AttemptLoad { per_s: row.try_get(7)?, under_way: u32::try_from(under_way).unwrap_or_default() },
        is_this: host == own,
    })
}

fn shard(row: &Row) -> Result<SharedShard, StoreError> {
    Ok(SharedShard { owner: row.try_get(0)?, is_pinned: row.try_get(1)?, pinned_to: row.try_get(2)? })
}

fn lost(row: &Row) -> Result<LostHost, StoreError> {
    Ok(LostHost {
        number: row.try_get(0)?,
        name: row.try_get(1)?,
        version: row.try_get(2)?,
        lost_at_ms: row.try_get(3)?,
    })
}

async fn read(connection: &Connection, own: i16) -> Result<FleetView, StoreError> {
    let hosts = connection.query(HOSTS, &[]).await?;
    let shards = connection.query(SHARDS, &[]).await?;
    let gone = connection.query(&format!("{LOST} WHERE {IS_KEPT} ORDER BY lost_at DESC"), &[]).await?;
    Ok(FleetView {
        hosts: hosts.iter().map(|row| host(row, own)).collect::<Result<_, _>>()?,
        shards: shards.iter().map(shard).collect::<Result<_, _>>()?,
        lost: gone.iter().map(lost).collect::<Result<_, _>>()?,
    })
}

/// Returns the hosts of the fleet and their shards.
pub(super) async fn fleet(store: &Postgres) -> Result<FleetView, StoreError> {
    let own = store.fleet.number.load(Ordering::Relaxed);
    store.readers.read_one(Owner::Host, move |connection| Box::pin(read(connection, own))).await
}

/// Lets the owner of a shard give it to a host. The owner sees it when it reads the fleet the next time.
pub(super) async fn pin_shard(store: &Postgres, actor: Actor, shard: u8, to: Option<i16>) -> Result<(), StoreError> {
    let pin = store.writer.write_as_host(move |tx| {
        Box::pin(async move {
            shards::pin(tx, shard, to).await?;
            tx.record(&actor, None, &AuditAction::ShardMove { shard, to }).await
        })
    });
    pin.await
}

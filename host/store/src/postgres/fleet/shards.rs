//! Shards and hosts in the tables of PostgreSQL.

use super::super::connection::Connection;
use crate::StoreError;
use crate::fleet::{FleetHost, FleetState, Registration};
use crate::ownership::ShardSet;

/// Time after a takeover in which attempts of the former owner may be under way, in seconds: more than any `timeout_ms`.
const TAKEN_OVER_S: f64 = 300.0;

/// Reads the state of the fleet.
pub(super) async fn read(connection: &Connection) -> Result<FleetState, StoreError> {
    let mut state = FleetState::default();
    let sql = "SELECT host, lease_until < clock_timestamp(), generation IS NOT NULL FROM hosts ORDER BY host";
    for row in connection.query(sql, &[]).await? {
        state.members.push(FleetHost { host: row.try_get(0)?, has_ended: row.try_get(1)?, serves: row.try_get(2)? });
    }
    let sql =
        "SELECT shard, owner, coalesce(taken_over_at > clock_timestamp() - $1 * interval '1 s', false), pinned.host
               FROM shards LEFT JOIN hosts pinned ON identity = pinned_to WHERE owner IS NOT NULL";
    for row in connection.query(sql, &[&TAKEN_OVER_S]).await? {
        let Ok(shard) = u8::try_from(row.try_get::<_, i16>(0)?) else { continue };
        state.owners.entry(row.try_get(1)?).or_default().insert(shard);
        if row.try_get(2)? {
            state.taken_over.insert(shard);
        }
        if let Some(to) = row.try_get(3)? {
            state.pinned.entry(to).or_default().insert(shard);
        }
    }
    let sql = "SELECT coalesce(max(generation), 0) FROM fleet_changes";
    state.generation = connection.query_one(sql, &[]).await?.try_get(0)?;
    Ok(state)
}

/// Lets the owner of a shard give it to a host that has a lease. None: to any host.
pub(super) async fn pin(connection: &Connection, shard: u8, to: Option<i16>) -> Result<(), StoreError> {
    let shard = i16::from(shard);
    let pinned = match to {
        Some(to) => {
            let sql = "UPDATE shards SET pinned_to = identity FROM hosts
                       WHERE shard = $1 AND host = $2 AND lease_until > clock_timestamp()";
            connection.execute(sql, &[&shard, &to]).await?
        }
        None => connection.execute("UPDATE shards SET pinned_to = NULL WHERE shard = $1", &[&shard]).await?,
    };
    if pinned == 0 { Err(StoreError::NotFound("host")) } else { Ok(()) }
}

/// Gives shards of a host to another one, within a transaction of its writer. Does nothing if the host has registered again meanwhile: it
/// may have begun to attempt what it was about to give.
pub(super) async fn give(
    connection: &Connection,
    from: Registration,
    to: i16,
    shards: ShardSet,
) -> Result<(), StoreError> {
    let shards: Vec<i16> = shards.iter().map(i16::from).collect();
    let sql = "UPDATE shards SET owner = $2, taken_over_at = NULL WHERE owner = $1 AND shard = ANY ($3)
                 AND EXISTS (SELECT 1 FROM hosts WHERE host = $2) AND EXISTS (SELECT 1 FROM fences WHERE host = $1 AND epoch = $4)";
    connection.execute(sql, &[&from.host, &to, &shards, &from.epoch]).await.map(drop)
}

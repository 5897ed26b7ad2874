//! Registration of this host: its number, its epoch and its lease, in the database.
//!
//! # Guarantees
//! - Registrations, takeovers and departures run one after the other in the fleet.

use super::super::connection::Connection;
use super::super::members;
use super::super::rows::int;
use super::super::schema::{self, KnownSchemas};
use super::super::sql_param::SqlParams;
use crate::StoreError;
use crate::activity::AttemptLoad;
use crate::fleet::{LEASE, Registration, machine_name};
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// Condition that a lost host is listed.
pub(super) const IS_KEPT: &str = "lost_at > clock_timestamp() - interval '7 days'";

/// Identity of a host, which a restart keeps.
#[derive(Clone, Debug)]
pub(in super::super) struct HostIdentity {
    /// Id of the host's data folder, which one process uses at a time.
    pub(in super::super) id: Uuid,
    /// Name for people.
    pub(in super::super) name: String,
}

/// File with the id of a host.
const FILE: &str = "host.id";

impl HostIdentity {
    /// Returns the identity of the host that uses a folder, which is new if the folder has none.
    pub(in super::super) fn of_folder(folder: &Path) -> Result<HostIdentity, StoreError> {
        let refused = |source| StoreError::Folder { folder: folder.display().to_string(), source };
        let path = folder.join(FILE);
        let known = match std::fs::read_to_string(&path) {
            Ok(text) => Uuid::try_parse(text.trim()).ok(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(refused(error)),
        };
        let id = match known {
            Some(id) => id,
            None => {
                let id = Uuid::new_v4();
                std::fs::write(&path, format!("{id}\n")).map_err(refused)?;
                id
            }
        };
        Ok(HostIdentity { id, name: machine_name() })
    }
}

/// Limits of a transaction of the membership, also if this host stands still within it: others may wait for its rows.
pub(super) const LIMITS: &str = "SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = '5s';
     SET LOCAL idle_in_transaction_session_timeout = '2s'";

/// Begins a transaction in which no other host registers, takes over or leaves, with these settings.
async fn begin(connection: &Connection, settings: &str) -> Result<(), StoreError> {
    let idle = "SET LOCAL idle_in_transaction_session_timeout = '2s'";
    connection.batch_execute(&format!("BEGIN; {settings}; {idle}; SET LOCAL synchronous_commit = on")).await?;
    members::lock(connection).await
}

/// Registers a host, also one that is registered: its former process has ended, or has lost its lease. Shards that nobody owns become
/// its own. `settings` are those of the transaction.
///
/// # Errors
/// [`StoreError::SchemaTooNew`]: the database has got a schema that this program cannot work with.
pub(in super::super) async fn register(
    connection: &Connection,
    identity: &HostIdentity,
    settings: &str,
) -> Result<Registration, StoreError> {
    begin(connection, settings).await?;
    if let Err(error) = schema::require_usable(connection).await {
        connection.batch_execute("ROLLBACK").await?;
        return Err(error);
    }
    let sql = "SELECT coalesce(
                 (SELECT host FROM hosts WHERE identity = $1),
                 (SELECT min(free)::int2 FROM generate_series(1, 32767) free WHERE free NOT IN (SELECT host FROM hosts)))";
    let host: i16 = connection.query_one(sql, &[&identity.id]).await?.try_get(0)?;
    let sql = "INSERT INTO fences (host, epoch) VALUES ($1, 1) ON CONFLICT (host) DO UPDATE SET epoch = fences.epoch + 1 RETURNING epoch";
    let epoch: i64 = connection.query_one(sql, &[&host]).await?.try_get(0)?;
    let sql = "INSERT INTO hosts (host, identity, epoch, name, version, knows, lease_until)
               VALUES ($1, $2, $3, $4, $5, $7, clock_timestamp() + $6 * interval '1 ms')
               ON CONFLICT (host) DO UPDATE SET epoch = EXCLUDED.epoch, name = EXCLUDED.name, version = EXCLUDED.version,
                 knows = EXCLUDED.knows, started_at = clock_timestamp(), lease_until = EXCLUDED.lease_until, generation = NULL";
    let version = env!("CARGO_PKG_VERSION");
    let params: SqlParams<'_> =
        &[&host, &identity.id, &epoch, &identity.name, &version, &lease_ms(), &int(KnownSchemas::OWN.newest())];
    connection.execute(sql, params).await?;
    connection.execute("DELETE FROM lost_hosts WHERE identity = $1", &[&identity.id]).await?;
    connection.execute("UPDATE shards SET owner = $1 WHERE owner IS NULL", &[&host]).await?;
    connection.batch_execute("COMMIT").await?;
    Ok(Registration { host, epoch })
}

/// Returns true if a host has a lease. Within a transaction of [`schema::begin`], no host can start.
pub(in super::super) async fn has_members(connection: &Connection) -> Result<bool, StoreError> {
    connection.exists("SELECT 1 FROM hosts WHERE lease_until > clock_timestamp() LIMIT 1", &[]).await
}

fn lease_ms() -> f64 {
    LEASE.as_secs_f64() * 1_000.0
}

/// Renews the lease of a host, and shows the last change that is in force there, and its load. Returns false if the lease has ended, or
/// if the host was taken over.
pub(super) async fn renew(
    connection: &Connection,
    registration: Registration,
    generation: Option<i64>,
    load: AttemptLoad,
) -> Result<bool, StoreError> {
    let sql = "UPDATE hosts SET lease_until = clock_timestamp() + $4 * interval '1 ms', generation = $3, attempts_per_s = $5, under_way = $6
               WHERE host = $1 AND epoch = $2 AND lease_until > clock_timestamp()";
    let Registration { host, epoch } = registration;
    let AttemptLoad { per_s, under_way } = load;
    let params: SqlParams<'_> = &[&host, &epoch, &generation, &lease_ms(), &per_s, &i64::from(under_way)];
    Ok(connection.execute(sql, params).await? > 0)
}

/// Takes over from a host whose lease has ended: raises its epoch, after a transaction of its writer that is under way, and gives its
/// shards to the other hosts in turn. Does nothing if the lease was renewed or another host was faster.
pub(super) async fn take_over(connection: &Connection, by: Registration, from: i16) -> Result<bool, StoreError> {
    begin(connection, LIMITS).await?;
    let sql = "SELECT 1 FROM hosts ended, hosts own
               WHERE ended.host = $1 AND ended.lease_until < clock_timestamp()
                 AND own.host = $2 AND own.epoch = $3 AND own.lease_until > clock_timestamp() FOR UPDATE OF ended";
    if !connection.exists(sql, &[&from, &by.host, &by.epoch]).await? {
        connection.batch_execute("ROLLBACK").await?;
        return Ok(false);
    }
    connection.execute("UPDATE fences SET epoch = epoch + 1 WHERE host = $1", &[&from]).await?;
    give_all(connection, from).await?;
    connection.execute(&format!("DELETE FROM lost_hosts WHERE NOT {IS_KEPT}"), &[]).await?;
    let sql = "WITH lost AS (DELETE FROM hosts WHERE host = $1 RETURNING identity, host, name, version)
               INSERT INTO lost_hosts SELECT *, clock_timestamp() FROM lost
               ON CONFLICT (identity) DO UPDATE SET host = EXCLUDED.host, lost_at = EXCLUDED.lost_at";
    connection.execute(sql, &[&from]).await?;
    connection.batch_execute("COMMIT").await?;
    Ok(true)
}

/// Gives the shards of a host to the others that serve, in turn.
async fn give_all(connection: &Connection, from: i16) -> Result<(), StoreError> {
    let sql = "WITH others AS (
                 SELECT host, row_number() OVER (ORDER BY host) - 1 AS place, count(*) OVER () AS number FROM hosts
                 WHERE host <> $1 AND generation IS NOT NULL AND lease_until > clock_timestamp()),
               left_over AS (SELECT shard, row_number() OVER (ORDER BY shard) - 1 AS place FROM shards WHERE owner = $1)
               UPDATE shards s SET owner = o.host, taken_over_at = clock_timestamp()
               FROM left_over l JOIN others o ON l.place % o.number = o.place WHERE s.shard = l.shard";
    connection.execute(sql, &[&from]).await.map(drop)
}

/// Leaves the fleet. Shards that the host still owns go to the others that serve. Without any other host, nobody owns them, and the next
/// one that registers does. Otherwise the host keeps them, and its lease ends, so that one that has begun to serve can take over.
pub(super) async fn leave(connection: &Connection, registration: Registration) -> Result<(), StoreError> {
    begin(connection, "").await?;
    let Registration { host, epoch } = registration;
    let raised = connection
        .execute("UPDATE fences SET epoch = epoch + 1 WHERE host = $1 AND epoch = $2", &[&host, &epoch])
        .await?;
    if raised == 0 {
        return connection.batch_execute("ROLLBACK").await;
    }
    give_all(connection, host).await?;
    let sql = "UPDATE shards SET owner = NULL WHERE owner = $1
                 AND NOT EXISTS (SELECT 1 FROM hosts WHERE host <> $1 AND lease_until > clock_timestamp())";
    connection.execute(sql, &[&host]).await?;
    let sql = "DELETE FROM hosts WHERE host = $1 AND NOT EXISTS (SELECT 1 FROM shards WHERE owner = $1)";
    if connection.execute(sql, &[&host]).await? == 0 {
        let sql = "UPDATE hosts SET lease_until = clock_timestamp() WHERE host = $1";
        connection.execute(sql, &[&host]).await?;
    }
    connection.batch_execute("COMMIT").await
}

/// Deletes changes that are old and that every host has loaded.
pub(super) async fn forget_changes(connection: &Connection, kept: Duration) -> Result<(), StoreError> {
    let sql = "DELETE FROM fleet_changes WHERE made_at < clock_timestamp() - $1 * interval '1 s'
                 AND generation < (SELECT max(generation) FROM fleet_changes)
                 AND generation <= (SELECT min(generation) FROM hosts WHERE generation IS NOT NULL)";
    connection.execute(sql, &[&(int(kept.as_secs()) as f64)]).await.map(drop)
}

#[cfg(test)]
mod tests;

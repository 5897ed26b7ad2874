//! Lock of the database: one host at a time uses it.
//!
//! # Theory of operation
//! The connection of the writer holds an advisory lock of the server, which ends with the connection. A host that has opened the
//! database writes its number into the row of `host`. After a lost connection, it takes the lock again, and goes on only if the row
//! still has its number: otherwise another host has changed the tables meanwhile, and the catalog in memory is outdated.
//!
//! # Limits
//! A server that does not notice the end of a host's connection (a network without answers) keeps the lock until its keepalive ends.

use super::connection::{Connection, ConnectionConfig};
use super::host_number;
use crate::StoreError;
use std::time::Duration;
use uuid::Uuid;

/// Key of the advisory lock: the text `hookloom`.
const LOCK: i64 = 0x686f_6f6b_6c6f_6f6d;

/// Time between two tries to take the lock.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Number of tries: some seconds, in which the server notices that an earlier connection has ended.
const TRIES_MAX: u32 = 150;

/// Lock of a database, as this host takes it.
pub(super) struct HostLock {
    config: ConnectionConfig,
    /// Number of this host, new at each start.
    holder: Uuid,
    /// True if another host has used the database since this one opened it.
    is_lost: bool,
}

impl HostLock {
    /// Connects, and takes the lock. The tables may not exist yet.
    pub(super) async fn take(config: ConnectionConfig) -> Result<(Self, Connection), StoreError> {
        let connection = locked(Connection::first(&config).await?).await?;
        Ok((HostLock { config, holder: Uuid::new_v4(), is_lost: false }, connection))
    }

    /// Records that this host has opened the database.
    pub(super) async fn sign(&self, connection: &Connection) -> Result<(), StoreError> {
        connection.execute("UPDATE host SET holder = $1", &[&self.holder]).await.map(drop)
    }

    /// Connects and takes the lock again.
    ///
    /// # Errors
    /// [`StoreError::Stopped`]: another host has used the database meanwhile.
    pub(super) async fn take_again(&mut self) -> Result<Connection, StoreError> {
        if self.is_lost {
            return Err(StoreError::Stopped);
        }
        let connection = locked(Connection::open(&self.config).await?).await?;
        let row = connection.query_one("SELECT holder FROM host", &[]).await?;
        if row.try_get::<_, Option<Uuid>>(0)? != Some(self.holder) {
            self.is_lost = true;
            tracing::error!("another host has opened the database; this one must be restarted");
            return Err(StoreError::Stopped);
        }
        Ok(connection)
    }
}

/// Waits for the lock.
async fn locked(connection: Connection) -> Result<Connection, StoreError> {
    for _ in 0..TRIES_MAX {
        let row = connection.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await?;
        if row.try_get(0)? {
            // A server that does not flush each commit would break the promise of `202`.
            let flush = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
            connection.query(flush, &[]).await?;
            connection.batch_execute(host_number::SET).await?;
            return Ok(connection);
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
    Err(StoreError::DatabaseInUse)
}

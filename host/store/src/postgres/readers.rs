//! Connections of readers: each read has one connection until it ends.
//!
//! # Guarantees
//! - [`Readers::read`] sees one snapshot. [`Readers::read_one`] runs one statement, which is a snapshot as well.
//! - Each read is a transaction with its own settings, which writes nothing.
//! - A read that takes too long is ended by the server with [`StoreError::QueryTooSlow`].
//! - Owners have shares of the connections ([`FairSemaphore`]), so that an owner whose share is busy leaves connections to others.
//! - A read whose caller has gone is cancelled at the server, and occupies its owner's share until then.
//!
//! # Limits
//! A cancellation that the server does not get ends nothing: the query runs until its time limit, and its share is free before.

use super::connection::{Connection, ConnectionConfig};
use super::error::is_too_slow;
use super::host_number;
use super::transaction::SqlFuture;
use crate::StoreError;
use crate::fair_queue::Owner;
use hookloom_fair_share::{FairPermit, FairSemaphore};
use parking_lot::Mutex;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicI16, Ordering};
use std::time::Duration;

/// Maximum number of open connections. One owner may use half of them while no other reads.
const OPEN_MAX: u64 = 8;

/// Limit of a read whose host stands still, which would keep a connection of a pooler and old rows of the server.
const IDLE_LIMIT: &str = "SET LOCAL idle_in_transaction_session_timeout = '5s'";

/// Connections for reads, opened when they are needed.
pub(super) struct Readers {
    config: ConnectionConfig,
    idle: Mutex<Vec<Connection>>,
    permits: FairSemaphore<Owner>,
    time_max: Duration,
    host: Arc<AtomicI16>,
}

impl Readers {
    /// Opens no connection yet. `host` is the number of this host, which a new registration may change.
    pub(super) fn new(config: ConnectionConfig, time_max: Duration, host: Arc<AtomicI16>) -> Self {
        Readers { config, idle: Mutex::default(), permits: FairSemaphore::new(OPEN_MAX, OPEN_MAX), time_max, host }
    }

    /// Returns the number of this host.
    pub(super) fn host(&self) -> i16 {
        self.host.load(Ordering::Relaxed)
    }

    /// Runs statements that see one snapshot, on an owner's account, when its turn comes.
    pub(super) async fn read<T>(
        &self,
        owner: impl Into<Owner>,
        read: impl for<'t> FnOnce(&'t Connection) -> SqlFuture<'t, T> + Send,
    ) -> Result<T, StoreError> {
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", owner.into(), read).await
    }

    /// Runs one statement, on an owner's account, when its turn comes.
    pub(super) async fn read_one<T>(
        &self,
        owner: impl Into<Owner>,
        read: impl for<'t> FnOnce(&'t Connection) -> SqlFuture<'t, T> + Send,
    ) -> Result<T, StoreError> {
        self.run("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY", owner.into(), read).await
    }

    async fn run<T>(
        &self,
        begin: &str,
        owner: Owner,
        read: impl for<'t> FnOnce(&'t Connection) -> SqlFuture<'t, T> + Send,
    ) -> Result<T, StoreError> {
        let permit = self.permits.acquire(&owner, 1).await;
        let reader = Reader { in_use: Some((self.take().await?, permit)) };
        let ms = self.time_max.as_millis().min(i32::MAX.unsigned_abs().into());
        let host_number = host_number::assigned(self.host());
        let begin = format!("{begin}; SET LOCAL statement_timeout = {ms}; {IDLE_LIMIT}; SET LOCAL {host_number}");
        let value = reader.snapshot(&begin, read(&reader)).await;
        reader.end(&self.idle);
        value.map_err(|error| self.slow(error))
    }

    async fn take(&self) -> Result<Connection, StoreError> {
        loop {
            let idle = self.idle.lock().pop();
            match idle {
                Some(connection) if connection.is_closed() => {}
                Some(connection) => return Ok(connection),
                None => return Connection::open(&self.config).await,
            }
        }
    }

    fn slow(&self, error: StoreError) -> StoreError {
        let ms = u64::try_from(self.time_max.as_millis()).unwrap_or(u64::MAX);
        if is_too_slow(&error) { StoreError::QueryTooSlow { ms } } else { error }
    }
}

/// Connection of a read with its permit. Dereferences to the connection.
struct Reader {
    /// None only after the end of the read.
    in_use: Option<(Connection, FairPermit<Owner>)>,
}

impl Deref for Reader {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.in_use.as_ref().expect("a read that has not ended").0
    }
}

impl Reader {
    /// Leaves the connection to another read.
    fn end(mut self, idle: &Mutex<Vec<Connection>>) {
        // The next read gets its permit after it can find the connection.
        if let Some((connection, _permit)) = self.in_use.take() {
            idle.lock().push(connection);
        }
    }
}

impl Drop for Reader {
    /// Cancels a read whose caller has gone. The server would run it to its end otherwise.
    fn drop(&mut self) {
        let Some((connection, permit)) = self.in_use.take() else { return };
        // There is no runtime if the host ends; the server cancels the query at its time limit then.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                connection.cancel().await;
                drop(permit);
            });
        }
    }
}

//! Connections of readers: each read has one connection until it ends.
//!
//! # Guarantees
//! - [`Readers::read`] sees one snapshot. [`Readers::read_one`] runs one statement, which is a snapshot as well.
//! - A read that takes too long is ended by the server with [`StoreError::QueryTooSlow`].
//! - A read whose caller has gone takes its connection with it, so that no other read sees the rest of its answer.
//!
//! # Limits
//! Reads wait in the order of their calls, without a share for each tenant.

use super::connection::{Connection, ConnectionConfig};
use super::error::is_too_slow;
use super::transaction::SqlFuture;
use crate::StoreError;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Maximum number of open connections.
const OPEN_MAX: usize = 4;

/// Connections for reads, opened when they are needed.
pub(super) struct Readers {
    config: ConnectionConfig,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
    time_max: Duration,
}

impl Readers {
    pub(super) fn new(config: ConnectionConfig, time_max: Duration) -> Self {
        Readers { config, idle: Mutex::default(), permits: Semaphore::new(OPEN_MAX), time_max }
    }

    /// Runs statements that see one snapshot.
    pub(super) async fn read<T>(
        &self,
        read: impl for<'t> FnOnce(&'t Connection) -> SqlFuture<'t, T> + Send,
    ) -> Result<T, StoreError> {
        let _permit = self.permits.acquire().await.map_err(|_| StoreError::Stopped)?;
        let connection = self.take().await?;
        connection.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let value = read(&connection).await;
        connection.batch_execute("ROLLBACK").await?;
        self.idle.lock().push(connection);
        value.map_err(|error| self.slow(error))
    }

    /// Runs one statement.
    pub(super) async fn read_one<T>(
        &self,
        read: impl for<'t> FnOnce(&'t Connection) -> SqlFuture<'t, T> + Send,
    ) -> Result<T, StoreError> {
        let _permit = self.permits.acquire().await.map_err(|_| StoreError::Stopped)?;
        let connection = self.take().await?;
        let value = read(&connection).await;
        self.idle.lock().push(connection);
        value.map_err(|error| self.slow(error))
    }

    async fn take(&self) -> Result<Connection, StoreError> {
        loop {
            let idle = self.idle.lock().pop();
            match idle {
                Some(connection) if connection.is_closed() => {}
                Some(connection) => return Ok(connection),
                None => break,
            }
        }
        let connection = Connection::open(&self.config).await?;
        let ms = self.time_max.as_millis().min(i32::MAX.unsigned_abs().into());
        let settings = format!("SET default_transaction_read_only = on; SET statement_timeout = {ms}");
        connection.batch_execute(&settings).await?;
        Ok(connection)
    }

    fn slow(&self, error: StoreError) -> StoreError {
        let ms = u64::try_from(self.time_max.as_millis()).unwrap_or(u64::MAX);
        if is_too_slow(&error) { StoreError::QueryTooSlow { ms } } else { error }
    }
}

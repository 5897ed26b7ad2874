//! Connections that only read, beside the writer: WAL lets them see the last commit without waiting.
//!
//! Each read sees one commit, however many statements it has. Reads run on tokio's blocking threads, never on its workers. At most [`OPEN_MAX`] connections are open.

use super::StoreError;
use rusqlite::{Connection, OpenFlags};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// More readers than this only compete for two things that are shared anyway, the page cache and the disk.
const OPEN_MAX: usize = 8;

#[derive(Clone)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Readers { path, idle: Arc::default(), permits: Arc::new(Semaphore::new(OPEN_MAX)) }
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| StoreError::Stopped)?;
        let readers = self.clone();
        let work = move || {
            let _permit = permit;
            let connection = readers.take()?;
            let value = in_one_snapshot(&connection, read);
            readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            value
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Stopped)?
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        super::tune(&connection)?;
        Ok(connection)
    }
}

fn in_one_snapshot<T>(
    connection: &Connection,
    read: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let snapshot = connection.unchecked_transaction()?;
    let value = read(&snapshot);
    snapshot.commit()?;
    value
}

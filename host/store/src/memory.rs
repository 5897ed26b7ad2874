//! A backend in memory: the reference that other backends are compared with, and the database of the simulation.
//!
//! # Guarantees
//! - As those of every [`backend`](crate::backend). An operation is one transaction: it works on a copy of the tables, which costs
//!   nothing because they are persistent data structures, and replaces them if it succeeds.
//! - [`MemoryDisk`] is what a crash leaves: a store that is opened on it again finds every committed transaction.
//! - [`Faults`] delay operations, refuse them, and lose their answers.
//!
//! # Limits
//! Nothing is written to a disk. Sizes are those of the texts that a row holds, and differ from those of other backends. There is no
//! fairness between tenants, and no limit of time for a query.

mod access;
mod changes;
mod deliveries;
mod faults;
mod figures;
mod inspector;
mod intake;
mod lanes;
mod machine;
mod operator_actions;
mod plugins;
mod share;
mod subscriptions;
mod tables;
mod tenants;
mod upkeep;
mod views;

pub use faults::{FaultRates, Faults};
pub use views::StoredView;

use crate::StoreError;
use crate::host_state::HostState;
use crate::limits::StoreLimits;
use parking_lot::Mutex;
use std::sync::Arc;
use tables::MemoryTables;

/// Durable part of a store in memory. A clone is the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<MemoryTables>>);

impl MemoryDisk {
    /// Returns a snapshot of the tables.
    fn tables(&self) -> MemoryTables {
        self.0.lock().clone()
    }
}

/// Backend in memory.
pub struct Memory {
    disk: MemoryDisk,
    state: Arc<HostState>,
    limits: StoreLimits,
    faults: Option<Arc<Faults>>,
}

impl Memory {
    /// Opens the tables of a disk, and fills the catalog from them.
    pub(crate) fn open(
        disk: MemoryDisk,
        state: Arc<HostState>,
        limits: StoreLimits,
        faults: Option<Arc<Faults>>,
    ) -> Self {
        disk.tables().show_in(&state.catalog);
        Memory { disk, state, limits, faults }
    }

    /// Reads a snapshot.
    async fn read<T>(&self, read: impl FnOnce(&MemoryTables) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let Some(faults) = &self.faults else { return read(&self.disk.tables()) };
        faults.before_read().await?;
        let snapshot = self.disk.tables();
        faults.during_read().await;
        read(&snapshot)
    }

    /// Runs a transaction, and then `publish` before any other transaction. The transaction is undone if it returns an error.
    async fn write<T>(
        &self,
        write: impl FnOnce(&mut MemoryTables) -> Result<T, StoreError>,
        publish: impl FnOnce(&HostState, &mut T),
    ) -> Result<T, StoreError> {
        if let Some(faults) = &self.faults {
            faults.before_write().await?;
        }
        let written = self.commit(write, publish)?;
        if let Some(faults) = &self.faults {
            faults.after_write().await?;
        }
        Ok(written)
    }

    fn commit<T>(
        &self,
        write: impl FnOnce(&mut MemoryTables) -> Result<T, StoreError>,
        publish: impl FnOnce(&HostState, &mut T),
    ) -> Result<T, StoreError> {
        let mut tables = self.disk.0.lock();
        let mut copy = tables.clone();
        let mut value = write(&mut copy)?;
        *tables = copy;
        publish(&self.state, &mut value);
        Ok(value)
    }
}

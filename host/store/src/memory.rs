//! A backend in memory: the reference that other backends are compared with, and the database of the simulation.
//!
//! # Guarantees
//! - As those of every [`backend`](crate::backend). An operation is one transaction: it works on a copy of the tables, which costs
//!   nothing because they are persistent data structures, and replaces them if it succeeds.
//! - [`MemoryDisk`] is what a crash leaves: a store that is opened on it again finds every committed transaction.
//! - [`Faults`] delay operations, refuse them, and lose their answers.
//! - Several hosts can share a disk ([`fleet`]). A store that is opened without a fleet does not look at its tables.
//!
//! # Limits
//! Nothing is written to a disk. Sizes are those of the texts that a row holds, and differ from those of other backends. There is no
//! fairness between tenants, and no limit of time for a query.

mod access;
mod alerts;
mod changes;
mod deliveries;
mod faults;
mod figures;
mod fleet;
mod fleet_tables;
mod inspector;
mod intake;
mod lanes;
mod machine;
mod milestones;
mod operator_actions;
mod plugins;
mod portal;
mod settling;
mod share;
mod sorted_table;
mod subscriptions;
mod tables;
mod tenants;
mod upkeep;
mod views;

pub use faults::{FaultRates, Faults};
pub use views::{MemberView, StoredView};

use crate::StoreError;
use crate::fleet::Hint;
use crate::host_state::HostState;
use crate::limits::StoreLimits;
use fleet::member::MemoryMember;
use parking_lot::Mutex;
use std::sync::Arc;
use tables::MemoryTables;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Durable part of a store in memory. A clone is the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    tables: Arc<Mutex<MemoryTables>>,
    /// Channels of the hosts that listen to hints. No part of what a crash leaves.
    listeners: Arc<Mutex<Vec<mpsc::UnboundedSender<Hint>>>>,
}

impl MemoryDisk {
    /// Returns a snapshot of the tables.
    fn tables(&self) -> MemoryTables {
        self.tables.lock().clone()
    }

    /// Listens to the hints of all hosts.
    fn listen(&self) -> mpsc::UnboundedReceiver<Hint> {
        let (heard, hints) = mpsc::unbounded_channel();
        // Hints before this moment were lost.
        let _ = heard.send(Hint::AllDeliveries);
        self.listeners.lock().push(heard);
        hints
    }

    /// Sends a hint to all hosts that listen.
    fn hint(&self, hint: &Hint) {
        self.listeners.lock().retain(|listener| listener.send(hint.clone()).is_ok());
    }
}

/// Backend in memory.
pub struct Memory {
    disk: MemoryDisk,
    state: Arc<HostState>,
    limits: StoreLimits,
    faults: Option<Arc<Faults>>,
    /// None: no other host uses the disk.
    member: Option<Arc<MemoryMember>>,
    /// Tasks of the member, which end with this value.
    _tasks: JoinSet<()>,
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
        Memory { disk, state, limits, faults, member: None, _tasks: JoinSet::new() }
    }

    /// Opens the tables of a disk that hosts share, as the host with an identity.
    pub(crate) async fn open_as_member(
        disk: MemoryDisk,
        state: Arc<HostState>,
        limits: StoreLimits,
        faults: Arc<Faults>,
        identity: u64,
    ) -> Result<Self, StoreError> {
        let member = MemoryMember::open(disk.clone(), state.clone(), faults.clone(), identity).await?;
        let tasks = member.start();
        Ok(Memory { disk, state, limits, faults: Some(faults), member: Some(member), _tasks: tasks })
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
        if let Some(member) = &self.member {
            return member.transact(write, publish).await;
        }
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
        let mut tables = self.disk.tables.lock();
        let mut copy = tables.clone();
        let mut value = write(&mut copy)?;
        copy.changed_lanes.clear();
        *tables = copy;
        publish(&self.state, &mut value);
        Ok(value)
    }
}

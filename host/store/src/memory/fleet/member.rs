//! Member of a fleet in memory: its tasks, its transactions, and what it asks of the tables.
//!
//! # Guarantees
//! - A transaction of a host that was taken over changes nothing.
//! - The transactions of a host run one after the other, each with the catalog that shows all changes that were committed before.
//! - What a transaction publishes follows its commit after a delay, in which other hosts go on.
//!
//! # Limits
//! An operation must not be dropped before it has ended, except with its whole host: its commit would not be published.

use super::changes;
use crate::StoreError;
use crate::activity::AttemptLoad;
use crate::fleet::{FleetDatabase, FleetState, HINT_PAUSE, Hint, Membership, Registration, Renewal};
use crate::host_state::HostState;
use crate::memory::tables::MemoryTables;
use crate::memory::{Faults, MemoryDisk};
use crate::ownership::ShardSet;
use async_trait::async_trait;
use hookloom_model::clock;
use hookloom_model::subscription::SubscriptionId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Maximum duration of the wait until a change is in force.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Pause between two looks whether a change is in force.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Member of the fleet.
pub(in crate::memory) struct MemoryMember {
    disk: MemoryDisk,
    state: Arc<HostState>,
    faults: Arc<Faults>,
    identity: u64,
    pub(in crate::memory) membership: Membership,
    /// Held by the transaction under way.
    writer: tokio::sync::Mutex<()>,
    /// Notified when the membership has seen a change that is not loaded.
    unloaded: Notify,
}

impl MemoryMember {
    /// Registers a host, and fills its catalog.
    pub(in crate::memory) async fn open(
        disk: MemoryDisk,
        state: Arc<HostState>,
        faults: Arc<Faults>,
        identity: u64,
    ) -> Result<Arc<Self>, StoreError> {
        let membership = Membership::new(state.clone());
        let member = Arc::new(MemoryMember {
            disk,
            state,
            faults,
            identity,
            membership,
            writer: tokio::sync::Mutex::default(),
            unloaded: Notify::new(),
        });
        member.membership.registered(member.register().await?);
        member.transact(|_| Ok(()), |_, ()| {}).await?;
        member.membership.own_first(&*member).await?;
        Ok(member)
    }

    /// Starts the tasks of the membership. They end with the returned set.
    pub(in crate::memory) fn start(self: &Arc<Self>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let hints = self.disk.listen();
        let of_hints = self.clone();
        tasks.spawn(async move { of_hints.membership.follow_hints(hints).await });
        tasks.spawn(self.clone().send_hints());
        tasks.spawn(self.clone().load_changes());
        tasks.spawn(self.clone().run());
        tasks
    }

    async fn send_hints(self: Arc<Self>) {
        loop {
            let waiting = self.state.take_hints().await;
            let mut waiting: Vec<SubscriptionId> = waiting.into_iter().collect();
            waiting.sort_unstable();
            // A hint that cannot be sent is lost.
            let _ = self.hint(&Hint::Deliveries(waiting)).await;
            tokio::time::sleep(HINT_PAUSE).await;
        }
    }

    async fn load_changes(self: Arc<Self>) {
        loop {
            self.unloaded.notified().await;
            let _ = self.transact(|_| Ok(()), |_, ()| {}).await;
        }
    }

    async fn run(self: Arc<Self>) {
        let mut renewal = Renewal::default();
        let mut giving = JoinSet::new();
        loop {
            match self.membership.step(&*self, &mut renewal).await {
                Err(_) => self.membership.lapse_if_ended(),
                Ok(Some(excess)) if giving.is_empty() => {
                    let member = self.clone();
                    giving.spawn(async move { member.membership.give(&*member, excess).await });
                }
                Ok(_) => {}
            }
            self.membership.wait_for_step().await;
            while giving.try_join_next().is_some() {}
        }
    }

    /// Runs a transaction, and then `publish` before any other transaction of this host. The transaction is undone if it returns an error.
    pub(in crate::memory) async fn transact<T>(
        &self,
        write: impl FnOnce(&mut MemoryTables) -> Result<T, StoreError>,
        publish: impl FnOnce(&HostState, &mut T),
    ) -> Result<T, StoreError> {
        let _writer = self.writer.lock().await;
        self.faults.before_write().await?;
        let registration = self.membership.registration().ok_or(StoreError::Unavailable)?;
        let (mut value, generation) = self.commit(registration, write)?;
        let answered = self.faults.after_write().await;
        publish(&self.state, &mut value);
        if let Some(generation) = generation {
            self.membership.note_loaded(registration, generation);
        }
        answered.map(|()| value)
    }

    /// Returns the value of the transaction, and the last change if it changed what other hosts load.
    fn commit<T>(
        &self,
        registration: Registration,
        write: impl FnOnce(&mut MemoryTables) -> Result<T, StoreError>,
    ) -> Result<(T, Option<i64>), StoreError> {
        let mut tables = self.disk.tables.lock();
        if tables.fleet.is_fenced(registration) {
            self.membership.lapse(registration);
            return Err(StoreError::Unavailable);
        }
        changes::show(&tables, &self.state, &self.membership, registration);
        let mut copy = tables.clone();
        let value = write(&mut copy)?;
        copy.changed_lanes.retain(|id| !self.state.claims.ownership.owns(*id));
        let generation = changes::note(&tables, &mut copy);
        copy.fleet.note_write(registration);
        let is_new = generation > tables.fleet.generation();
        *tables = copy;
        Ok((value, is_new.then_some(generation)))
    }

    /// Runs a statement of the membership, which is not a transaction of the writer.
    async fn run_statement<T>(&self, statement: impl FnOnce(&mut MemoryTables) -> T) -> Result<T, StoreError> {
        self.faults.before_write().await?;
        let value = statement(&mut self.disk.tables.lock());
        self.faults.after_write().await?;
        Ok(value)
    }

    /// Waits until the changes of this host are in force at every host. See
    /// [`FleetBackend::in_force`](crate::backend::fleet::FleetBackend::in_force).
    pub(in crate::memory) async fn in_force(&self) -> Result<Vec<String>, StoreError> {
        let host = self.membership.registration().map_or(0, |registration| registration.host);
        let generation = self.disk.tables().fleet.generation();
        let begun = clock::instant();
        loop {
            self.faults.before_read().await?;
            let names = self.disk.tables().fleet.lagging(host, generation);
            if names.is_empty() || clock::since(begun) > WAIT_MAX {
                return Ok(names);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Gives all shards to the other hosts.
    pub(in crate::memory) async fn give_away(&self) {
        let Some(registration) = self.membership.begin_to_leave() else { return };
        // If it fails, the other hosts take over when the lease of this host ends.
        let _ = self.membership.give_all(self, registration).await;
    }

    /// Ends the registration, after the last write.
    pub(in crate::memory) async fn leave(&self) -> Result<(), StoreError> {
        let Some(registration) = self.membership.registration() else { return Ok(()) };
        self.run_statement(|tables| tables.fleet.leave(registration)).await?;
        self.hint(&Hint::Fleet).await
    }
}

#[async_trait]
impl FleetDatabase for MemoryMember {
    async fn register(&self) -> Result<Registration, StoreError> {
        self.run_statement(|tables| tables.fleet.register(self.identity)).await
    }

    async fn renew(
        &self,
        registration: Registration,
        generation: Option<i64>,
        load: AttemptLoad,
    ) -> Result<bool, StoreError> {
        self.run_statement(|tables| tables.fleet.renew(registration, generation, load)).await
    }

    async fn read(&self) -> Result<FleetState, StoreError> {
        self.faults.before_read().await?;
        let state = self.disk.tables().fleet.state();
        self.faults.during_read().await;
        Ok(state)
    }

    async fn take_over(&self, by: Registration, from: i16) -> Result<bool, StoreError> {
        self.run_statement(|tables| tables.fleet.take_over(by, from)).await
    }

    async fn give(&self, from: Registration, to: i16, shards: ShardSet) -> Result<(), StoreError> {
        let give = move |tables: &mut MemoryTables| {
            // The transaction may run after the host has registered again, and begun to attempt what it was about to give.
            if tables.fleet.is_fenced(from) {
                return Err(StoreError::Unavailable);
            }
            tables.fleet.give(from.host, to, shards);
            Ok(())
        };
        self.transact(give, |_, ()| {}).await
    }

    async fn hint(&self, hint: &Hint) -> Result<(), StoreError> {
        if self.faults.hint().await? {
            self.disk.hint(hint);
        }
        Ok(())
    }

    fn look_for_changes(&self) {
        self.unloaded.notify_one();
    }
}

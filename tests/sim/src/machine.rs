//! Machine of a fleet: a process with one host, which is started, killed, stopped and frozen.
//!
//! # Theory of operation
//! Each process has a runtime of its own with paused time, which runs only when the fleet lets it: a frozen process is one that the
//! fleet does not run, and when it goes on, its clock jumps. A killed process is a runtime that is dropped.

use crate::actions::{At, repeat};
use crate::host::{self, GRACE};
use crate::plan::Plan;
use crate::world::World;
use hookloom_deliver::Dispatcher;
use hookloom_store::memory::{FaultRates, Faults};
use hookloom_store::{PluginChange, Store, StoreEvent, StoreLimits};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Pause before a host that could not reach the database tries again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Time that a host which stops takes to leave the others, at most.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);

/// Machine with a host.
pub(crate) struct Machine {
    pub(crate) number: u64,
    /// Number of processes so far.
    pub(crate) lives: u64,
    pub(crate) process: Option<Process>,
    /// Time at which a process starts, if none runs.
    pub(crate) starts_at: Option<Duration>,
    pub(crate) frozen_until: Duration,
    pub(crate) cut_until: Duration,
}

/// Process of a host.
pub(crate) struct Process {
    runtime: Runtime,
    /// Time of the simulation, and of the runtime, when the process started.
    began: (Duration, Instant),
    faults: Arc<Faults>,
    host: Arc<Mutex<Option<Member>>>,
    /// Set when the host stops, and when it has stopped.
    stopping: Option<tokio::task::JoinHandle<()>>,
}

/// Host of a process that has reached the database.
struct Member {
    at: At,
    dispatcher: Dispatcher,
    background: JoinSet<()>,
}

impl Machine {
    pub(crate) fn new(number: u64) -> Self {
        Machine {
            number,
            lives: 0,
            process: None,
            starts_at: None,
            frozen_until: Duration::ZERO,
            cut_until: Duration::ZERO,
        }
    }

    /// Starts a process.
    pub(crate) fn start(&mut self, world: &World, plan: &Plan) {
        world.note(format!("host {} starts", self.number));
        self.lives += 1;
        self.starts_at = None;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let origin = runtime.block_on(async { Instant::now() });
        let seed = plan.seed ^ (self.number << 8) ^ self.lives;
        let faults = Arc::new(Faults::new(seed, FaultRates::default()));
        let host = Arc::new(Mutex::default());
        runtime.spawn(begin(world.clone(), plan.clone(), (self.number, self.lives), faults.clone(), host.clone()));
        let began = (world.clock.passed(), origin);
        self.process = Some(Process { runtime, began, faults, host, stopping: None });
    }

    /// Kills the process.
    pub(crate) fn kill(&mut self, world: &World) {
        if self.process.take().is_some() {
            world.note(format!("host {} is killed", self.number));
            world.member_ended(self.number);
            self.frozen_until = Duration::ZERO;
        }
    }

    /// Returns true if a process runs that does not stand still.
    pub(crate) fn is_running(&self, now: Duration) -> bool {
        self.process.is_some() && self.frozen_until <= now
    }

    /// Returns what does actions at the host. None: it does not run, stops, or has not reached the database.
    pub(crate) fn at(&self) -> Option<At> {
        let process = self.process.as_ref().filter(|process| process.stopping.is_none())?;
        process.host.lock().as_ref().map(|member| member.at.clone())
    }

    /// Spawns work in the process.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<tokio::task::JoinHandle<T>> {
        Some(self.process.as_ref()?.runtime.spawn(work))
    }

    /// Changes the rates of faults.
    pub(crate) fn set_faults(&self, rates: FaultRates) {
        if let Some(process) = &self.process {
            process.faults.set(rates);
        }
    }

    /// Begins to stop the host.
    pub(crate) fn stop(&mut self, world: &World) {
        let Some(process) = self.process.as_mut().filter(|process| process.stopping.is_none()) else { return };
        world.note(format!("host {} stops", self.number));
        let host = process.host.clone();
        process.stopping = Some(process.runtime.spawn(async move {
            let member = host.lock().take();
            if let Some(member) = member {
                member.stop().await;
            }
        }));
    }

    /// Runs the process until a time of the simulation. A process that has stopped ends.
    pub(crate) fn run(&mut self, world: &World, (now, until): (Duration, Duration)) {
        let Some(process) = &self.process else { return };
        let (base, origin) = process.began;
        process.runtime.block_on(async {
            world.clock.follow_host(base, origin);
            let lag = (origin + (now - base)).saturating_duration_since(Instant::now());
            if lag > Duration::from_millis(1) {
                // It stood still.
                tokio::time::advance(lag).await;
            }
            tokio::time::sleep_until(origin + (until - base)).await;
        });
        world.clock.stand_at(until);
        if process.stopping.as_ref().is_some_and(tokio::task::JoinHandle::is_finished) {
            self.process = None;
            world.member_ended(self.number);
            world.note(format!("host {} has stopped", self.number));
        }
    }

    /// Checks the memory of the host.
    pub(crate) fn check(&self, world: &World) {
        let host = self.process.as_ref().map(|process| process.host.lock());
        if let Some(member) = host.as_ref().and_then(|host| host.as_ref()) {
            host::check_queue(world, &member.dispatcher);
        }
    }
}

impl Member {
    async fn stop(self) {
        let Member { at, dispatcher, background } = self;
        drop(background);
        let stopping = async { tokio::join!(dispatcher.stop(GRACE), at.store.give_away()) };
        let _ = tokio::time::timeout(GRACE, stopping).await;
        let _ = tokio::time::timeout(LEAVE_TIME_MAX, at.store.leave()).await;
    }
}

/// Reaches the database, and begins to serve.
async fn begin(
    world: World,
    plan: Plan,
    (number, life): (u64, u64),
    faults: Arc<Faults>,
    host: Arc<Mutex<Option<Member>>>,
) {
    let (store, store_events) = open(&world, number, &faults).await;
    let at = At { world, store, host: number };
    let plugin_changes = at.store.plugin_changes();
    while restore(&at).await.is_err() {
        tokio::time::sleep(RETRY_AFTER).await;
    }
    let mut background = JoinSet::new();
    background.spawn(follow_plugins(at.clone(), plugin_changes));
    host::run_background(&at.store, &plan, |work| drop(background.spawn(work)));
    let dispatcher = host::dispatch(&at, &plan, store_events, Some(life));
    at.world.note(format!("host {number} serves"));
    for (key, post) in at.world.with(|state| state.unanswered.clone()) {
        background.spawn(repeat(at.world.clone(), at.store.clone(), key, post));
    }
    *host.lock() = Some(Member { at, dispatcher, background });
}

async fn open(world: &World, number: u64, faults: &Arc<Faults>) -> (Arc<Store>, mpsc::UnboundedReceiver<StoreEvent>) {
    loop {
        let limits = StoreLimits::default();
        match Store::open_in_shared_memory(world.disk.clone(), limits, faults.clone(), number).await {
            Ok(opened) => return opened,
            Err(error) => world.note(format!("host {number} cannot start: {error}")),
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Installs the stored versions, as the runtime of plugins does at a start.
async fn restore(at: &At) -> Result<(), hookloom_store::StoreError> {
    for version in at.store.active_versions().await? {
        at.world.with(|state| state.installed.insert((at.host, version.tenant), version.sha256));
    }
    Ok(())
}

/// Installs what other hosts have activated, as the runtime of plugins does.
async fn follow_plugins(at: At, mut changes: mpsc::UnboundedReceiver<PluginChange>) {
    while let Some(change) = changes.recv().await {
        for tenant in change.tenants.clone() {
            loop {
                let at_too = at.clone();
                let of = tenant.clone();
                let install = move |store: Arc<Store>| async move {
                    let plugins = store.tenant_plugins(of.clone()).await?;
                    at_too.world.with(|state| {
                        for version in plugins.active {
                            state.installed.insert((at_too.host, of.clone()), version.sha256);
                        }
                    });
                    Ok(())
                };
                let followed: Result<(), hookloom_store::StoreError> =
                    at.store.in_plugin_order(tenant.clone(), install).await;
                if followed.is_ok() {
                    break;
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
        at.store.note_in_force(&change);
    }
}

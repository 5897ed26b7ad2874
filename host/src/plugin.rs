//! Plugins: the only home of wasmtime.
//!
//! # Life of a plugin
//! 1. Bytes arrive by upload. Their first bytes are looked at, and a limited child process strips, compiles, checks and tries
//!    them ([`compile`], [`strip`], [`check`], [`probe`]). A file that fails changes nothing.
//!    Identical bytes are compiled once, whoever uploads them.
//! 2. The compiled code is loaded and linked once ([`cache`], [`code`], [`sandbox::linker`]); what is not called for long
//!    makes room in memory, and comes back from disk when it is called ([`call`]).
//! 3. The version is made durable and active in one transaction, then swapped in here in one step. Calls in flight end
//!    on the version they began with.
//! 4. [`Plugins::judge`] calls the active version of each plugin of the chain ([`judge`], [`chain`]): a fresh instance
//!    for each event, on a plugin thread.
//! 5. A file in the plugins folder takes the same way ([`watch`], [`folder`]).
//! 6. A version may be tried on a part of the events, or in the shadow of the active one ([`rollout`], [`rollouts`]),
//!    and compared with it over events before ([`comparison`]).
//! 7. After a start versions come back from the cache, or are compiled again, in the background ([`restore`]). Those in
//!    whose call the host died are not called ([`quarantine`]).
//!
//! # What it promises
//! A guest can end its own call and nothing else: every fault of it is a [`PluginFault`], which is data. Nothing it
//! does blocks a plugin thread for longer than its wall limit and one tick.

mod bench_baseline;
mod bindings;
mod cache;
mod call;
mod call_record;
mod canary_test;
mod candidate;
mod chain;
pub mod check;
mod code;
mod comparison;
mod compile;
mod compile_child;
mod config_reads;
mod convert;
mod deletion;
mod engine;
mod folder;
mod guest;
mod instance_pool;
mod judge;
mod judgement;
mod log_budget;
mod machine;
mod probe;
mod quarantine;
mod restore;
mod rollout;
mod rollouts;
mod runtime;
mod sample;
mod sandbox;
mod secret_scan;
mod strip;
mod test_hooks;
mod threads;
mod wasi;
pub mod watch;
pub mod workbench;

pub use canary_test::CanaryTestFigures;
pub use candidate::Candidate;
pub use comparison::{ComparedEvent, Comparison, EventSource, EventSources};
pub use compile::{CHILD_COMMAND, CompileError, CompileLimits};
pub use compile_child::compile_child;
pub use config_reads::{ConfigReads, meant};
pub use judgement::{Judged, Judgement, Outgoing, PluginFault, PluginInput, Shown};
pub use machine::{MachineError, no_executable_memory, own_program, require_address_space};
pub use probe::Probe;
pub use rollout::{ArmFigures, RolloutFigures};
pub use sample::{Difference, Sample};

use crate::chain::Step;
use crate::limits::Limits;
use crate::store::{PluginVersion, Store, StoreError, now_ms};
use crate::subscription::TenantId;
use bytes::Bytes;
use cache::Cache;
use call_record::CallRecords;
use check::Report;
use code::{CodeLibrary, KeyedLocks};
use instance_pool::InstancePool;
use log_budget::LogBudget;
use lru::LruCache;
use quarantine::Quarantined;
use rollout::Rollout;
use runtime::{Runtime, Version, VersionRef};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What can go wrong when plugins are started or installed. A guest's misbehaviour is never among it.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file is not a plugin for this host, or the compiler could not be run.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The machine does not give what plugins need.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// wasmtime refused its settings or code of its own.
    #[error("the plugin runtime failed")]
    Runtime(#[source] wasmtime::Error),
    /// A file or a thread.
    #[error("the plugin runtime's files or threads failed")]
    Io(#[from] std::io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tenant has as many plugins as it may have.
    #[error("a tenant has at most {PLUGINS_MAX} plugins")]
    TooMany,
    /// The host stops, and does not wait for a compiler.
    #[error("the host is stopping")]
    Stopping,
}

/// How many plugins a tenant may have.
pub const PLUGINS_MAX: usize = 1_000;

/// How plugins are run.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// How many calls run at once.
    pub threads: usize,
    /// How many of them may be one tenant's.
    pub calls_per_tenant: usize,
    /// How many compile processes uploads and files may have at once; one tenant has one.
    pub upload_slots: u64,
    /// How many compile processes there may be beside those, for stored versions that have no compiled code.
    pub restore_slots: u64,
    /// A guest's stack, in bytes.
    pub stack_bytes: u64,
    /// How many instances may rest between two calls, for subscriptions that reuse them.
    pub resting_instances_max: usize,
    /// How many memories of guests stay mapped between calls.
    pub warm_memories_max: u32,
    /// The most that a subscription may give its plugin.
    pub limits_max: Limits,
    /// The program that compiles: this binary.
    pub compiler: PathBuf,
    /// What compiling one component may use.
    pub compile_limits: CompileLimits,
    /// The file that says which version each plugin thread is calling.
    pub calls_file: PathBuf,
    /// Where compiled code is kept.
    pub cache_folder: PathBuf,
    /// How much compiled code is kept, in bytes.
    pub cache_bytes_max: u64,
    /// How much compiled code is kept in memory, in bytes.
    pub loaded_code_bytes_max: u64,
}

type PluginKey = (TenantId, String);

/// How many versions that are not active are remembered as their tenant's: those that subscriptions are pinned to, and
/// those on trial.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("more than 0");

/// The plugins of all tenants.
pub struct Plugins {
    runtime: Runtime,
    code: Arc<CodeLibrary>,
    active: Arc<RwLock<HashMap<PluginKey, VersionRef>>>,
    /// Versions that are not active and were wanted lately.
    known: Mutex<LruCache<(PluginKey, String), VersionRef>>,
    /// Versions in whose call the host died.
    quarantined: Quarantined,
    /// What each plugin thread is calling. None: the file could not be made.
    call_records: Option<CallRecords>,
    /// Trials under way.
    rollouts: Arc<RwLock<HashMap<PluginKey, Arc<Rollout>>>>,
    /// Versions that could not be loaded, by sha256, and when.
    failed: RwLock<HashMap<String, Instant>>,
    /// What is wrong with files of the plugins folder.
    file_problems: RwLock<HashMap<PluginKey, String>>,
    /// Since when new versions are compiled and tried, in milliseconds since the epoch.
    compiling: Mutex<HashMap<PluginKey, i64>>,
    /// Held while the component of a sha256 is compiled.
    compiling_once: KeyedLocks<String, tokio::sync::Mutex<()>>,
    /// Versions that the start has not brought back yet.
    restoring: AtomicUsize,
    stopping: CancellationToken,
    /// How many shadow calls may wait.
    shadows: Arc<tokio::sync::Semaphore>,
    store: Arc<Store>,
    limits_max: Limits,
    log_budget: LogBudget,
}

impl Plugins {
    /// Starts the runtime. The code of stored versions comes back in the background: nobody waits for a compiler here.
    pub async fn start(config: PluginConfig, store: Arc<Store>) -> Result<Arc<Self>, PluginError> {
        let quarantined = quarantine::quarantine(&store, call_record::suspects(&config.calls_file)).await?;
        let call_records = CallRecords::create(&config.calls_file, config.threads).inspect_err(|error| {
            tracing::warn!(%error, "plugin calls cannot be recorded: a version that ends the process will not be recognised at the next start");
        });
        let call_records = call_records.ok();
        let runtime = Runtime::start(&config, call_records)?;
        let key = store.compiled_cache_key();
        let cache = Cache::open(&config.cache_folder, config.cache_bytes_max, key, &runtime.engine)?;
        let code = CodeLibrary::new(runtime.linker.clone(), cache, config.loaded_code_bytes_max);
        let active = store.active_versions().await?.into_iter();
        let active = active.map(|one| ((one.tenant, one.name), VersionRef::new(&one.sha256, &one.report)));
        let plugins = Arc::new(Plugins {
            code: Arc::new(code),
            runtime,
            active: Arc::new(RwLock::new(active.collect())),
            known: Mutex::new(LruCache::new(KNOWN_MAX)),
            quarantined,
            call_records,
            rollouts: Arc::default(),
            failed: RwLock::default(),
            file_problems: RwLock::default(),
            compiling: Mutex::default(),
            compiling_once: KeyedLocks::default(),
            restoring: AtomicUsize::new(0),
            stopping: CancellationToken::new(),
            shadows: Arc::new(tokio::sync::Semaphore::new(rollouts::SHADOWS_WAITING_MAX)),
            store,
            limits_max: config.limits_max,
            log_budget: LogBudget::default(),
        });
        plugins.restore_rollouts().await?;
        let needed = plugins.needed_versions();
        plugins.restoring.store(needed.len(), std::sync::atomic::Ordering::Relaxed);
        tokio::spawn(plugins.clone().restore(needed));
        tokio::spawn(sweep(Arc::downgrade(&plugins.runtime.pool)));
        tokio::spawn(rollouts::store_counts(Arc::downgrade(&plugins)));
        Ok(plugins)
    }

    /// Ends what waits for a compiler. Calls go on.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Since when a new version of a plugin is compiled, if one is: milliseconds since the epoch.
    pub fn compiling_since_ms(&self, tenant: &TenantId, name: &str) -> Option<i64> {
        let compiling = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        compiling.get(&(tenant.clone(), name.to_owned())).copied()
    }

    /// Checks, compiles and tries a component, makes it durable as the active version of a plugin, and swaps it in.
    pub async fn install(
        &self,
        tenant: TenantId,
        name: String,
        component: Bytes,
        created_by: String,
    ) -> Result<(PluginVersion, Report), PluginError> {
        let candidate = self.candidate(&tenant, &name, component, created_by).await?;
        self.install_candidate(tenant, name, candidate).await
    }

    /// Checks and compiles a component and makes it durable as a version of a plugin, which goes on as it is.
    pub async fn add(
        &self,
        tenant: TenantId,
        name: String,
        component: Bytes,
        created_by: String,
    ) -> Result<(PluginVersion, Report), PluginError> {
        let (_, stored, report) = self.prepare(&tenant, &name, &component, created_by).await?;
        self.store.add_version(tenant.clone(), name.clone(), stored.clone(), component).await?;
        Ok((stored, report))
    }

    async fn prepare(
        &self,
        tenant: &TenantId,
        name: &str,
        component: &Bytes,
        created_by: String,
    ) -> Result<(Arc<Version>, PluginVersion, Report), PluginError> {
        let _shown = self.show_compiling(tenant, name);
        check::check_bytes(component).map_err(CompileError::from)?;
        let version = self.version_of(tenant, component.clone()).await?;
        self.check_quarantine(tenant, &version.sha256)?;
        let report = version.report.clone();
        let stored = PluginVersion {
            sha256: version.sha256.clone(),
            size: component.len() as u64,
            report: serde_json::to_string(&report).map_err(StoreError::from)?,
            created_at_ms: now_ms(),
            created_by,
            active: false,
        };
        Ok((version, stored, report))
    }

    /// Shows that a version of a plugin is being compiled, until the answer is dropped.
    fn show_compiling(&self, tenant: &TenantId, name: &str) -> impl Drop {
        let key = (tenant.clone(), name.to_owned());
        let compiling = || self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        compiling().insert(key.clone(), now_ms());
        OnDrop(move || {
            compiling().remove(&key);
        })
    }

    fn current(&self, tenant: &TenantId, name: &str) -> Option<VersionRef> {
        self.active.read().unwrap_or_else(PoisonError::into_inner).get(&(tenant.clone(), name.to_owned())).cloned()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, LruCache<(PluginKey, String), VersionRef>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a version that was uploaded earlier the active one. A trial of the plugin ends.
    pub async fn activate(
        &self,
        tenant: TenantId,
        name: String,
        sha256: String,
        activated_by: String,
    ) -> Result<(), PluginError> {
        let version = self.version(&tenant, &name, &sha256).await?;
        self.check_quarantine(&tenant, &sha256)?;
        // What becomes active can be called at once.
        self.compiled(&tenant, &sha256).await?;
        // A rollout of the plugin ends with it, and keeps what was counted.
        self.store_rollout_counts().await;
        let swap = self.swap(&tenant, &name, version);
        self.store.activate_version(tenant, name, sha256, activated_by, swap).await?;
        Ok(())
    }

    /// What puts a version in the place of the one before, in one step. A trial was against that one, and is over.
    fn swap(&self, tenant: &TenantId, name: &str, version: VersionRef) -> impl FnOnce() + Send + 'static {
        let (all, key, rollouts) = (self.active.clone(), (tenant.clone(), name.to_owned()), self.rollouts.clone());
        let pool = self.runtime.pool.clone();
        move || {
            pool.evict_plugin(&key.0, &key.1);
            write_lock(&rollouts).remove(&key);
            write_lock(&all).insert(key, version);
        }
    }

    /// Notes for the next start which calls do not end, at a stop.
    pub fn note_endless_calls(&self) {
        if let Some(records) = self.call_records {
            records.mark_overdue();
        }
    }

    /// How many plugins a tenant has.
    pub fn count(&self, tenant: &TenantId) -> usize {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        active.keys().filter(|(owner, _)| owner == tenant).count()
    }

    /// Whether a tenant has a plugin of this name.
    pub fn exists(&self, tenant: &TenantId, name: &str) -> bool {
        self.current(tenant, name).is_some()
    }

    /// Whether the version that a step is pinned to is there; without a pin, whether the plugin is.
    pub async fn can_judge(&self, tenant: &TenantId, step: &Step) -> bool {
        match &step.pin {
            Some(pin) => self.version(tenant, &step.plugin, pin).await.is_ok(),
            None => self.exists(tenant, &step.plugin),
        }
    }
}

/// Does something when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Ends instances that rested for too long, as long as there is a host.
async fn sweep(pool: Weak<InstancePool>) {
    while let Some(pool) = pool.upgrade() {
        pool.evict_expired(Instant::now());
        drop(pool);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn write_lock<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

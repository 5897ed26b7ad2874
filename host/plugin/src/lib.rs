//! Plugins of all tenants. The only crate that uses wasmtime.
//!
//! # Life of a plugin
//! 1. A component arrives by upload. Its first bytes are checked, and a child process with limits strips, compiles, checks and probes it
//!    ([`compile`], [`strip`], [`check`], [`probe`]). A component that fails changes nothing. Identical components are compiled once.
//! 2. The compiled code is loaded and linked once ([`cache`], [`code`], [`sandbox::linker`]). Code that was not called for long is
//!    evicted from memory, and loaded from disk when it is called ([`call`]).
//! 3. The version is stored and activated in one transaction, then swapped in here in one step. Calls in flight end on the version that
//!    they began with.
//! 4. [`Plugins::judge`] calls the active version of each plugin of the chain ([`judge`], [`chain`]), in a fresh instance for each event.
//! 5. A file in the plugins folder is installed in the same way ([`watch`], [`folder`]).
//! 6. A version may judge a part of the events as a canary, or all events as a shadow ([`rollout`], [`rollouts`]), and may be compared
//!    with the active version over earlier events ([`comparison`]).
//! 7. After a start, code is loaded from the cache or compiled again in the background ([`restore`]). Versions in whose call the host
//!    died are not called ([`quarantine`]).
//! 8. A script that is not stored can be tried on an event ([`trial`]).
//! 9. What another host changed in the same database is put in force here ([`follow`]).
//!
//! # Guarantees
//! - A guest can end its call and nothing else: every fault of a guest is a [`PluginFault`], which is a value and no error.
//! - A guest blocks a plugin thread no longer than its wall limit and one tick.
//!
//! # Limits
//! Sends nothing, and does not decide what follows from a judgement.

mod author_error;
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
mod counters;
mod deletion;
mod difference;
mod engine;
mod folder;
mod follow;
mod guest;
mod instance_pool;
mod judge;
mod judgement;
mod log_budget;
mod machine;
mod manifests;
mod probe;
mod quarantine;
mod report;
mod restore;
mod rollout;
mod rollouts;
mod runtime;
mod sample;
mod sandbox;
pub mod script;
mod secret_scan;
mod strip;
mod test_hooks;
mod threads;
mod trial;
mod version;
mod wasi;
pub mod watch;
pub mod workbench;

pub use author_error::{AuthorError, ScriptError, ShownScriptError};
pub use canary_test::CanaryTestFigures;
pub use candidate::{Candidate, NewComponent};
pub use comparison::{ComparedEvent, Comparison, EventSource, EventSources};
pub use compile::{CHILD_COMMAND, CompileError, CompileLimits};
pub use compile_child::compile_child;
pub use config_reads::{ConfigReads, meant};
pub use counters::{ArmFigures, RolloutFigures};
pub use difference::{Difference, DifferenceCounts, DifferenceKind};
pub use judgement::{Judged, Judgement, Outgoing, PluginFault, PluginInput, Shown};
pub use machine::{MachineError, current_program, no_executable_memory, require_address_space};
pub use manifests::with_manifest;
pub use report::{Probe, Report};
pub use sample::Sample;
pub use version::{About, Origin};

use bytes::Bytes;
use cache::Cache;
use call_record::CallRecords;
use code::{CodeLibrary, KeyedLocks};
use hookloom_model::chain::Step;
use hookloom_model::clock::now_ms;
use hookloom_model::limits::Limits;
use hookloom_model::subscription::TenantId;
use hookloom_store::{Actor, PluginVersion, Store, StoreError};
use log_budget::LogBudget;
use lru::LruCache;
use parking_lot::{Mutex, RwLock};
use quarantine::Quarantined;
use rollout::Rollout;
use runtime::Runtime;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use trial::Trials;
use version::VersionRef;

/// Error when plugins are started or installed. A guest's misbehaviour is never an error of this type.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file is not a plugin for this host, or the compiler could not be run.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The machine does not meet the requirements of plugins.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// wasmtime refused its settings, or code that it compiled.
    #[error("the plugin runtime failed")]
    Runtime(#[source] wasmtime::Error),
    /// A file or thread of the runtime failed.
    #[error("the plugin runtime's files or threads failed")]
    Io(#[from] std::io::Error),
    /// The store failed, or refused the change.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tenant has the maximum number of plugins.
    #[error("a tenant has at most {PLUGINS_MAX} plugins")]
    TooMany,
    /// The host is stopping, and does not wait for the compiler.
    #[error("the host is stopping")]
    Stopping,
}

/// Maximum number of plugins of a tenant.
pub const PLUGINS_MAX: usize = 1_000;

/// Configuration of the plugin runtime.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// Maximum number of calls at once: the number of plugin threads.
    pub threads: usize,
    /// Maximum number of calls at once for one tenant.
    pub calls_per_tenant: usize,
    /// Maximum number of compile processes for uploads and files. One tenant has one.
    pub upload_slots: u64,
    /// Maximum number of additional compile processes, for stored versions without compiled code.
    pub restore_slots: u64,
    /// Stack of a guest, in bytes.
    pub stack_bytes: u64,
    /// Maximum number of idle instances, for subscriptions with `reuse`.
    pub resting_instances_max: usize,
    /// Number of guest memories that stay mapped between calls.
    pub warm_memories_max: u32,
    /// Maximum limits that a subscription can set for its plugins.
    pub limits_max: Limits,
    /// Program of the compile child: this binary.
    pub compiler: PathBuf,
    /// Limits of a compile child.
    pub compile_limits: CompileLimits,
    /// File with the version that each plugin thread is calling.
    pub calls_file: PathBuf,
    /// Folder of compiled code.
    pub cache_folder: PathBuf,
    /// Maximum size of compiled code on disk, in bytes.
    pub cache_bytes_max: u64,
    /// Maximum size of compiled code in memory, in bytes.
    pub loaded_code_bytes_max: u64,
}

/// Tenant and name of a plugin.
type PluginKey = (TenantId, String);

/// Number of inactive versions that are cached as belonging to their tenant: pinned ones, and those of rollouts.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("more than 0");

/// The plugins of all tenants.
pub struct Plugins {
    runtime: Runtime,
    code: Arc<CodeLibrary>,
    active: Arc<RwLock<HashMap<PluginKey, VersionRef>>>,
    /// Inactive versions that were used lately.
    known: Mutex<LruCache<(PluginKey, String), VersionRef>>,
    /// Versions in whose call the host died.
    quarantined: Quarantined,
    /// Record of the calls of plugin threads. None: the file could not be created.
    call_records: Option<CallRecords>,
    /// Rollouts under way.
    rollouts: Arc<RwLock<HashMap<PluginKey, Arc<Rollout>>>>,
    /// Times at which versions could not be loaded, by sha256.
    failed: RwLock<HashMap<String, Instant>>,
    /// Problems of files in the plugins folder.
    file_problems: RwLock<HashMap<PluginKey, String>>,
    /// Times at which compilations under way began, in milliseconds since the epoch.
    compiling: Mutex<HashMap<PluginKey, i64>>,
    /// Locks by sha256, held during the compilation of a component.
    compiling_once: KeyedLocks<String, tokio::sync::Mutex<()>>,
    /// Number of versions whose code is not restored since the start.
    restoring: AtomicUsize,
    stopping: CancellationToken,
    trials: Trials,
    /// Slots of waiting calls of shadows.
    shadows: Arc<tokio::sync::Semaphore>,
    store: Arc<Store>,
    limits_max: Limits,
    log_budget: LogBudget,
}

impl Plugins {
    /// Starts the runtime. The code of stored versions is restored in the background, without waiting for the compiler.
    pub async fn start(config: PluginConfig, store: Arc<Store>) -> Result<Arc<Self>, PluginError> {
        // Before anything is read: what changes meanwhile is followed later.
        let changes = store.plugin_changes();
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
            trials: Trials::default(),
            shadows: Arc::new(tokio::sync::Semaphore::new(rollouts::SHADOWS_WAITING_MAX)),
            store,
            limits_max: config.limits_max,
            log_budget: LogBudget::default(),
        });
        plugins.restore_rollouts().await?;
        let needed = plugins.needed_versions();
        plugins.restoring.store(needed.len(), std::sync::atomic::Ordering::Relaxed);
        tokio::spawn(plugins.clone().restore(needed));
        tokio::spawn(instance_pool::evict_expired(Arc::downgrade(&plugins.runtime.pool)));
        tokio::spawn(rollouts::store_counts(Arc::downgrade(&plugins)));
        tokio::spawn(follow::follow_changes(Arc::downgrade(&plugins), changes));
        Ok(plugins)
    }

    /// Ends all waits for the compiler. Calls continue.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Returns the time at which the compilation of a new version began, if one is under way, in milliseconds since the epoch.
    pub fn compiling_since_ms(&self, tenant: &TenantId, name: &str) -> Option<i64> {
        let compiling = self.compiling.lock();
        compiling.get(&(tenant.clone(), name.to_owned())).copied()
    }

    /// Checks, compiles and probes a component, stores it as the active version of a plugin, and activates it.
    pub async fn install(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        component: Bytes,
    ) -> Result<(PluginVersion, Report), PluginError> {
        let candidate = self.candidate(actor, &tenant, &name, component.into()).await?;
        self.install_candidate(tenant, name, candidate).await
    }

    /// Marks a version of a plugin as being compiled until the returned guard is dropped.
    fn show_compiling(&self, tenant: &TenantId, name: &str) -> impl Drop {
        let key = (tenant.clone(), name.to_owned());
        let compiling = || self.compiling.lock();
        compiling().insert(key.clone(), now_ms());
        scopeguard::guard(key, move |key| {
            compiling().remove(&key);
        })
    }

    fn current(&self, tenant: &TenantId, name: &str) -> Option<VersionRef> {
        self.active.read().get(&(tenant.clone(), name.to_owned())).cloned()
    }

    fn known(&self) -> parking_lot::MutexGuard<'_, LruCache<(PluginKey, String), VersionRef>> {
        self.known.lock()
    }

    /// Activates a stored version. A rollout of the plugin ends.
    pub async fn activate(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        sha256: String,
    ) -> Result<(), PluginError> {
        let version = self.version(&tenant, &name, &sha256).await?;
        self.check_quarantine(&tenant, &sha256)?;
        // Compiled first, so that the version can be called at once.
        self.compiled(&tenant, &sha256).await?;
        // The activation ends a rollout of the plugin, whose counters are kept.
        self.store_rollout_counts().await;
        let swap = self.swap(&tenant, &name, version);
        self.store.activate_version(actor, tenant, name, sha256, swap).await?;
        Ok(())
    }

    /// Returns the closure that replaces the active version in one step. It ends the plugin's rollout, which compared with the replaced
    /// version.
    fn swap(&self, tenant: &TenantId, name: &str, version: VersionRef) -> impl FnOnce() + Send + 'static {
        let all = self.active.clone();
        let key = (tenant.clone(), name.to_owned());
        let rollouts = self.rollouts.clone();
        let pool = self.runtime.pool.clone();
        move || {
            pool.evict_plugin(&key.0, &key.1);
            rollouts.write().remove(&key);
            all.write().insert(key, version);
        }
    }

    /// Records the calls that do not end, at a stop, for the next start.
    pub fn note_endless_calls(&self) {
        if let Some(records) = self.call_records {
            records.mark_overdue();
        }
    }

    /// Returns the number of plugins of a tenant.
    pub fn count(&self, tenant: &TenantId) -> usize {
        let active = self.active.read();
        active.keys().filter(|(owner, _)| owner == tenant).count()
    }

    /// Returns whether a tenant has a plugin of this name.
    pub fn exists(&self, tenant: &TenantId, name: &str) -> bool {
        self.current(tenant, name).is_some()
    }

    /// Returns whether the plugin of a step exists, and its version if the step is pinned.
    pub async fn can_judge(&self, tenant: &TenantId, step: &Step) -> bool {
        match &step.pin {
            Some(pin) => self.version(tenant, &step.plugin, pin).await.is_ok(),
            None => self.exists(tenant, &step.plugin),
        }
    }
}

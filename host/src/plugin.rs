//! Plugins: the only home of wasmtime.
//!
//! # Life of a plugin
//! 1. Bytes arrive by upload. Their first bytes are looked at, and a limited child process compiles and checks them
//!    ([`compile`], [`check`]). A file that fails changes nothing.
//! 2. The compiled code is loaded and linked once ([`cache`], [`sandbox::linker`]).
//! 3. The version is made durable and active in one transaction, then swapped in here in one step. Calls in flight end
//!    on the version they began with.
//! 4. [`Plugins::judge`] calls the active version: a fresh instance for each event, on a plugin thread.
//! 5. A file in the plugins folder takes the same way ([`watch`]).
//! 6. At a restart active versions come back from the cache, or are compiled again.
//!
//! # What it promises
//! A guest can end its own call and nothing else: every fault of it is a [`PluginFault`], which is data. Nothing it
//! does blocks a plugin thread for longer than its wall limit and one tick.

mod bindings;
mod cache;
pub mod check;
mod compile;
mod convert;
mod engine;
mod judgement;
mod sandbox;
mod threads;
mod wasi;
pub mod watch;

pub use compile::{CHILD_COMMAND, CompileError, compile_child};
pub use judgement::{Cost, Judged, Judgement, Outgoing, PluginFault};

use crate::event::Event;
use crate::store::{PluginVersion, Store, StoreError, StoredPlugin, now_ms};
use crate::subscription::{Subscription, TenantId};
use bindings::PluginPre;
use bytes::Bytes;
use cache::{Cache, TrustedCode};
use check::Report;
use compile::Compiled;
use engine::{EnginePurpose, Ticker};
use sandbox::CallState;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{Duration, Instant};
use threads::Threads;
use wasmtime::Engine;
use wasmtime::component::Linker;

/// What can go wrong when plugins are started or installed. A guest's misbehaviour is never among it.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file is no plugin for this host, or the compiler could not be run.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// wasmtime refused its settings or code of its own.
    #[error("the plugin runtime failed")]
    Runtime(#[source] wasmtime::Error),
    /// A file or a thread.
    #[error("the plugin runtime's files or threads failed")]
    Io(#[from] std::io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How plugins are run.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// How many calls run at once.
    pub threads: usize,
    /// The most memory that a subscription may give its plugin, in bytes.
    pub memory_bytes_max: u64,
    /// The program that compiles: this binary.
    pub compiler: PathBuf,
    /// Where compiled code is kept.
    pub cache_folder: PathBuf,
}

struct Active {
    sha256: String,
    plugin: PluginPre<CallState>,
}

type Key = (TenantId, String);

/// A plugin that could not be restored is not tried again before this time.
const RESTORE_REST: Duration = Duration::from_secs(60);

/// The plugins of all tenants.
pub struct Plugins {
    threads: Threads,
    _ticker: Ticker,
    engine: Engine,
    linker: Linker<CallState>,
    cache: Cache,
    compiler: PathBuf,
    active: Arc<RwLock<HashMap<Key, Arc<Active>>>>,
    /// Plugins that could not be restored, and when.
    failed: RwLock<HashMap<Key, Instant>>,
    /// What is wrong with files of the plugins folder.
    file_problems: RwLock<HashMap<Key, String>>,
    restoring: tokio::sync::Mutex<()>,
    /// How many compile processes may run at once.
    compiling: tokio::sync::Semaphore,
    store: Arc<Store>,
}

impl Plugins {
    /// Starts the runtime and brings every active version back.
    pub async fn start(config: PluginConfig, store: Arc<Store>) -> Result<Self, PluginError> {
        let calls = u32::try_from(config.threads).unwrap_or(u32::MAX);
        let memory_bytes_max = usize::try_from(config.memory_bytes_max).unwrap_or(usize::MAX);
        let engine = engine::engine(EnginePurpose::Run { calls, memory_bytes_max }).map_err(PluginError::Runtime)?;
        let plugins = Plugins {
            threads: Threads::start(config.threads)?,
            _ticker: Ticker::start(&engine)?,
            linker: sandbox::linker(&engine).map_err(PluginError::Runtime)?,
            cache: Cache::open(&config.cache_folder, store.compiled_cache_key(), &engine)?,
            engine,
            compiler: config.compiler,
            active: Arc::default(),
            failed: RwLock::default(),
            file_problems: RwLock::default(),
            restoring: tokio::sync::Mutex::default(),
            compiling: tokio::sync::Semaphore::new(config.threads),
            store,
        };
        plugins.restore().await?;
        Ok(plugins)
    }

    async fn restore(&self) -> Result<(), PluginError> {
        for stored in self.store.plugins().await? {
            self.restore_one(stored).await;
        }
        Ok(())
    }

    /// Brings one active version back. If it does not come, its deliveries are retried; the others must not wait.
    async fn restore_one(&self, stored: StoredPlugin) {
        match self.load(&stored.active_sha256).await {
            // An upload may have come first: it is newer than what was read here.
            Ok(active) => {
                let key = (stored.tenant, stored.name);
                write_lock(&self.active).entry(key).or_insert_with(|| Arc::new(active));
            }
            Err(error) => {
                write_lock(&self.failed).insert((stored.tenant.clone(), stored.name.clone()), Instant::now());
                let error = crate::describe(&error);
                tracing::error!(tenant = %stored.tenant, plugin = %stored.name, %error, "a plugin could not be restored");
            }
        }
    }

    async fn load(&self, sha256: &str) -> Result<Active, PluginError> {
        if let Some(code) = self.cache.get(sha256) {
            return self.link(sha256, &code);
        }
        let component = self.store.component(sha256.to_owned()).await?;
        let compiled = self.compile(component).await?;
        let code = TrustedCode::from_child(compiled.code);
        self.keep(sha256, &code);
        self.link(sha256, &code)
    }

    async fn compile(&self, component: Bytes) -> Result<Compiled, CompileError> {
        check::check_bytes(&component)?;
        let _turn = self.compiling.acquire().await;
        compile::compile(&self.compiler, component).await
    }

    fn keep(&self, sha256: &str, code: &TrustedCode) {
        if let Err(error) = self.cache.put(sha256, code) {
            tracing::warn!(%error, "compiled code could not be kept; it will be compiled again at the next start");
        }
    }

    fn link(&self, sha256: &str, code: &TrustedCode) -> Result<Active, PluginError> {
        let component = code.load(&self.engine).map_err(PluginError::Runtime)?;
        let pre = self.linker.instantiate_pre(&component).map_err(PluginError::Runtime)?;
        let plugin = PluginPre::new(pre).map_err(PluginError::Runtime)?;
        Ok(Active { sha256: sha256.to_owned(), plugin })
    }

    /// Checks and compiles a component, makes it durable as the active version of a plugin, and swaps it in.
    pub async fn install(
        &self,
        tenant: TenantId,
        name: String,
        component: Bytes,
        created_by: String,
    ) -> Result<(PluginVersion, Report), PluginError> {
        let compiled = self.compile(component.clone()).await?;
        let sha256 = hex::encode(Sha256::digest(&component));
        let code = TrustedCode::from_child(compiled.code);
        let active = self.link(&sha256, &code)?;
        self.keep(&sha256, &code);
        let version = PluginVersion {
            sha256,
            size: component.len() as u64,
            report: serde_json::to_string(&compiled.report).map_err(StoreError::from)?,
            created_at_ms: now_ms(),
            created_by,
            active: true,
        };
        let swap = self.swap(&tenant, &name, active);
        self.store.activate_plugin(tenant, name, version.clone(), component, swap).await?;
        Ok((version, compiled.report))
    }

    fn current(&self, tenant: &TenantId, name: &str) -> Option<Arc<Active>> {
        self.active.read().unwrap_or_else(PoisonError::into_inner).get(&(tenant.clone(), name.to_owned())).cloned()
    }

    /// Makes a version that was uploaded earlier the active one.
    pub async fn activate(&self, tenant: TenantId, name: String, sha256: String) -> Result<(), PluginError> {
        let versions = self.store.plugin_versions(tenant.clone(), name.clone()).await?;
        if !versions.iter().any(|version| version.sha256 == sha256) {
            return Err(StoreError::NotFound("version of the plugin").into());
        }
        let swap = self.swap(&tenant, &name, self.load(&sha256).await?);
        Ok(self.store.activate_version(tenant, name, sha256, swap).await?)
    }

    /// What puts a version in the place of the one before, in one step.
    fn swap(&self, tenant: &TenantId, name: &str, active: Active) -> impl FnOnce() + Send + 'static {
        let (all, key) = (self.active.clone(), (tenant.clone(), name.to_owned()));
        move || drop(write_lock(&all).insert(key, Arc::new(active)))
    }

    /// What is wrong with the file of a plugin in the plugins folder, if something is.
    pub fn file_problem(&self, tenant: &TenantId, name: &str) -> Option<String> {
        let problems = self.file_problems.read().unwrap_or_else(PoisonError::into_inner);
        problems.get(&(tenant.clone(), name.to_owned())).cloned()
    }

    fn note_file_problem(&self, tenant: &TenantId, name: &str, problem: Option<String>) {
        let (mut problems, key) = (write_lock(&self.file_problems), (tenant.clone(), name.to_owned()));
        match problem {
            Some(problem) => problems.insert(key, problem),
            None => problems.remove(&key),
        };
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

    /// A plugin that could not be restored at the start is tried again when it is wanted.
    async fn current_or_restored(&self, tenant: &TenantId, name: &str) -> Option<Arc<Active>> {
        if let Some(active) = self.current(tenant, name) {
            return Some(active);
        }
        let _one_at_a_time = self.restoring.lock().await;
        if let Some(active) = self.current(tenant, name) {
            return Some(active);
        }
        let key = (tenant.clone(), name.to_owned());
        let failed = self.failed.read().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if failed.is_some_and(|failed| failed.elapsed() < RESTORE_REST) {
            return None;
        }
        let stored = self.store.plugins().await.ok()?;
        let stored = stored.into_iter().find(|stored| stored.tenant == *tenant && stored.name == name)?;
        self.restore_one(stored).await;
        self.current(tenant, name)
    }

    /// Judges an event for a subscription with the active version of its plugin.
    pub async fn judge(&self, name: &str, event: Arc<Event>, subscription: Arc<Subscription>) -> Judged {
        let Some(active) = self.current_or_restored(&subscription.tenant, name).await else {
            return Judged::fault(None, PluginFault::Missing(name.to_owned()));
        };
        let (sha256, tenant) = (active.sha256.clone(), subscription.tenant.clone());
        let work = move || {
            let called = sandbox::call(&active.plugin, &event, subscription.clone());
            let judgement = convert::judgement(called.answer, &subscription.settings);
            Judged { judgement, sha256: Some(active.sha256.clone()), log: called.log, cost: called.cost }
        };
        self.threads.run(&tenant, work).await.unwrap_or_else(|| Judged::fault(Some(sha256), PluginFault::Shortage))
    }
}

fn write_lock<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

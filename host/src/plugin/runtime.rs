//! The runtime: one engine, its threads and its compiler. Makes versions out of components and calls them.
//!
//! Knows no store and no tenant's plugins: the host's [`Plugins`](super::Plugins) and the author's
//! [`Workbench`](super::workbench::Workbench) both stand on it, so what an author sees is what the host does.

use super::bindings::PluginPre;
use super::cache::TrustedCode;
use super::check::Refusal;
use super::compile::{self, CompileError, CompileLimits, Compiled};
use super::engine::{self, EnginePurpose, Ticker};
use super::guest::GuestState;
use super::probe::{self, Probe};
use super::reuse::Rest;
use super::sandbox;
use super::threads::Threads;
use super::{PluginConfig, PluginError, check};
use crate::subscription::TenantId;
use crate::telemetry;
use bytes::Bytes;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use wasmtime::Engine;
use wasmtime::component::Linker;

/// A version that can judge: compiled, loaded and linked.
pub(super) struct Version {
    pub(super) sha256: String,
    pub(super) plugin: PluginPre<GuestState>,
    /// Whether it may ask for what was accepted before.
    pub(super) reads_history: bool,
}

/// One engine with everything around it.
pub(super) struct Runtime {
    pub(super) threads: Threads,
    /// Instances between two calls. They go before the engine does.
    pub(super) rest: Arc<Rest>,
    pub(super) engine: Engine,
    _ticker: Ticker,
    linker: Linker<GuestState>,
    compiler: PathBuf,
    compile_limits: CompileLimits,
    /// How many compile processes may run at once.
    compiling: tokio::sync::Semaphore,
    /// How many of them may be one tenant's.
    compiling_of: Mutex<HashMap<TenantId, Arc<tokio::sync::Semaphore>>>,
    calls_per_tenant: usize,
}

impl Runtime {
    pub(super) fn start(config: &PluginConfig) -> Result<Self, PluginError> {
        let instances = u32::try_from(config.threads + config.resting_instances_max).unwrap_or(u32::MAX);
        let memory_bytes_max = usize::try_from(config.limits_max.memory_bytes).unwrap_or(usize::MAX);
        let stack_bytes = usize::try_from(config.stack_bytes).unwrap_or(usize::MAX);
        let with = |warm_memories| {
            engine::engine(EnginePurpose::Run { instances, memory_bytes_max, stack_bytes, warm_memories })
        };
        let engine = with(config.warm_memories_max).or_else(|error| {
            tracing::warn!(%error, "no room for warm_memories_max memories; plugins go without, and are called slower");
            with(instances)
        });
        let engine = engine.map_err(PluginError::Runtime)?;
        Ok(Runtime {
            threads: Threads::start(config.threads, config.calls_per_tenant, stack_bytes)?,
            rest: Arc::new(Rest::new(config.resting_instances_max)),
            _ticker: Ticker::start(&engine)?,
            linker: sandbox::linker(&engine).map_err(PluginError::Runtime)?,
            engine,
            compiler: config.compiler.clone(),
            compile_limits: config.compile_limits,
            compiling: tokio::sync::Semaphore::new(config.threads),
            compiling_of: Mutex::default(),
            calls_per_tenant: config.calls_per_tenant,
        })
    }

    /// Compiles a component in a child process with limits. A tenant's compilations wait for one another, and leave room
    /// for those of others.
    pub(super) async fn compile(&self, tenant: &TenantId, component: Bytes) -> Result<Compiled, CompileError> {
        check::check_bytes(&component)?;
        let own = {
            let mut all = self.compiling_of.lock().unwrap_or_else(PoisonError::into_inner);
            let room = || Arc::new(tokio::sync::Semaphore::new(self.calls_per_tenant));
            all.entry(tenant.clone()).or_insert_with(room).clone()
        };
        let _turns = (own.acquire().await, self.compiling.acquire().await);
        let (begun, bytes) = (Instant::now(), component.len());
        tracing::info!(%tenant, bytes, "compiling a component");
        telemetry::compiling();
        let compiled = compile::compile(&self.compiler, self.compile_limits, component).await;
        telemetry::compiled(compiled.is_ok(), begun.elapsed());
        tracing::info!(bytes, ms = begun.elapsed().as_millis(), fits = compiled.is_ok(), "compiled a component");
        compiled
    }

    /// Tries a version on a sample; none if the host has no room for it.
    pub(super) async fn probe(&self, version: Arc<Version>, tenant: TenantId) -> Option<Probe> {
        let owner = tenant.clone();
        self.threads.run(&tenant, move || probe::probe(&version, owner)).await
    }

    /// Loads compiled code and links it.
    pub(super) fn link(&self, sha256: &str, code: &TrustedCode) -> Result<Version, PluginError> {
        let component = code.load(&self.engine).map_err(PluginError::Runtime)?;
        // The compiler checked everything but whether the component fits the place of a call.
        let pre = self.linker.instantiate_pre(&component).map_err(|error| too_large_for_a_call(&error))?;
        let plugin = PluginPre::new(pre).map_err(PluginError::Runtime)?;
        let kind = component.component_type();
        let reads_history = kind.imports(&self.engine).any(|(name, _)| name.starts_with(check::HISTORY));
        Ok(Version { sha256: sha256.to_owned(), plugin, reads_history })
    }
}

fn too_large_for_a_call(error: &wasmtime::Error) -> CompileError {
    let what = "the component is made of more parts (core modules, memories, tables) than a call has room for";
    tracing::info!(%error, "a component does not fit the place of a call");
    Refusal::new("too-many-parts", what, "build it of fewer core modules, memories and tables").into()
}

//! The runtime: one engine, its threads and its compiler. Makes versions out of components and calls them.
//!
//! Knows no store and no tenant's plugins: the host's [`Plugins`](super::Plugins) and the author's
//! [`Workbench`](super::workbench::Workbench) both stand on it, so what an author sees is what the host does.

use super::bindings::PluginPre;
use super::cache::{CompiledComponent, TrustedCode};
use super::call_record::CallRecords;
use super::check::{Refusal, Report};
use super::compile::{self, CompileError, CompileLimits};
use super::engine::{self, EnginePurpose, Ticker};
use super::guest::GuestState;
use super::instance_pool::InstancePool;
use super::sandbox;
use super::threads::Threads;
use super::{PluginConfig, PluginError, check};
use crate::fair_share::FairSemaphore;
use crate::subscription::TenantId;
use crate::telemetry;
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::Engine;
use wasmtime::component::Linker;

/// A version that can judge: compiled, loaded and linked.
pub(super) struct Version {
    pub(super) sha256: String,
    pub(super) plugin: PluginPre<GuestState>,
    /// The report of its check.
    pub(super) report: Report,
    /// The size of its code in memory.
    pub(super) bytes: u64,
}

/// A version whose code may be in memory, on disk, or yet to be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VersionRef {
    pub(super) sha256: Arc<str>,
    /// Whether it may ask for what was accepted before.
    pub(super) reads_history: bool,
}

impl VersionRef {
    /// A version by its sha256 and the stored report of its check.
    pub(super) fn new(sha256: &str, report: &str) -> Self {
        let report = serde_json::from_str(report).ok();
        // Of one that is not understood: looking back for nothing costs a read.
        let reads_history = report.as_ref().is_none_or(Report::reads_history);
        VersionRef { sha256: sha256.into(), reads_history }
    }
}

impl Version {
    /// A version that was never stored: what a compile child tries.
    pub(super) fn unnamed(plugin: PluginPre<GuestState>) -> Self {
        Version { sha256: String::new(), plugin, report: Report::default(), bytes: 0 }
    }

    pub(super) fn reference(&self) -> VersionRef {
        VersionRef { sha256: self.sha256.as_str().into(), reads_history: self.report.reads_history() }
    }
}

/// Links compiled code with the functions of the host.
pub(super) struct CodeLinker {
    engine: Engine,
    linker: Linker<GuestState>,
}

impl CodeLinker {
    /// Loads compiled code and links it.
    pub(super) fn link(&self, sha256: &str, compiled: &CompiledComponent) -> Result<Version, PluginError> {
        let component = compiled.code.load(&self.engine).map_err(PluginError::Runtime)?;
        let image = component.image_range();
        let bytes = image.end.addr() - image.start.addr();
        // The compiler checked everything but whether the component fits the place of a call.
        let pre = self.linker.instantiate_pre(&component).map_err(|error| too_large_for_a_call(&error))?;
        let plugin = PluginPre::new(pre).map_err(PluginError::Runtime)?;
        let (sha256, report) = (sha256.to_owned(), compiled.report.clone());
        Ok(Version { sha256, plugin, report, bytes: bytes as u64 })
    }
}

/// One engine with everything around it.
pub(super) struct Runtime {
    pub(super) threads: Threads,
    /// Instances between two calls. They go before the engine does.
    pub(super) pool: Arc<InstancePool>,
    pub(super) engine: Engine,
    pub(super) linker: Arc<CodeLinker>,
    _ticker: Ticker,
    compiler: PathBuf,
    compile_limits: CompileLimits,
    /// Compile processes for uploads and files. A tenant has one at a time, so that its next upload takes its turn behind
    /// those of others.
    pub(super) upload_slots: FairSemaphore<TenantId>,
    /// Compile processes for versions that are stored and have no compiled code. They take no slot from an upload.
    pub(super) restore_slots: FairSemaphore<TenantId>,
}

impl Runtime {
    pub(super) fn start(config: &PluginConfig, records: Option<CallRecords>) -> Result<Self, PluginError> {
        let instances = engine::instances(config);
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
            threads: Threads::start(config.threads, config.calls_per_tenant, stack_bytes, records)?,
            pool: Arc::new(InstancePool::new(config.resting_instances_max)),
            _ticker: Ticker::start(&engine)?,
            linker: Arc::new(CodeLinker {
                linker: sandbox::linker(&engine).map_err(PluginError::Runtime)?,
                engine: engine.clone(),
            }),
            engine,
            compiler: config.compiler.clone(),
            compile_limits: config.compile_limits,
            upload_slots: FairSemaphore::new(config.upload_slots, 1),
            restore_slots: FairSemaphore::new(config.restore_slots, config.restore_slots),
        })
    }

    /// Compiles a component in a child process with limits, and tries it on a sample there.
    pub(super) async fn compile(&self, tenant: &TenantId, component: Bytes) -> Result<CompiledComponent, CompileError> {
        check::check_bytes(&component)?;
        let (begun, bytes) = (Instant::now(), component.len());
        tracing::info!(%tenant, bytes, "compiling a component");
        telemetry::compiling();
        let compiled = compile::compile(&self.compiler, self.compile_limits, component).await;
        let result = match &compiled {
            Ok(_) => "fits",
            Err(error) if error.is_of_the_host() => "failed",
            Err(_) => "refused",
        };
        telemetry::compiled(result, begun.elapsed());
        tracing::info!(bytes, ms = begun.elapsed().as_millis(), fits = compiled.is_ok(), "compiled a component");
        compiled
            .map(|compiled| CompiledComponent { report: compiled.report, code: TrustedCode::from_child(compiled.code) })
    }
}

fn too_large_for_a_call(error: &wasmtime::Error) -> CompileError {
    let what = "the component is made of more parts (core modules, memories, tables) than a call has room for";
    tracing::info!(%error, "a component does not fit into an instance slot");
    Refusal::new("too-many-parts", what, "build it of fewer core modules, memories and tables").into()
}

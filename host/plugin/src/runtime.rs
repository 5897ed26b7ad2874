//! Plugin runtime: engine, plugin threads, instance pool and compiler.
//!
//! # Guarantees
//! - The host's [`Plugins`](super::Plugins) and the author's [`Workbench`](super::workbench::Workbench) use the same runtime, so that
//!   a plugin behaves the same in both.
//!
//! # Limits
//! Uses no store, and does not know the plugins of tenants.

use super::bindings::PluginPre;
use super::cache::{Code, CompiledComponent, TrustedCode};
use super::call_record::CallRecords;
use super::compile::{self, ChildInput, CompileError, CompileLimits};
use super::engine::{self, EnginePurpose, Ticker};
use super::guest::GuestState;
use super::instance_pool::InstancePool;
use super::report::{Refusal, Report};
use super::sandbox;
use super::script;
use super::threads::Threads;
use super::version::Version;
use super::{PluginConfig, PluginError, check};
use bytes::Bytes;
use hookloom_fair_share::FairSemaphore;
use hookloom_model::clock;
use hookloom_model::subscription::TenantId;
use hookloom_telemetry as telemetry;
use std::path::PathBuf;
use std::sync::Arc;
use wasmtime::Engine;
use wasmtime::component::Linker;

/// Linker of compiled code with the functions of the host.
pub(super) struct CodeLinker {
    engine: Engine,
    linker: Linker<GuestState>,
}

impl CodeLinker {
    /// Loads compiled code and links it.
    pub(super) fn link(&self, sha256: &str, report: &Report, code: &TrustedCode) -> Result<Version, PluginError> {
        let component = code.load(&self.engine).map_err(PluginError::Runtime)?;
        // At the load, so that the first call of the version does not pay for it out of its CPU time.
        component.initialize_copy_on_write_image().map_err(PluginError::Runtime)?;
        let image = component.image_range();
        let bytes = image.end.addr() - image.start.addr();
        // The compiler has checked everything except whether the component fits an instance slot.
        let pre = self.linker.instantiate_pre(&component).map_err(|error| too_large_for_a_call(&error))?;
        let plugin = PluginPre::new(pre).map_err(PluginError::Runtime)?;
        let sha256 = sha256.to_owned();
        let report = report.clone();
        Ok(Version { sha256, plugin, report, script: None, bytes: bytes as u64 })
    }
}

/// Engine with plugin threads, instance pool and compiler.
pub(super) struct Runtime {
    pub(super) threads: Threads,
    /// Idle instances. Dropped before the engine.
    pub(super) pool: Arc<InstancePool>,
    pub(super) engine: Engine,
    pub(super) linker: Arc<CodeLinker>,
    _ticker: Ticker,
    compiler: PathBuf,
    compile_limits: CompileLimits,
    /// Slots of compile processes for uploads and files. A tenant has one, so that its uploads alternate with those of other tenants.
    pub(super) upload_slots: FairSemaphore<TenantId>,
    /// Slots of compile processes for stored versions without compiled code. Separate from those of uploads.
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
            tracing::warn!(%error, "no address space for warm_memories_max memories; plugins are called without them, more slowly");
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

    /// Probes a script in a child process, on the code of the engine.
    pub(super) async fn check_script(&self, engine: &Version, source: &str) -> Result<CompiledComponent, PluginError> {
        let code = engine.plugin.instance_pre().component().serialize().map_err(PluginError::Runtime)?;
        let input = ChildInput::Script { engine: code.into(), source: Bytes::copy_from_slice(source.as_bytes()) };
        let probed = compile::compile(&self.compiler, self.compile_limits, input).await?;
        let report = Report {
            script_engine: Some(script::engine_sha256().to_owned()),
            probe: probed.report.probe,
            compiled_bytes: 0,
            compile_ms: 0,
            ..engine.report.clone()
        };
        Ok(CompiledComponent { report, code: Code::Script(source.into()) })
    }

    /// Compiles a component in a child process with limits, which also probes it on a sample event.
    pub(super) async fn compile(&self, tenant: &TenantId, component: Bytes) -> Result<CompiledComponent, CompileError> {
        check::check_bytes(&component)?;
        let begun = clock::instant();
        let bytes = component.len();
        tracing::info!(%tenant, bytes, "compiling a component");
        telemetry::compiling();
        let compiled = compile::compile(&self.compiler, self.compile_limits, ChildInput::Component(component)).await;
        let result = match &compiled {
            Ok(_) => "fits",
            Err(error) if error.is_of_the_host() => "failed",
            Err(_) => "refused",
        };
        telemetry::compiled(result, clock::since(begun));
        tracing::info!(bytes, ms = clock::since(begun).as_millis(), fits = compiled.is_ok(), "compiled a component");
        compiled.map(|compiled| CompiledComponent {
            report: compiled.report,
            code: Code::Component(TrustedCode::from_child(compiled.code)),
        })
    }
}

fn too_large_for_a_call(error: &wasmtime::Error) -> CompileError {
    let what = "the component is made of more parts (core modules, memories, tables) than a call has room for";
    tracing::info!(%error, "a component does not fit into an instance slot");
    Refusal::new("too-many-parts", what, "build it of fewer core modules, memories and tables").into()
}

//! Compile child: strips a component, compiles and checks it, writes the code to the parent, and then probes it on a sample event.
//!
//! # Guarantees
//! - The child limits its address space and CPU time before it reads the first byte. For the probe it raises these limits: guests
//!   reserve address space for their memories, so the probe bounds writable memory instead.
//! - Guest code runs only after the compiled code was written to the parent, so a guest cannot change it.
//! - The manifest is parsed here and nowhere else; the host reads it as a part of the report.
//! - Compilation runs with niceness 5. The probe does not, because it reports times; it takes about a second.

use super::cache::TrustedCode;
use super::check::{self, ComponentKind};
use super::compile::{self, CODE_BYTES_MAX, ChildReply, CompileLimits, PANICKED, PROBE_CPU_S};
use super::engine::{EnginePurpose, Ticker, engine};
use super::probe;
use super::report::{ProbeOutcome, Refusal, Report};
use super::script;
use super::strip::{self, ManifestSection};
use super::threads::HOST_STACK_BYTES;
use super::version::Version;
use hookloom_model::clock;
use hookloom_model::manifest::Manifest;
use rlimit::Resource;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::io::{ErrorKind, Read as _, Write as _};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Address space for the probe, in bytes: the memories of a few instances, each of which reserves 4 GiB and guard pages.
const PROBE_ADDRESS_BYTES: u64 = 64 << 30;

/// Writable memory for the probe, in bytes, in addition to that of compilation: the guest's memory and the host's around it.
const PROBE_MEMORY_BYTES: u64 = 2 << 30;

/// Stack of the thread that compiles, in bytes: the usual size of a main thread's stack.
const COMPILE_STACK_BYTES: usize = 8 << 20;

/// Exit code of a child that could not answer.
const FAILED: i32 = 2;

/// Error that ends a child.
#[derive(Debug, thiserror::Error)]
enum ChildError {
    /// A pipe, thread or resource limit failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The compiler or a call of the component panicked.
    #[error("the code of the host panicked")]
    Panicked,
}

/// Reason why a component is not compiled.
enum NotCompiled {
    Refused(Refusal),
    /// The machine prevents the compilation of any component.
    Unable(String),
}

impl From<Refusal> for NotCompiled {
    fn from(refusal: Refusal) -> Self {
        NotCompiled::Refused(refusal)
    }
}

/// Niceness of compilation: a third of the weight of other threads (sched(7)). With 10 it has a tenth: beside three busy processes on
/// two cores, 6 % of a core.
const NICENESS: i32 = 5;

/// Version to probe, with the engine that bounds its calls.
struct ProbeTarget {
    engine: Engine,
    version: Version,
}

/// Runs the compile child. Returns the exit code.
///
/// `engine_bytes`: size of the engine's compiled code, with which stdin begins if the rest is a script. Only the parent's arguments say
/// so, never the input: what a tenant uploads must not be loaded as compiled code.
pub fn compile_child(limits: CompileLimits, engine_bytes: Option<u64>) -> i32 {
    match compile_and_probe(limits, engine_bytes) {
        Ok(()) => 0,
        Err(ChildError::Panicked) => PANICKED,
        Err(ChildError::Io(_)) => FAILED,
    }
}

fn compile_and_probe(limits: CompileLimits, engine_bytes: Option<u64>) -> Result<(), ChildError> {
    if let Err(error) = limit_compiling(limits) {
        return Ok(write_reply(&ChildReply::Unable(format!(
            "the limits of the compile process cannot be set: {error}"
        )))?);
    }
    let mut component = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut component).map_err(ChildError::from);
    let compiled = read.and_then(|_| {
        on_a_thread(COMPILE_STACK_BYTES, move || {
            // Under Linux, niceness is per thread (setpriority(2)). A failure only makes other threads wait longer.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            match engine_bytes {
                Some(bytes) => load_script(&component, bytes, limits),
                None => compile_here(&component, limits),
            }
        })
    });
    match compiled {
        Ok(Ok((report, code, ready))) => {
            write_reply(&ChildReply::Compiled(Box::new(report), code.len() as u64))?;
            write(&code)?;
            drop(code);
            limit_probing(limits)?;
            Ok(write_reply(&probe_here(limits, ready)?)?)
        }
        Ok(Err(NotCompiled::Refused(refusal))) => Ok(write_reply(&ChildReply::Refused(refusal.bounded()))?),
        Ok(Err(NotCompiled::Unable(what))) => Ok(write_reply(&ChildReply::Unable(what))?),
        // With little memory, reading or the thread's stack may already be too much.
        Err(ChildError::Io(error)) if matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::WouldBlock) => {
            Ok(write_reply(&ChildReply::Refused(compile::too_little_memory(limits)))?)
        }
        Err(error) => Err(error),
    }
}

fn on_a_thread<T: Send + 'static>(
    stack_bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ChildError> {
    let thread = std::thread::Builder::new().stack_size(stack_bytes).spawn(work)?;
    thread.join().map_err(|_| ChildError::Panicked)
}

fn write_reply(answer: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    write(&line)
}

fn write(bytes: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Sets the soft limits for compilation, and hard limits to which the probe can raise them.
fn limit_compiling(limits: CompileLimits) -> std::io::Result<()> {
    Resource::AS.set(limits.memory_bytes, limits.memory_bytes.saturating_add(PROBE_ADDRESS_BYTES))?;
    Resource::CPU.set(limits.cpu_s, limits.cpu_s.saturating_add(PROBE_CPU_S + 1))?;
    Resource::CORE.set(0, 0)
}

fn limit_probing(limits: CompileLimits) -> std::io::Result<()> {
    let (_, address_max) = Resource::AS.get()?;
    Resource::AS.set(address_max, address_max)?;
    let memory = limits.memory_bytes.saturating_add(PROBE_MEMORY_BYTES);
    Resource::DATA.set(memory, memory)?;
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).tv_sec.unsigned_abs();
    let (_, cpu_max) = Resource::CPU.get()?;
    Resource::CPU.set((used + PROBE_CPU_S).min(cpu_max), cpu_max)
}

/// Loads the engine with a script. Nothing is compiled.
fn load_script(
    input: &[u8],
    engine_bytes: u64,
    limits: CompileLimits,
) -> Result<(Report, Vec<u8>, ProbeTarget), NotCompiled> {
    let parts = usize::try_from(engine_bytes).ok().and_then(|bytes| input.split_at_checked(bytes));
    let script = parts.and_then(|(code, source)| Some((code, std::str::from_utf8(source).ok()?)));
    let Some((code, source)) = script else {
        return Err(NotCompiled::Unable("the engine for scripts did not reach the compile process".to_owned()));
    };
    let stack_bytes = usize::try_from(limits.stack_bytes).unwrap_or(usize::MAX);
    let engine = engine(EnginePurpose::Compile { stack_bytes }).map_err(compiler_fault)?;
    let component = TrustedCode::from_parent(code.to_vec()).load(&engine).map_err(compiler_fault)?;
    let (_, plugin) = check::check_component(&engine, &component, ComponentKind::ScriptEngine)?;
    let version = Version::unnamed(plugin, Some(source.into()));
    Ok((Report::default(), Vec::new(), ProbeTarget { engine, version }))
}

fn compile_here(component: &[u8], limits: CompileLimits) -> Result<(Report, Vec<u8>, ProbeTarget), NotCompiled> {
    let started = clock::instant();
    if let Some(fault) = super::no_executable_memory() {
        return Err(NotCompiled::Unable(fault.to_owned()));
    }
    let stack_bytes = usize::try_from(limits.stack_bytes).unwrap_or(usize::MAX);
    let engine = engine(EnginePurpose::Compile { stack_bytes }).map_err(compiler_fault)?;
    let is_engine = hex::encode(Sha256::digest(component)) == script::engine_sha256();
    let kind = if is_engine { ComponentKind::ScriptEngine } else { ComponentKind::Plugin };
    let stripped = strip::strip(component).map_err(|error| broken(&error.to_string()))?;
    let manifest = read_manifest(stripped.manifest)?;
    let component = Component::from_binary(&engine, &stripped.component).map_err(|error| explain(&error, limits))?;
    let (report, plugin) = check::check_component(&engine, &component, kind)?;
    let code = component.serialize().map_err(compiler_fault)?;
    let compiled_bytes = code.len() as u64;
    if compiled_bytes > CODE_BYTES_MAX {
        return Err(compile::too_much_code(compiled_bytes).into());
    }
    let compile_ms = u64::try_from(clock::since(started).as_millis()).unwrap_or(u64::MAX);
    Ok((
        Report { compiled_bytes, compile_ms, manifest, ..report },
        code,
        ProbeTarget { engine, version: Version::unnamed(plugin, None) },
    ))
}

/// Reads the manifest of a component, if it has one.
fn read_manifest(section: ManifestSection) -> Result<Option<Manifest>, Refusal> {
    let remedy =
        "correct the manifest: docs/reference/manifest.md describes it; a component without one is accepted too";
    match section {
        ManifestSection::None => Ok(None),
        ManifestSection::One(bytes) => match Manifest::parse(&bytes) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) => {
                Err(Refusal::new("manifest", format!("the component's manifest is refused: {error}"), remedy))
            }
        },
        ManifestSection::Several => {
            let what = "several parts of the component have a manifest, and the component itself has none";
            Err(Refusal::new("manifest", what, "add the section hookloom:manifest to the component itself, once"))
        }
    }
}

fn compiler_fault(error: wasmtime::Error) -> NotCompiled {
    NotCompiled::Unable(format!("this host's compiler does not work: {error:#}"))
}

/// Probes the component on a thread with the stack of a plugin thread.
fn probe_here(limits: CompileLimits, ProbeTarget { engine, version }: ProbeTarget) -> Result<ProbeOutcome, ChildError> {
    let _ticker = Ticker::start(&engine)?;
    // The implementation of WASI uses clock types of tokio. No task is spawned.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let handle = runtime.handle().clone();
    let stack_bytes = usize::try_from(limits.stack_bytes).unwrap_or(usize::MAX).saturating_add(HOST_STACK_BYTES);
    // In the host a panic only ends the call. But every call of this component could panic.
    on_a_thread(stack_bytes, move || {
        let _context = handle.enter();
        probe::probe(&version)
    })
}

/// Builds a refusal from a compiler error, with a remedy where one is known.
fn explain(error: &wasmtime::Error, limits: CompileLimits) -> Refusal {
    /// Text of ENOMEM (errno(3)) in an I/O error.
    const NO_MEMORY: &str = "(os error 12)";
    let message = format!("{error:#}");
    if message.contains(NO_MEMORY) {
        return compile::too_little_memory(limits);
    }
    if message.contains("component model async") {
        let what = "the component uses the component model's async functions, which this host leaves out";
        return Refusal::new("async", what, "rebuild it with synchronous functions (componentize-qjs: --sync)");
    }
    broken(&message)
}

fn broken(message: &str) -> Refusal {
    let what = format!("the component is broken or uses a feature that this host leaves out ({message})");
    Refusal::new("invalid", what, "rebuild it; a file that was cut off in transfer looks like this too")
}

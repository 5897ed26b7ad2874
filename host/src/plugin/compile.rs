//! Compiles a component in a child process with limits: compiling hostile input is the one step that the sandbox does
//! not bound, so it happens where it can be killed.
//!
//! The child is this same binary with a hidden subcommand. It limits its own address space and CPU time before it
//! reads the first byte, reads the component from stdin, and writes to stdout a line of JSON (a report or a refusal)
//! and then the compiled code. The parent limits wall time, kills the child when it gives up, and trusts what a child
//! of its own wrote and nothing else.

use super::check::{self, Refusal, Report};
use super::engine::{EnginePurpose, engine};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use wasmtime::component::Component;

/// The hidden subcommand.
pub const CHILD_COMMAND: &str = "compile-plugin";

/// What the child may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// CPU time, in seconds.
    pub cpu_s: u64,
    /// Wall time, in seconds: on a machine that has other things to do, more than the CPU time.
    pub wall_s: u64,
    /// Address space, in bytes.
    pub memory_bytes: u64,
}

impl CompileLimits {
    /// The largest known toolchain output, a Python runtime of 18 MB, takes a quarter of the time and of the space.
    pub const USUAL: CompileLimits = CompileLimits { cpu_s: 60, wall_s: 120, memory_bytes: 4 << 30 };
}

/// A component as it came out of the compiler.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) report: Report,
    pub(super) code: Vec<u8>,
}

/// Why there is no compiled code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The file is at fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The machine is at fault.
    #[error("the compile process could not be started or spoken to")]
    Child(#[from] std::io::Error),
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Compiled(Report),
    Refused(Refusal),
}

/// Compiles a component in a child process.
pub(super) async fn compile(
    program: &PathBuf,
    limits: CompileLimits,
    component: Bytes,
) -> Result<Compiled, CompileError> {
    let mut child = tokio::process::Command::new(program)
        .arg(CHILD_COMMAND)
        .args([limits.cpu_s, limits.wall_s, limits.memory_bytes].map(|limit| limit.to_string()))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or_else(|| std::io::Error::other("the child has no stdin"))?;
    let feed = async move {
        // A child that was killed while it read is reported by its exit status.
        let _ = stdin.write_all(&component).await;
        drop(stdin);
    };
    let work = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = match tokio::time::timeout(Duration::from_secs(limits.wall_s), work).await {
        Ok(output) => output?,
        Err(_) => {
            let what = format!("compiling took longer than {} s (compile_wall_s)", limits.wall_s);
            return Err(too_hard(what).into());
        }
    };
    read_answer(limits, &output)
}

fn read_answer(limits: CompileLimits, output: &Output) -> Result<Compiled, CompileError> {
    let (stdout, status) = (&output.stdout[..], output.status);
    let end_of_line = stdout.iter().position(|byte| *byte == b'\n');
    let line = end_of_line.map(|end| (&stdout[..end], &stdout[end + 1..]));
    match line.and_then(|(line, code)| Some((serde_json::from_slice(line).ok()?, code))) {
        Some((Answer::Refused(refusal), _)) => Err(refusal.into()),
        Some((Answer::Compiled(report), code)) if status.success() => Ok(Compiled { report, code: code.to_vec() }),
        _ => Err(match status.signal() {
            Some(libc_sigxcpu) if libc_sigxcpu == SIGXCPU => {
                too_hard(format!("compiling took more than {} s of CPU time (compile_cpu_s)", limits.cpu_s))
            }
            _ if output.stderr.windows(OUT_OF_MEMORY.len()).any(|words| words == OUT_OF_MEMORY) => {
                too_little_memory(limits)
            }
            _ => {
                let words = String::from_utf8_lossy(&output.stderr);
                tracing::error!(%status, words = %words.chars().take(2_000).collect::<String>(), "the compiler crashed");
                too_hard(format!("the compiler crashed over it ({status})"))
            }
        }
        .into()),
    }
}

/// What Rust's runtime says before it aborts: "memory allocation of N bytes failed".
const OUT_OF_MEMORY: &[u8] = b"memory allocation of";

/// What the system says when there is no room for a mapping (errno(3), ENOMEM).
const NO_MEMORY: &str = "(os error 12)";

/// signal(7): CPU time limit exceeded.
const SIGXCPU: i32 = 24;

fn too_little_memory(limits: CompileLimits) -> Refusal {
    too_hard(format!("compiling needs more memory than compile_memory_bytes ({})", limits.memory_bytes))
}

fn too_hard(what: String) -> Refusal {
    Refusal::new("too-hard-to-compile", what, "make the component smaller or simpler")
}

/// The child's whole life. Returns its exit code.
pub fn compile_child(limits: CompileLimits) -> i32 {
    // Whoever waits for a compiler can wait a little longer; whoever waits for a delivery shall not.
    let _ = rustix::process::setpriority_process(None, 10);
    let limited = rlimit::Resource::AS
        .set(limits.memory_bytes, limits.memory_bytes)
        .and_then(|()| rlimit::Resource::CPU.set(limits.cpu_s, limits.cpu_s + 1))
        .and_then(|()| rlimit::Resource::CORE.set(0, 0));
    if limited.is_err() {
        return 2;
    }
    let mut component = Vec::new();
    let compiled = match std::io::stdin().lock().read_to_end(&mut component) {
        Ok(_) => compile_here(&component, limits),
        // With little memory reading may already be too much.
        Err(error) if error.kind() == ErrorKind::OutOfMemory => Err(too_little_memory(limits)),
        Err(_) => return 2,
    };
    let (answer, code) = match compiled {
        Ok(compiled) => (Answer::Compiled(compiled.report), compiled.code),
        Err(refusal) => (Answer::Refused(refusal), Vec::new()),
    };
    let Ok(line) = serde_json::to_vec(&answer) else { return 2 };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(&line).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.write_all(&code));
    if written.and_then(|()| stdout.flush()).is_ok() { 0 } else { 2 }
}

fn compile_here(component: &[u8], limits: CompileLimits) -> Result<Compiled, Refusal> {
    let started = Instant::now();
    let ours = |error: wasmtime::Error| {
        Refusal::new("host", format!("this host's compiler does not start: {error}"), "tell the operator")
    };
    let engine = engine(EnginePurpose::Compile).map_err(ours)?;
    let component = Component::from_binary(&engine, component).map_err(|error| explain(&error, limits))?;
    let report = check::check_component(&engine, &component)?;
    let code = component.serialize().map_err(ours)?;
    let compile_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Compiled { report: Report { compiled_bytes: code.len() as u64, compile_ms, ..report }, code })
}

/// The compiler's words, preceded by ours, and with the way out where one is known.
fn explain(error: &wasmtime::Error, limits: CompileLimits) -> Refusal {
    let message = format!("{error:#}");
    if message.contains(NO_MEMORY) {
        return too_little_memory(limits);
    }
    if message.contains("component model async") {
        let what = "the component uses the component model's async functions, which this host leaves out";
        return Refusal::new("async", what, "rebuild it with synchronous functions (componentize-qjs: --sync)");
    }
    let what = format!("the component is broken or uses a feature that this host leaves out ({message})");
    Refusal::new("invalid", what, "rebuild it; a file that was cut off in transfer looks like this too")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// What becomes of a compiler that does this.
    async fn refused(script: &str) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("compiler");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("executable");
        let limits = CompileLimits { cpu_s: 1, wall_s: 1, memory_bytes: 1 << 30 };
        let compiled = compile(&program, limits, Bytes::from_static(b"component")).await;
        compiled.expect_err("no compiler").to_string()
    }

    #[tokio::test]
    async fn a_compiler_that_does_not_answer_is_told_by_its_limit() {
        #[track_caller]
        fn check(told: &str, expected: &str) {
            assert!(told.starts_with(expected), "{told}");
        }
        check(&refused("exec sleep 60").await, "compiling took longer than 1 s (compile_wall_s)");
        check(&refused("kill -XCPU $$").await, "compiling took more than 1 s of CPU time (compile_cpu_s)");
        let words = "echo 'memory allocation of 7 bytes failed' >&2; kill -ABRT $$";
        check(&refused(words).await, "compiling needs more memory than compile_memory_bytes (1073741824)");
        check(&refused("exit 3").await, "the compiler crashed over it (exit status: 3)");
    }
}

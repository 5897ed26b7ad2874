//! Compiles a component and tries it on a sample in a child process with limits: neither compiling hostile input nor what a
//! guest does to the process that runs it first is bounded by the sandbox, so both happen where they can be killed.
//!
//! The child ([`compile_child`](mod@super::compile_child)) is this same binary with a hidden subcommand. It reads the component
//! from stdin and writes to stdout: a line of JSON (a report or a refusal), the compiled code, and a line of JSON with what the
//! probe came to. The parent limits wall time and how much it reads, kills the child when it gives up, and trusts what a child
//! of its own wrote and nothing else. A child that dies between the code and the last line was killed by the guest.

use super::check::{Refusal, Report};
use super::probe::{Probe, Probed};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

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
    /// The stack of a guest that is tried, in bytes.
    pub stack_bytes: u64,
}

impl CompileLimits {
    /// The largest known toolchain output, a Python runtime of 18 MB, takes a quarter of the time and of the space.
    pub const USUAL: CompileLimits =
        CompileLimits { cpu_s: 60, wall_s: 120, memory_bytes: 4 << 30, stack_bytes: crate::limits::STACK_BYTES };

    /// The limits as the child's arguments, in the order of the subcommand's.
    fn arguments(&self) -> [String; 4] {
        [self.cpu_s, self.wall_s, self.memory_bytes, self.stack_bytes].map(|limit| limit.to_string())
    }
}

/// CPU time that a child may use for the probe, in seconds. A probe makes some ten calls, each with its own limit.
pub(super) const PROBE_CPU_S: u64 = 10;

/// Maximum size of the compiled code of one component, in bytes. Code is read into this process's memory; some bytes of a
/// component can stand for megabytes of it (the image of a memory with one byte far out).
pub(super) const CODE_BYTES_MAX: u64 = 128 << 20;

/// Maximum length of a line that the child answers, in bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Maximum size of what is kept of the child's stderr, in bytes.
const WORDS_BYTES_MAX: u64 = 64 << 10;

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

/// The child's first line.
#[derive(Serialize, Deserialize)]
pub(super) enum Answer {
    /// The report; this many bytes of code follow, and then the line of [`Probed`].
    Compiled(Report, u64),
    /// Nothing follows.
    Refused(Refusal),
}

/// What was read of a child's answer so far.
#[derive(Default)]
struct Received {
    answer: Option<Answer>,
    code: Vec<u8>,
    probed: Option<Probed>,
}

impl Received {
    /// Reads until the answer is complete or the child says nothing more. Reads no more than an answer may have.
    async fn read(&mut self, mut stdout: impl AsyncBufRead + Unpin) -> std::io::Result<()> {
        self.answer = line(&mut stdout).await?;
        if let Some(Answer::Compiled(_, bytes)) = self.answer
            && bytes <= CODE_BYTES_MAX
        {
            (&mut stdout).take(bytes).read_to_end(&mut self.code).await?;
            self.probed = line(&mut stdout).await?;
        }
        Ok(())
    }
}

/// The next line as JSON. None: it is missing, too long or something else.
async fn line<T: DeserializeOwned>(stdout: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<T>> {
    let mut line = Vec::new();
    stdout.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    Ok(serde_json::from_slice(&line).ok())
}

/// The beginning of a stream, which is read to its end: who writes it must not wait for a reader.
async fn beginning(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    // What cannot be read is only missing in the log.
    let _ = (&mut stream).take(WORDS_BYTES_MAX).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    kept
}

/// Compiles a component in a child process, and tries it there.
pub(super) async fn compile(
    program: &PathBuf,
    limits: CompileLimits,
    component: Bytes,
) -> Result<Compiled, CompileError> {
    let mut command = tokio::process::Command::new(program);
    command.arg(CHILD_COMMAND).args(limits.arguments()).env_clear();
    command.envs(super::test_hooks::inherited());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let missing = || std::io::Error::other("a stream of the child is missing");
    let mut stdin = child.stdin.take().ok_or_else(missing)?;
    let (stdout, stderr) = child.stdout.take().zip(child.stderr.take()).ok_or_else(missing)?;
    let mut received = Received::default();
    let work = async {
        let feed = async move {
            // A child that was killed while it read is reported by its exit status.
            let _ = stdin.write_all(&component).await;
            drop(stdin);
        };
        let read = async {
            // Afterwards stdout is closed: a child that goes on writing ends.
            let _ = received.read(BufReader::new(stdout)).await;
        };
        let ((), (), words) = tokio::join!(feed, read, beginning(stderr));
        Ok::<_, std::io::Error>((child.wait().await?, words))
    };
    match tokio::time::timeout(Duration::from_secs(limits.wall_s), work).await {
        Ok(ended) => {
            let (status, words) = ended?;
            Ok(received.settle(limits, status, &words)?)
        }
        Err(_) => {
            let what =
                if received.code.is_empty() { "compiling took" } else { "compiling and trying it on a sample took" };
            Err(too_hard(format!("{what} longer than {} s (compile_wall_s)", limits.wall_s)).into())
        }
    }
}

impl Received {
    /// What a child that has ended came to.
    fn settle(self, limits: CompileLimits, status: ExitStatus, words: &[u8]) -> Result<Compiled, Refusal> {
        match (self.answer, self.probed) {
            (Some(Answer::Refused(refusal)), _) => Err(refusal.bounded()),
            (Some(Answer::Compiled(_, bytes)), _) if bytes > CODE_BYTES_MAX => Err(too_much_code(bytes)),
            (Some(Answer::Compiled(report, bytes)), Some(Probed::Done(probe)))
                if status.success() && self.code.len() as u64 == bytes =>
            {
                let probe = Some(Probe::bounded(probe));
                Ok(Compiled { report: Report { probe, ..report.bounded() }, code: self.code })
            }
            (Some(Answer::Compiled(..)), Some(Probed::Overrun { cpu_ms, limit_ms })) => Err(overran(cpu_ms, limit_ms)),
            (Some(Answer::Compiled(_, bytes)), None) if self.code.len() as u64 == bytes => {
                log_crash(status, words, "a component ended the process that tried it");
                Err(killed_its_process(status))
            }
            _ if status.signal() == Some(SIGXCPU) => {
                Err(too_hard(format!("compiling took more than {} s of CPU time (compile_cpu_s)", limits.cpu_s)))
            }
            _ if words.windows(OUT_OF_MEMORY.len()).any(|words| words == OUT_OF_MEMORY) => {
                Err(too_little_memory(limits))
            }
            _ => {
                log_crash(status, words, "the compiler crashed");
                Err(too_hard(format!("the compiler crashed over it ({status})")))
            }
        }
    }
}

fn log_crash(status: ExitStatus, words: &[u8], what: &str) {
    let words = String::from_utf8_lossy(words);
    tracing::error!(%status, words = %words.chars().take(2_000).collect::<String>(), "{what}");
}

/// What Rust's runtime says before it aborts: "memory allocation of N bytes failed".
const OUT_OF_MEMORY: &[u8] = b"memory allocation of";

/// signal(7): CPU time limit exceeded.
const SIGXCPU: i32 = 24;

pub(super) fn too_little_memory(limits: CompileLimits) -> Refusal {
    too_hard(format!("compiling needs more memory than compile_memory_bytes ({})", limits.memory_bytes))
}

fn too_hard(what: String) -> Refusal {
    Refusal::new("too-hard-to-compile", what, "make the component smaller or simpler")
}

pub(super) fn too_much_code(bytes: u64) -> Refusal {
    let what = format!("the component's compiled code has {bytes} bytes, and a host takes {CODE_BYTES_MAX}");
    Refusal::new("too-much-code", what, "make the component smaller; let its memories begin small")
}

fn killed_its_process(status: ExitStatus) -> Refusal {
    let what = format!("the process that tried the component on a sample event died of it ({status})");
    let remedy =
        "a host that ran it would die too, so none takes it; make it simpler, or tell the operator, whose log has more";
    Refusal::new("kills-its-process", what, remedy)
}

fn overran(cpu_ms: u64, limit_ms: u64) -> Refusal {
    let what =
        format!("a call on a sample event used {cpu_ms} ms of CPU time although it was stopped at {limit_ms} ms");
    Refusal::new(
        "not-stoppable",
        what,
        "a part of the component costs the host time that no limit ends; make it simpler",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// What becomes of a compiler that does this.
    async fn refused(script: &str) -> String {
        refused_within(60, script).await
    }

    async fn refused_within(wall_s: u64, script: &str) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("compiler");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("executable");
        let limits = CompileLimits { cpu_s: 1, wall_s, memory_bytes: 1 << 30, ..CompileLimits::USUAL };
        let compiled = compile(&program, limits, Bytes::from_static(b"component")).await;
        compiled.expect_err("no compiler").to_string()
    }

    #[track_caller]
    fn check(told: &str, expected: &str) {
        assert!(told.starts_with(expected), "{told}");
    }

    #[tokio::test]
    async fn a_compiler_that_does_not_answer_is_told_by_its_limit() {
        check(&refused_within(1, "exec sleep 600").await, "compiling took longer than 1 s (compile_wall_s)");
        check(&refused("kill -XCPU $$").await, "compiling took more than 1 s of CPU time (compile_cpu_s)");
        let words = "echo 'memory allocation of 7 bytes failed' >&2; kill -ABRT $$";
        check(&refused(words).await, "compiling needs more memory than compile_memory_bytes (1073741824)");
        check(&refused("exit 3").await, "the compiler crashed over it (exit status: 3)");
    }

    /// A script that answers like a compiler whose code has so many bytes.
    fn answering(code_bytes: u64, then: &str) -> String {
        let report = Report { contract: "c".into(), ..Report::default() };
        let line = serde_json::to_string(&Answer::Compiled(report, code_bytes)).expect("JSON");
        format!("printf '%s\\n' '{line}'; {then}")
    }

    #[tokio::test]
    async fn a_guest_that_kills_the_child_in_the_trial_is_refused() {
        let told = refused(&answering(4, "printf code; kill -ABRT $$")).await;
        check(&told, "the process that tried the component on a sample event died of it (signal: 6");
        let told = refused_within(3, &answering(4, "printf code; exec sleep 600")).await;
        check(&told, "compiling and trying it on a sample took longer than 3 s");
        let told = refused(&answering(4, "printf co; kill -ABRT $$")).await;
        check(&told, "the compiler crashed over it (signal: 6");
        let overrun = serde_json::to_string(&Probed::Overrun { cpu_ms: 900, limit_ms: 50 }).expect("JSON");
        let told = refused(&answering(4, &format!("printf 'code%s\\n' '{overrun}'"))).await;
        check(&told, "a call on a sample event used 900 ms of CPU time although it was stopped at 50 ms");
    }

    #[tokio::test]
    async fn no_more_is_read_than_an_answer_may_have() {
        check(&refused("exec cat /dev/zero").await, "the compiler crashed over it");
        let told = refused(&answering(CODE_BYTES_MAX + 1, "exec cat /dev/zero")).await;
        check(&told, "the component's compiled code has 134217729 bytes, and a host takes 134217728");
        let told = refused("cat /dev/zero | head -c 3000000 >&2; exit 3").await;
        check(&told, "the compiler crashed over it (exit status: 3)");
        let long =
            serde_json::to_string(&Answer::Refused(Refusal::new("x", "\u{1b}".repeat(9_000), "y"))).expect("JSON");
        let told = refused(&format!("printf '%s\\n' '{long}'")).await;
        assert!(told.len() < 7_000 && !told.contains('\u{1b}'), "{} bytes", told.len());
    }
}

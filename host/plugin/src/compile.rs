//! Compilation and probe of a component in a child process with limits. The sandbox bounds neither the compilation of hostile input nor
//! the first effects of a guest on its process, so both happen in a process that can be killed.
//!
//! The child ([`compile_child`](mod@super::compile_child)) is this same binary with a hidden subcommand. It reads the component
//! from stdin and writes to stdout: a line of JSON (report or refusal), the compiled code, and a line of JSON with the result of the
//! probe. The parent limits the wall time and the size of the output, and kills the child on a timeout.
//!
//! # Guarantees
//! - A component is refused only for what its child reported: a refusal, the limit that ended the child (last words of the runtime,
//!   SIGXCPU), or the end of the process that probed it.
//! - A child that cannot be started, is killed from outside or ends without an answer is a fault of this host: it is repeated
//!   ([`RETRY_PAUSES`]), and then reported as an error that says nothing about the component.

use super::report::{Probe, ProbeOutcome, Refusal, Report};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

/// Hidden subcommand of this binary that runs the compile child.
pub const CHILD_COMMAND: &str = "compile-plugin";

/// Limits of a compile child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// CPU time, in seconds.
    pub cpu_s: u64,
    /// Wall time, in seconds. Bounds a child that waits. On a busy machine the wall time is many times the CPU time, and a valid
    /// component must not be refused for that.
    pub wall_s: u64,
    /// Address space, in bytes.
    pub memory_bytes: u64,
    /// Stack of the guest in the probe, in bytes.
    pub stack_bytes: u64,
}

impl CompileLimits {
    /// Default limits. The largest known toolchain output, a Python runtime of 18 MB, takes a quarter of the time and memory.
    pub const USUAL: CompileLimits = CompileLimits {
        cpu_s: 60,
        wall_s: 600,
        memory_bytes: 4 << 30,
        stack_bytes: hookloom_model::limits::STACK_BYTES,
    };

    /// Returns the limits as arguments of the subcommand, in its order.
    fn arguments(&self) -> [String; 4] {
        [self.cpu_s, self.wall_s, self.memory_bytes, self.stack_bytes].map(|limit| limit.to_string())
    }
}

/// CPU time that a child may use for the probe, in seconds. A probe makes about ten calls, each with a limit.
pub(super) const PROBE_CPU_S: u64 = 10;

/// Maximum size of the compiled code of one component, in bytes. The code is read into memory, and a few bytes of a component can stand
/// for megabytes of code (the image of a memory with one byte at a high address).
pub(super) const CODE_BYTES_MAX: u64 = 128 << 20;

/// Maximum length of a line of the child's output, in bytes. The report repeats a manifest of at most 32 KiB.
const LINE_BYTES_MAX: u64 = 128 << 10;

/// Maximum size of the child's stderr that is kept, in bytes.
const WORDS_BYTES_MAX: u64 = 64 << 10;

/// Output of the compiler for one component.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) report: Report,
    pub(super) code: Vec<u8>,
}

/// Reason why there is no compiled code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The component is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The child could not be started, or communication with it failed.
    #[error("the compile process could not be started or did not answer")]
    Child(#[from] std::io::Error),
    /// The child was killed, or crashed.
    #[error("the compile process ended without an answer ({0})")]
    Ended(ExitStatus),
    /// The child reported that it could not compile anything.
    #[error("the compile process could not work: {0}")]
    Unable(String),
}

impl CompileError {
    /// Returns whether the host is at fault, so that the same component may compile at another time.
    pub fn is_of_the_host(&self) -> bool {
        !matches!(self, CompileError::Refused(_))
    }
}

/// The child's first line.
#[derive(Serialize, Deserialize)]
pub(super) enum ChildReply {
    /// Compiled: the report. This many bytes of code follow, and then the line of [`ProbeOutcome`].
    Compiled(Box<Report>, u64),
    /// The component is refused. Nothing follows.
    Refused(Refusal),
    /// The machine prevents any compilation. Nothing follows.
    Unable(String),
}

/// Output of a child that was read so far.
#[derive(Default)]
struct ChildOutput {
    answer: Option<ChildReply>,
    code: Vec<u8>,
    probed: Option<ProbeOutcome>,
}

impl ChildOutput {
    /// Reads until the answer is complete, the child closes stdout, or the maximum size of an answer is reached.
    async fn read(&mut self, mut stdout: impl AsyncBufRead + Unpin) -> std::io::Result<()> {
        self.answer = line(&mut stdout).await?;
        if let Some(ChildReply::Compiled(_, bytes)) = self.answer
            && bytes <= CODE_BYTES_MAX
        {
            (&mut stdout).take(bytes).read_to_end(&mut self.code).await?;
            self.probed = line(&mut stdout).await?;
        }
        Ok(())
    }
}

/// Reads the next line as JSON. None: the line is missing, too long or invalid.
async fn line<T: DeserializeOwned>(stdout: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<T>> {
    let mut line = Vec::new();
    stdout.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    Ok(serde_json::from_slice(&line).ok())
}

/// Returns the beginning of a stream. Reads the stream to its end, so that the writer never blocks.
async fn beginning(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    // An error only shortens the log.
    let _ = (&mut stream).take(WORDS_BYTES_MAX).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    kept
}

/// Input of a child.
#[derive(Clone)]
pub(super) enum ChildInput {
    /// Component to compile and probe.
    Component(Bytes),
    /// Script to probe on the engine's compiled code.
    Script { engine: Bytes, source: Bytes },
}

impl ChildInput {
    /// Returns the parts of stdin, in order.
    fn parts(&self) -> [&[u8]; 2] {
        match self {
            ChildInput::Component(component) => [component, &[]],
            ChildInput::Script { engine, source } => [engine, source],
        }
    }

    /// Returns the argument that tells a script from a component.
    fn argument(&self) -> Option<String> {
        match self {
            ChildInput::Component(_) => None,
            ChildInput::Script { engine, .. } => Some(format!("--engine-bytes={}", engine.len())),
        }
    }
}

/// Compiles a component in a child process, which also probes it. After a fault of this host, another child repeats the work.
pub(super) async fn compile(
    program: &Path,
    limits: CompileLimits,
    input: ChildInput,
) -> Result<Compiled, CompileError> {
    for wait in RETRY_PAUSES {
        match compile_once(program, limits, input.clone()).await {
            Err(error) if error.is_of_the_host() => {
                tracing::warn!(error = %hookloom_model::describe(&error), "a component could not be compiled because of a fault of the host; trying again");
                tokio::time::sleep(wait).await;
            }
            settled => return settled,
        }
    }
    compile_once(program, limits, input).await
}

async fn compile_once(program: &Path, limits: CompileLimits, input: ChildInput) -> Result<Compiled, CompileError> {
    let mut command = tokio::process::Command::new(program);
    // The program's file may have been renamed or deleted since the start.
    command.arg0("hookloom").arg(CHILD_COMMAND).args(limits.arguments()).args(input.argument()).env_clear();
    command.envs(super::test_hooks::inherited());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().ok_or_else(missing_stream)?;
    let (stdout, stderr) = child.stdout.take().zip(child.stderr.take()).ok_or_else(missing_stream)?;
    let mut received = ChildOutput::default();
    let work = async {
        let feed = async move {
            // A child that was killed while it read is reported by its exit status.
            for part in input.parts() {
                let _ = stdin.write_all(part).await;
            }
            drop(stdin);
        };
        let read = async {
            // Stdout is closed afterwards, which ends a child that continues to write.
            let _ = received.read(BufReader::new(stdout)).await;
        };
        let ((), (), words) = tokio::join!(feed, read, beginning(stderr));
        Ok::<_, std::io::Error>((child.wait().await?, words))
    };
    match tokio::time::timeout(Duration::from_secs(limits.wall_s), work).await {
        Ok(ended) => {
            let (status, words) = ended?;
            received.settle(limits, status, &words)
        }
        Err(_) => {
            let what =
                if received.code.is_empty() { "compiling took" } else { "compiling and trying it on a sample took" };
            Err(too_hard(format!("{what} longer than {} s (compile_wall_s)", limits.wall_s)).into())
        }
    }
}

fn missing_stream() -> std::io::Error {
    std::io::Error::other("a stream of the child is missing")
}

impl ChildOutput {
    /// Evaluates the output and exit status of a child that has ended.
    fn settle(self, limits: CompileLimits, status: ExitStatus, words: &[u8]) -> Result<Compiled, CompileError> {
        let has_said = |said: &[u8]| words.windows(said.len()).any(|words| words == said);
        let refusal = match (self.answer, self.probed) {
            (Some(ChildReply::Refused(refusal)), _) => refusal.bounded(),
            (Some(ChildReply::Unable(what)), _) => {
                log_crash(status, words, "the compile process could not work");
                return Err(CompileError::Unable(what.chars().take(UNABLE_CHARS_MAX).collect()));
            }
            (Some(ChildReply::Compiled(..)), Some(ProbeOutcome::Refused(refusal))) => refusal.bounded(),
            (Some(ChildReply::Compiled(_, bytes)), _) if bytes > CODE_BYTES_MAX => too_much_code(bytes),
            (Some(ChildReply::Compiled(report, bytes)), Some(ProbeOutcome::Done(probe)))
                if status.success() && self.code.len() as u64 == bytes =>
            {
                let probe = Some(Probe::bounded(probe));
                return Ok(Compiled { report: Report { probe, ..report.bounded() }, code: self.code });
            }
            (Some(ChildReply::Compiled(..)), Some(ProbeOutcome::Overrun { cpu_ms, limit_ms })) => {
                overran(cpu_ms, limit_ms)
            }
            (Some(ChildReply::Compiled(_, bytes)), None)
                if self.code.len() as u64 == bytes && (is_own_end(status) || has_said(OUT_OF_MEMORY)) =>
            {
                log_crash(status, words, "a component ended the process that tried it");
                killed_its_process(status)
            }
            _ if status.signal() == Some(SIGXCPU) => {
                too_hard(format!("compiling took more than {} s of CPU time (compile_cpu_s)", limits.cpu_s))
            }
            _ if has_said(OUT_OF_MEMORY) => too_little_memory(limits),
            _ if has_said(OUT_OF_STACK) || status.code() == Some(PANICKED) => {
                log_crash(status, words, "the compiler crashed");
                too_hard(format!("the compiler crashed over it ({status})"))
            }
            _ => {
                log_crash(status, words, "the compile process ended without an answer");
                return Err(CompileError::Ended(status));
            }
        };
        Err(refusal.into())
    }
}

/// Returns whether a process was ended by code that ran in it, and not killed from outside.
fn is_own_end(status: ExitStatus) -> bool {
    /// signal(7): SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU and SIGSYS.
    const RAISED_WITHIN: [i32; 8] = [4, 5, 6, 7, 8, 11, SIGXCPU, 31];
    status.code() == Some(PANICKED) || status.signal().is_some_and(|signal| RAISED_WITHIN.contains(&signal))
}

fn log_crash(status: ExitStatus, words: &[u8], what: &str) {
    let words = String::from_utf8_lossy(words);
    tracing::error!(%status, words = %words.chars().take(2_000).collect::<String>(), "{what}");
}

/// Message of Rust's runtime before an abort for lack of memory: "memory allocation of N bytes failed".
const OUT_OF_MEMORY: &[u8] = b"memory allocation of";

/// Message of Rust's runtime after a stack overflow: "thread '…' has overflowed its stack".
const OUT_OF_STACK: &[u8] = b"has overflowed its stack";

/// Exit code of a child in which the compiler or a call of the component panicked.
pub(super) const PANICKED: i32 = 3;

/// Pauses before a compilation is repeated after a fault of this host.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// Maximum length of a child's reason that is kept, in characters.
const UNABLE_CHARS_MAX: usize = 2_000;

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
mod tests;

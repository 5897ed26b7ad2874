//! Host side of one guest: the imported functions of the contract, counters with limits, and the description of faults.
//!
//! # Limits
//! Time limits are enforced in [`sandbox`](super::sandbox). Runs on a plugin thread, and uses neither store nor network.

use super::author_error::{self, AuthorError, ScriptError};
use super::bindings::hookloom::errors::report;
use super::bindings::hookloom::plugin::{config, history, log, secrets, types};
use super::bindings::hookloom::script::host;
use super::engine::{INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX};
use super::judgement::PluginInput;
use super::wasi::{self, Tail};
use super::{PluginFault, convert};
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookloom_model::delivery::Cost;
use hookloom_model::limits::Limits;
use hookloom_model::plural::counted;
use sha2::Sha256;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Trap};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// Maximum number of open handles of a guest. A plugin needs a few for its standard streams.
pub(super) const HANDLES_MAX: usize = 1_000;

/// Input of one call.
pub(super) struct CallInput<'a> {
    pub(super) input: &'a PluginInput,
    /// Output of the previous plugin of the chain, or the event's payload.
    pub(super) payload: &'a str,
    /// Remaining wall time.
    pub(super) wall: Duration,
}

/// Nondeterministic inputs of a guest: clock and random numbers.
#[derive(Clone, Copy)]
pub(super) struct CallEnvironment {
    /// Seed of the random numbers.
    pub(super) seed: ([u8; 16], [u8; 16]),
    /// Time of the wall clock, in milliseconds since the epoch.
    pub(super) now_ms: i64,
}

impl CallEnvironment {
    /// Derives the environment from event and subscription, so that every attempt gets the same one.
    pub(super) fn of(call_input: &CallInput<'_>) -> Self {
        let PluginInput { event, subscription, .. } = call_input.input;
        let seed = (*event.id.0.as_bytes(), *subscription.id.0.as_bytes());
        CallEnvironment { seed, now_ms: event.received_at_ms }
    }
}

/// Time limits that end a call, as [`GuestState::stopped_by`] holds them.
pub(super) const STOPPED_BY_CPU: u8 = 1;
pub(super) const STOPPED_BY_WALL: u8 = 2;

/// State of the host for one guest.
pub(super) struct GuestState {
    input: PluginInput,
    limits: Limits,
    limiter: MemoryLimiter,
    log: LogLines,
    host_calls: u64,
    hashed_bytes: u64,
    over_budget: Option<&'static str>,
    /// Time limit that ended the call, if one did.
    pub(super) stopped_by: Arc<AtomicU8>,
    output: Tail,
    wasi: WasiCtx,
    resources: ResourceTable,
    /// Script that the engine runs. None: the plugin is a component.
    pub(super) script: Option<Arc<str>>,
    /// Error that the engine reported.
    pub(super) script_error: Option<ScriptError>,
    /// Error that the plugin reported.
    author_error: Option<AuthorError>,
}

impl GuestState {
    /// Creates the state of a fresh instance.
    pub(super) fn new(call_input: &CallInput<'_>, environment: CallEnvironment) -> Self {
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(HANDLES_MAX);
        GuestState::with(call_input, environment, Tail::default(), resources)
    }

    /// Resets the state for the next call of the same instance. Memory and open handles are kept.
    pub(super) fn begin_again(&mut self, call_input: &CallInput<'_>, environment: CallEnvironment) {
        let output = self.output.clone();
        let resources = std::mem::take(&mut self.resources);
        let next = GuestState::with(call_input, environment, output, resources);
        let before = std::mem::replace(self, next);
        self.script = before.script;
        self.limiter.memory = before.limiter.memory;
        self.limiter.memory_peak = before.limiter.memory;
        self.limiter.elements = before.limiter.elements;
    }

    fn with(call_input: &CallInput<'_>, environment: CallEnvironment, output: Tail, resources: ResourceTable) -> Self {
        let limits = call_input.input.subscription.settings.limits;
        output.begin(limits.host_call_bytes);
        GuestState {
            input: call_input.input.clone(),
            limits,
            limiter: MemoryLimiter {
                memory_max: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
                elements_max: usize::try_from(limits.table_elements).unwrap_or(usize::MAX),
                ..Default::default()
            },
            log: LogLines { room: usize::try_from(limits.log_bytes).unwrap_or(usize::MAX), ..Default::default() },
            host_calls: 0,
            hashed_bytes: 0,
            over_budget: None,
            stopped_by: Arc::default(),
            wasi: wasi::context(&environment.seed.0, &environment.seed.1, environment.now_ms, &output),
            output,
            resources,
            script: None,
            script_error: None,
            author_error: None,
        }
    }

    /// Sets the script that the engine runs.
    pub(super) fn running(self, script: Option<Arc<str>>) -> Self {
        GuestState { script, ..self }
    }

    /// Returns the memory limit of the call, in bytes.
    pub(super) fn memory_bytes_max(&self) -> u64 {
        self.limits.memory_bytes
    }

    pub(super) fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.limiter
    }

    /// Returns the cost of the present call, except for time.
    pub(super) fn used(&self) -> Cost {
        Cost {
            memory_bytes: self.limiter.memory_peak as u64,
            host_calls: self.host_calls,
            host_call_bytes: self.limits.host_call_bytes - self.output.room(),
            hashed_bytes: self.hashed_bytes,
            log_bytes: self.log.bytes() as u64,
            table_elements: self.limiter.elements as u64,
            ..Cost::default()
        }
    }

    pub(super) fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log).into_lines()
    }

    pub(super) fn count_host_call(&mut self) -> wasmtime::Result<()> {
        self.host_calls += 1;
        if self.host_calls > self.limits.host_calls { self.over("host_calls") } else { Ok(()) }
    }

    /// Counts bytes that the guest passes to the host.
    fn count_bytes(&mut self, bytes: usize) -> wasmtime::Result<()> {
        if self.output.count(bytes) { Ok(()) } else { self.over("host_call_bytes") }
    }

    fn over<T>(&mut self, limit: &'static str) -> wasmtime::Result<T> {
        self.over_budget = Some(limit);
        Err(wasmtime::Error::msg("over budget"))
    }

    /// Returns the fault for an error of wasmtime. Limits of the host come first.
    pub(super) fn fault(&self, error: &wasmtime::Error) -> PluginFault {
        match self.stopped_by.load(Ordering::Relaxed) {
            STOPPED_BY_CPU => return PluginFault::Timeout { name: "cpu_ms", limit_ms: self.limits.cpu_ms },
            STOPPED_BY_WALL => return PluginFault::Timeout { name: "wall_ms", limit_ms: self.limits.wall_ms },
            _ => {}
        }
        if let Some(name) = self.limiter.refused.or(self.over_budget).or(self.output.over()) {
            let value = self.limits.named().into_iter().find(|(other, _)| *other == name).map_or(0, |(_, value)| value);
            return PluginFault::Limit { name, value };
        }
        if let Some(error) = &self.script_error {
            return PluginFault::Script(error.clone());
        }
        if let Some(reported) = &self.author_error {
            return PluginFault::Error(reported.clone().completed(error, self.output.text()));
        }
        let message = root_message(error);
        if error.downcast_ref::<Trap>().is_none() && message.contains("fuel allocated for hostcalls has been exhausted")
        {
            return PluginFault::Limit { name: "output_bytes", value: self.limits.output_bytes };
        }
        if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            return PluginFault::Shortage;
        }
        let message = convert::cut(&message, TRAP_MESSAGE_BYTES_MAX).to_owned();
        PluginFault::Trap { message, backtrace: author_error::functions(error), output: self.output.text() }
    }
}

fn root_message(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    }
}

/// Maximum length of a trap's message, in bytes. The guest may choose the message.
const TRAP_MESSAGE_BYTES_MAX: usize = 500;

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

impl types::Host for GuestState {}

impl log::Host for GuestState {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => "debug",
            log::Level::Info => "info",
            log::Level::Warn => "warn",
            log::Level::Error => "error",
        };
        self.count_bytes(message.len())?;
        super::test_hooks::on_log(&message);
        self.log.push(level, &message);
        Ok(())
    }
}

impl config::Host for GuestState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        self.count_bytes(key.len())?;
        if let Some(reads) = &self.input.config_reads {
            reads.note(&key);
        }
        Ok(self.input.subscription.settings.config.get(&key).cloned())
    }

    fn entries(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        if let Some(reads) = &self.input.config_reads {
            reads.note_whole();
        }
        Ok(self.input.subscription.settings.config.clone().into_iter().collect())
    }
}

impl secrets::Host for GuestState {
    fn hmac_sha256(&mut self, name: String, data: Vec<u8>) -> wasmtime::Result<Result<Vec<u8>, secrets::SecretError>> {
        self.count_bytes(name.len() + data.len())?;
        self.hashed_bytes += data.len() as u64;
        if self.hashed_bytes > self.limits.hashed_bytes {
            return self.over("hashed_bytes");
        }
        let Some(secret) = self.input.subscription.settings.secrets().get(&name) else {
            return Ok(Err(secrets::SecretError::UnknownName));
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).expect("HMAC takes keys of every length");
        mac.update(&data);
        Ok(Ok(mac.finalize().into_bytes().to_vec()))
    }
}

impl history::Host for GuestState {
    fn previous(&mut self) -> wasmtime::Result<Option<types::Event>> {
        let PluginInput { previous, subscription, .. } = &self.input;
        Ok(previous.as_ref().map(|previous| convert::event(previous, previous.text(), subscription, None)))
    }
}

impl host::Host for GuestState {
    fn load(&mut self) -> wasmtime::Result<host::Script> {
        let source =
            self.script.clone().ok_or_else(|| wasmtime::Error::msg("the engine was called without a script"))?;
        Ok(host::Script { source: source.as_ref().to_owned(), memory_bytes: self.memory_bytes_max() })
    }

    fn fail(&mut self, error: host::ScriptError) -> wasmtime::Result<()> {
        self.script_error = Some(error.into());
        Err(wasmtime::Error::msg("the script failed"))
    }
}

impl report::Host for GuestState {
    fn fail(&mut self, error: report::Error) -> wasmtime::Result<()> {
        self.author_error = Some(error.into());
        Err(wasmtime::Error::msg("the plugin failed"))
    }
}

/// Maximum length of an error's message, in bytes.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// Maximum number of functions of an error, and maximum length of each in bytes.
const FRAMES_MAX: usize = 16;
const FRAME_BYTES_MAX: usize = 120;

impl From<host::ScriptError> for ScriptError {
    fn from(error: host::ScriptError) -> Self {
        let frames = error.frames.iter().take(FRAMES_MAX).map(|frame| convert::cut(frame, FRAME_BYTES_MAX).to_owned());
        ScriptError {
            before_call: matches!(error.phase, host::Phase::Parse | host::Phase::Load),
            message: convert::cut(&error.message, MESSAGE_BYTES_MAX).to_owned(),
            position: error.position,
            frames: frames.collect(),
        }
    }
}

/// Log of a call: a bounded number of bytes in lines of at most 1 KiB, and the number of lines that were left out.
#[derive(Default)]
struct LogLines {
    room: usize,
    lines: Vec<String>,
    left_out: usize,
}

const LOG_LINE_BYTES_MAX: usize = 1 << 10;

impl LogLines {
    fn push(&mut self, level: &str, message: &str) {
        let line = format!("{level}: {}", convert::cut(message, LOG_LINE_BYTES_MAX));
        match self.room.checked_sub(line.len()) {
            Some(room) => {
                self.room = room;
                self.lines.push(line);
            }
            None => self.left_out += 1,
        }
    }

    fn bytes(&self) -> usize {
        self.lines.iter().map(String::len).sum()
    }

    fn into_lines(mut self) -> Vec<String> {
        if self.left_out > 0 {
            let left_out = counted(self.left_out as u64, "more line was", "more lines were");
            self.lines.push(format!("… {left_out} left out: limits.log_bytes is reached"));
        }
        self.lines
    }
}

/// Limit on the memories and tables of a guest, each kind counted together, with the peak of memory.
#[derive(Default)]
struct MemoryLimiter {
    memory_max: usize,
    memory: usize,
    memory_peak: usize,
    elements_max: usize,
    elements: usize,
    /// Limit that was exceeded.
    refused: Option<&'static str>,
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.memory += desired.saturating_sub(current);
        if self.memory > self.memory_max {
            self.refused = Some("memory_bytes");
            // An error ends the call. `Ok(false)` would let the guest continue, and fail elsewhere with another message.
            return Err(wasmtime::Error::msg("over the memory limit"));
        }
        self.memory_peak = self.memory_peak.max(self.memory);
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.elements += desired.saturating_sub(current);
        if self.elements > self.elements_max {
            self.refused = Some("table_elements");
            return Err(wasmtime::Error::msg("over the table limit"));
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

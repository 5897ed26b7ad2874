//! One call of a plugin: what it gets, what it may use, and how it is stopped.
//!
//! # Life of a call
//! 1. A fresh store and instance from the pool; nothing is left from any other call.
//! 2. The limits are set before the guest's first instruction, instantiation included.
//! 3. Every [`TICK`](super::engine::TICK) the guest stops for a moment and its CPU and wall time are compared. The
//!    thread's CPU clock is what counts, so a guest that was preempted on a busy machine is not charged for it.
//! 4. The answer is taken over, and the store is dropped: after a trap it must not be used, and otherwise it need not.
//!
//! Runs on a plugin thread, never on tokio's. Knows no database and no network.

use super::bindings::hookloom::plugin::{config, log, secrets, types};
use super::bindings::{Plugin, PluginPre};
use super::engine::{INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
use super::wasi::{self, Tail};
use super::{PluginFault, convert};
use crate::delivery::{Cost, Reason};
use crate::event::Event;
use crate::limits::Limits;
use crate::subscription::Subscription;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime::{CallHook, Engine, ResourceLimiter, Store, Trap, UpdateDeadline, WasmBacktrace};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// Open handles of a guest: a plugin needs a few for its standard streams.
const HANDLES_MAX: usize = 1_000;

/// What crosses into the host beside the body: log lines, headers and what the ABI adds.
const HOSTCALL_SLACK_BYTES: u64 = 2 << 20;

/// What a call came to.
pub(super) struct Called {
    /// The plugin's answer, in the contract's words, or the fault.
    pub(super) answer: Result<Result<types::Verdict, types::Failure>, PluginFault>,
    /// What it wrote to its log.
    pub(super) log: Vec<String>,
    /// What it cost.
    pub(super) cost: Cost,
}

/// Everything a linker needs to run plugins: the contract and WASI.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    Plugin::add_to_linker::<CallState, HasSelf<CallState>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Calls a plugin with an event, whose payload is what the plugin before made of it, and with what is left of the wall
/// time.
pub(super) fn call(
    plugin: &PluginPre<CallState>,
    event: &Event,
    payload: &str,
    subscription: Arc<Subscription>,
    wall: Duration,
) -> Called {
    let world = Surroundings::of(event, &subscription);
    call_in(world, plugin, event, payload, subscription, wall)
}

/// What a guest can see of the world beside the event.
#[derive(Clone, Copy)]
pub(super) struct Surroundings {
    /// What its random numbers are seeded with.
    pub(super) seed: ([u8; 16], [u8; 16]),
    /// What its clock shows.
    pub(super) now_ms: i64,
    /// How often its instance was called before. Always 0, but for the check of a new version.
    pub(super) earlier_calls: u32,
}

impl Surroundings {
    /// Those that follow from the event, so that every attempt has the same.
    pub(super) fn of(event: &Event, subscription: &Subscription) -> Self {
        let seed = (*event.id.0.as_bytes(), *subscription.id.0.as_bytes());
        Surroundings { seed, now_ms: event.received_at_ms, earlier_calls: 0 }
    }
}

/// The same in other surroundings.
pub(super) fn call_in(
    world: Surroundings,
    plugin: &PluginPre<CallState>,
    event: &Event,
    payload: &str,
    subscription: Arc<Subscription>,
    wall: Duration,
) -> Called {
    let started = Instant::now();
    let cpu_started = thread_cpu_time();
    let guest_event = convert::event(event, payload, &subscription);
    let clocks = Clocks { started, cpu_started, wall };
    let mut store = limited_store(plugin.engine(), world, subscription, clocks);
    let answer = plugin.instantiate(&mut store).and_then(|instance| {
        for _ in 0..world.earlier_calls {
            let _ = instance.hookloom_plugin_transform().call_transform(&mut store, &guest_event)?;
        }
        instance.hookloom_plugin_transform().call_transform(&mut store, &guest_event)
    });
    let state = store.into_data();
    let cost = Cost {
        wall_us: micros(started.elapsed()),
        cpu_us: micros(thread_cpu_time().saturating_sub(cpu_started)),
        memory_bytes: state.limiter.memory_peak as u64,
        host_calls: state.host_calls,
    };
    let answer = answer.map_err(|error| state.fault(&error));
    Called { answer, log: state.log.into_lines(), cost }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Since when a call runs, and how long it may.
struct Clocks {
    started: Instant,
    cpu_started: Duration,
    wall: Duration,
}

fn limited_store(
    engine: &Engine,
    world: Surroundings,
    subscription: Arc<Subscription>,
    clocks: Clocks,
) -> Store<CallState> {
    let limits = subscription.settings.limits;
    let output = Tail::default();
    let world = wasi::world(&world.seed.0, &world.seed.1, world.now_ms, &output);
    let stopped_by = Arc::new(AtomicU8::new(0));
    let mut store = Store::new(engine, CallState::new(subscription, limits, world, output, stopped_by.clone()));
    store.limiter(|state| &mut state.limiter);
    store.set_max_component_handles(HANDLES_MAX);
    store.set_hostcall_fuel(usize::try_from(limits.output_bytes * 2 + HOSTCALL_SLACK_BYTES).unwrap_or(usize::MAX));
    store.call_hook(|mut context, hook| match hook {
        CallHook::CallingHost => context.data_mut().count_host_call(),
        _ => Ok(()),
    });
    let cpu = Duration::from_millis(limits.cpu_ms);
    let Clocks { started, cpu_started, wall } = clocks;
    store.set_epoch_deadline(1);
    // The callback never touches the store; it leaves word in an atomic of its own.
    store.epoch_deadline_callback(move |_| {
        let over = match () {
            () if thread_cpu_time().saturating_sub(cpu_started) > cpu => STOPPED_BY_CPU,
            () if started.elapsed() > wall => STOPPED_BY_WALL,
            () => return Ok(UpdateDeadline::Continue(1)),
        };
        stopped_by.store(over, Ordering::Relaxed);
        Ok(UpdateDeadline::Interrupt)
    });
    store
}

const STOPPED_BY_CPU: u8 = 1;
const STOPPED_BY_WALL: u8 = 2;

/// The host's side of one call.
pub(super) struct CallState {
    subscription: Arc<Subscription>,
    limits: Limits,
    limiter: MemoryLimiter,
    log: LogLines,
    host_calls: u64,
    hashed_bytes: u64,
    over_budget: Option<&'static str>,
    stopped_by: Arc<AtomicU8>,
    output: Tail,
    world: WasiCtx,
    resources: ResourceTable,
}

impl CallState {
    fn new(
        subscription: Arc<Subscription>,
        limits: Limits,
        world: WasiCtx,
        output: Tail,
        stopped_by: Arc<AtomicU8>,
    ) -> Self {
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(HANDLES_MAX);
        CallState {
            subscription,
            limits,
            limiter: MemoryLimiter {
                memory_max: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
                ..Default::default()
            },
            log: LogLines { room: usize::try_from(limits.log_bytes).unwrap_or(usize::MAX), ..Default::default() },
            host_calls: 0,
            hashed_bytes: 0,
            over_budget: None,
            stopped_by,
            output,
            world,
            resources,
        }
    }

    pub(super) fn resources(&mut self) -> &mut ResourceTable {
        &mut self.resources
    }

    fn count_host_call(&mut self) -> wasmtime::Result<()> {
        self.host_calls += 1;
        if self.host_calls > self.limits.host_calls { self.over("host_calls") } else { Ok(()) }
    }

    fn over<T>(&mut self, limit: &'static str) -> wasmtime::Result<T> {
        self.over_budget = Some(limit);
        Err(wasmtime::Error::msg("over budget"))
    }

    /// Says what went wrong: our own limits first, then what wasmtime saw.
    fn fault(&self, error: &wasmtime::Error) -> PluginFault {
        let limit = |name, value| PluginFault::Limit { name, value };
        match self.stopped_by.load(Ordering::Relaxed) {
            STOPPED_BY_CPU => return PluginFault::Timeout { name: "cpu_ms", limit_ms: self.limits.cpu_ms },
            STOPPED_BY_WALL => return PluginFault::Timeout { name: "wall_ms", limit_ms: self.limits.wall_ms },
            _ => {}
        }
        if self.limiter.refused {
            return limit("memory_bytes", self.limits.memory_bytes);
        }
        if let Some(name) = self.over_budget {
            let value = self.limits.named().into_iter().find(|(other, _)| *other == name).map_or(0, |(_, value)| value);
            return limit(name, value);
        }
        let message = root_message(error);
        if error.downcast_ref::<Trap>().is_none() && message.contains("fuel allocated for hostcalls has been exhausted")
        {
            return limit("output_bytes", self.limits.output_bytes);
        }
        if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            return PluginFault::Shortage;
        }
        let message = convert::cut(&message, TRAP_MESSAGE_BYTES_MAX).to_owned();
        PluginFault::Trap { message, backtrace: backtrace(error), output: self.output.text() }
    }
}

fn root_message(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    }
}

/// What is kept of a trap's message and of each function's name: both are the guest's to choose.
const TRAP_MESSAGE_BYTES_MAX: usize = 500;
const FUNCTION_NAME_BYTES_MAX: usize = 120;

/// The names of the guest's functions, innermost first.
fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        // The alternate form leaves out the hash, which says nothing to a reader.
        Some(name) => {
            let name = format!("{:#}", rustc_demangle::demangle(name));
            convert::cut(&name, FUNCTION_NAME_BYTES_MAX).to_owned()
        }
        None => format!("function {}", frame.func_index()),
    };
    backtrace.frames().iter().take(16).map(name).collect()
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.world, table: &mut self.resources }
    }
}

impl types::Host for CallState {}

impl log::Host for CallState {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => "debug",
            log::Level::Info => "info",
            log::Level::Warn => "warn",
            log::Level::Error => "error",
        };
        self.log.push(level, &message);
        Ok(())
    }
}

impl config::Host for CallState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.subscription.settings.config.get(&key).cloned())
    }

    fn entries(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.subscription.settings.config.clone().into_iter().collect())
    }
}

impl secrets::Host for CallState {
    fn hmac_sha256(&mut self, name: String, data: Vec<u8>) -> wasmtime::Result<Result<Vec<u8>, secrets::SecretError>> {
        self.hashed_bytes += data.len() as u64;
        if self.hashed_bytes > self.limits.hashed_bytes {
            return self.over("hashed_bytes");
        }
        let Some(secret) = self.subscription.secrets.get(&name) else {
            return Ok(Err(secrets::SecretError::UnknownName));
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes keys of every length");
        mac.update(&data);
        Ok(Ok(mac.finalize().into_bytes().to_vec()))
    }
}

/// A call's log: a bounded number of bytes, in lines of at most 1 KiB, and how much was left out.
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

    fn into_lines(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.lines.push(format!("… {} more lines were left out: limits.log_bytes is reached", self.left_out));
        }
        self.lines
    }
}

/// Bounds what a guest allocates, all its memories together, and remembers the most it had.
#[derive(Default)]
struct MemoryLimiter {
    memory_max: usize,
    memory: usize,
    memory_peak: usize,
    refused: bool,
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.memory += desired.saturating_sub(current);
        if self.memory > self.memory_max {
            self.refused = true;
            // An error ends the call. A mere "no" would let a guest go on and fail somewhere else, in other words.
            return Err(wasmtime::Error::msg("over the memory limit"));
        }
        self.memory_peak = self.memory_peak.max(self.memory);
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
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

/// A reason in our words.
pub(super) fn reason(reason: types::Reason) -> Reason {
    Reason {
        code: convert::cut(&reason.code, convert::REASON_CODE_BYTES_MAX).to_owned(),
        message: convert::cut(&reason.message, convert::REASON_MESSAGE_BYTES_MAX).to_owned(),
    }
}

//! The settings of wasmtime's engine, in one function for both who compile and who run, and the epoch's clock.
//!
//! # Why these settings
//! Guests are untrusted and short: a fresh instance for each call from a pool, copy-on-write memory, no feature that a
//! supported toolchain does not need. Backtraces have functions' names and nothing of debug information, which would be parsed
//! in the host, at each trap, outside a call's limits. `concurrency_support(false)` leaves out the component model's async, which makes
//! calls cheap and closes most of its recent advisories. Multi-memory stays on: without it a component with an adapter
//! makes the compiler panic. Tail calls and reference types stay on for the toolchains that emit them.

use super::PluginConfig;
use crate::limits::Limits;
use std::num::NonZeroUsize;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails,
};

/// How often a running guest looks at its limits.
pub(super) const TICK: Duration = Duration::from_millis(5);

/// Elements of one table.
const TABLE_ELEMENTS_MAX: usize = Limits::HOST_MAX.table_elements as usize;

/// Core instances, memories and tables of one component. wit-component emits at least three core modules, a Python
/// runtime comes to 38 instances.
pub(super) const INSTANCES_MAX: usize = 64;
pub(super) const MEMORIES_MAX: usize = 4;
pub(super) const TABLES_MAX: usize = 16;

/// What an engine is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum EnginePurpose {
    /// To compile, and to try the result, in a process with little address space.
    Compile {
        /// The stack of a guest, in bytes.
        stack_bytes: usize,
    },
    /// To run guests: this many at once, at work or resting, each with memories up to this many bytes.
    Run {
        /// Instances at once.
        instances: u32,
        /// The host's maximum for a guest's memory.
        memory_bytes_max: usize,
        /// The stack of a guest, in bytes.
        stack_bytes: usize,
        /// How many memories stay mapped between calls.
        warm_memories: u32,
    },
}

/// Address space that a memory reserves, without its guard pages: wasmtime's default on 64-bit machines.
const MEMORY_RESERVATION: u64 = 4 << 30;

/// Instances that a host may have at once: one for each call, and those that rest.
pub(super) fn instances(config: &PluginConfig) -> u32 {
    u32::try_from(config.threads + config.resting_instances_max).unwrap_or(u32::MAX)
}

/// Address space that an engine for so many instances reserves at least, in bytes.
pub(super) fn address_space(instances: u32) -> u64 {
    (u64::from(instances) + 1) * MEMORIES_MAX as u64 * MEMORY_RESERVATION
}

/// Makes an engine. Engines of both purposes agree about compiled code; a test holds them to it.
pub(super) fn engine(purpose: EnginePurpose) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_may_move(false)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .generate_address_map(true)
        .native_unwind_info(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(32))
        .wasm_threads(false)
        .shared_memory(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_stack_switching(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false);
    let (EnginePurpose::Compile { stack_bytes } | EnginePurpose::Run { stack_bytes, .. }) = purpose;
    // wasmtime compares the two, although nothing here is async.
    config.max_wasm_stack(stack_bytes).async_stack_size(stack_bytes.saturating_add(2 << 20));
    if let EnginePurpose::Run { instances, memory_bytes_max, warm_memories, .. } = purpose {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(
            instances,
            memory_bytes_max,
            warm_memories,
        )));
    }
    Engine::new(&config)
}

fn pool(instances: u32, memory_bytes_max: usize, warm_memories: u32) -> PoolingAllocationConfig {
    // One more than are used at once: an instance is given back a moment after its place is.
    let instances = instances + 1;
    // Every call may be of a component that uses all it is allowed to: no tenant's may take the room of another's.
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * INSTANCES_MAX as u32)
        .total_memories((instances * MEMORIES_MAX as u32).max(warm_memories))
        // A call of a plugin whose memory is still mapped maps no pages and faults none in. wasmtime gives each core its
        // share of the places, so a plugin that is called on all of them wants one of each.
        .max_unused_warm_slots(warm_memories)
        .total_tables(instances * TABLES_MAX as u32)
        .max_core_instances_per_component(INSTANCES_MAX as u32)
        .max_memories_per_component(MEMORIES_MAX as u32)
        .max_tables_per_component(TABLES_MAX as u32)
        .max_tables_per_module(4)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .max_memory_size(memory_bytes_max)
        // Measured: with pagemap_scan a small resident part makes a fresh call twice as fast, a large one slower.
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// The thread that advances the engine's epoch. It ends when this is dropped.
pub(super) struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts ticking. An OS thread, not a task: a busy runtime must not stop the clock that bounds guests.
    pub(super) fn start(engine: &Engine) -> std::io::Result<Self> {
        let engine = engine.weak();
        let (stop, stopped) = channel::<()>();
        let tick = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => break,
                }
            }
        };
        let thread = std::thread::Builder::new().name("plugin-epoch".into()).spawn(tick)?;
        Ok(Ticker { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The number of the way in which components are prepared before they are compiled: what an earlier host kept with another number
/// is not loaded. 2: stripped of custom sections.
const COMPILED_FORMAT: u32 = 2;

/// A text that changes whenever compiled code of one engine would not run in another.
pub(super) fn compatibility(engine: &Engine) -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    COMPILED_FORMAT.hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_compiles_and_who_runs_agree() {
        let compile = engine(EnginePurpose::Compile { stack_bytes: 1 << 19 }).expect("an engine");
        let run = engine(EnginePurpose::Run {
            instances: 2,
            memory_bytes_max: 256 << 20,
            stack_bytes: 1 << 20,
            warm_memories: 2,
        })
        .expect("an engine");
        assert_eq!(compatibility(&compile), compatibility(&run));
    }
}

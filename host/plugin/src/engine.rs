//! Engine settings of wasmtime, shared by compile child and host, and the thread that advances the epoch.
//!
//! # Reasons for the settings
//! Guests are untrusted and short-lived: fresh instances from a pool, copy-on-write memory, and no WebAssembly feature that supported
//! toolchains do not need. Backtraces have function names only: debug information would be parsed in the host at each trap, outside
//! the limits of the call. `concurrency_support(false)` leaves out the component model's async, which makes
//! calls cheap and closes most of its recent advisories. Multi-memory stays on: without it a component with an adapter
//! makes the compiler panic. Tail calls and reference types stay on for the toolchains that emit them.

use super::PluginConfig;
use hookloom_model::limits::Limits;
use std::num::NonZeroUsize;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails,
};

/// Interval in which a running guest checks its limits.
pub(super) const TICK: Duration = Duration::from_millis(5);

/// Maximum number of elements of one table.
const TABLE_ELEMENTS_MAX: usize = Limits::HOST_MAX.table_elements as usize;

/// Maximum numbers of core instances, memories and tables of one component. wit-component emits at least three core modules; a Python
/// runtime has 38 instances.
pub(super) const INSTANCES_MAX: usize = 64;
pub(super) const MEMORIES_MAX: usize = 4;
pub(super) const TABLES_MAX: usize = 16;

/// Purpose of an engine.
#[derive(Clone, Copy, Debug)]
pub(super) enum EnginePurpose {
    /// Compilation and probe, in a process with little address space.
    Compile {
        /// Stack of a guest, in bytes.
        stack_bytes: usize,
    },
    /// Calls of guests in the host.
    Run {
        /// Maximum number of instances, active and idle.
        instances: u32,
        /// Maximum size of a guest's memory, in bytes.
        memory_bytes_max: usize,
        /// Stack of a guest, in bytes.
        stack_bytes: usize,
        /// Number of memories that stay mapped between calls.
        warm_memories: u32,
    },
}

/// Address space that a memory reserves, without guard pages: wasmtime's default on 64-bit machines.
const MEMORY_RESERVATION: u64 = 4 << 30;

/// Returns the maximum number of instances of a host: one for each plugin thread, and the idle ones.
pub(super) fn instances(config: &PluginConfig) -> u32 {
    u32::try_from(config.threads + config.resting_instances_max).unwrap_or(u32::MAX)
}

/// Returns the minimum address space that an engine for this many instances reserves, in bytes.
pub(super) fn address_space(instances: u32) -> u64 {
    (u64::from(instances) + 1) * MEMORIES_MAX as u64 * MEMORY_RESERVATION
}

/// Creates an engine. Engines of both purposes accept the same compiled code, which a test checks.
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
    // wasmtime requires the async stack to be larger, although nothing is async here.
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
    // One more than are used at once: a thread is free a moment before its instance is returned.
    let instances = instances + 1;
    // Every call may use the maximum of each resource, so the pool is large enough for all.
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * INSTANCES_MAX as u32)
        .total_memories((instances * MEMORIES_MAX as u32).max(warm_memories))
        // A call of a plugin with a mapped memory needs no system call and causes no page faults. wasmtime divides the slots between
        // cores, so a plugin that is called on all cores uses one slot on each.
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

/// Thread that advances the engine's epoch. Ends on drop.
pub(super) struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts the thread. Not a task, because a busy tokio runtime must not delay the clock that bounds guests.
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

/// Version of the preparation of components before compilation. Code with another version is not loaded. 2: custom sections stripped.
/// 3: the manifest in the report.
const COMPILED_FORMAT: u32 = 3;

/// Returns a text that differs between engines that do not accept each other's compiled code.
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
    fn compiler_and_runtime_agree() {
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

//! Program that prepares a component: calls its export `prepare` once, and writes the component with the memory that is there then.
//!
//! Usage: `script-engine-snapshot COMPONENT SNAPSHOT`.
//!
//! # Guarantees
//! - The same component gives the same snapshot: its clock stands still, and its random numbers have a fixed seed.

use futures_util::FutureExt as _;
use std::process::ExitCode;
use std::time::Duration;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentNamedList, Instance, Lift, Linker, ResourceTable, WasmList};
use wasmtime::{Engine, Result, Store, error::Context as _};
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [component, snapshot] = arguments.as_slice() else {
        return fail("usage: script-engine-snapshot COMPONENT SNAPSHOT");
    };
    let made = std::fs::read(component)
        .map_err(wasmtime::Error::from)
        .and_then(|component| prepare(&component))
        .and_then(|bytes| std::fs::write(snapshot, bytes).map_err(wasmtime::Error::from));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}")),
    }
}

#[expect(clippy::print_stderr, reason = "this is a program for a terminal")]
fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

/// Name of the export that prepares the component.
const PREPARE: &str = "prepare";

fn prepare(component: &[u8]) -> Result<Vec<u8>> {
    let mut wizer = Wizer::new();
    // Without it, the component would refer to a function that is gone.
    wizer.init_func(PREPARE).keep_init_func(true);
    let (context, instrumented) = wizer.instrument_component(component)?;
    let engine = Engine::default();
    let component = Component::new(&engine, instrumented).context("the component does not compile")?;
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    refuse_contract(&mut linker, &component)?;
    let mut store = Store::new(&engine, Wasi::new());
    let instance = linker.instantiate(&mut store, &component)?;
    instance.get_typed_func::<(), ()>(&mut store, PREPARE)?.call(&mut store, ()).context("the preparation failed")?;
    let mut prepared = Prepared { store, instance };
    wizer.snapshot_component(&context, &mut prepared).now_or_never().expect("nothing waits")
}

/// Links the contract's functions, none of which the preparation may call.
fn refuse_contract(linker: &mut Linker<Wasi>, component: &Component) -> Result<()> {
    let engine = component.engine();
    for (name, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = import.ty else { continue };
        if !name.starts_with("hookloom:") {
            continue;
        }
        let mut instance = linker.instance(name)?;
        for (function, _) in interface.exports(engine).filter(|(_, item)| is_function(&item.ty)) {
            instance.func_new(function, |_, _, _, _| wasmtime::bail!("the preparation may not call the host"))?;
        }
    }
    Ok(())
}

fn is_function(item: &ComponentItem) -> bool {
    matches!(item, ComponentItem::ComponentFunc(_))
}

/// WASI with a clock that stands still and random numbers with a fixed seed.
struct Wasi {
    context: WasiCtx,
    resources: ResourceTable,
}

impl Wasi {
    fn new() -> Self {
        let context = WasiCtxBuilder::new()
            .inherit_stderr()
            .wall_clock(StoppedClock)
            .monotonic_clock(StoppedClock)
            .secure_random(wasmtime_wasi::random::Deterministic::new(vec![1]))
            .insecure_random(wasmtime_wasi::random::Deterministic::new(vec![1]))
            .insecure_random_seed(1)
            .build();
        Wasi { context, resources: ResourceTable::new() }
    }
}

impl WasiView for Wasi {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.resources }
    }
}

struct StoppedClock;

impl HostWallClock for StoppedClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for StoppedClock {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}

/// The prepared instance, whose state is read.
struct Prepared {
    store: Store<Wasi>,
    instance: Instance,
}

impl Prepared {
    fn call<R>(&mut self, instance: &str, function: &str) -> R
    where
        (R,): ComponentNamedList + Lift + 'static,
        R: Lift + 'static,
    {
        let store = &mut self.store;
        let (_, exported) = self.instance.get_export(&mut *store, None, instance).expect("wizer added it");
        let (_, function) = self.instance.get_export(&mut *store, Some(&exported), function).expect("wizer added it");
        let function = self.instance.get_typed_func::<(), (R,)>(&mut *store, function).expect("wizer knows its type");
        function.call(&mut *store, ()).expect("a getter").0
    }
}

impl ComponentInstanceState for Prepared {
    async fn call_func_ret_list_u8(&mut self, instance: &str, func: &str, contents: impl FnOnce(&[u8]) + Send) {
        let bytes: WasmList<u8> = self.call(instance, func);
        contents(bytes.as_le_slice(&self.store));
    }

    async fn call_func_ret_s32(&mut self, instance: &str, func: &str) -> i32 {
        self.call(instance, func)
    }

    async fn call_func_ret_s64(&mut self, instance: &str, func: &str) -> i64 {
        self.call(instance, func)
    }

    async fn call_func_ret_f32(&mut self, instance: &str, func: &str) -> u32 {
        self.call::<f32>(instance, func).to_bits()
    }

    async fn call_func_ret_f64(&mut self, instance: &str, func: &str) -> u64 {
        self.call::<f64>(instance, func).to_bits()
    }
}

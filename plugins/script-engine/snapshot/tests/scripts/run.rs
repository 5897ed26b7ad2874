//! One call of a script in a fresh instance of the engine, with a host whose answers the test chooses.

use flate2::read::GzDecoder;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::LazyLock;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Config, Engine as Wasmtime, OptLevel, Store, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wasmtime::component::bindgen!({
        path: ["../../../wit", "../wit"],
        world: "hookloom:script/engine",
        imports: { default: trappable },
    });
}

pub(crate) use bindings::hookloom::plugin::types::{self, Body, Failure, Outgoing, Verdict};
use bindings::hookloom::plugin::{config, history, log, secrets};
pub(crate) use bindings::hookloom::script::host::{self, Phase};
pub(crate) use bindings::{Engine, EnginePre};

/// Result of a call.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The script's answer.
    Answer(Result<Verdict, Failure>),
    /// An error of the script.
    Error(host::ScriptError),
    /// The end of the instance: a trap, or a limit.
    Trap(String),
}

/// Text of a fuel error, by which the tests tell endless loops.
pub(crate) const OUT_OF_FUEL: &str = "all fuel consumed";

/// Text of the error of a stack that is full.
pub(crate) const OUT_OF_STACK: &str = "call stack exhausted";

/// Fuel of a call: some seconds of work.
const FUEL: u64 = 20_000_000_000;

/// Memory of a call, in bytes: the default of `limits.memory_bytes`.
const MEMORY_BYTES: usize = 64 << 20;

/// Stack of a call, in bytes: the default of `plugin_stack_bytes`.
const STACK_BYTES: usize = 512 << 10;

/// A call that is being prepared.
#[derive(Default)]
pub(crate) struct Call {
    pub(crate) script: String,
    pub(crate) payload: String,
    pub(crate) config: Vec<(String, String)>,
    pub(crate) previous: Option<String>,
    /// Attributes of the event.
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) memory_bytes: Option<usize>,
    /// Fuel of the call. None: enough for everything that ends.
    pub(crate) fuel: Option<u64>,
}

/// Outcome of a call with the log that it wrote.
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    pub(crate) log: Vec<String>,
    /// Names of the config keys that the script read, and `*` for all.
    pub(crate) config_reads: Vec<String>,
}

/// Body of an event of a deal.
pub(crate) const DEAL: &str = r#"{"eventName":"Opportunity is Created","eventData":{"id":5721670354468864,"name":"deal plane","expected_value":500}}"#;

impl Call {
    pub(crate) fn of(script: &str) -> Self {
        Call { script: script.to_owned(), payload: DEAL.to_owned(), ..Call::default() }
    }

    /// Calls `transform` once in a fresh instance.
    pub(crate) fn run(&self) -> Ran {
        let engine = &*FUELED;
        let memory_bytes = self.memory_bytes.unwrap_or(MEMORY_BYTES);
        let mut store = Store::new(engine.engine(), Host::new(self, memory_bytes));
        store.limiter(|host| &mut host.limits);
        store.set_fuel(self.fuel.unwrap_or(FUEL)).unwrap();
        let mut event = event(&self.payload);
        let attributes = self.attributes.iter().cloned();
        event.attributes = attributes.map(|(name, value)| types::Attribute { name, value }).collect();
        let outcome = engine
            .instantiate(&mut store)
            .and_then(|engine| engine.hookloom_plugin_transform().call_transform(&mut store, &event));
        let host = store.into_data();
        let outcome = match (host.failed, outcome) {
            (Some(error), _) => Outcome::Error(error),
            (None, Ok(answer)) => Outcome::Answer(answer),
            (None, Err(error)) => Outcome::Trap(format!("{error:?}")),
        };
        Ran { outcome, log: host.log, config_reads: host.config_reads }
    }
}

impl Call {
    /// Calls one instance for each payload, and shows its answers.
    pub(crate) fn run_each(&self, payloads: &[&str]) -> Vec<String> {
        let mut store = Store::new(FUELED.engine(), Host::new(self, MEMORY_BYTES));
        store.set_fuel(FUEL).unwrap();
        let instance = FUELED.instantiate(&mut store).unwrap();
        let transform = instance.hookloom_plugin_transform();
        payloads
            .iter()
            .map(|payload| format!("{:?}", transform.call_transform(&mut store, &event(payload))))
            .map(|shown| shown.replace("\\\"", "\""))
            .collect()
    }
}

/// An event with this payload.
pub(crate) fn event(payload: &str) -> types::Event {
    types::Event {
        id: "01935d2c-0000-7000-8000-000000000001".to_owned(),
        tenant: "default".to_owned(),
        subscription: "01935d2c-0000-7000-8000-000000000002".to_owned(),
        name: "Opportunity is Created".to_owned(),
        module: Some("Deal".to_owned()),
        entity_id: Some("5721670354468864".to_owned()),
        received_at: 1_700_000_000_123,
        payload: payload.to_owned(),
        attributes: Vec::new(),
    }
}

/// Folder of the component that is part of the host.
fn component() -> Vec<u8> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../engine.wasm.gz");
    let mut component = Vec::new();
    GzDecoder::new(std::fs::File::open(file).unwrap()).read_to_end(&mut component).unwrap();
    component
}

/// The engine, compiled with fuel: loops without end are found without a clock.
static FUELED: LazyLock<EnginePre<Host>> = LazyLock::new(|| {
    let mut config = Config::new();
    config.consume_fuel(true);
    compiled(config)
});

/// Compiles the engine with the settings of a host.
pub(crate) fn compiled(mut config: Config) -> EnginePre<Host> {
    config.max_wasm_stack(STACK_BYTES).cranelift_opt_level(OptLevel::Speed).cranelift_nan_canonicalization(true);
    config.memory_may_move(false);
    let engine = Wasmtime::new(&config).unwrap();
    let component = Component::new(&engine, component()).unwrap();
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker).unwrap();
    Engine::add_to_linker::<Host, HasSelf<Host>>(&mut linker, |host| host).unwrap();
    EnginePre::new(linker.instantiate_pre(&component).unwrap()).unwrap()
}

/// State of a call.
pub(crate) struct Host {
    source: String,
    memory_bytes: usize,
    config: Vec<(String, String)>,
    previous: Option<String>,
    log: Vec<String>,
    config_reads: Vec<String>,
    failed: Option<host::ScriptError>,
    limits: StoreLimits,
    wasi: WasiCtx,
    resources: ResourceTable,
}

impl Host {
    pub(crate) fn new(call: &Call, memory_bytes: usize) -> Self {
        Host {
            source: call.script.clone(),
            memory_bytes,
            config: call.config.clone(),
            previous: call.previous.clone(),
            log: Vec::new(),
            config_reads: Vec::new(),
            failed: None,
            limits: StoreLimitsBuilder::new().memory_size(memory_bytes).trap_on_grow_failure(true).build(),
            wasi: WasiCtxBuilder::new().inherit_stderr().build(),
            resources: ResourceTable::new(),
        }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

impl types::Host for Host {}

impl log::Host for Host {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.log.push(format!("{}: {message}", format!("{level:?}").trim_start_matches("Level::")));
        Ok(())
    }
}

impl config::Host for Host {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        let value = self.config.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone());
        self.config_reads.push(key);
        Ok(value)
    }

    fn entries(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        self.config_reads.push("*".to_owned());
        Ok(self.config.clone())
    }
}

impl secrets::Host for Host {
    /// Answers with the name and the data, so that a test sees both.
    fn hmac_sha256(&mut self, name: String, data: Vec<u8>) -> wasmtime::Result<Result<Vec<u8>, secrets::SecretError>> {
        Ok(match name.as_str() {
            "key" => Ok([name.into_bytes(), data].concat()),
            "locked" => Err(secrets::SecretError::NotGranted),
            _ => Err(secrets::SecretError::UnknownName),
        })
    }
}

impl history::Host for Host {
    fn previous(&mut self) -> wasmtime::Result<Option<types::Event>> {
        Ok(self.previous.as_deref().map(event))
    }
}

impl host::Host for Host {
    fn load(&mut self) -> wasmtime::Result<host::Script> {
        Ok(host::Script { source: self.source.clone(), memory_bytes: self.memory_bytes as u64 })
    }

    fn fail(&mut self, error: host::ScriptError) -> wasmtime::Result<()> {
        self.failed = Some(error);
        Err(wasmtime::Error::msg("the script failed"))
    }
}

//! The check of a component, in words that its author understands.
//!
//! Two steps. The first looks at the first bytes only and runs in the host. The second looks at imports and exports
//! and runs in the compile child, because it needs the component parsed. Never shows a linker's message alone.

use super::bindings::PluginPre;
use super::convert::cut;
use super::guest::GuestState;
use super::probe::Probe;
use super::sandbox;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wasmtime::Engine;
use wasmtime::component::Component;

/// What this host speaks. A plugin exports `transform` of this package version.
pub const CONTRACT: &str = "hookloom:plugin@1.0.0";
const TRANSFORM: &str = "hookloom:plugin/transform@1.0.0";

/// The interfaces a plugin may import, beside WASI's.
const IMPORTS: [&str; 5] = ["types", "log", "config", "secrets", "history"];

/// What a component imports that asks for what was accepted before.
const HISTORY: &str = "hookloom:plugin/history@";

/// The WASI 0.2 interfaces that are linked, all of them empty worlds.
const WASI: [&str; 27] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:clocks/wall-clock",
    "wasi:clocks/monotonic-clock",
    "wasi:filesystem/types",
    "wasi:filesystem/preopens",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:sockets/network",
    "wasi:sockets/instance-network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
    "wasi:sockets/ip-name-lookup",
];

/// What the check found out about a component that passed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// The contract it was built for.
    pub contract: String,
    /// What it imports.
    pub imports: Vec<String>,
    /// What of it does something in this host: `log`, `config`, `secrets`, `history`. All the rest is linked and empty.
    #[serde(default)]
    pub may_use: Vec<String>,
    /// How many linear memories it has; absent if it depends on what it imports.
    pub memories: Option<u32>,
    /// Its memory at the start, in bytes.
    pub memory_bytes: Option<u64>,
    /// The size of the compiled code, in bytes.
    pub compiled_bytes: u64,
    /// How long compiling took, in milliseconds.
    pub compile_ms: u64,
    /// What a trial found. Absent: there was none.
    #[serde(default)]
    pub probe: Option<Probe>,
}

/// Maximum length of a name or a text of a report, and how many there may be. An interface that is linked may have a version of
/// any length.
const REPORT_TEXT_BYTES_MAX: usize = 200;
const REPORT_NAMES_MAX: usize = 200;

impl Report {
    /// Whether the component may ask for what was accepted before.
    pub(super) fn reads_history(&self) -> bool {
        self.imports.iter().any(|name| name.starts_with(HISTORY))
    }

    /// The report with no text longer than what is kept and shown: component's names are its author's to choose.
    pub(super) fn bounded(mut self) -> Self {
        for names in [&mut self.imports, &mut self.may_use] {
            names.truncate(REPORT_NAMES_MAX);
            names.iter_mut().for_each(|name| *name = printable(name, REPORT_TEXT_BYTES_MAX));
        }
        self.contract = printable(&self.contract, REPORT_TEXT_BYTES_MAX);
        self
    }
}

/// The beginning of a text that a guest may have chosen: at most this many bytes, without control characters.
pub(super) fn printable(text: &str, bytes_max: usize) -> String {
    let printable: String =
        cut(text, bytes_max).chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if text.len() > bytes_max { format!("{printable}…") } else { printable }
}

/// Why a file is not a plugin for this host: what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct Refusal {
    /// A short, stable word.
    pub code: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// Maximum length of what a refusal says, in bytes.
const REFUSAL_TEXT_BYTES_MAX: usize = 2_000;

impl Refusal {
    /// A refusal.
    pub fn new(code: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Refusal { code: code.to_owned(), what: what.into(), remedy: remedy.into() }
    }

    /// The refusal with no text longer than what is answered, logged and shown.
    pub(super) fn bounded(&self) -> Self {
        let Refusal { code, what, remedy } = self;
        Refusal {
            code: printable(code, 64),
            what: printable(what, REFUSAL_TEXT_BYTES_MAX),
            remedy: printable(remedy, REFUSAL_TEXT_BYTES_MAX),
        }
    }
}

/// The functions of this host among what a component imports. JavaScript and Python runtimes import a whole world beside
/// them, whether a plugin needs it or not: it is linked, empty, and never a reason to refuse.
fn may_use(imports: &[String]) -> Vec<String> {
    let ours = imports.iter().filter_map(|name| name.strip_prefix("hookloom:plugin/"));
    let name = |name: &str| name.split('@').next().unwrap_or(name).to_owned();
    ours.map(name).filter(|name| name != "types").collect()
}

const BUILD_A_COMPONENT: &str = "build a component, for instance with `cargo build --target wasm32-wasip2`";

/// Looks at the first bytes: is it a component at all?
pub(super) fn check_bytes(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::new("empty", "the file is empty", BUILD_A_COMPONENT));
    }
    // wasmtime's compiled code is an ELF file. No more of it is looked at here.
    if bytes.starts_with(b"\x7fELF") {
        let remedy = "upload the .wasm it was compiled from: compiled code cannot be checked, so no host may trust it";
        return Err(Refusal::new("precompiled", "this is compiled code (.cwasm), not a component", remedy));
    }
    match bytes {
        [b'\0', b'a', b's', b'm', 0x0d, 0x00, 0x01, 0x00, ..] => Ok(()),
        [b'\0', b'a', b's', b'm', 0x01, 0x00, 0x00, 0x00, ..] => {
            Err(Refusal::new("core-module", "this is a core WebAssembly module, not a component", BUILD_A_COMPONENT))
        }
        [b'\0', b'a', b's', b'm', ..] => Err(Refusal::new(
            "unknown-version",
            "this WebAssembly binary has a version that is unknown here",
            BUILD_A_COMPONENT,
        )),
        _ if bytes.trim_ascii_start().starts_with(b"(") => {
            let remedy = "assemble it first, for instance with `wasm-tools parse`";
            Err(Refusal::new("text", "this is WebAssembly text, not a binary", remedy))
        }
        _ => Err(Refusal::new("not-wasm", "this is not a WebAssembly file", BUILD_A_COMPONENT)),
    }
}

/// Looks at imports, exports and their types. Returns the component linked, too, for a first call.
pub(super) fn check_component(
    engine: &Engine,
    component: &Component,
) -> Result<(Report, PluginPre<GuestState>), Refusal> {
    let kind = component.component_type();
    let imports: Vec<String> = kind.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let exports: Vec<String> = kind.exports(engine).map(|(name, _)| name.to_owned()).collect();
    check_exports(&exports)?;
    check_imports(&imports)?;
    let linked = sandbox::linker(engine).and_then(|linker| PluginPre::new(linker.instantiate_pre(component)?));
    let plugin = linked.map_err(|_| {
        // The linker's own words are about types that no author has seen.
        let what = format!("a function of the plugin takes or returns something else than {CONTRACT} says");
        Refusal::new("shape", what, "rebuild it with the wit files that `hookloom plugin wit` prints")
    })?;
    let resources = component.resources_required();
    let report = Report {
        contract: CONTRACT.to_owned(),
        may_use: may_use(&imports),
        imports,
        memories: resources.as_ref().map(|needs| needs.num_memories),
        memory_bytes: resources.and_then(|needs| needs.max_initial_memory_size).map(|pages| pages * 65_536),
        ..Report::default()
    };
    Ok((report.bounded(), plugin))
}

fn check_exports(exports: &[String]) -> Result<(), Refusal> {
    if exports.iter().any(|name| name == TRANSFORM) {
        return Ok(());
    }
    let other = exports.iter().find(|name| name.starts_with("hookloom:plugin/transform"));
    Err(match other {
        Some(name) => {
            let version = name.rsplit_once('@').map_or("no version", |(_, version)| version);
            let what = format!("this plugin was built for hookloom:plugin@{version}; this host speaks 1.0.0");
            Refusal::new(
                "contract-version",
                what,
                "rebuild with sdk 1.x, or with the wit files of `hookloom plugin wit`",
            )
        }
        None => {
            let found = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
            let what = format!("the component does not export {TRANSFORM}; it exports {found}");
            Refusal::new(
                "missing-export",
                what,
                "export a plugin with the sdk's `export!` macro, or with the wit files that `hookloom plugin wit` prints",
            )
        }
    })
}

fn check_imports(imports: &[String]) -> Result<(), Refusal> {
    let known = |name: &str| {
        let ours = |interface: &&str| name == format!("hookloom:plugin/{interface}@1.0.0");
        IMPORTS.iter().any(ours) || is_linked_wasi(name)
    };
    let unknown: Vec<&str> = imports.iter().map(String::as_str).filter(|name| !known(name)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let what = format!("the component imports what this host does not offer: {}", unknown.join(", "));
    let remedy = match unknown.iter().any(|name| name.starts_with("wasi:http") || name.contains("socket")) {
        true => "a plugin has no network: return `replace` with an outgoing request and the host sends it",
        false => {
            "a plugin may import log, config, secrets and history of hookloom:plugin@1.0.0, and WASI 0.2 without http"
        }
    };
    Err(Refusal::new("unknown-import", what, remedy))
}

fn is_linked_wasi(name: &str) -> bool {
    name.split_once("@0.2.").is_some_and(|(interface, _)| WASI.contains(&interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_what_a_file_is() {
        #[track_caller]
        fn check(bytes: &[u8], expected: Result<(), &str>) {
            assert_eq!(
                check_bytes(bytes).map_err(|refusal| refusal.code),
                expected.map_err(str::to_owned),
                "{bytes:?}"
            );
        }
        check(b"\0asm\x0d\0\x01\0rest", Ok(()));
        check(b"\0asm\x01\0\0\0", Err("core-module"));
        check(b"\0asm\x09\0\0\0", Err("unknown-version"));
        check(b"", Err("empty"));
        check(b" \n(component)", Err("text"));
        check(b"#!/bin/sh", Err("not-wasm"));
        check(b"\0as", Err("not-wasm"));
    }

    #[test]
    fn compiled_code_is_refused() {
        let engine = Engine::default();
        let compiled = engine.precompile_component(b"\0asm\x0d\0\x01\0").expect("the smallest component");
        let refusal = check_bytes(&compiled).expect_err("compiled code");
        assert!(refusal.code == "precompiled" && refusal.to_string().contains("no host may trust it"), "{refusal}");
    }

    #[test]
    fn imports_and_exports_are_named_in_the_refusal() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(check_exports(&list(&[TRANSFORM])), Ok(()));
        let newer = check_exports(&list(&["hookloom:plugin/transform@2.0.0"])).expect_err("another");
        assert_eq!(newer.code, "contract-version");
        let told = "this plugin was built for hookloom:plugin@2.0.0; this host speaks 1.0.0; rebuild with sdk 1.x";
        assert!(newer.to_string().starts_with(told), "{newer}");
        assert_eq!(check_exports(&[]).expect_err("none").code, "missing-export");
        assert_eq!(check_imports(&list(&["wasi:io/poll@0.2.6", "hookloom:plugin/log@1.0.0"])), Ok(()));
        let http = check_imports(&list(&["wasi:http/outgoing-handler@0.2.3"])).expect_err("no network");
        assert!(http.what.contains("wasi:http/outgoing-handler@0.2.3") && http.remedy.contains("no network"), "{http}");
        assert_eq!(check_imports(&list(&["wasi:io/poll@0.3.0"])).expect_err("not linked").code, "unknown-import");
    }
}

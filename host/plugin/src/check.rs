//! Check of a component, with messages for its author.
//!
//! The first step examines the first bytes and runs in the host. The second step examines imports and exports and runs in the compile
//! child, because it needs the component parsed.
//!
//! # Guarantees
//! - A refusal says what is wrong and what to do, in terms of the contract and not of the linker.

use super::bindings::PluginPre;
use super::guest::GuestState;
use super::report::{Refusal, Report};
use super::sandbox;
use super::script;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Contract of this host. A plugin exports `transform` of this package version.
pub const CONTRACT: &str = "hookloom:plugin@1.0.0";
const TRANSFORM: &str = "hookloom:plugin/transform@1.0.0";

/// Interface that only the engine for scripts may import.
const SCRIPT_HOST: &str = "hookloom:script/host@1.0.0";

/// Kind of a component that is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ComponentKind {
    /// A plugin.
    Plugin,
    /// The host's engine for scripts.
    ScriptEngine,
}

/// Interface by which a plugin reports errors in its code.
const ERRORS: &str = "hookloom:errors/report@1.0.0";

/// Interfaces of the contract that a plugin may import.
const IMPORTS: [&str; 5] = ["types", "log", "config", "secrets", "history"];

/// Interfaces of WASI 0.2 that are linked. All of them are empty.
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

/// Returns the imported functions of this host. Runtimes of JavaScript and Python import all of WASI as well, needed or not; that is
/// never a reason to refuse.
fn may_use(imports: &[String]) -> Vec<String> {
    let ours = imports.iter().filter_map(|name| name.strip_prefix("hookloom:plugin/"));
    ours.map(without_version).filter(|name| *name != "types").map(str::to_owned).collect()
}

fn without_version(interface: &str) -> &str {
    interface.split('@').next().unwrap_or(interface)
}

const BUILD_A_COMPONENT: &str = "build a component, for instance with `cargo build --target wasm32-wasip2`";

/// Checks by the first bytes whether an upload is a component or a script in its stored form.
pub(super) fn check_upload(bytes: &[u8]) -> Result<(), Refusal> {
    if script::source(bytes).is_some() { Ok(()) } else { check_bytes(bytes) }
}

/// Checks by the first bytes whether a file is a component.
pub(super) fn check_bytes(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::new("empty", "the file is empty", BUILD_A_COMPONENT));
    }
    // Compiled code of wasmtime is an ELF file.
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

/// Checks imports, exports and their types. Returns the report, and the linked component for the probe.
pub(super) fn check_component(
    engine: &Engine,
    component: &Component,
    kind: ComponentKind,
) -> Result<(Report, PluginPre<GuestState>), Refusal> {
    let types = component.component_type();
    let mut imports: Vec<String> = types.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let exports: Vec<String> = types.exports(engine).map(|(name, _)| name.to_owned()).collect();
    check_exports(&exports)?;
    if kind == ComponentKind::ScriptEngine {
        imports.retain(|name| name != SCRIPT_HOST);
    }
    check_imports(&imports)?;
    let linked = sandbox::linker(engine).and_then(|linker| PluginPre::new(linker.instantiate_pre(component)?));
    let plugin = linked.map_err(|_| {
        // The linker's message is about generated types, which authors do not know.
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
    let unknown: Vec<&str> = imports.iter().map(String::as_str).filter(|name| !is_offered(name)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let what = format!("the component imports what this host does not offer: {}", unknown.join(", "));
    let remedy = if unknown.iter().any(|name| name.starts_with("wasi:http") || name.contains("socket")) {
        "a plugin has no network: return `replace` with an outgoing request and the host sends it"
    } else {
        "a plugin may import log, config, secrets and history of hookloom:plugin@1.0.0, and WASI 0.2 without http"
    };
    Err(Refusal::new("unknown-import", what, remedy))
}

fn is_offered(name: &str) -> bool {
    name == ERRORS
        || IMPORTS.iter().any(|interface| name == format!("hookloom:plugin/{interface}@1.0.0"))
        || is_linked_wasi(name)
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
        let message = "this plugin was built for hookloom:plugin@2.0.0; this host speaks 1.0.0; rebuild with sdk 1.x";
        assert!(newer.to_string().starts_with(message), "{newer}");
        assert_eq!(check_exports(&[]).expect_err("none").code, "missing-export");
        assert_eq!(check_imports(&list(&["wasi:io/poll@0.2.6", "hookloom:plugin/log@1.0.0"])), Ok(()));
        let http = check_imports(&list(&["wasi:http/outgoing-handler@0.2.3"])).expect_err("no network");
        assert!(http.what.contains("wasi:http/outgoing-handler@0.2.3") && http.remedy.contains("no network"), "{http}");
        assert_eq!(check_imports(&list(&["wasi:io/poll@0.3.0"])).expect_err("not linked").code, "unknown-import");
    }
}

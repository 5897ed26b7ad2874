//! Generated Rust bindings of `wit/`. Converted to types of the host in `convert`.
#![allow(missing_docs, reason = "generated; the documentation stands in wit/plugin.wit")]
#![allow(unreachable_pub, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "plugin",
    imports: { default: trappable },
});

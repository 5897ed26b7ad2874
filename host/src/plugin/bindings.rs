//! The Rust side of `wit/`, generated; nothing else. See `convert` for the way to our own words.
#![allow(missing_docs, reason = "generated; the documentation stands in wit/plugin.wit")]
#![allow(unreachable_pub, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    imports: { default: trappable },
});

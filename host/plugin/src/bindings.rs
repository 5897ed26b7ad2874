//! Generated Rust bindings of the WIT files. Converted to types of the host in `convert`.
#![allow(missing_docs, reason = "generated; the documentation is in the WIT files")]
#![allow(unreachable_pub, reason = "generated")]

wasmtime::component::bindgen!({
    path: ["../../wit", "../../plugins/sdk/wit", "../../plugins/script-engine/wit"],
    inline: "
        package hookloom:linked;
        world plugin {
            include hookloom:errors/plugin@1.0.0;
            import hookloom:script/host@1.0.0;
        }
    ",
    world: "hookloom:linked/plugin",
    imports: { default: trappable },
});

//! Guest side of the contract and of `wit/script.wit`, generated.
#![allow(clippy::mem_forget, missing_docs, unsafe_code, reason = "generated; the documentation is in the WIT files")]

wit_bindgen::generate!({
    path: ["../../wit", "wit"],
    world: "hookloom:script/engine",
    generate_all,
    pub_export_macro: false,
    default_bindings_module: "crate::bindings",
});

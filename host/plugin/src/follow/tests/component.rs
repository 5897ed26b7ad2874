//! The smallest plugin: a component that passes every event.

use std::borrow::Cow;
use wasm_encoder::{
    CanonicalOption, CodeSection, ComponentBuilder, ComponentExportKind, ComponentValType, ConstExpr, CustomSection,
    ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType, MemorySection, MemoryType, Module,
    ModuleArg, PrimitiveValType, TypeSection, ValType,
};

const TEXT: ComponentValType = ComponentValType::Primitive(PrimitiveValType::String);
const U64: ComponentValType = ComponentValType::Primitive(PrimitiveValType::U64);
const BYTE: ComponentValType = ComponentValType::Primitive(PrimitiveValType::U8);

/// Address of zeros: the result `ok(pass)`.
const PASS: i32 = 1_024;

/// First address that `realloc` returns.
const FREE: i32 = 4_096;

/// Returns a component. Its sha256 follows from the text.
pub(super) fn component(text: &str) -> Vec<u8> {
    let mut inner = ComponentBuilder::default();
    let ty = transform_type(&mut inner);
    let module = inner.core_module(None, &module(text));
    let instance = inner.core_instantiate(None, module, std::iter::empty::<(&str, ModuleArg)>());
    let memory = inner.core_alias_export(None, instance, "memory", ExportKind::Memory);
    let realloc = inner.core_alias_export(None, instance, "realloc", ExportKind::Func);
    let transform = inner.core_alias_export(None, instance, "transform", ExportKind::Func);
    let options = [CanonicalOption::UTF8, CanonicalOption::Memory(memory), CanonicalOption::Realloc(realloc)];
    let transform = inner.lift_func(None, transform, ty, options);
    inner.export("transform", ComponentExportKind::Func, transform, None);
    let mut outer = ComponentBuilder::default();
    let inner = outer.component(None, inner);
    let instance = outer.instantiate(None, inner, std::iter::empty::<(&str, ComponentExportKind, u32)>());
    outer.export("hookloom:plugin/transform@1.0.0", ComponentExportKind::Instance, instance, None);
    outer.finish()
}

/// Builder of the types of the contract.
struct Types<'b>(&'b mut ComponentBuilder);

impl Types<'_> {
    /// Exports a type, because functions may use named types only.
    fn export(&mut self, name: &str, index: u32) -> ComponentValType {
        ComponentValType::Type(self.0.export(name, ComponentExportKind::Type, index, None))
    }

    fn record(&mut self, name: &str, fields: &[(&'static str, ComponentValType)]) -> ComponentValType {
        let (index, encoder) = self.0.type_defined(None);
        encoder.record(fields.iter().copied());
        self.export(name, index)
    }

    fn variant(&mut self, name: &str, cases: &[(&'static str, Option<ComponentValType>)]) -> ComponentValType {
        let (index, encoder) = self.0.type_defined(None);
        encoder.variant(cases.iter().copied());
        self.export(name, index)
    }

    fn list(&mut self, of: ComponentValType) -> ComponentValType {
        let (index, encoder) = self.0.type_defined(None);
        encoder.list(of);
        ComponentValType::Type(index)
    }

    fn option(&mut self, of: ComponentValType) -> ComponentValType {
        let (index, encoder) = self.0.type_defined(None);
        encoder.option(of);
        ComponentValType::Type(index)
    }
}

/// Defines the type of the function `transform`, and returns its index.
fn transform_type(builder: &mut ComponentBuilder) -> u32 {
    let mut types = Types(builder);
    let attribute = types.record("attribute", &[("name", TEXT), ("value", TEXT)]);
    let attributes = types.list(attribute);
    let optional = types.option(TEXT);
    let event = types.record(
        "event",
        &[
            ("id", TEXT),
            ("tenant", TEXT),
            ("subscription", TEXT),
            ("name", TEXT),
            ("module", optional),
            ("entity-id", optional),
            ("received-at", U64),
            ("payload", TEXT),
            ("attributes", attributes),
        ],
    );
    let reason = types.record("reason", &[("code", TEXT), ("message", TEXT)]);
    let header = types.record("header", &[("name", TEXT), ("value", TEXT)]);
    let bytes = types.list(BYTE);
    let body = types.variant("body", &[("text", Some(TEXT)), ("binary", Some(bytes))]);
    let headers = types.list(header);
    let outgoing = types.record(
        "outgoing",
        &[
            ("body", body),
            ("content-type", optional),
            ("headers", headers),
            ("url", optional),
            ("attributes", attributes),
        ],
    );
    let outgoings = types.list(outgoing);
    let postponement = types.record("postponement", &[("delay-ms", U64), ("reason", reason)]);
    let verdict = types.variant(
        "verdict",
        &[("pass", None), ("replace", Some(outgoings)), ("drop", Some(reason)), ("later", Some(postponement))],
    );
    let failures = ["invalid-event", "transient", "bad-config"].map(|name| (name, Some(reason)));
    let failure = types.variant("failure", &failures);
    let (result, encoder) = builder.type_defined(None);
    encoder.result(Some(verdict), Some(failure));
    let (function, mut encoder) = builder.type_function(None);
    encoder.params([("event", event)]).result(Some(ComponentValType::Type(result)));
    function
}

/// Returns a module with a memory, an allocator that never frees, and a function that returns `ok(pass)`.
fn module(text: &str) -> Module {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32; 4], [ValType::I32]);
    types.ty().function([ValType::I32], [ValType::I32]);
    let mut functions = FunctionSection::new();
    functions.function(0).function(1);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 2, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut globals = GlobalSection::new();
    let free = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
    globals.global(free, &ConstExpr::i32_const(FREE));
    let mut exports = ExportSection::new();
    exports.export("realloc", ExportKind::Func, 0).export("transform", ExportKind::Func, 1);
    exports.export("memory", ExportKind::Memory, 0);
    let mut realloc = Function::new([]);
    // Returns the address of free memory, and rounds the next one up to a multiple of 8.
    realloc.instructions().global_get(0).global_get(0).local_get(3).i32_add().i32_const(7).i32_add();
    realloc.instructions().i32_const(-8).i32_and().global_set(0).end();
    let mut transform = Function::new([]);
    transform.instructions().i32_const(PASS).end();
    let mut code = CodeSection::new();
    code.function(&realloc).function(&transform);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&globals).section(&exports).section(&code);
    module.section(&CustomSection { name: Cow::Borrowed("version"), data: Cow::Owned(text.as_bytes().to_vec()) });
    module
}

//! Errors in the code of authors: of a plugin, as it reports them by `hookloom:errors`, and of a script, as the engine reports them.
//! Also the author's functions around the end of a call.
//!
//! # Guarantees
//! - Functions of the language's runtime, of the sdk and of generated code are not shown.
//! - Message, places and functions are bounded. The plugin chooses all of them.

use super::bindings::hookloom::errors::report;
use hookloom_model::limits::cut;
use serde::Serialize;
use std::fmt;
use utoipa::ToSchema;
use wasmtime::WasmBacktrace;

/// Error in a plugin's own code, in its author's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorError {
    /// Name and message of the error.
    message: String,
    /// Place in the author's source: file, line and, if the language tells it, column. None: unknown.
    place: Option<String>,
    /// The author's functions, innermost first, each with its place if that is known.
    frames: Vec<String>,
    /// End of the plugin's stdout and stderr.
    output: String,
}

/// Maximum length of an error's message, in bytes.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// Maximum number of functions, and maximum length of each name and each file in bytes.
const FRAMES_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 120;

impl From<report::Error> for AuthorError {
    fn from(error: report::Error) -> Self {
        let innermost = error.frames.first().and_then(|frame| frame.position.as_ref());
        AuthorError {
            message: cut(&error.message, MESSAGE_BYTES_MAX).to_owned(),
            place: error.position.as_ref().or(innermost).map(place),
            frames: error.frames.iter().take(FRAMES_MAX).map(frame).collect(),
            output: String::new(),
        }
    }
}

fn frame(frame: &report::Frame) -> String {
    let function = cut(&frame.function, NAME_BYTES_MAX);
    match &frame.position {
        Some(position) => format!("{function} ({})", place(position)),
        None => function.to_owned(),
    }
}

fn place(position: &report::Position) -> String {
    let file = cut(&position.file, NAME_BYTES_MAX);
    match position.column {
        Some(column) => format!("{file}:{}:{column}", position.line),
        None => format!("{file}:{}", position.line),
    }
}

impl AuthorError {
    /// Adds what the host knows: the functions of the component, unless the plugin named the author's, and its last output.
    pub(super) fn completed(mut self, error: &wasmtime::Error, output: String) -> Self {
        if self.frames.is_empty() {
            self.frames = functions(error);
        }
        AuthorError { output, ..self }
    }
}

impl fmt::Display for AuthorError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(out, "{place}: ")?;
        }
        write!(out, "{}", self.message)?;
        if !self.output.is_empty() {
            write!(out, "; its last output: {}", self.output)?;
        }
        if self.frames.is_empty() { Ok(()) } else { write!(out, "; in {}", self.frames.join(" < ")) }
    }
}

/// Error of a script, in its author's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    /// Set when the script failed before its function was called.
    pub(super) before_call: bool,
    /// Name and message of the error.
    pub(super) message: String,
    /// Line and column, both from 1. None: the engine cannot tell.
    pub(super) position: Option<(u32, u32)>,
    /// The script's functions, innermost first.
    pub(super) frames: Vec<String>,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(out, "line {line}, column {column}: {}", self.message)?,
            None => write!(out, "{}", self.message)?,
        }
        if self.frames.is_empty() { Ok(()) } else { write!(out, "; in {}", self.frames.join(" < ")) }
    }
}

/// Error of a script in the form of API answers and pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ShownScriptError {
    /// Name and message of the error.
    pub message: String,
    /// Line of the script, from 1. Absent: the engine cannot tell.
    pub line: Option<u32>,
    /// Column of the script, from 1.
    pub column: Option<u32>,
    /// Functions of the script that were running, innermost first.
    pub functions: Vec<String>,
}

impl From<ScriptError> for ShownScriptError {
    fn from(error: ScriptError) -> Self {
        let (line, column) = error.position.unzip();
        ShownScriptError { message: error.message, line, column, functions: error.frames }
    }
}

/// Returns the names of the author's functions in the backtrace of an error, innermost first.
pub(super) fn functions(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    // The compile child has demangled and shortened the names.
    let names: Vec<&str> = backtrace.frames().iter().filter_map(wasmtime::FrameInfo::func_name).collect();
    authors(&names)
}

/// Functions that only an interpreter has: the functions of such a component are the interpreter's.
const INTERPRETERS: [&str; 3] = ["_PyEval_", "JS_CallInternal", "JS_Call"];

/// Beginnings of the names of functions of runtimes, of the sdk and of generated code.
const RUNTIMES: [&str; 19] = [
    "core::",
    "<core::",
    "alloc::",
    "<alloc::",
    "std::",
    "<std::",
    "__rust",
    "rust_",
    "_rust",
    "hookloom_sdk::",
    "<hookloom_sdk::",
    "wit_bindgen",
    "hookloom:plugin/",
    "hookloom_errors_",
    "hookloom_fail",
    "__wasm",
    "__assert",
    "cabi_",
    "adapter ",
];

/// Functions of C's library that end a call.
const ENDINGS: [&str; 3] = ["abort", "exit", "raise"];

/// Part of the names that the sdk's macro `export!` generates in the author's crate.
const EXPORTED: &str = " as hookloom_sdk::bindings::";

fn authors(names: &[&str]) -> Vec<String> {
    if names.iter().any(|name| INTERPRETERS.iter().any(|prefix| name.starts_with(prefix))) {
        return Vec::new();
    }
    let own = names.iter().filter(|name| is_authors(name));
    own.take(FRAMES_MAX).map(|&name| name.to_owned()).collect()
}

fn is_authors(name: &str) -> bool {
    !RUNTIMES.iter().any(|prefix| name.starts_with(prefix)) && !ENDINGS.contains(&name) && !name.contains(EXPORTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_authors_functions_are_shown() {
        #[track_caller]
        fn check(names: &[&str], expected: &[&str]) {
            assert_eq!(authors(names), expected);
        }
        check(
            &[
                "hookloom_sdk::panics::report",
                "<alloc::boxed::Box<F> as core::ops::function::Fn<Args>>::call",
                "std::panicking::panic_with_hook",
                "core::panicking::panic_fmt",
                "my_plugin::deep::inside",
                "<my_plugin::Wrap as hookloom_sdk::Plugin>::transform",
                "<my_plugin::_::Exported as hookloom_sdk::bindings::exports::hookloom::plugin::transform::Guest>::transform",
                "hookloom:plugin/transform@1.0.0#transform",
            ],
            &["my_plugin::deep::inside", "<my_plugin::Wrap as hookloom_sdk::Plugin>::transform"],
        );
        check(
            &["abort", "parse", "exports_hookloom_plugin_transform_transform", "__wasm_export_exports_hookloom_plugin"],
            &["parse", "exports_hookloom_plugin_transform_transform"],
        );
        check(&["_PyEval_EvalFrameDefault", "cfunction_vectorcall_O", "_PyEval_Vector"], &[]);
        check(&["js_array_from", "JS_CallInternal"], &[]);
        check(&["recurses"; 40], &["recurses"; 16]);
    }

    #[test]
    fn an_error_names_its_place_and_is_bounded() {
        #[track_caller]
        fn check(error: report::Error, expected: &str) {
            assert_eq!(AuthorError::from(error).to_string(), expected);
        }
        fn at(line: u32, column: Option<u32>) -> Option<report::Position> {
            Some(report::Position { file: "src/plugin.ts".to_owned(), line, column })
        }
        fn frame(function: &str, position: Option<report::Position>) -> report::Frame {
            report::Frame { function: function.to_owned(), position }
        }
        let message = "TypeError: no".to_owned();
        check(report::Error { message: message.clone(), position: None, frames: Vec::new() }, "TypeError: no");
        check(
            report::Error { message: message.clone(), position: at(3, None), frames: Vec::new() },
            "src/plugin.ts:3: TypeError: no",
        );
        let frames = vec![frame("deep", at(3, Some(9))), frame("transform", None)];
        check(
            report::Error { message, position: None, frames },
            "src/plugin.ts:3:9: TypeError: no; in deep (src/plugin.ts:3:9) < transform",
        );
        let long = report::Error {
            message: "x".repeat(5_000),
            position: None,
            frames: vec![frame(&"f".repeat(1_000), None); 1_000],
        };
        assert!(AuthorError::from(long).to_string().len() < 4_000);
    }
}

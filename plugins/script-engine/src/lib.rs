//! Engine that runs scripts as plugins: QuickJS as a component.
//!
//! # Life of a call
//! 1. When the component is built, `prepare` makes QuickJS's runtime and the globals of scripts, and the memory is kept as
//!    part of the component. A fresh instance begins there.
//! 2. The first event loads the script, which the host hands over as data.
//! 3. `transform` of the script is called, and its answer is converted to the contract's.
//!
//! # Guarantees
//! - What a script does wrong is reported with its message, line and column, and the script's own functions. The engine's are
//!   never shown.
//! - A script that changes built-in objects changes its own answer and nothing else.
//! - A number that JavaScript cannot hold is sent as it came, or the script gets an error that names it.
//!
//! # Limits
//! The sandbox is the instance: nothing here protects the host. Loops without end are ended by the host.

#[cfg(target_family = "wasm")]
mod answer;
#[cfg(target_family = "wasm")]
mod bindings;
#[cfg(target_family = "wasm")]
mod engine;
#[cfg(target_family = "wasm")]
mod exports;
#[cfg(any(test, target_family = "wasm"))]
mod frames;
#[cfg(target_family = "wasm")]
mod globals;
#[cfg(any(test, target_family = "wasm"))]
mod hexadecimal;
#[cfg(any(test, target_family = "wasm"))]
mod numbers;

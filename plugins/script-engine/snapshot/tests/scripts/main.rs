//! The engine's behaviour: scripts, events, and what comes of them.
//!
//! Runs the committed component, in the limits of a host.
#![allow(clippy::unwrap_used, reason = "these are tests")]
#![allow(clippy::disallowed_methods, reason = "the time of a call is measured, and no clock of a host is turned")]

mod answers;
mod errors;
mod hostile;
mod input;
mod numbers;
mod run;
mod speed;

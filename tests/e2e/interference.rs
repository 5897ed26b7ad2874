//! Interference: effects of attacks on an honest tenant of the same host.
//!
//! Each scenario is a kind of attack by plugins, tenants, receivers or clients, on loopback, bounded in count and time. `cargo
//! xtask soak interference` runs all of them on an optimised build and prints a table. The tests here run some of them for a few
//! seconds on the debug build, with limits that hold on a busy machine and that only a missing defence exceeds.

mod arena;
mod connections;
mod figures;
mod guests;
mod probe;
mod reads;
mod receivers;
mod run;
mod short;
mod table;
mod writes;

//! End-to-end tests: each drives the real program over real sockets, with receivers in processes of their own.
//!
//! `cargo xtask test` builds what they need first: the program, the example plugins and the misbehaving guests.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod author;
mod bad_input;
mod bins;
mod browser;
mod canary;
mod cli;
mod compiled;
mod connections;
mod contract;
mod crash;
mod durability;
mod faults;
mod folder;
mod forms;
mod gate;
mod guard;
mod guests;
mod hands;
mod harness;
mod history;
mod hostile_sections;
mod interference;
mod lanes;
mod limits;
mod moving;
mod own_faults;
mod operations;
mod openapi;
mod pages;
mod proxies;
mod quarantine;
mod races;
mod receivers;
mod reload;
mod repeats;
mod rest;
mod restart;
mod retries;
mod reuse;
mod samples;
mod schema;
mod send;
mod soak;
mod tls_failures;
mod traces;
mod transport;
mod trials;
mod usage;
mod volume;
mod walk;
mod warnings;

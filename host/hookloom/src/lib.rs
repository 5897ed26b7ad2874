//! Hookloom: a webhook dispatcher for Agile CRM that runs a sandboxed WebAssembly plugin on every delivery.
//!
//! # Path of an event
//!
//! The modules in this order show the path of an event from the request to the receiver's answer.
//!
//! 1. [`app::App::start`] has opened the store, loaded the plugins and bound the socket.
//! 2. [`api`] receives a request: `POST /v1/tenants/{t}/events` with a key, or `POST /in/{token}` from Agile CRM. The arguments of the
//!    handler prove the access.
//! 3. [`intake::accept`] parses the bytes into events: [`event::read_batch`] checks the envelope, and that plugins can read the event.
//! 4. [`store::Store::accept`] finds the matching subscriptions in the catalog ([`subscription::Subscription::matches`]), and writes the events with one
//!    pending delivery for each of them in one transaction. After the commit, the sender gets `202`. From here on the deliveries are
//!    durable, even if the process ends.
//! 5. The store publishes the new deliveries to the [`deliver::Dispatcher`], which wakes the lanes of the subscriptions. A lane decides
//!    when an attempt begins. After a restart it reads the same delivery from the store.
//! 6. The attempt calls [`plugin::Plugins::judge`]: the subscription's plugin gets the original event in a fresh instance, and returns
//!    pass, replace, drop or later.
//! 7. [`signature::signature_header`] signs the bytes of the request; [`hookloom_egress::Client::send`] lets [`address`] vet the
//!    destination, POSTs the request, and reads the answer up to a maximum.
//! 8. [`retry::next`] decides what follows: delivered, another attempt at a time, or dead.
//! 9. [`store::Store::record`] writes attempt and state. `GET …/deliveries/{id}` shows them.
//!
//! # Dependencies between modules
//!
//! Types and pure rules are the crate [`hookloom_model`], the HTTP client is [`hookloom_egress`], and metrics are
//! [`hookloom_telemetry`]. None of them knows a module of this crate. A module uses those below it in this list, never those above.
//! [`api`] and [`deliver`] do not use each other; both use the store. Only [`plugin`] uses wasmtime, [`plugin::watch`] notify, and
//! [`store`] SQL. `cargo xtask tidy` checks the rules that no dependency enforces.

// Command line.
pub mod cli;

// The only module that uses all others.
pub mod app;

// Both ends of the path of an event.
pub mod api;
pub mod intake;

pub mod deliver;

// Modules with one external system each.
pub mod plugin;
pub mod store;

// Settings.
pub mod config;

pub mod cpu_pool;
pub mod fair_share;

// Other crates.
pub use hookloom_telemetry as telemetry;

// Pure rules and data.
pub use hookloom_model::{
    access, address, chain, delivery, describe, diff, event, figures, headers, ids, inspector, limits, pauses, plural,
    retry, secret, signature, subscription, url_path,
};

//! Hookloom: a webhook dispatcher for Agile CRM that runs a sandboxed WebAssembly plugin on every delivery.
//!
//! # Path of an event
//!
//! The modules in this order show the path of an event from the request to the receiver's answer.
//!
//! 1. [`app::App::start`] has opened the store, loaded the plugins and bound the socket.
//! 2. [`api`] receives a request: `POST /v1/tenants/{t}/events` with a key, or `POST /in/{token}` from Agile CRM. The arguments of the
//!    handler prove the access.
//! 3. [`operations`] parse the bytes into events: [`event::read_batch`] checks the envelope, and that plugins can read the event.
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
//! The store ([`hookloom_store`], the only crate with SQL), the plugins ([`hookloom_plugin`], the only one with wasmtime and notify),
//! the delivery ([`hookloom_deliver`]) and the HTTP client ([`hookloom_egress`]) are crates below this one, and [`hookloom_model`] with
//! types and pure rules is below all of them. A crate uses those that its `Cargo.toml` names. A module of this crate uses those
//! below it in this list, never those above; `cargo xtask tidy` checks it.

// Command line.
pub mod cli;

// The only module that uses all others.
pub mod app;

// E-mails, out of the store.
pub mod mail;

// Both ends of the path of an event.
pub mod api;
pub mod operations;

// Settings.
pub mod config;

pub mod cpu_pool;
mod library;
mod request_id;
mod test_clock;

// Other crates, from the top down.
pub use hookloom_deliver as deliver;
pub use hookloom_fair_share as fair_share;
pub use hookloom_plugin as plugin;
pub use hookloom_store as store;
pub use hookloom_telemetry as telemetry;

// Pure rules and data.
pub use hookloom_model::{
    accent, access, address, chain, clock, delivery, describe, diff, event, event_type, figures, filter, headers, ids,
    inspector, limits, manifest, pauses, plural, retry, secret, settle, signature, subscription, url_path,
};

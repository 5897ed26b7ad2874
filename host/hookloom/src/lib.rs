//! Hookloom: a webhook dispatcher for Agile CRM that runs a sandboxed WebAssembly plugin on every delivery.
//!
//! # The walk of one event
//!
//! Read the modules in the order below, and you follow one event from the wire to the receiver's answer.
//!
//! 1. [`app::App::start`] has opened the store, loaded the plugins and bound the socket.
//! 2. A request comes to [`api`]: `POST /v1/tenants/{t}/events` with a key, or Agile CRM's own `POST /in/{token}`. Who
//!    asks is proven by the handler's arguments.
//! 3. [`intake::accept`] turns the bytes into events: [`event::read_batch`] checks the envelope, and that plugins
//!    can read what is in it.
//! 4. [`store::Store::accept`] asks the catalog who gets each event ([`subscription::Subscription::receives`]), and writes the events with one pending
//!    delivery for each of those subscriptions in one transaction. Then, and only then, the sender reads `202`. From
//!    here on the deliveries happen, whatever becomes of this process.
//! 5. The store's news reaches the [`deliver::Dispatcher`], which wakes the lane of the subscription. A lane
//!    decides when an attempt begins; after a restart it finds the same delivery in the store.
//! 6. The attempt asks [`plugin::Plugins::judge`]: the subscription's plugin sees the original event in a fresh
//!    instance, and answers pass, replace, drop or later.
//! 7. [`signature::signature_header`] signs the very bytes that are sent; [`hookloom_egress::Client::send`] lets
//!    [`address`] vet where they go, POSTs them, and reads the answer up to a cap.
//! 8. [`retry::next`] says what follows: delivered, again at a time, or dead.
//! 9. [`store::Store::record`] writes attempt and state. `GET …/deliveries/{id}` shows them.
//!
//! # Who may use whom
//!
//! Types and pure rules are the crate [`hookloom_model`], the HTTP client is [`hookloom_egress`], metrics are
//! [`hookloom_telemetry`]; none of them knows a module here. A module uses those below it in this list, never those above. [`api`] and
//! [`deliver`] share no work; they meet in the store. wasmtime stands in [`plugin`] only, notify in [`plugin::watch`], SQL in
//! [`store`]. `cargo xtask tidy` checks what no dependency enforces.

// The program.
pub mod cli;

// The only one that knows everybody.
pub mod app;

// The two ends of the walk.
pub mod api;
pub mod intake;

pub mod deliver;

// One outside world each.
pub mod plugin;
pub mod store;

// The settings.
pub mod config;

pub mod cpu_pool;
pub mod fair_share;

// Crates of their own.
pub use hookloom_telemetry as telemetry;

// Pure rules, and the words they are about.
pub use hookloom_model::{
    access, address, chain, delivery, describe, diff, event, figures, headers, ids, inspector, limits, pauses, plural,
    retry, signature, subscription, url_path,
};

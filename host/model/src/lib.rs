//! Types and pure rules of events, subscriptions, deliveries, retries, signatures and the address guard.
//!
//! # Guarantees
//!
//! - No module reads a file, opens a socket or waits. Only [`clock`] reads the time. Rules take times and random numbers as arguments,
//!   except where an id or a key is made.
//! - The crate depends on no asynchronous runtime, no HTTP server or client, no database and no plugin runtime, so its tests build
//!   in seconds. With the feature `openapi`, types that the REST API shows have schemas; nothing else changes.
//! - Modules import each other without circles (`cargo xtask tidy` checks it).
//!
//! # Reading order
//!
//! [`ids`]; [`event`] with [`event_type`]; [`subscription`] with [`filter`], [`settle`], [`secret`], [`chain`], [`limits`] and [`address`]; [`delivery`] with
//! [`retry`]; the contents of a request, [`signature`] and [`headers`]; and [`alerts`]. [`access`] and [`portal`]
//! say who may do what, and [`accent`] the colours of a portal.

pub mod accent;
pub mod access;
pub mod address;
pub mod alerts;
pub mod chain;
pub mod chance;
pub mod clock;
pub mod delivery;
pub mod diff;
pub mod event;
pub mod event_type;
pub mod figures;
pub mod filter;
pub mod headers;
pub mod ids;
pub mod inspector;
pub mod limits;
pub mod manifest;
pub mod pauses;
pub mod plural;
pub mod portal;
pub mod retry;
pub mod reuse;
pub mod secret;
pub mod settle;
pub mod signature;
pub mod subscription;
pub mod target;
pub mod url_path;

/// Returns an error with its causes, in one line.
pub fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

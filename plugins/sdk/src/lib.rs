//! Write Hookloom plugins in Rust.
//!
//! A plugin looks at each event before it is sent and says what to do: pass it on as it is, send something else, drop
//! it, or decide later. This one lets only deals pass that are worth something:
//!
//! ```
//! use hookloom_sdk::{Event, Failure, Plugin, Verdict, config, export};
//!
//! struct WorthIt;
//!
//! impl Plugin for WorthIt {
//!     fn transform(event: &Event) -> Result<Verdict, Failure> {
//!         let least: f64 = config::parse("least")?.unwrap_or(1_000.0);
//!         match event.deal()?.expected_value() {
//!             Some(value) if value >= least => Ok(Verdict::Pass),
//!             _ => Ok(Verdict::drop("too-small", format!("worth less than {least}"))),
//!         }
//!     }
//! }
//!
//! export!(WorthIt);
//! # use hookloom_sdk::testing;
//! # let deal = r#"{"eventName":"Opportunity is Created","eventData":{"expected_value":"500"}}"#;
//! # assert_eq!(testing::run::<WorthIt>(deal, &[]), Ok(Verdict::drop("too-small", "worth less than 1000")));
//! # assert_eq!(testing::run::<WorthIt>(deal, &[("least", "500")]), Ok(Verdict::Pass));
//! ```
//!
//! Build it as a component: a library with `crate-type = ["cdylib"]`, then
//! `cargo build --release --target wasm32-wasip2`.
//!
//! # What a plugin can count on
//! - It is called in a fresh instance for each attempt of each event: what it keeps in memory is gone afterwards.
//! - The clock stands still at the moment the event was accepted, and random numbers are seeded by the event, so the
//!   same event, config and secrets give the same answer, and retries send the same bytes.
//! - There is no network, no file system and no environment. It may not sleep.
//! - [`Verdict::Pass`] sends the bytes exactly as they came. When it edits, [`Event::edit`] keeps unknown fields, the
//!   order of keys and the digits of numbers.
//!
//! # Testing without a host
//! [`testing::run`] calls a plugin natively in `cargo test`, with a config of the test's choice.

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings;
mod contact;
mod deal;
mod decimal;
mod event;
mod host;
#[cfg(all(feature = "manifest", not(target_family = "wasm")))]
pub mod manifest;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod time;
mod value;
mod verdict;

pub use contact::{Contact, Owner, Property};
pub use deal::Deal;
pub use decimal::Decimal;
pub use event::Event;
pub use host::{config, history, log, secrets};
#[cfg(all(feature = "manifest", not(target_family = "wasm")))]
pub use schemars;
pub use serde_json as json;
pub use value::{at, id_of, number_of, same, text_of};
pub use verdict::{Body, Failure, Outgoing, Reason, Verdict};

/// A plugin: one function from an event to a verdict.
pub trait Plugin {
    /// Judges one event.
    ///
    /// # Errors
    /// A [`Failure`] says why it could not: the event can never work, it may work another time, or the config is wrong.
    /// The host gives the event up, retries it, or pauses the subscription accordingly. A panic is none of these: the
    /// delivery waits for another version of the plugin, and shows message, file and line.
    fn transform(event: &Event) -> Result<Verdict, Failure>;
}

/// Makes a type that implements [`Plugin`] the component's export. Use it once in a crate.
///
/// `export!(MyPlugin, manifest: "manifest.json")` also puts the plugin's manifest, a file beside its `Cargo.toml`, into the component.
#[macro_export]
macro_rules! export {
    ($plugin:ty, manifest: $file:literal) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            const FILE: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $file));

            #[used]
            #[unsafe(link_section = "hookloom:manifest")]
            static MANIFEST: [u8; FILE.len()] = *include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $file));
        };

        $crate::export!($plugin);
    };
    ($plugin:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Exported;

            impl $crate::bindings::exports::hookloom::plugin::transform::Guest for Exported {
                fn transform(
                    event: $crate::bindings::hookloom::plugin::types::Event,
                ) -> Result<
                    $crate::bindings::hookloom::plugin::types::Verdict,
                    $crate::bindings::hookloom::plugin::types::Failure,
                > {
                    $crate::bindings::judge::<$plugin>(event)
                }
            }

    $crate::bindings::export!(Exported with_types_in $crate::bindings);
        };

        #[cfg(not(target_family = "wasm"))]
        const _: fn(&$crate::Event) -> Result<$crate::Verdict, $crate::Failure> =
            <$plugin as $crate::Plugin>::transform;
    };
}

//! Alerts: what is wrong with a tenant's webhooks, plugins, share and intake, and when it is told.
//!
//! # Guarantees
//! - A subject has at most one incident that is open or still to be told ([`step`]).
//! - An incident is told at most once when it opens and once when it is over. One that was told is told to be over, at the end of
//!   quiet hours at the latest.
//! - Nothing is told within quiet hours, except critical incidents if the settings say so.
//!
//! # Theory of operation
//! The host makes [`Reading`]s of figures that it has already. A rule for each kind turns a reading into a [`Judgement`]: bad, good or
//! unclear. [`step`] compares the judgements with the incidents, and returns those that change and what is told of them. The store
//! calls it again within the transaction.
//!
//! Pure: figures, settings and the time are arguments.

mod email;
mod incident;
mod quiet;
mod reading;
mod settings;
mod step;
mod text;

pub use email::{EmailAddress, RECIPIENTS_MAX};
pub use incident::{Incident, IncidentKind, Severity};
pub use quiet::{QuietHours, TimeOfDay};
pub use reading::{
    Finding, IntakeReading, Judgement, PluginReading, RECENT_S, Rate, Reading, ShareReading, WINDOW_S, WebhookReading,
};
pub use settings::{
    AlertFault, AlertSettings, IntakeSilent, PluginFaulting, ShareFilling, WebhookFailing, WebhookStopped,
};
pub use step::{Message, Told, step};
pub use text::{Words, event_schema, payload, words};

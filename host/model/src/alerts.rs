//! Alerts: what is wrong with a tenant's webhooks, plugins, share and intake, and when messages about it are sent.
//!
//! # Guarantees
//! - A subject has at most one incident that is open, or over without its closing message ([`step()`]).
//! - An incident has at most one message when it opens and one when it is over. Each opening message has its closing message, at
//!   the end of quiet hours at the latest.
//! - No message is sent within quiet hours, except critical incidents if the settings say so.
//!
//! # Theory of operation
//! The host makes [`Reading`]s of figures that it has already. A rule for each kind turns a reading into a [`Judgement`]: bad, good or
//! unclear. [`step()`] compares the judgements with the incidents, and returns those that change, with their messages. The store
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
    WebhookState,
};
pub use settings::{
    AlertFault, AlertSettings, IntakeSilent, PluginFaulting, ShareFilling, WebhookFailing, WebhookStopped,
};
pub use step::{IncidentChange, Message, sample_incident, step};
pub use text::{MessageText, event_schema, message_text, payload};

//! Event on its way into a store.
//!
//! Pure data: its name, its module and its contact or deal were read from its bytes before.

use bytes::Bytes;
use hookloom_model::event::Module;

/// Checked event that has not been stored.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The `eventName` of the webhook.
    pub name: String,
    /// Module of the event name.
    pub module: Module,
    /// `eventData.id` as text.
    pub entity_id: Option<String>,
    /// Exact bytes of the event.
    pub payload: Bytes,
}

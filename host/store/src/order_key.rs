//! Key that orders the deliveries of one entity.

#[cfg(any(test, feature = "postgres"))]
use crate::new_event::NewEvent;
use hookloom_model::event::Event;
use sha2::{Digest as _, Sha256};

/// Key of an entity in the rows of its ordered deliveries: the beginning of a sha256, so that the size does not depend on the
/// entity's id. A contact and a deal with the same id have different keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrderKey(pub(crate) [u8; 16]);

impl OrderKey {
    /// Returns the key of an event's entity. None: the event has no entity.
    pub(crate) fn of_event(event: &Event) -> Option<Self> {
        event.entity_id.as_deref().map(|entity_id| OrderKey::of(event.module.as_str(), entity_id))
    }

    /// Returns the key of a new event's entity. None: the event has no entity.
    #[cfg(any(test, feature = "postgres"))]
    pub(crate) fn of_new(event: &NewEvent) -> Option<Self> {
        event.entity_id.as_deref().map(|entity_id| OrderKey::of(event.module.as_str(), entity_id))
    }

    fn of(module: &str, entity_id: &str) -> Self {
        OrderKey::digest(Sha256::new().chain_update(module).chain_update("/").chain_update(entity_id))
    }

    /// Returns the key of a text that earlier hosts stored, such as `Contact/57`.
    pub(crate) fn of_text(text: &str) -> Self {
        OrderKey::digest(Sha256::new().chain_update(text))
    }

    fn digest(sha256: Sha256) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&sha256.finalize()[..16]);
        OrderKey(key)
    }
}

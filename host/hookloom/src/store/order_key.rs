//! The key by which deliveries of one entity keep their order.

use crate::event::Event;
use sha2::{Digest as _, Sha256};

/// The name of an entity in the rows of deliveries that keep its order: the beginning of a sha256, so that its size does
/// not depend on the entity's id. Of a contact and a deal with the same id they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OrderKey(pub(super) [u8; 16]);

impl OrderKey {
    /// The key of an event's entity. None: the event is of no entity.
    pub(super) fn of_event(event: &Event) -> Option<Self> {
        event.entity_id.as_deref().map(|entity_id| OrderKey::of(event.module.as_str(), entity_id))
    }

    fn of(module: &str, entity_id: &str) -> Self {
        OrderKey::digest(Sha256::new().chain_update(module).chain_update("/").chain_update(entity_id))
    }

    /// The key of what earlier hosts wrote: `Contact/57`.
    pub(super) fn of_text(text: &str) -> Self {
        OrderKey::digest(Sha256::new().chain_update(text))
    }

    fn digest(sha256: Sha256) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&sha256.finalize()[..16]);
        OrderKey(key)
    }
}

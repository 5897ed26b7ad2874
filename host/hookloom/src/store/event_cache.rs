//! Events that lanes read lately, shared between them.
//!
//! An event for a thousand webhooks that keep an order is read by a thousand lanes. Without the cache each of them reads and holds a
//! copy of its payload.
//!
//! # Guarantees
//! - All lanes that read an event within [`KEPT`] get the same allocation, if it fits.
//! - The cache holds at most [`BYTES_MAX`] bytes of events, the most used ones.
//!
//! # Limits
//! Events never change, so nothing is ever outdated. An event that is deleted with its tenant stays in memory for up to [`KEPT`].

use super::StoreError;
use super::deliveries::event_row;
use crate::event::{Event, EventId};
use crate::subscription::TenantId;
use moka::sync::Cache;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::sync::Arc;
use std::time::Duration;

/// Maximum size of all cached events, in bytes.
const BYTES_MAX: u64 = 16 << 20;

/// Memory of an event beside its payload, in bytes, with its entry.
const EVENT_BYTES: usize = 512;

/// Lifetime of an entry.
const KEPT: Duration = Duration::from_secs(10);

/// The cache. A clone is another handle of it.
#[derive(Clone)]
pub(super) struct EventCache(Cache<EventId, Arc<Event>>);

impl Default for EventCache {
    fn default() -> Self {
        EventCache(Cache::builder().max_capacity(BYTES_MAX).weigher(weight).time_to_live(KEPT).build())
    }
}

/// Approximate size of a cached event in bytes.
fn weight(_: &EventId, event: &Arc<Event>) -> u32 {
    (event.payload.len() + EVENT_BYTES).try_into().unwrap_or(u32::MAX)
}

impl EventCache {
    /// Returns an event of a tenant, from the database if it is not cached. None: it is gone.
    pub(super) fn read(
        &self,
        connection: &Connection,
        tenant: &TenantId,
        id: EventId,
    ) -> Result<Option<Arc<Event>>, StoreError> {
        if let Some(event) = self.0.get(&id) {
            return Ok(Some(event));
        }
        let sql =
            "SELECT id, name, module, entity_id, received_at_ms, payload FROM events WHERE tenant = ?1 AND id = ?2";
        let mut statement = connection.prepare_cached(sql)?;
        let found = statement.query_row(params![&*tenant.0, id.0], event_row).optional()?.map(Arc::new);
        if let Some(event) = &found {
            self.0.insert(id, event.clone());
        }
        Ok(found)
    }
}

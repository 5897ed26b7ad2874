//! Cache of events that lanes have read lately, shared between lanes.
//!
//! An event of a thousand ordered subscriptions is read by a thousand lanes. Without the cache, each of them reads and holds a copy
//! of the payload.
//!
//! # Guarantees
//! - All lanes that read an event within [`KEPT`] share one allocation, if it fits.
//! - The cache holds at most [`BYTES_MAX`] bytes, of the most used events.
//!
//! # Limits
//! Events never change, so no entry is outdated. An event that is deleted with its tenant stays in memory for up to [`KEPT`].

use super::batch::{IntakeStatement, IntakeTx};
use super::deliveries::event_row;
use crate::StoreError;
use hookloom_model::event::{Event, EventId};
use hookloom_model::subscription::TenantId;
use moka::sync::Cache;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::sync::Arc;
use std::time::Duration;

/// Maximum size of all cached events, in bytes.
const BYTES_MAX: u64 = 16 << 20;

/// Memory of an event and its entry, besides the payload, in bytes.
const EVENT_BYTES: usize = 512;

/// Lifetime of an entry.
const KEPT: Duration = Duration::from_secs(10);

/// Cache of events. A clone shares the same cache.
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
    /// Returns an event of a tenant, from the database if it is not cached. None: the event does not exist.
    pub(super) fn read(
        &self,
        connection: &Connection,
        tenant: &TenantId,
        id: EventId,
    ) -> Result<Option<Arc<Event>>, StoreError> {
        self.get_or(id, || {
            let mut statement = connection.prepare_cached(IntakeStatement::Event.sql())?;
            Ok(statement.query_row(params![&*tenant.0, id.0], event_row).optional()?)
        })
    }

    /// Returns an event of a tenant as [`EventCache::read`] does, within a transaction.
    pub(super) fn read_within(
        &self,
        tx: &IntakeTx<'_, '_>,
        tenant: &TenantId,
        id: EventId,
    ) -> Result<Option<Arc<Event>>, StoreError> {
        self.get_or(id, || Ok(tx.find(IntakeStatement::Event, params![&*tenant.0, id.0], event_row)?))
    }

    fn get_or(
        &self,
        id: EventId,
        read: impl FnOnce() -> Result<Option<Event>, StoreError>,
    ) -> Result<Option<Arc<Event>>, StoreError> {
        if let Some(event) = self.0.get(&id) {
            return Ok(Some(event));
        }
        let found = read()?.map(Arc::new);
        if let Some(event) = &found {
            self.0.insert(id, event.clone());
        }
        Ok(found)
    }
}

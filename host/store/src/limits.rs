//! Limits of the store, from the settings.

use crate::Caps;
use std::time::Duration;

/// Limits of the store.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Maximum number of deliveries that the events of one request make together. One event is always accepted.
    pub request_deliveries_max: u64,
    /// Maximum duration of a query.
    pub query_time_max: Duration,
    /// Share of a tenant: the maximum amount of stored data.
    pub share: Caps,
    /// Maximum size of an event, in bytes. The store is ready if it has room for such an event.
    pub event_bytes_max: u64,
    /// Size of the disk reserve for deletions, in bytes. 0: no reserve.
    pub disk_reserve_bytes: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        StoreLimits {
            request_deliveries_max: 10_000,
            query_time_max: Duration::from_secs(5),
            share: Caps::NONE,
            event_bytes_max: 256 << 10,
            disk_reserve_bytes: 0,
        }
    }
}

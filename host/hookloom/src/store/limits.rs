//! Limits of the store that settings bring.

use super::Caps;
use std::time::Duration;

/// Limits of what one request may do.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Maximum number of deliveries that the events of one request make together; one event is always accepted.
    pub request_deliveries_max: u64,
    /// Maximum time that a query may take, once it has begun.
    pub query_time_max: Duration,
    /// The share of a tenant: the maximum of what is kept for it.
    pub share: Caps,
    /// The largest event, in bytes: the room that a store must have to be ready.
    pub event_bytes_max: u64,
    /// Bytes of the disk that are kept free for deletions. 0: none.
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

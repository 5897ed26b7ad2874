//! Maximum of what is kept for a tenant.

use crate::config::Config;

/// Most that is kept for a tenant; what is over is refused.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Number of events.
    pub events: u64,
    /// Bytes of everything: see [`usage`](super::usage).
    pub bytes: u64,
}

impl From<&Config> for Caps {
    fn from(config: &Config) -> Self {
        Caps { events: config.tenant_events_max, bytes: config.tenant_bytes_max }
    }
}

impl Caps {
    /// No bound, for what the host itself keeps for a tenant.
    pub const NONE: Caps = Caps { events: u64::MAX, bytes: u64::MAX };

    /// A tenth more: the share of requests that nobody sends twice.
    pub fn with_a_tenth_more(self) -> Self {
        Caps { events: self.events.saturating_add(self.events / 10), bytes: self.bytes.saturating_add(self.bytes / 10) }
    }
}

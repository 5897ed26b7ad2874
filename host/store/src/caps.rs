//! Share of a tenant: maximum of its stored data.

/// Share of a tenant. A request that would exceed the share is refused.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Maximum number of events.
    pub events: u64,
    /// Maximum size of all kinds together, in bytes: see [`usage`](super::usage).
    pub bytes: u64,
}

impl Caps {
    /// No bound, for data that the host itself stores for a tenant.
    pub const NONE: Caps = Caps { events: u64::MAX, bytes: u64::MAX };

    /// Returns a share that is a tenth larger, for requests that are not sent again.
    pub fn with_a_tenth_more(self) -> Self {
        Caps { events: self.events.saturating_add(self.events / 10), bytes: self.bytes.saturating_add(self.bytes / 10) }
    }
}

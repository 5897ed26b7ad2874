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

    /// Returns true if the share refuses nothing.
    #[cfg(any(test, feature = "memory", feature = "postgres"))]
    pub(crate) fn is_unbounded(self) -> bool {
        self.events == u64::MAX && self.bytes == u64::MAX
    }

    /// Returns true if a number of events and their size in bytes, with everything else, exceed the share.
    pub(crate) fn is_exceeded_by(self, events: u64, bytes: u64) -> bool {
        events > self.events || bytes > self.bytes
    }

    /// Returns true if a write makes a tenant exceed the share: events and bytes before and after it. A write that adds nothing never
    /// does, so that a tenant over its share can make things smaller.
    pub(crate) fn is_outgrown(self, before: [u64; 2], after: [u64; 2]) -> bool {
        let grows_over = |index: usize, most: u64| after[index] > before[index] && after[index] > most;
        grows_over(0, self.events) || grows_over(1, self.bytes)
    }

    /// Returns a share that is a tenth larger, for requests that are not sent again.
    pub fn with_a_tenth_more(self) -> Self {
        Caps { events: self.events.saturating_add(self.events / 10), bytes: self.bytes.saturating_add(self.bytes / 10) }
    }
}

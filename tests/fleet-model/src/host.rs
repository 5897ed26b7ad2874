//! A host: what it knows, which may be out of date.

use std::collections::BTreeSet;

/// Attempt that a host has decided to begin, because of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Decided {
    /// Number of the event.
    pub event: usize,
    /// Turn of its delivery.
    pub turn: u8,
    /// Time at which the host looked at its clock.
    pub at: u8,
}

/// Memory of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Host {
    /// Epoch of its registration. None: it has none, or knows that it was fenced.
    pub epoch: Option<u8>,
    /// End of its lease, counted from before it asked for it.
    pub lease_end: u8,
    /// Set while it believes that it owns the shard.
    pub owns: bool,
    /// Generation of its catalog.
    pub generation: u8,
    /// Events that it accepts, whose deliveries are claimed before they are committed.
    pub fresh: BTreeSet<usize>,
    /// Events whose deliveries it has claimed, with their turns.
    pub claimed: BTreeSet<(usize, u8)>,
    /// Events whose deliveries it has claimed while they settle. It attempts them when the database has ended that.
    pub settling: BTreeSet<usize>,
    /// Attempt that it is about to begin.
    pub decided: Option<Decided>,
    /// Attempt whose outcome is not known to be stored: event and turn.
    pub under_way: Option<(usize, u8)>,
    /// Set when the receiver has answered.
    pub is_answered: bool,
}

impl Host {
    /// Ends all claims of deliveries that were not begun.
    pub(crate) fn release(&mut self) {
        self.fresh.clear();
        self.claimed.clear();
        self.settling.clear();
        self.decided = None;
    }
}

//! The database: what is durable, and its transactions, each of which is one step.

use crate::LEASE;

/// Event with its delivery, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Delivery {
    /// The event has not been accepted.
    NotAccepted,
    /// The event was accepted for no receiver.
    WithoutReceiver,
    /// The delivery waits for an attempt.
    Pending {
        /// Number of recorded outcomes.
        turn: u8,
        /// Set while a later event may supersede it.
        settles: bool,
    },
    /// Another delivery stands for it.
    Superseded {
        /// Number of the event of that delivery.
        by: usize,
    },
    /// The delivery has ended.
    Ended,
}

/// Attempt that its host goes on with, although another owns the shard by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandedOver {
    /// Number of the event.
    pub event: usize,
    /// Turn of its delivery.
    pub turn: u8,
    /// Host of the attempt, and its epoch.
    pub by: (usize, u8),
}

/// Contents of the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Database {
    /// Registration of each host, which a takeover or a new registration raises.
    pub epochs: Vec<u8>,
    /// End of each host's lease.
    pub lease_ends: Vec<u8>,
    /// Generation of the catalog that each host has shown.
    pub shown: Vec<u8>,
    /// Host that owns the shard.
    pub owner: usize,
    /// Attempt that was under way when the shard was given away.
    pub handed_over: Option<HandedOver>,
    /// Generation of the catalog. The subscription is active in generation 0 and disabled in generation 1.
    pub generation: u8,
    /// Events with their deliveries.
    pub deliveries: Vec<Delivery>,
}

impl Database {
    /// Returns whether a host's lease is valid.
    pub fn has_lease(&self, host: usize, time: u8) -> bool {
        time < self.lease_ends[host]
    }

    /// Registers a host: a new epoch and a new lease. Returns the epoch.
    pub(crate) fn register(&mut self, host: usize, time: u8) -> u8 {
        self.epochs[host] += 1;
        self.lease_ends[host] = time + LEASE;
        self.shown[host] = self.generation;
        self.epochs[host]
    }

    /// Fences a host without a lease, and gives its shard to another.
    pub(crate) fn take_over(&mut self, from: usize, to: usize) {
        self.epochs[from] += 1;
        self.lease_ends[from] = 0;
        if self.owner == from {
            self.owner = to;
        }
    }

    /// Returns whether the attempt that was handed over may still be recorded. The end of its host's lease is not enough: a host that
    /// nobody has fenced may still write.
    fn is_held(&self, event: usize) -> bool {
        self.handed_over.is_some_and(|held| {
            let (by, epoch) = held.by;
            let turn = held.turn;
            let is_pending = matches!(self.deliveries[event], Delivery::Pending { turn: stored, .. } if stored == turn);
            held.event == event && self.epochs[by] == epoch && is_pending
        })
    }

    /// Reads the pending deliveries of the shard that the owner may attempt, each with its turn, and whether it settles.
    pub(crate) fn page(&self, forgets_handover: bool) -> Vec<(usize, u8, bool)> {
        let pending = |(event, delivery): (usize, &Delivery)| match delivery {
            Delivery::Pending { turn, settles } if forgets_handover || !self.is_held(event) => {
                Some((event, *turn, *settles))
            }
            _ => None,
        };
        self.deliveries.iter().enumerate().filter_map(pending).collect()
    }

    /// Records the outcome of an attempt. The last one ends the delivery, and the others ask for another attempt.
    pub(crate) fn record(&mut self, event: usize, turn: u8, turns: u8, is_guarded: bool) {
        let Delivery::Pending { turn: stored, settles } = self.deliveries[event] else { return };
        if is_guarded && stored != turn {
            return;
        }
        let next = if is_guarded { turn + 1 } else { stored + 1 };
        self.deliveries[event] =
            if next == turns { Delivery::Ended } else { Delivery::Pending { turn: next, settles } };
    }
}

//! State of a fleet: its database and hosts, and what is on its way between them.

use crate::database::Database;
use crate::host::Host;

/// Statement on its way to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Statement {
    /// Renews a lease.
    Renew {
        /// Time at which it was sent.
        sent_at: u8,
    },
    /// Accepts an event for the receivers of a generation.
    Accept {
        /// Number of the event.
        event: usize,
        /// Generation of the host's catalog.
        generation: u8,
        /// Event whose delivery waited when the statement was sent. None, unless the transaction looks no further.
        waiting: Option<usize>,
    },
    /// Ends the settling of a delivery.
    EndSettling {
        /// Number of the event.
        event: usize,
    },
    /// Records an outcome.
    Record {
        /// Number of the event.
        event: usize,
        /// Turn of the delivery that was attempted.
        turn: u8,
    },
}

/// Statement or answer with the host and its epoch.
pub(crate) type Sent<T> = (usize, u8, T);

/// Answer on its way to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// The lease is renewed.
    Renewed {
        /// Time at which the request was sent.
        sent_at: u8,
    },
    /// The event is stored.
    Accepted {
        /// Number of the event.
        event: usize,
        /// Set if an earlier request stored it.
        repeats: bool,
    },
    /// The delivery does not settle any more.
    SettlingEnded {
        /// Number of the event.
        event: usize,
        /// Set if it was not superseded before.
        is_pending: bool,
    },
    /// The outcome is stored, or was before.
    Recorded {
        /// Number of the event.
        event: usize,
        /// Turn of the delivery.
        turn: u8,
    },
    /// The catalog has another generation.
    Stale {
        /// Number of the event.
        event: usize,
    },
    /// The host was fenced.
    Fenced,
}

/// Progress of the change that disables the subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// It has not begun.
    Ahead,
    /// It is committed.
    Committed,
    /// Its sender has the answer.
    Answered,
}

/// Property that did not hold at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A write of a fenced host took effect.
    FencedWrite,
    /// An attempt began at a host that does not own the shard.
    BegunElsewhere,
    /// An attempt began of a delivery that had ended or had another turn.
    BegunLate,
    /// Two live hosts attempted one delivery at once.
    Overlap,
    /// An attempt began after the answer to the change.
    BegunAfterChange,
    /// A delivery was made for the disabled subscription.
    DeliveryForDisabled,
}

/// State of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FleetState {
    /// Clock of the database and the hosts.
    pub time: u8,
    /// The database.
    pub database: Database,
    /// Memory of each host.
    pub hosts: Vec<Host>,
    /// Statements on their way, sorted.
    pub statements: Vec<Sent<Statement>>,
    /// Answers on their way, sorted.
    pub answers: Vec<Sent<Answer>>,
    /// Number of hosts that ended.
    pub crashes: u8,
    /// Number of times that the shard was given away.
    pub gives: u8,
    /// Progress of the change.
    pub change: Change,
    /// Events that were answered with `202`.
    pub answered: Vec<bool>,
    /// Number of attempts that began, by event.
    pub begun: Vec<u8>,
    /// First violation.
    pub violation: Option<Violation>,
}

impl FleetState {
    pub(crate) fn violate(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    pub(crate) fn answer(&mut self, host: usize, epoch: u8, answer: Answer, is_lost: bool) {
        if is_lost {
            // An acceptance whose answer was lost releases its claim.
            if let Answer::Accepted { event, .. } | Answer::Stale { event } = answer {
                self.hosts[host].fresh.remove(&event);
            }
            if let Answer::SettlingEnded { event, .. } = answer {
                self.hosts[host].settling.remove(&event);
            }
            return;
        }
        self.answers.push((host, epoch, answer));
        self.answers.sort_unstable();
    }

    pub(crate) fn send(&mut self, host: usize, statement: Statement) {
        if let Some(epoch) = self.hosts[host].epoch {
            self.statements.push((host, epoch, statement));
            self.statements.sort_unstable();
        }
    }

    /// A host reads the catalog, and shows that it has.
    pub(crate) fn refresh(&mut self, at: usize) {
        let generation = self.database.generation;
        self.database.shown[at] = generation;
        let host = &mut self.hosts[at];
        host.generation = generation;
        if generation == 1 {
            host.claimed.clear();
            host.settling.clear();
        }
    }
}

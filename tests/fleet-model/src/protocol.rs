//! Rules of the protocol: what a host and the database do at a step.

use crate::database::{Delivery, HandedOver};
use crate::host::{Decided, Host};
use crate::state::{Answer, Change, FleetState, Statement, Violation};
use crate::{LEASE, MARGIN};

/// Rule of the protocol that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A write is not refused because its host was fenced.
    Unfenced,
    /// A host begins attempts until the very end of its lease.
    NoMargin,
    /// A lease counts from its answer.
    LeaseFromAnswer,
    /// A lease ends a tick early for others.
    EarlyTakeover,
    /// A lease that has ended is renewed.
    EndedLeaseRenewed,
    /// Events are accepted for the receivers of an earlier generation.
    GenerationUnchecked,
    /// A change is answered at its commit.
    AnsweredAtCommit,
    /// An attempt begins without another look at the catalog.
    NoSecondLook,
    /// Claims of a host outlive its ownership.
    ClaimsKept,
    /// An outcome adds one to the number of outcomes.
    TurnUnguarded,
    /// A new owner does not know what the former one attempts.
    HandoverForgotten,
    /// A `202` is sent with the statement.
    AnsweredBeforeCommit,
    /// A delivery that settles is attempted without a transaction.
    TakenUpInMemory,
    /// An event supersedes a delivery that was taken up.
    TakenUpSuperseded,
    /// The owner does not look whether a delivery was superseded.
    SupersededTakenUp,
    /// An earlier event supersedes the delivery of a later one.
    EarlierSupersedes,
    /// Two transactions that accept events of one contact do not wait for each other.
    AcceptUnlocked,
}

/// Fleet with its protocol.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Number of hosts.
    pub hosts: usize,
    /// Number of events.
    pub events: usize,
    /// Host that the first event is sent to. Host 0 owns the shard at the start.
    pub first_at: usize,
    /// Time at which the clock stands still, in ticks.
    pub time_max: u8,
    /// Maximum number of hosts that end.
    pub crashes_max: u8,
    /// Maximum number of times that the shard is given away.
    pub gives_max: u8,
    /// Set if the subscription is disabled at some time.
    pub disables: bool,
    /// Number of outcomes after which a delivery ends.
    pub turns: u8,
    /// Set if the subscription settles. All events are of one contact, in the order of their numbers.
    pub settles: bool,
    /// Rule that is left out.
    pub mutation: Option<Mutation>,
}

impl Fleet {
    /// Returns whether a rule is left out.
    pub(crate) fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Returns the time before the end of a lease in which no attempt begins.
    pub(crate) fn margin(&self) -> u8 {
        if self.is(Mutation::NoMargin) { 0 } else { MARGIN }
    }

    pub(crate) fn execute(&self, state: &mut FleetState, index: usize, loses_answer: bool) {
        let (host, epoch, statement) = state.statements.remove(index);
        let is_fenced = state.database.epochs[host] != epoch;
        if is_fenced && !self.is(Mutation::Unfenced) {
            state.answer(host, epoch, Answer::Fenced, loses_answer);
            return;
        }
        let before = state.database.deliveries.clone();
        let answer = match statement {
            Statement::Renew { .. } if is_fenced => Answer::Fenced,
            // The others may have counted on its end.
            Statement::Renew { .. }
                if !state.database.has_lease(host, state.time) && !self.is(Mutation::EndedLeaseRenewed) =>
            {
                Answer::Fenced
            }
            Statement::Renew { sent_at } => {
                state.database.lease_ends[host] = state.time + LEASE;
                Answer::Renewed { sent_at }
            }
            Statement::Accept { event, generation, waiting } => self.accept(state, event, generation, waiting),
            Statement::EndSettling { event } => self.end_settling(state, event),
            Statement::Record { event, turn } => {
                state.database.record(event, turn, self.turns, !self.is(Mutation::TurnUnguarded));
                Answer::Recorded { event, turn }
            }
        };
        if is_fenced && before != state.database.deliveries {
            state.violate(Violation::FencedWrite);
        }
        state.answer(host, epoch, answer, loses_answer);
    }

    fn accept(&self, state: &mut FleetState, event: usize, generation: u8, seen: Option<usize>) -> Answer {
        let database = &mut state.database;
        if database.deliveries[event] != Delivery::NotAccepted {
            return Answer::Accepted { event, repeats: true };
        }
        if generation != database.generation && !self.is(Mutation::GenerationUnchecked) {
            return Answer::Stale { event };
        }
        if generation != 0 {
            database.deliveries[event] = Delivery::WithoutReceiver;
        } else if self.settles {
            let now = self.waiting(&database.deliveries);
            let waiting = if self.is(Mutation::AcceptUnlocked) { seen } else { now };
            self.add_settling(&mut database.deliveries, event, waiting);
        } else {
            database.deliveries[event] = Delivery::Pending { turn: 0, settles: false };
        }
        if generation == 0 && database.generation == 1 {
            state.violate(Violation::DeliveryForDisabled);
        }
        Answer::Accepted { event, repeats: false }
    }

    pub(crate) fn read(&self, state: &mut FleetState, index: usize) {
        let (at, epoch, answer) = state.answers.remove(index);
        let time = state.time;
        let host = &mut state.hosts[at];
        if host.epoch != Some(epoch) {
            return;
        }
        match answer {
            Answer::Renewed { sent_at } => {
                let from = if self.is(Mutation::LeaseFromAnswer) { time } else { sent_at };
                host.lease_end = host.lease_end.max(from + LEASE);
            }
            Answer::Accepted { event, repeats } => {
                let is_claimed = host.fresh.remove(&event) || self.is(Mutation::ClaimsKept);
                if is_claimed && !self.settles && !repeats && host.owns && host.generation == 0 {
                    host.claimed.insert((event, 0));
                }
                state.answered[event] = true;
            }
            Answer::SettlingEnded { event, is_pending } => Fleet::take_up(state, at, event, is_pending),
            Answer::Recorded { event, turn } => {
                if host.under_way == Some((event, turn)) {
                    host.under_way = None;
                }
            }
            Answer::Stale { event } => {
                host.fresh.remove(&event);
            }
            Answer::Fenced => *host = Host::default(),
        }
    }

    pub(crate) fn begin(&self, state: &mut FleetState, at: usize) {
        let host = &mut state.hosts[at];
        let Some(Decided { event, turn, .. }) = host.decided.take() else { return };
        host.claimed.remove(&(event, turn));
        if host.generation == 1 && !self.is(Mutation::NoSecondLook) {
            return;
        }
        let epoch = host.epoch;
        host.under_way = Some((event, turn));
        host.is_answered = false;
        state.begun[event] += 1;
        let database = &state.database;
        let is_owner = database.owner == at && Some(database.epochs[at]) == epoch;
        let is_live = |other: usize| {
            state.hosts[other].epoch == Some(database.epochs[other]) && database.has_lease(other, state.time)
        };
        let overlaps = (0..self.hosts).any(|other| {
            let attempts = state.hosts[other].under_way.is_some_and(|(of, _)| of == event);
            other != at && attempts && !state.hosts[other].is_answered && is_live(other)
        });
        let is_stored = matches!(database.deliveries[event], Delivery::Pending { turn: stored, .. } if stored == turn);
        for (is_wrong, violation) in [
            (!is_owner, Violation::BegunElsewhere),
            (!is_stored, Violation::BegunLate),
            (overlaps, Violation::Overlap),
            (state.change == Change::Answered, Violation::BegunAfterChange),
        ] {
            if is_wrong {
                state.violate(violation);
            }
        }
    }

    pub(crate) fn page(&self, state: &mut FleetState, at: usize) {
        let owns = state.database.owner == at;
        let found = state.database.page(self.is(Mutation::HandoverForgotten));
        let host = &mut state.hosts[at];
        host.owns = owns;
        if !owns {
            if !self.is(Mutation::ClaimsKept) {
                host.release();
            }
            return;
        }
        for (event, turn, settles) in found {
            let is_held = host.fresh.contains(&event) || host.settling.contains(&event);
            let is_claimed = is_held || host.claimed.iter().any(|(other, _)| *other == event);
            let is_under_way = host.under_way.is_some_and(|(other, _)| other == event);
            if host.generation == 0 && !is_claimed && !is_under_way {
                if settles && !self.is(Mutation::TakenUpInMemory) {
                    host.settling.insert(event);
                } else {
                    host.claimed.insert((event, turn));
                }
            }
        }
    }

    pub(crate) fn give(&self, state: &mut FleetState, from: usize, to: usize) {
        let host = &mut state.hosts[from];
        host.owns = false;
        host.decided = None;
        if !self.is(Mutation::ClaimsKept) {
            host.release();
        }
        let by = (from, host.epoch.unwrap_or_default());
        state.database.handed_over = host.under_way.map(|(event, turn)| HandedOver { event, turn, by });
        state.database.owner = to;
        state.gives += 1;
    }

    /// Fences a host whose lease has ended.
    pub(crate) fn take_over(&self, state: &mut FleetState, at: usize, from: usize) {
        let early = u8::from(self.is(Mutation::EarlyTakeover));
        let is_over = state.time + early >= state.database.lease_ends[from];
        let is_registered = state.database.lease_ends[from] > 0;
        if is_over && is_registered && state.database.has_lease(at, state.time) {
            state.database.take_over(from, at);
        }
    }

    /// Answers the change when every host with a lease has seen it.
    pub(crate) fn answer_change(&self, state: &mut FleetState) {
        let database = &state.database;
        let has_seen = |host: usize| database.shown[host] == 1 || !database.has_lease(host, state.time);
        if self.is(Mutation::AnsweredAtCommit) || (0..self.hosts).all(has_seen) {
            state.change = Change::Answered;
        }
    }
}

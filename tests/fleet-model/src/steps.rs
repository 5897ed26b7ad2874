//! Steps of a fleet, for the model checker, and the properties that hold after each of them.

use crate::database::{Database, Delivery};
use crate::host::{Decided, Host};
use crate::protocol::{Fleet, Mutation};
use crate::settling;
use crate::state::{Answer, Change, FleetState, Sent, Statement, Violation};
use crate::{DELAY, LEASE};
use stateright::{Model, Property};

/// Step of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The clock goes on.
    Tick,
    /// A host asks for a longer lease.
    Renew(usize),
    /// A host registers, at its start or after it was fenced.
    Register(usize),
    /// A host ends.
    Crash(usize),
    /// A host fences another whose lease has ended, and takes its shard.
    TakeOver(usize, usize),
    /// A host gives the shard to another.
    Give(usize, usize),
    /// A host reads the catalog, and shows that it has.
    Refresh(usize),
    /// A host reads the pending deliveries of its shard.
    Page(usize),
    /// A host sends an event to the database.
    Accept(usize, usize),
    /// The owner asks the database to end the settling of a delivery.
    EndSettling(usize, usize),
    /// A host looks at its clock and decides to begin an attempt.
    Decide(usize, usize, u8),
    /// A host begins the attempt.
    Begin(usize),
    /// A host sends an outcome, maybe again.
    Record(usize),
    /// The database executes a statement. The answer may be lost.
    Execute(usize, bool),
    /// A host reads an answer.
    Read(usize),
    /// The subscription is disabled.
    Disable,
    /// The answer to the change is sent.
    AnswerChange,
}

/// Maximum number of statements, and of answers, on their way.
const ON_THE_WAY_MAX: usize = 2;

impl Fleet {
    /// Steps of one host.
    fn steps_of(&self, state: &FleetState, at: usize, steps: &mut Vec<Step>) {
        let host = &state.hosts[at];
        let Some(epoch) = host.epoch else {
            steps.push(Step::Register(at));
            return;
        };
        if state.crashes < self.crashes_max {
            steps.push(Step::Crash(at));
        }
        let can_send = state.statements.len() < ON_THE_WAY_MAX && state.statements.iter().all(|(from, ..)| *from != at);
        if can_send {
            if host.lease_end < state.time + LEASE {
                steps.push(Step::Renew(at));
            }
            let new = (0..self.events).filter(|event| {
                let comes_here = event % self.hosts == (at + self.first_at) % self.hosts;
                comes_here && state.database.deliveries[*event] == Delivery::NotAccepted && !host.fresh.contains(event)
            });
            steps.extend(new.map(|event| Step::Accept(at, event)));
            let has_answer = |event: usize| {
                let ends = |answer: &Answer| matches!(answer, Answer::SettlingEnded { event: of, .. } if *of == event);
                state.answers.iter().any(|(to, _, answer)| *to == at && ends(answer))
            };
            let unasked = host.settling.iter().filter(|event| !has_answer(**event));
            steps.extend(unasked.map(|event| Step::EndSettling(at, *event)));
            let is_answered = |(to, _, answer): &Sent<Answer>| *to == at && matches!(answer, Answer::Recorded { .. });
            if host.under_way.is_some() && !state.answers.iter().any(is_answered) {
                steps.push(Step::Record(at));
            }
        }
        if epoch == state.database.epochs[at] {
            steps.extend([Step::Refresh(at), Step::Page(at)]);
            if state.gives < self.gives_max {
                steps.extend((0..self.hosts).filter(|to| *to != at && host.owns).map(|to| Step::Give(at, to)));
            }
            steps.extend((0..self.hosts).filter(|from| *from != at).map(|from| Step::TakeOver(at, from)));
        }
        let has_time = state.time + self.margin() < host.lease_end;
        if host.owns && has_time && host.decided.is_none() && host.under_way.is_none() {
            steps.extend(host.claimed.iter().map(|(event, turn)| Step::Decide(at, *event, *turn)));
        }
        if host.decided.is_some() {
            steps.push(Step::Begin(at));
        }
    }
}

impl Model for Fleet {
    type State = FleetState;
    type Action = Step;

    fn init_states(&self) -> Vec<FleetState> {
        let database = Database {
            epochs: vec![1; self.hosts],
            lease_ends: vec![LEASE; self.hosts],
            shown: vec![0; self.hosts],
            owner: 0,
            handed_over: None,
            generation: 0,
            deliveries: vec![Delivery::NotAccepted; self.events],
        };
        let registered = Host { epoch: Some(1), lease_end: LEASE, ..Host::default() };
        vec![FleetState {
            time: 0,
            database,
            hosts: vec![registered; self.hosts],
            statements: Vec::new(),
            answers: Vec::new(),
            crashes: 0,
            gives: 0,
            change: Change::Ahead,
            answered: vec![false; self.events],
            begun: vec![0; self.events],
            violation: None,
        }]
    }

    fn actions(&self, state: &FleetState, steps: &mut Vec<Step>) {
        if state.violation.is_some() {
            return;
        }
        let is_late = |host: &Host| host.decided.is_some_and(|decided| decided.at + DELAY <= state.time);
        if state.time < self.time_max && !state.hosts.iter().any(is_late) {
            steps.push(Step::Tick);
        }
        (0..self.hosts).for_each(|host| self.steps_of(state, host, steps));
        let has_room = state.answers.len() < ON_THE_WAY_MAX;
        for (index, (.., statement)) in state.statements.iter().enumerate() {
            // A renewal whose answer is lost is as one whose answer is never read.
            if !matches!(statement, Statement::Renew { .. }) {
                steps.push(Step::Execute(index, true));
            }
            if has_room {
                steps.push(Step::Execute(index, false));
            }
        }
        steps.extend((0..state.answers.len()).map(Step::Read));
        match state.change {
            Change::Ahead if self.disables => steps.push(Step::Disable),
            Change::Ahead => {}
            Change::Committed => steps.push(Step::AnswerChange),
            Change::Answered => {}
        }
    }

    fn next_state(&self, before: &FleetState, step: Step) -> Option<FleetState> {
        let mut state = before.clone();
        let time = state.time;
        match step {
            Step::Tick => state.time += 1,
            Step::Renew(at) => state.send(at, Statement::Renew { sent_at: time }),
            Step::Register(at) => {
                let epoch = state.database.register(at, time);
                let generation = state.database.generation;
                state.hosts[at] = Host { epoch: Some(epoch), lease_end: time + LEASE, generation, ..Host::default() };
            }
            Step::Crash(at) => {
                state.crashes += 1;
                state.hosts[at] = Host::default();
            }
            Step::TakeOver(at, from) => self.take_over(&mut state, at, from),
            Step::Give(from, to) => self.give(&mut state, from, to),
            Step::Refresh(at) => state.refresh(at),
            Step::Page(at) => self.page(&mut state, at),
            Step::Accept(at, event) => {
                let generation = state.hosts[at].generation;
                // Another owner may have read it before the answer comes.
                if state.hosts[at].owns {
                    state.hosts[at].fresh.insert(event);
                }
                state.answered[event] |= self.is(Mutation::AnsweredBeforeCommit);
                let looks_once = self.is(Mutation::AcceptUnlocked);
                let waiting = looks_once.then(|| self.waiting(&state.database.deliveries)).flatten();
                state.send(at, Statement::Accept { event, generation, waiting });
            }
            Step::EndSettling(at, event) => state.send(at, Statement::EndSettling { event }),
            Step::Decide(at, event, turn) => state.hosts[at].decided = Some(Decided { event, turn, at: time }),
            Step::Begin(at) => self.begin(&mut state, at),
            Step::Record(at) => {
                let (event, turn) = state.hosts[at].under_way?;
                state.hosts[at].is_answered = true;
                state.send(at, Statement::Record { event, turn });
            }
            Step::Execute(index, loses_answer) => self.execute(&mut state, index, loses_answer),
            Step::Read(index) => self.read(&mut state, index),
            Step::Disable => {
                state.database.generation = 1;
                state.change = Change::Committed;
            }
            Step::AnswerChange => self.answer_change(&mut state),
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn lacks(state: &FleetState, violation: Violation) -> bool {
            state.violation != Some(violation)
        }
        vec![
            Property::always("no write of a fenced host", |_, state| lacks(state, Violation::FencedWrite)),
            Property::always("one starter of a shard", |_, state| lacks(state, Violation::BegunElsewhere)),
            Property::always("no attempt of what is over", |_, state| lacks(state, Violation::BegunLate)),
            Property::always("no two attempts at once", |_, state| lacks(state, Violation::Overlap)),
            Property::always("no attempt after the answer to a change", |_, state| {
                lacks(state, Violation::BegunAfterChange)
            }),
            Property::always("no delivery for a disabled subscription", |_, state| {
                lacks(state, Violation::DeliveryForDisabled)
            }),
            Property::always("no lost event", |_, state: &FleetState| {
                let stored = |event: usize| state.database.deliveries[event] != Delivery::NotAccepted;
                (0..state.answered.len()).all(|event| !state.answered[event] || stored(event))
            }),
            Property::always("an outcome counts once", |fleet: &Fleet, state: &FleetState| {
                let ended = |event: usize| state.database.deliveries[event] == Delivery::Ended;
                (0..state.begun.len()).all(|event| !ended(event) || state.begun[event] >= fleet.turns)
            }),
            Property::always("what was attempted is not superseded", |_, state| {
                settling::superseded_is_not_begun(state)
            }),
            Property::always("a later delivery stands for a superseded one", |_, state| settling::has_survivors(state)),
            Property::always("one delivery of a contact settles", |_, state| settling::one_settles(state)),
            Property::sometimes("a survivor is delivered", |fleet: &Fleet, state| {
                !fleet.settles || settling::has_delivered_survivor(state)
            }),
            Property::sometimes("a delivery ends", |_, state: &FleetState| {
                state.database.deliveries.contains(&Delivery::Ended)
            }),
            Property::sometimes("a change is answered", |fleet: &Fleet, state: &FleetState| {
                !fleet.disables || state.change == Change::Answered
            }),
        ]
    }
}

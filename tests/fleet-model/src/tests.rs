//! Every state of small fleets, with the whole protocol and without each of its rules.

use crate::{Fleet, Mutation};
use stateright::{Checker as _, HasDiscoveries, Model as _};

/// Fleet of two hosts and one event, in which nothing happens but that leases end.
const LEASES: Fleet = Fleet {
    hosts: 2,
    events: 1,
    first_at: 0,
    time_max: 2,
    crashes_max: 0,
    gives_max: 0,
    disables: false,
    turns: 2,
    settles: false,
    mutation: None,
};

/// Fleet of two hosts that accept an event of one contact each, for a subscription that settles.
const SETTLING: Fleet = Fleet { events: 2, time_max: 0, turns: 1, settles: true, ..LEASES };

/// Checks every state of a fleet.
#[track_caller]
fn check_sound(fleet: Fleet) {
    let checker = fleet.checker().spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

/// Checks that a property of a fleet does not hold without a rule.
#[track_caller]
fn check_found(fleet: Fleet, mutation: Mutation, property: &'static str) {
    let mutant = Fleet { mutation: Some(mutation), ..fleet };
    let checker = mutant.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let path = checker.discovery(property).unwrap_or_else(|| panic!("{mutation:?} does not break {property:?}"));
    println!("{mutation:?}, after {} states: {:?}", checker.unique_state_count(), path.into_actions());
}

#[test]
fn leases_end() {
    check_sound(LEASES);
    check_sound(Fleet { first_at: 1, time_max: 3, ..LEASES });
}

#[test]
fn a_shard_is_given_away() {
    check_sound(Fleet { first_at: 1, gives_max: 1, ..LEASES });
    check_sound(Fleet { gives_max: 2, time_max: 1, ..LEASES });
}

#[test]
fn a_host_ends_and_comes_back() {
    check_sound(Fleet { crashes_max: 1, ..LEASES });
}

#[test]
fn a_subscription_is_disabled() {
    check_sound(Fleet { first_at: 1, disables: true, ..LEASES });
}

#[test]
fn a_delivery_is_superseded() {
    check_sound(SETTLING);
    check_sound(Fleet { events: 3, ..SETTLING });
    check_sound(Fleet { events: 3, first_at: 1, ..SETTLING });
}

#[test]
fn a_settling_delivery_is_given_away() {
    check_sound(Fleet { gives_max: 1, ..SETTLING });
    check_sound(Fleet { gives_max: 2, first_at: 1, ..SETTLING });
}

#[test]
fn each_rule_of_settling_is_needed() {
    check_found(SETTLING, Mutation::TakenUpInMemory, "what was attempted is not superseded");
    check_found(SETTLING, Mutation::TakenUpSuperseded, "what was attempted is not superseded");
    check_found(SETTLING, Mutation::SupersededTakenUp, "no attempt of what is over");
    check_found(SETTLING, Mutation::EarlierSupersedes, "a later delivery stands for a superseded one");
    check_found(SETTLING, Mutation::AcceptUnlocked, "one delivery of a contact settles");
}

#[test]
fn each_rule_is_needed() {
    let late = Fleet { time_max: 3, ..LEASES };
    let given = Fleet { gives_max: 2, ..LEASES };
    let disabled = Fleet { first_at: 1, disables: true, time_max: 3, ..LEASES };
    check_found(late.clone(), Mutation::Unfenced, "no write of a fenced host");
    check_found(late.clone(), Mutation::NoMargin, "one starter of a shard");
    check_found(late.clone(), Mutation::LeaseFromAnswer, "one starter of a shard");
    check_found(late, Mutation::EarlyTakeover, "one starter of a shard");
    check_found(given.clone(), Mutation::HandoverForgotten, "no two attempts at once");
    check_found(given, Mutation::ClaimsKept, "no attempt of what is over");
    check_found(LEASES, Mutation::TurnUnguarded, "an outcome counts once");
    check_found(LEASES, Mutation::AnsweredBeforeCommit, "no lost event");
    check_found(disabled.clone(), Mutation::GenerationUnchecked, "no delivery for a disabled subscription");
    check_found(disabled.clone(), Mutation::AnsweredAtCommit, "no attempt after the answer to a change");
    check_found(disabled.clone(), Mutation::NoSecondLook, "no attempt after the answer to a change");
    check_found(disabled, Mutation::EndedLeaseRenewed, "no attempt after the answer to a change");
}

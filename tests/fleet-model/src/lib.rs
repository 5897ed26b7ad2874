//! Model of the protocol by which several hosts share the deliveries of one PostgreSQL database.
//!
//! The model checker tries every order of steps of a small fleet, with statements that arrive late, answers that are lost, hosts that
//! end, and hosts that stand still until others have taken their work.
//!
//! # Guarantees
//! In every reachable state (see [`Fleet::properties`](stateright::Model::properties)):
//! - no write of a host that was fenced takes effect,
//! - an attempt begins only at the owner of its shard, and never of a delivery that has ended,
//! - no two live hosts attempt one delivery at once,
//! - nothing begins after the answer to a change that disabled the subscription, and no event that was accepted after the change
//!   has a delivery,
//! - an event whose acceptance was answered is stored,
//! - an outcome counts once,
//! - if the subscription settles: at most one delivery of the contact waits, one of a later event supersedes it, and what was attempted is
//!   never superseded.
//!
//! [`Mutation`] has what each rule of the protocol is there for: without it, one of the properties does not hold.
//!
//! # Limits
//! One subscription in one shard, few events of one contact, and a clock of a few ticks. The clocks of hosts and database run equally fast; a host may
//! be late by [`DELAY`] between a look at its clock and what follows.

mod database;
mod host;
mod protocol;
mod settling;
mod state;
mod steps;

pub use database::{Database, Delivery, HandedOver};
pub use host::{Decided, Host};
pub use protocol::{Fleet, Mutation};
pub use state::{Answer, Change, FleetState, Statement, Violation};
pub use steps::Step;

/// Length of a lease, in ticks.
pub const LEASE: u8 = 2;

/// Time before the end of its lease at which a host stops beginning attempts, in ticks.
pub const MARGIN: u8 = 1;

/// Longest time between a host's look at its clock and what it does because of it, in ticks.
pub const DELAY: u8 = 1;

#[cfg(test)]
mod tests;

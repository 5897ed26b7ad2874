//! Several hosts on one PostgreSQL database: who delivers what, and what happens when a host or the database ends, stands still or comes
//! back.
//!
//! # Theory of operation
//! [`hosts`] runs the hosts, [`traffic`] sends events to all of them, and [`endpoint`] receives what they deliver. Each test has a
//! [`trial`] of these, whose records the [`checker`] compares in the end: it knows nothing of hosts, and is tested by itself.
//!
//! # Limits
//! Times are printed, and the limits of the tests are those of a machine with two busy cores.
#![expect(clippy::print_stdout, reason = "the tests print what they measure, and the logs of the hosts if they fail")]

mod change;
mod chaos;
mod checker;
mod clocks;
mod endpoint;
mod handover;
pub(crate) mod hosts;
mod kills;
mod listing;
mod live_move;
mod moving_shards;
mod network;
mod outage;
mod pooler;
mod records;
mod rounds;
mod scarcity;
mod spread;
mod standby;
mod traffic;
mod trial;
mod upgrade;
mod zombie;

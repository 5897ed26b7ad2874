//! Hosts that share a store in memory.
//!
//! As on PostgreSQL ([`postgres::fleet`](crate::postgres)): a host registers with a number and an epoch, holds a lease by the steady
//! clock, and owns shards. [`Membership`](crate::fleet::Membership) decides, [`member`] asks, [`fleet_tables`](super::fleet_tables)
//! answers, and [`changes`] is what hosts load again.

mod changes;
pub(super) mod member;

//! Membership of this host in the fleet: the hosts that share a database.
//!
//! # Theory of operation
//! A host registers with a number, and holds a lease on the clock of the server, which it renews every second. The registration has an
//! epoch, which each transaction of the host's writer names ([`registration`]): a host that was taken over cannot write any more. Shards
//! of subscriptions have one owner ([`shards`]). The task of the membership renews the lease, learns what this host owns, takes over from
//! hosts whose lease has ended, and gives shards to hosts that have fewer: [`Membership`](crate::fleet::Membership) has the steps.
//!
//! Changes of the catalog are loaded by the writer before its next transaction ([`load_catalog`](super::load_catalog)). The task looks
//! for them as well, and other hosts give hints ([`hints`]).
//!
//! # Guarantees
//! - A host that does not reach the database begins no attempt after the end of its lease, and nobody takes over before.

mod hints;
mod in_force;
mod membership;
mod registration;
mod shards;
mod view;

pub(super) use membership::PostgresFleet;
#[cfg(test)]
pub(super) use registration::register;
pub(super) use registration::{HostIdentity, has_members};

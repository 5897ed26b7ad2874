//! Membership of this host in the fleet: the hosts that share a database.
//!
//! # Theory of operation
//! A host registers with a number, and holds a lease on the clock of the server, which it renews every second. The registration has an
//! epoch, which each transaction of the host's writer names ([`registration`]): a host that was taken over cannot write any more. Shards
//! of subscriptions have one owner ([`shards`]). The task of the membership ([`membership`]) renews the lease, learns what this host owns, takes
//! over from hosts whose lease has ended, and gives shards to hosts that have fewer.
//!
//! Changes of the catalog are loaded by the writer before its next transaction ([`load_catalog`](super::load_catalog)). The task looks
//! for them as well, and other hosts give hints ([`hints`]).
//!
//! # Guarantees
//! - A host that does not reach the database begins no attempt after the end of its lease, and nobody takes over before.
//! - An ended lease is never renewed: the host registers again and loads the catalog.
//! - A host owns what it has read itself, and only after no claim of an earlier ownership is left.
//! - A host takes over from others only after it has held its own lease for as long as a lease lasts. So hosts that find the database
//!   again after an outage do not take over from each other.

mod giving;
mod hints;
mod in_force;
mod membership;
mod registration;
mod shards;

pub(super) use membership::Membership;
pub(super) use registration::{HostIdentity, Registration, has_members};

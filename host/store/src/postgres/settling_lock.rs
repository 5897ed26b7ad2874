//! Advisory locks of the contacts and deals whose deliveries settle.
//!
//! # Guarantees
//! - A lock is held until the end of its transaction, so that a pooler in transaction mode changes nothing.
//! - Locks are taken in their order.
//!
//! # Limits
//! There are [`LOCKS`] of them, so that transactions fill no table of the server.

use super::connection::Connection;
use crate::StoreError;
use crate::backend::intake::IntakeRequest;
use crate::order_key::OrderKey;
use hookloom_model::subscription::SubscriptionId;
use std::collections::BTreeSet;

/// Number of locks.
const LOCKS: usize = 256;

const _: () = assert!(LOCKS == 1 << u8::BITS, "a lock is a byte");

/// First number of the advisory locks, which no other lock of this program has.
const LOCK_CLASS: i32 = 0x0073_6574;

/// Lock of a contact or deal of a subscription. The second number of an advisory lock, below [`LOCKS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SettlingLock(u8);

impl SettlingLock {
    /// Returns the lock of an entity.
    pub(super) fn of(subscription: SubscriptionId, key: OrderKey) -> Self {
        SettlingLock(subscription.0.as_bytes()[15] ^ key.0[0])
    }
}

/// Returns the locks of a request: those of each subscription that may settle one of its events.
pub(super) fn locks_of(request: &IntakeRequest) -> Vec<SettlingLock> {
    if request.steps.is_some() {
        return Vec::new();
    }
    let mut locks = BTreeSet::new();
    for (event, receivers) in request.events.iter().zip(&request.receivers.events) {
        for subscription in receivers.settling() {
            locks.extend(OrderKey::of_new(event).map(|key| SettlingLock::of(subscription, key)));
        }
    }
    locks.into_iter().collect()
}

/// Takes locks until the end of the transaction.
pub(super) async fn lock(connection: &Connection, locks: &BTreeSet<SettlingLock>) -> Result<(), StoreError> {
    if locks.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = locks.iter().map(|lock| i64::from(lock.0)).collect();
    let sql = format!("SELECT pg_advisory_xact_lock({LOCK_CLASS}, n::int4) FROM unnest($1::int8[]) AS n");
    connection.query(&sql, &[&numbers]).await.map(drop)
}

//! Result of a read that continues past damaged rows.
//!
//! Such a read goes row by row, and runs only after the usual statement has failed (`past_damage.rs` of [`due`](super::due),
//! [`deliveries`](super::deliveries) and [`ledger`](super::ledger)). Rows that cannot be read are returned, to be set apart
//! ([`set_apart`](super::set_apart)).

use crate::backend::machine::DamagedRow;
use uuid::Uuid;

/// Readable part, and the rows that could not be read.
pub(super) struct PartialRead<T> {
    pub(super) value: T,
    pub(super) damaged: Vec<DamagedRow>,
    /// Readable deliveries whose event cannot be read.
    pub(super) without_event: Vec<Uuid>,
}

impl<T> PartialRead<T> {
    /// Wraps the result of a read without damage.
    pub(super) fn of(value: T) -> Self {
        PartialRead { value, damaged: Vec::new(), without_event: Vec::new() }
    }
}

//! Rows of a table as values of no particular database, for the move of a store from one database to another.
//!
//! # Limits
//! Has only the kinds of values that SQLite stores. The reader of a row knows its columns by their order.

/// Value of a column.
#[derive(Debug, PartialEq)]
pub(crate) enum StoredValue {
    /// No value.
    Null,
    /// Number, time, state, kind or truth value.
    Integer(i64),
    /// Number with a fraction.
    Real(f64),
    /// Text, also JSON.
    Text(String),
    /// Bytes: a payload, a hash, or an id of 16 bytes.
    Bytes(Vec<u8>),
}

/// Rows that are read and written together. Their number and size are bounded.
pub(crate) type RowPage = Vec<Vec<StoredValue>>;

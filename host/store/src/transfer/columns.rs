//! Tables and columns of SQLite, and their places in PostgreSQL.
//!
//! # Guarantees
//! Every table and column is copied, or named here with the reason. [`Columns::pair`] fails otherwise, and a test calls it for the whole
//! schema.

use crate::StoreError;
use crate::postgres::TargetColumn;
use crate::sqlite::SourceTable;

/// Tables that are not copied, with the reason.
const LEFT_OUT: [(&str, &str); 2] = [
    ("identity", "the fingerprint of the master key has a column of the table host"),
    ("damage", "a store with damaged rows is not moved"),
];

/// Columns that are not copied, with the reason.
const COLUMNS_LEFT_OUT: [(&str, &str, &str); 3] = [
    ("ledgers", "deleting", "a column of tenants says the same"),
    ("keys", "revoked_at_ms", "revoked keys are deleted"),
    ("intake_tokens", "revoked_at_ms", "revoked tokens are deleted"),
];

/// Columns that no column of SQLite fills, with the reason.
const DEFAULTS: [(&str, &str, &str); 3] = [
    ("readiness", "only_row", "it is a constant"),
    ("ledgers", "host", "what was moved is of no host"),
    ("deliveries", "last_attempt", "the last attempt is a row of attempts as well"),
];

/// Tables whose rowid is the order in which rows were added, with the column that has it.
const ORDERS: [(&str, &str); 2] = [("events", "seq"), ("plugin_versions", "seq")];

/// Returns true if a table is copied.
pub(super) fn is_copied(table: &str) -> bool {
    LEFT_OUT.iter().all(|(left_out, _)| *left_out != table)
}

/// Columns of a table that are copied.
pub(super) struct Columns {
    /// Columns of the target.
    pub(super) columns: Vec<TargetColumn>,
    /// For each of them, the index of its value in a row of the source.
    pub(super) places: Vec<usize>,
}

impl Columns {
    /// Finds the column of the target for each column of the source.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: a column of one of the two has no counterpart.
    pub(super) fn pair(source: &SourceTable, target: Vec<TargetColumn>) -> Result<Self, StoreError> {
        let table = &*source.name;
        let missing =
            |column: &str| StoreError::Conflict(format!("{table}.{column} has no place in the other database"));
        let mut places = vec![None; target.len()];
        for (place, column) in source.columns.iter().enumerate() {
            let Some(name) = target_name(table, column) else { continue };
            let found = target.iter().position(|column| column.name == name).ok_or_else(|| missing(column))?;
            places[found] = Some(place);
        }
        let mut paired = Columns { columns: Vec::new(), places: Vec::new() };
        for (column, place) in target.into_iter().zip(places) {
            match place {
                Some(place) => {
                    paired.columns.push(column);
                    paired.places.push(place);
                }
                None if DEFAULTS.iter().any(|(of, name, _)| (*of, *name) == (table, &*column.name)) => {}
                None => return Err(missing(&column.name)),
            }
        }
        Ok(paired)
    }

    /// Returns the columns of a key.
    pub(super) fn of_key(&self, key: &[&str]) -> Vec<TargetColumn> {
        key.iter().filter_map(|name| self.columns.iter().find(|column| column.name == *name).cloned()).collect()
    }
}

/// Returns the name of a column in the target. None: it is not copied.
fn target_name<'c>(table: &str, column: &'c str) -> Option<&'c str> {
    if column == "rowid" {
        return ORDERS.iter().find(|(of, _)| *of == table).map(|(_, order)| *order);
    }
    let is_left_out = COLUMNS_LEFT_OUT.iter().any(|(of, name, _)| (*of, *name) == (table, column));
    (!is_left_out).then_some(column)
}

#[cfg(test)]
pub(super) fn left_out() -> impl Iterator<Item = &'static str> {
    LEFT_OUT.iter().map(|(table, _)| *table)
}

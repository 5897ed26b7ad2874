//! Changes that are applied to a copied store, in the transaction of the copy, while the source is still in use.
//!
//! # Guarantees
//! - After a round, the tables are equal to the snapshot of the source that the round has, and so are the sums that
//!   [`MoveTarget::finish`] checks and the counted usage.
//!
//! # Theory of operation
//! A round names changed rows by their keys, or whole tables. These rows are subtracted from the sums and deleted, then copied again as far
//! as they are still there, and added to the sums. So the cost of a round follows the number of changed rows, not that of all rows.
//! The counters of `ledgers` are kept beside, because the source counts them with its own sizes of texts.

use super::move_target::{MoveTarget, TargetColumn, list, quoted};
use super::{move_checks, usage};
use crate::StoreError;
use crate::table_rows::RowPage;

/// Table whose counters are not copied again.
const LEDGERS: &str = "ledgers";

/// Table of the transaction that keeps the counters of usage while their rows are copied again.
const KEPT_USAGE: &str = "moving_usage";

/// Plans of statements that read few rows of a large table. The server does not know how few they are.
///
/// Scans of whole tables stay allowed: the tables of keys have no index, and the cost of a forbidden scan hides all differences between
/// plans, also that of one that joins all rows of a table with all keys.
const BY_KEY: &str = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off";

/// Plans of statements that read all rows, such as the ledgers of thousands of tenants.
const BY_ALL: &str = "SET LOCAL enable_hashjoin TO DEFAULT; SET LOCAL enable_mergejoin TO DEFAULT";

/// Rows of a table that changed in the source.
pub(crate) struct ChangedRows {
    pub(crate) table: String,
    /// Columns of the key, and the keys of the rows. None: all rows.
    pub(crate) keys: Option<(Vec<TargetColumn>, RowPage)>,
}

impl ChangedRows {
    /// Returns true if there are no such rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.as_ref().is_some_and(|(_, rows)| rows.is_empty())
    }

    /// Returns the name of the table of the transaction that has the keys.
    fn keys_table(&self) -> String {
        format!("moving_{}", self.table)
    }

    /// Returns the condition that rows `t` have a key `k`. None: all rows.
    fn matching(&self) -> Option<String> {
        let (columns, _) = self.keys.as_ref()?;
        let equal = columns.iter().map(|column| format!("t.{name} = k.{name}", name = quoted(&column.name)));
        Some(equal.collect::<Vec<_>>().join(" AND "))
    }

    /// Returns the SQL of the rows.
    fn rows(&self) -> String {
        let table = quoted(&self.table);
        match self.matching() {
            None => table,
            Some(matching) => {
                format!("(SELECT t.* FROM {} k JOIN {table} t ON {matching})", quoted(&self.keys_table()))
            }
        }
    }

    /// Returns the statement that deletes the rows.
    fn deletion(&self) -> String {
        let table = quoted(&self.table);
        match self.matching() {
            None => format!("DELETE FROM {table}"),
            Some(matching) => {
                format!("DELETE FROM {table} t USING {} k WHERE {matching}", quoted(&self.keys_table()))
            }
        }
    }
}

impl MoveTarget {
    /// Deletes rows that changed. Returns the number of deleted rows of each table.
    pub(crate) async fn delete_changed(&self, changed: &[ChangedRows]) -> Result<Vec<u64>, StoreError> {
        self.connection.batch_execute(BY_KEY).await?;
        for rows in changed {
            self.write_keys(rows).await?;
        }
        self.add_changed(changed, -1).await?;
        let counters = usage::counters().join(", ");
        let keep = format!(
            "DROP TABLE IF EXISTS {KEPT_USAGE}; CREATE TEMP TABLE {KEPT_USAGE} ON COMMIT DROP AS SELECT tenant, {counters} FROM {LEDGERS};
             CREATE INDEX ON {KEPT_USAGE} (tenant)"
        );
        self.connection.batch_execute(&keep).await?;
        let mut deleted = Vec::new();
        for rows in changed {
            deleted.push(if rows.is_empty() { 0 } else { self.connection.execute(&rows.deletion(), &[]).await? });
        }
        Ok(deleted)
    }

    /// Counts the rows that were copied again, and checks that every ledger adds up if the source has no further changes.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: the ledger of a tenant does not add up.
    pub(crate) async fn count_changed(&self, changed: &[ChangedRows], is_complete: bool) -> Result<(), StoreError> {
        let counters = usage::counters();
        let sums: Vec<String> = counters.iter().map(|name| format!("coalesce(sum(u.{name}), 0)::int8")).collect();
        let restore = format!(
            "UPDATE {LEDGERS} l SET ({}) = (SELECT {} FROM {KEPT_USAGE} u WHERE u.tenant = l.tenant)",
            counters.join(", "),
            sums.join(", ")
        );
        self.connection.execute(&restore, &[]).await?;
        self.add_changed(changed, 1).await?;
        if !is_complete {
            return Ok(());
        }
        self.connection.batch_execute(BY_ALL).await?;
        usage::count_bins_again(&self.connection).await?;
        move_checks::require_balance(&self.connection).await
    }

    /// Writes the keys of a table into the table that has them.
    async fn write_keys(&self, rows: &ChangedRows) -> Result<(), StoreError> {
        let Some((columns, keys)) = rows.keys.as_ref().filter(|(_, keys)| !keys.is_empty()) else { return Ok(()) };
        let name = rows.keys_table();
        let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
        let create = format!(
            "CREATE TEMP TABLE IF NOT EXISTS {keys} ON COMMIT DROP AS SELECT {} FROM {} WHERE false; TRUNCATE {keys}",
            list(&names),
            quoted(&rows.table),
            keys = quoted(&name)
        );
        self.connection.batch_execute(&create).await?;
        let mut copy = self.add_to(&name, columns.clone()).await?;
        let places: Vec<usize> = (0..columns.len()).collect();
        copy.write(keys, &places).await?;
        copy.finish().await?;
        Ok(())
    }

    /// Adds rows to all sums, or subtracts them.
    async fn add_changed(&self, changed: &[ChangedRows], sign: i32) -> Result<(), StoreError> {
        let rows_of = |table: &str| {
            // A request of a bin belongs to the tenant of the bin, which may be there in another round than the request.
            let found = changed.iter().find(|rows| rows.table == table && !usage::BINS.contains(&table));
            found.filter(|rows| !rows.is_empty()).map(ChangedRows::rows)
        };
        usage::add_rows(&self.connection, sign, rows_of).await?;
        for table in ["events", "deliveries"] {
            if let Some(rows) = rows_of(table) {
                move_checks::add_rows(&self.connection, sign, table, &rows).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

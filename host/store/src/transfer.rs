//! Move of a whole store from the SQLite database of a data folder into an empty PostgreSQL database, for `hookloom move-store`.
//!
//! # Guarantees
//! - Everything that was accepted is in the new database, and what was pending is pending. The master key stays in the folder.
//! - Two databases never hold the same store in a way that a host could use both: `hookloom.db` is renamed before the commit, and gets
//!   its name again if nothing was committed.
//! - After a failure, the new database is empty, and the folder is as it was.
//! - Damaged rows are refused with [`StoreError::Damaged`], which points to `hookloom check` and `hookloom rescue`.
//!
//! # Theory of operation
//! A thread reads the tables row by row in one snapshot, and hands pages to the task that writes them in one transaction. At most
//! three pages are in memory. At the end, the numbers of rows are compared, usage is counted, and every ledger must add up.
//!
//! # Limits
//! A process that is killed between the renaming and the commit leaves `hookloom.db.moved` and an empty database. The next start on the
//! folder explains that.

mod columns;

use crate::StoreError;
use crate::postgres::MoveTarget;
use crate::sqlite::{MoveSource, SourceTable};
use crate::table_rows::RowPage;
use columns::Columns;
use serde::Serialize;
use std::path::Path;
use tokio::sync::mpsc;

/// Number of pages between the thread that reads and the task that writes.
const PAGES_AHEAD: usize = 1;

/// Result of a move.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct MoveReport {
    /// Tables that were copied, by name.
    pub tables: Vec<MovedTable>,
}

/// Copied table.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct MovedTable {
    /// Name of the table.
    pub table: String,
    /// Number of rows.
    pub rows: u64,
}

/// Step of a move.
#[derive(Debug)]
pub enum MoveStep<'t> {
    /// Rows are being copied.
    Copying {
        /// Name of the table.
        table: &'t str,
        /// Number of copied rows.
        rows: u64,
        /// Number of all rows of the table.
        of: u64,
    },
    /// Usage is counted, and ledgers are checked.
    Checking,
}

/// Moves the store of a folder into an empty database. Calls `progress` with each step.
///
/// # Errors
/// [`StoreError::Locked`]: a host runs on the folder. [`StoreError::DatabaseUnfit`]: the database has rows. [`StoreError::Unknown`]: the
/// answer to the commit was lost; `hookloom.db` keeps the name `hookloom.db.moved`.
pub async fn move_to_postgres(
    folder: &Path,
    url: &str,
    mut progress: impl FnMut(MoveStep<'_>),
) -> Result<MoveReport, StoreError> {
    let source = MoveSource::open(folder)?;
    let mut tables = source.tables()?;
    tables.retain(|table| columns::is_copied(&table.name));
    let names: Vec<&str> = tables.iter().map(|table| &*table.name).collect();
    let target = MoveTarget::open(url, &names).await?;
    let master_key = source.master_key;
    let copied = match copy_all(source, &target, &tables, folder, &mut progress).await {
        Ok(source) => {
            progress(MoveStep::Checking);
            target.finish(&names, &master_key).await.and_then(|()| source.retire())
        }
        Err(error) => Err(error),
    };
    let retired = match copied {
        Ok(retired) => retired,
        Err(error) => {
            target.roll_back().await;
            return Err(error);
        }
    };
    match target.commit().await {
        Ok(()) => {
            let tables = tables.into_iter().map(|table| MovedTable { table: table.name, rows: table.rows });
            Ok(MoveReport { tables: tables.collect() })
        }
        // A host that used the folder might deliver what another one has delivered.
        Err(StoreError::Unknown) => Err(StoreError::Unknown),
        Err(error) => {
            retired.restore()?;
            Err(error)
        }
    }
}

/// Copies all tables, and returns the source.
async fn copy_all(
    mut source: MoveSource,
    target: &MoveTarget,
    tables: &[SourceTable],
    folder: &Path,
    progress: &mut impl FnMut(MoveStep<'_>),
) -> Result<MoveSource, StoreError> {
    for table in tables {
        let columns = Columns::pair(table, target.columns(&table.name).await?)?;
        let (sender, pages) = mpsc::channel(PAGES_AHEAD);
        let name = table.name.clone();
        let reader = tokio::task::spawn_blocking(move || {
            let read = source.read(&name, |page| sender.blocking_send(page).map_err(|_| StoreError::Stopped));
            (source, read)
        });
        let written = copy(pages, target, table, &columns, folder, progress).await;
        let (returned, read) = reader.await.map_err(|_| StoreError::Panicked)?;
        let rows = written?;
        read?;
        if rows != table.rows {
            let found = format!("table {}: {rows} rows were read, and an index has {}", table.name, table.rows);
            return Err(StoreError::Conflict(found).at_start(folder));
        }
        source = returned;
    }
    Ok(source)
}

/// Writes the pages of a table, and returns the number of their rows.
async fn copy(
    mut pages: mpsc::Receiver<RowPage>,
    target: &MoveTarget,
    table: &SourceTable,
    columns: &Columns,
    folder: &Path,
    progress: &mut impl FnMut(MoveStep<'_>),
) -> Result<u64, StoreError> {
    let mut copy = target.copy_into(&table.name, columns.columns.clone()).await?;
    let mut rows = 0;
    while let Some(page) = pages.recv().await {
        let written = copy.write(&page, &columns.places).await;
        written.map_err(|error| match error {
            StoreError::Corrupt(_) => error.at_start(folder),
            error => error,
        })?;
        rows += page.len() as u64;
        progress(MoveStep::Copying { table: &table.name, rows, of: table.rows });
    }
    copy.finish().await?;
    let found = target.complete(&table.name, &columns.columns).await?;
    if rows != found {
        return Err(StoreError::Conflict(format!("{rows} rows of {} were copied, and {found} arrived", table.name)));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;

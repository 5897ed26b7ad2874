//! Move of a whole store from the SQLite database of a data folder into an empty PostgreSQL database, for `hookloom move-store`.
//!
//! # Guarantees
//! - Everything that was accepted is in the new database, and what was pending is pending. The master key stays in the folder.
//! - Two databases never hold the same store in a way that a host could use both: `hookloom.db` is renamed before the commit, and gets
//!   its name again if nothing was committed.
//! - After a failure, the new database is empty, and the folder is as it was, also if the process is killed: everything is written in one
//!   transaction.
//! - Damaged rows are refused with [`StoreError::Damaged`], which points to `hookloom check` and `hookloom rescue`.
//!
//! # Theory of operation
//! A thread reads the tables row by row in one snapshot, and hands pages to the task that writes them in one transaction. At most
//! three pages are in memory. Then usage is counted, and every ledger must add up.
//!
//! A host may run meanwhile ([`live`]). Its changes are copied in rounds, the last one after it has ended. So the time without a host
//! does not depend on how much is stored.
//!
//! # Limits
//! A process that is killed between the renaming and the commit leaves `hookloom.db.moved` and an empty database. The next start on the
//! folder explains that.

mod columns;
mod live;

use crate::StoreError;
use crate::postgres::{MoveTarget, NumberedTable, TableCopy};
use crate::sqlite::{ChangeRound, MoveSource, RowRange, SourceTable};
use crate::table_rows::RowPage;
use columns::Columns;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Number of pages between the thread that reads and the task that writes.
const PAGES_AHEAD: usize = 1;

/// Move of a store.
#[derive(Clone, Copy, Debug)]
pub struct MoveRequest<'m> {
    /// Data folder.
    pub folder: &'m Path,
    /// URL of the empty database.
    pub url: &'m str,
    /// The database without its password, and the time. A host that is started on the folder later shows it.
    pub moved_to: &'m str,
    /// True: a host may be running on the folder until it is asked to end.
    pub is_live: bool,
}

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
        /// Number of copied rows of all tables.
        rows: u64,
        /// Number of all rows.
        of: u64,
    },
    /// Usage is counted, and ledgers are checked.
    Checking,
    /// Changes that the host has made meanwhile were copied.
    CaughtUp {
        /// Number of changes of rows.
        changes: u64,
        /// Number of changes that are known and not copied yet.
        behind: u64,
    },
    /// Nearly everything was copied: the host must end now.
    HostMayEnd {
        /// Process id of the host.
        process: &'t str,
    },
    /// The host has ended, and no other one can start.
    HostEnded,
    /// From here on, the move must not be interrupted.
    Committing,
}

/// Table with the state of its copy.
struct TableCopyState {
    columns: Columns,
    /// Number of rows in the target.
    arrived: u64,
    /// Largest number by which the target numbers rows.
    last_number: i64,
}

/// Rows of a table that are copied.
enum CopiedRows {
    /// All rows, for the first time.
    First,
    /// All rows, in a round.
    Again,
    /// Rows that a round names.
    Changed(Arc<ChangeRound>),
}

/// Move that is under way.
struct Mover<'m, P> {
    request: MoveRequest<'m>,
    /// None: a thread reads from it.
    source: Option<MoveSource>,
    target: MoveTarget,
    tables: Vec<SourceTable>,
    copies: Vec<TableCopyState>,
    progress: P,
}

/// Moves the store of a folder into an empty database. Calls `progress` with each step.
///
/// # Errors
/// [`StoreError::Locked`]: a host runs on the folder. [`StoreError::DatabaseUnfit`]: the database has rows. [`StoreError::Unknown`]: the
/// answer to the commit was lost; `hookloom.db` keeps the name `hookloom.db.moved`.
pub async fn move_to_postgres(
    request: MoveRequest<'_>,
    progress: impl FnMut(MoveStep<'_>),
) -> Result<MoveReport, StoreError> {
    let source = match MoveSource::open(request.folder) {
        Err(StoreError::Locked { .. }) if request.is_live => MoveSource::open_live(request.folder)?,
        opened => opened?,
    };
    let mut tables = source.tables()?;
    tables.retain(|table| columns::is_copied(&table.name));
    let names: Vec<&str> = tables.iter().map(|table| &*table.name).collect();
    let target = MoveTarget::open(request.url, &names).await?;
    let mut mover = Mover { request, source: Some(source), target, tables, copies: Vec::new(), progress };
    if let Err(error) = mover.copy_everything().await {
        mover.target.roll_back().await;
        return Err(error);
    }
    mover.complete().await
}

impl<P: FnMut(MoveStep<'_>)> Mover<'_, P> {
    /// Copies all rows, those of a running host included. When it returns, no host runs.
    async fn copy_everything(&mut self) -> Result<(), StoreError> {
        for place in 0..self.tables.len() {
            self.copy_table(place).await?;
        }
        (self.progress)(MoveStep::Checking);
        let names: Vec<&str> = self.tables.iter().map(|table| &*table.name).collect();
        self.target.settle(&names).await?;
        if self.source()?.is_live() {
            self.follow_host().await?;
        }
        let numbered = self.tables.iter().zip(&self.copies).map(|(table, copy)| NumberedTable {
            name: &table.name,
            columns: &copy.columns.columns,
            last_number: copy.last_number,
        });
        let numbered: Vec<NumberedTable<'_>> = numbered.collect();
        self.target.finish(&numbered, &self.source()?.master_key).await
    }

    /// Renames the database of the folder, and commits.
    async fn complete(mut self) -> Result<MoveReport, StoreError> {
        (self.progress)(MoveStep::Committing);
        let source = self.source.take().ok_or(StoreError::Stopped)?;
        let retired = match source.retire(self.request.moved_to) {
            Ok(retired) => retired,
            Err(error) => {
                self.target.roll_back().await;
                return Err(error);
            }
        };
        match self.target.commit().await {
            Ok(()) => {
                let tables = self.tables.into_iter().map(|table| MovedTable { table: table.name, rows: table.rows });
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

    fn source(&self) -> Result<&MoveSource, StoreError> {
        self.source.as_ref().ok_or(StoreError::Stopped)
    }

    /// Copies all rows of a table for the first time.
    async fn copy_table(&mut self, place: usize) -> Result<(), StoreError> {
        let source = self.source.as_mut().ok_or(StoreError::Stopped)?;
        source.begin_table(&mut self.tables[place])?;
        let table = &self.tables[place];
        let columns = Columns::pair(table, self.target.columns(&table.name).await?)?;
        let copy = self.target.copy_into(&table.name, columns.columns.clone()).await?;
        self.copies.push(TableCopyState { columns, arrived: 0, last_number: 0 });
        let rows = self.copy_rows(place, copy, CopiedRows::First).await?;
        let SourceTable { name, rows: expected, .. } = &self.tables[place];
        if rows != *expected {
            let found = format!("table {name}: {rows} rows were read, and an index has {expected}");
            return Err(StoreError::Conflict(found).at_start(self.request.folder));
        }
        let found = self.target.count(name).await?;
        if rows != found {
            return Err(StoreError::Conflict(format!("{rows} rows of {name} were copied, and {found} arrived")));
        }
        Ok(())
    }

    /// Reads rows of a table in a thread, and writes them. Returns their number.
    async fn copy_rows(&mut self, place: usize, copy: TableCopy, which: CopiedRows) -> Result<u64, StoreError> {
        let source = self.source.take().ok_or(StoreError::Stopped)?;
        let is_first = matches!(which, CopiedRows::First);
        let (sender, pages) = mpsc::channel(PAGES_AHEAD);
        let name = self.tables[place].name.clone();
        let reader = tokio::task::spawn_blocking(move || {
            let range = match &which {
                CopiedRows::First | CopiedRows::Again => RowRange::Whole,
                CopiedRows::Changed(round) => RowRange::Changed(round),
            };
            let read = source.read(&name, &range, |page| sender.blocking_send(page).map_err(|_| StoreError::Stopped));
            (source, read)
        });
        let written = self.write_pages(place, copy, pages, is_first).await;
        let (returned, read) = reader.await.map_err(|_| StoreError::Panicked)?;
        self.source = Some(returned);
        let rows = written?;
        read?;
        Ok(rows)
    }

    async fn write_pages(
        &mut self,
        place: usize,
        mut copy: TableCopy,
        mut pages: mpsc::Receiver<RowPage>,
        is_first: bool,
    ) -> Result<u64, StoreError> {
        let before: u64 = self.tables[..place].iter().map(|table| table.rows).sum();
        let of = self.tables.iter().map(|table| table.rows).sum();
        let mut rows = 0;
        while let Some(page) = pages.recv().await {
            let written = copy.write(&page, &self.copies[place].columns.places).await;
            written.map_err(|error| match error {
                StoreError::Corrupt(_) => error.at_start(self.request.folder),
                error => error,
            })?;
            rows += page.len() as u64;
            if is_first {
                let table = &*self.tables[place].name;
                (self.progress)(MoveStep::Copying { table, rows: before + rows, of });
            }
        }
        let state = &mut self.copies[place];
        state.last_number = state.last_number.max(copy.finish().await?);
        state.arrived += rows;
        Ok(rows)
    }
}

#[cfg(test)]
mod tests;

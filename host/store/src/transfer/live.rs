//! Move of a store beside a running host.
//!
//! # Guarantees
//! - The host serves as before until it ends: it is asked to end when few changes are left.
//! - Nothing that it accepted is missing. A journal, which is written in the transactions of the host, names every changed row; rounds
//!   copy these rows, and the last round begins when the folder is locked, after the host.
//! - Every round without remaining changes is checked: the number of rows of each table, and the ledger of each tenant.
//! - Until the folder is locked, another host may start on it, also after a kill. It goes on with the journal.

use super::{CopiedRows, MoveStep, Mover};
use crate::StoreError;
use crate::postgres::ChangedRows;
use crate::sqlite::JOURNALED;
use hookloom_model::clock;
use std::sync::Arc;
use std::time::Duration;

/// Number of changes in a round below which the host is asked to end.
const FEW_CHANGES: u64 = 2_000;

/// Interval at which the lock is tried while the host ends.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// Minimum time between two rounds while the host ends, for which an operator may let it run for long: each round leaves versions of the
/// same rows in the transaction.
const ROUND_INTERVAL: Duration = Duration::from_secs(1);

/// Number of changes that a round has copied, and of those that are left.
struct RoundDone {
    changes: u64,
    behind: u64,
}

impl<P: FnMut(MoveStep<'_>)> Mover<'_, P> {
    /// Copies what a running host changes, until it has ended and nothing is left.
    pub(super) async fn follow_host(&mut self) -> Result<(), StoreError> {
        loop {
            let done = self.round().await?;
            (self.progress)(MoveStep::CaughtUp { changes: done.changes, behind: done.behind });
            if done.behind == 0 && done.changes < FEW_CHANGES {
                break;
            }
        }
        self.lock_after_host().await?;
        (self.progress)(MoveStep::HostEnded);
        while self.round().await?.behind > 0 {}
        Ok(())
    }

    /// Locks the folder as soon as no host runs. Meanwhile, copies what the host changes.
    async fn lock_after_host(&mut self) -> Result<(), StoreError> {
        let mut asked = String::new();
        let mut copied_at = clock::instant();
        loop {
            match self.source.as_mut().ok_or(StoreError::Stopped)?.lock() {
                Ok(()) => return Ok(()),
                Err(StoreError::Locked { pid, .. }) if pid != asked => {
                    (self.progress)(MoveStep::HostMayEnd { process: &pid });
                    asked = pid;
                }
                Err(StoreError::Locked { .. }) => {}
                Err(error) => return Err(error),
            }
            if clock::since(copied_at) >= ROUND_INTERVAL {
                self.round().await?;
                copied_at = clock::instant();
            }
            tokio::time::sleep(LOCK_INTERVAL).await;
        }
    }

    /// Copies what has changed since the last round.
    async fn round(&mut self) -> Result<RoundDone, StoreError> {
        let source = self.source.as_mut().ok_or(StoreError::Stopped)?;
        let round = Arc::new(source.begin_round(&mut self.tables)?);
        let mut keys = Vec::new();
        for table in &self.tables {
            keys.push(source.changed_keys(&table.name, &round)?);
        }
        let copies = self.tables.iter().zip(&self.copies).zip(keys);
        let changed = copies.map(|((table, copy), keys)| ChangedRows {
            table: table.name.clone(),
            keys: keys.map(|keys| (copy.columns.of_key(key_of(&table.name)), keys)),
        });
        let changed: Vec<ChangedRows> = changed.collect();
        let deleted = self.target.delete_changed(&changed).await?;
        for (state, deleted) in self.copies.iter_mut().zip(deleted) {
            state.arrived = state.arrived.saturating_sub(deleted);
        }
        for (place, rows) in changed.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let columns = self.copies[place].columns.columns.clone();
            let copy = self.target.add_to(&self.tables[place].name, columns).await?;
            let which = rows.keys.as_ref().map_or(CopiedRows::Again, |_| CopiedRows::Changed(round.clone()));
            self.copy_rows(place, copy, which).await?;
        }
        self.target.count_changed(&changed, round.is_complete()).await?;
        if round.is_complete() {
            self.require_all_rows()?;
        }
        self.source.as_mut().ok_or(StoreError::Stopped)?.end_round(&round)?;
        Ok(RoundDone { changes: round.entries(), behind: round.behind })
    }

    /// Returns an error if a table has another number of rows than in the source.
    fn require_all_rows(&self) -> Result<(), StoreError> {
        let mut tables = self.tables.iter().zip(&self.copies);
        let Some((table, copy)) = tables.find(|(table, copy)| table.rows != copy.arrived) else { return Ok(()) };
        let what = format!("{} rows of {} arrived, and the data folder has {}", copy.arrived, table.name, table.rows);
        Err(StoreError::Conflict(what))
    }
}

/// Returns the columns by which a table with a journal is keyed.
fn key_of(table: &str) -> &'static [&'static str] {
    JOURNALED.iter().find(|(name, _)| *name == table).map_or(&[], |(_, key)| *key)
}

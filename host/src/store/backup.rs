//! A copy of a store that may be in use, by SQLite's online backup (<https://www.sqlite.org/backup.html>).
//!
//! Promises: the copy is one moment's whole store, checked, with the master key that opens its secrets unless it is left out; what was acknowledged
//! before the copy began is in it. The folder is readable by its owner only: whoever has it has the secrets.

use super::StoreError;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

/// So much is copied in one step; between steps the host can commit.
const PAGES_PER_STEP: i32 = 4_096;
const PAUSE: Duration = Duration::from_millis(5);

/// Copies the store in `from` to the new folder `to`, with the master key or without. `progress` hears of pages: done, and all. Returns the copy's size in bytes.
pub fn back_up(from: &Path, to: &Path, with_key: bool, mut progress: impl FnMut(u64, u64)) -> Result<u64, StoreError> {
    let in_folder = |folder: &Path| {
        let folder = folder.display().to_string();
        move |source| StoreError::Folder { folder, source }
    };
    let source = Connection::open_with_flags(from.join("hookloom.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // One snapshot for all steps: otherwise each commit of the host would begin the copy anew.
    source.execute_batch("BEGIN; SELECT 1 FROM sqlite_master LIMIT 1")?;
    std::fs::DirBuilder::new().mode(0o700).create(to).map_err(in_folder(to))?;
    let path = to.join("hookloom.db");
    let mut copy = Connection::open(&path)?;
    {
        let backup = Backup::new(&source, &mut copy)?;
        while backup.step(PAGES_PER_STEP)? != StepResult::Done {
            let told = backup.progress();
            let all = u64::try_from(told.pagecount).unwrap_or(0);
            progress(all - u64::try_from(told.remaining).unwrap_or(0), all);
            std::thread::sleep(PAUSE);
        }
    }
    let found: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(StoreError::Conflict(format!("the copy is not whole: {found}")));
    }
    drop(copy);
    let key = to.join("master.key");
    if with_key {
        std::fs::copy(from.join("master.key"), &key).map_err(in_folder(from))?;
    }
    for file in [Some(&path), with_key.then_some(&key)].into_iter().flatten() {
        std::fs::File::open(file).and_then(|file| file.sync_all()).map_err(in_folder(to))?;
    }
    Ok(std::fs::metadata(&path).map_err(in_folder(to))?.len())
}

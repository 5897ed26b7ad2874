//! Backup of a store that may be in use, by SQLite's online backup (<https://www.sqlite.org/backup.html>).
//!
//! # Guarantees
//! - The copy is a checked snapshot of the whole store, with the master key unless it is left out. It contains everything that was
//!   acknowledged before the copy began.
//! - The copy is made under a temporary name and renamed when it is complete. A failed backup leaves nothing under the final name,
//!   so that the next one can use it.
//! - Components are compared with their sha256. Damaged ones are reported; everything else is copied.
//! - Only the owner can read the folder, which contains the secrets.
//!
//! # Limits
//! A backup that is killed leaves the folder with the temporary name (`.hookloom-backup-…`), which nothing reads.

use super::data_folder::{DATABASE, MASTER_KEY, folder_error, inspect, known_key, number_copy};
use super::plugins::damaged_components;
use crate::StoreError;
use crate::folder_fault::FolderFault;
use crate::vault::Vault;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

/// Number of pages copied in one step. The host can commit between two steps.
const PAGES_PER_STEP: i32 = 4_096;
const PAUSE: Duration = Duration::from_millis(5);

/// A finished backup.
#[derive(Debug)]
pub struct BackedUp {
    /// Size of the copied database, in bytes.
    pub bytes: u64,
    /// The sha256 of each component that is damaged in the store, and therefore in the copy.
    pub damaged_components: Vec<String>,
}

/// Copies the store in `from` to the new folder `to`, with the master key or without. Calls `progress` with the number of pages
/// copied and of all pages.
pub fn back_up(from: &Path, to: &Path, with_key: bool, progress: impl FnMut(u64, u64)) -> Result<BackedUp, StoreError> {
    require_free(to).map_err(folder_error(to))?;
    inspect(from)?;
    std::fs::metadata(from.join(DATABASE)).map_err(folder_error(from))?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut making = tempfile::Builder::new();
    let making = making.prefix(".hookloom-backup-").permissions(Permissions::from_mode(0o700));
    let making = making.tempdir_in(parent).map_err(folder_error(parent))?;
    let path = making.path().join(DATABASE);
    copy_database(&from.join(DATABASE), &path, progress)?;
    let copy = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let known_key = known_key(&copy)?;
    let damaged_components = damaged_components(&copy)?;
    number_copy(&copy)?;
    copy.close().map_err(|(_, error)| error)?;
    if with_key {
        let vault = Vault::read(&from.join(MASTER_KEY))?;
        let vault = vault.ok_or_else(|| FolderFault::NoMasterKey { folder: from.display().to_string() })?;
        if known_key.is_some_and(|known| known != vault.fingerprint()) {
            return Err(FolderFault::OtherMasterKey { folder: from.display().to_string() }.into());
        }
        std::fs::copy(from.join(MASTER_KEY), making.path().join(MASTER_KEY)).map_err(folder_error(to))?;
    }
    let bytes = std::fs::metadata(&path).map_err(folder_error(to))?.len();
    flush(making.path()).map_err(folder_error(to))?;
    std::fs::rename(making.path(), to).map_err(folder_error(to))?;
    // The folder has its final name.
    drop(making.keep());
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(folder_error(parent))?;
    Ok(BackedUp { bytes, damaged_components })
}

/// Returns an error if a folder is not empty.
fn require_free(to: &Path) -> std::io::Result<()> {
    match std::fs::read_dir(to) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(std::io::Error::new(ErrorKind::AlreadyExists, "it holds files: name a new folder")),
        },
    }
}

/// Copies a database and checks the copy.
fn copy_database(from: &Path, to: &Path, mut progress: impl FnMut(u64, u64)) -> Result<(), StoreError> {
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // One snapshot for all steps. Otherwise each commit of the host would restart the copy.
    source.execute_batch("BEGIN; SELECT 1 FROM sqlite_master LIMIT 1")?;
    let mut copy = Connection::open(to)?;
    {
        let backup = Backup::new(&source, &mut copy)?;
        while backup.step(PAGES_PER_STEP)? != StepResult::Done {
            let progress_so_far = backup.progress();
            let all = u64::try_from(progress_so_far.pagecount).unwrap_or(0);
            progress(all - u64::try_from(progress_so_far.remaining).unwrap_or(0), all);
            std::thread::sleep(PAUSE);
        }
    }
    let found: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    // Damage of the store is also in the copy, which is as good as the store.
    let of_source: String = source.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" && of_source == "ok" {
        return Err(StoreError::Conflict(format!("the copy is incomplete: {found}")));
    }
    Ok(())
}

/// Flushes every file of a folder, and the folder.
fn flush(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(folder)?.sync_all()
}

//! Lock of a data folder: one host uses it at a time.
//!
//! # Guarantees
//! The lock ends with the process. It holds even if the file `lock` is removed, because the folder itself is locked as well.
//!
//! # Limits
//! If a file system cannot lock folders, only `lock` is locked.

use crate::StoreError;
use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Name of the file that is locked, and holds the process id of its holder.
const LOCK: &str = "lock";

/// Folder that is locked by this process.
pub struct FolderLock {
    path: PathBuf,
    lock: File,
    /// The folder, which is locked too if its file system can lock folders.
    _folder: File,
}

impl FolderLock {
    /// Creates the folder if it does not exist, and locks it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] with the process id of the holder, and [`StoreError::Folder`].
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        let in_folder = |source| StoreError::Folder { folder: path.display().to_string(), source };
        // The files contain payloads, so other users of the machine must not read them.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(in_folder)?;
        let options = || File::options().read(true).write(true).create(true).truncate(false).open(path.join(LOCK));
        let mut lock = options().map_err(in_folder)?;
        let folder = File::open(path).map_err(in_folder)?;
        // The folder first: its lock cannot be removed, and its holder writes the file `lock`.
        let is_locked = matches!(folder.try_lock(), Err(TryLockError::WouldBlock));
        if is_locked || lock.try_lock().is_err() {
            let mut pid = String::new();
            lock.read_to_string(&mut pid).map_err(in_folder)?;
            let pid = Some(pid.trim().to_owned()).filter(|pid| !pid.is_empty());
            let pid = pid.unwrap_or_else(|| "(unknown: its file lock was removed)".to_owned());
            return Err(StoreError::Locked { folder: path.display().to_string(), pid });
        }
        lock.set_len(0).map_err(in_folder)?;
        lock.rewind().map_err(in_folder)?;
        write!(lock, "{}", std::process::id()).map_err(in_folder)?;
        Ok(FolderLock { path: path.to_owned(), lock, _folder: folder })
    }

    /// Returns the path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the file `lock` is still the one that is locked.
    pub(crate) fn is_in_place(&self) -> bool {
        fn id(metadata: std::fs::Metadata) -> (u64, u64) {
            (metadata.dev(), metadata.ino())
        }
        let locked = self.lock.metadata().map(id).ok();
        locked == std::fs::metadata(self.path.join(LOCK)).map(id).ok()
    }
}

//! Faults of a data folder: files that do not belong together.

/// Fault of a data folder: files that do not belong together.
#[derive(Debug, thiserror::Error)]
pub enum FolderFault {
    /// The key exists, and the database does not.
    #[error(
        "the data folder {folder} has a master.key, but its hookloom.db is {what}: put the database back, with hookloom.db-wal if there was one, or both files of a backup. To begin with an empty store instead, move master.key (and hookloom.db, hookloom.db-wal) out of the folder"
    )]
    NoDatabase {
        /// Path of the data folder.
        folder: String,
        /// `missing` or `empty`.
        what: &'static str,
    },
    /// The store was moved to PostgreSQL.
    #[error(
        "the store of the data folder {folder} was moved to {to}: name the database by the setting store. hookloom.db.moved is the store before the move. If the database is empty, the move was interrupted: rename hookloom.db.moved to hookloom.db, and move it again"
    )]
    Moved {
        /// Path of the data folder.
        folder: String,
        /// Database without its password, and the time.
        to: String,
    },
    /// The database exists, and its key does not.
    #[error(
        "the data folder {folder} has a hookloom.db, but its master.key is missing: put the key back (a backup has it unless it was made with --without-key). Without it nothing opens the secrets in the database; to begin with an empty store instead, move hookloom.db out of the folder"
    )]
    NoMasterKey {
        /// Path of the data folder.
        folder: String,
    },
    /// The key belongs to another database.
    #[error(
        "the master.key in {folder} is not the one of its hookloom.db; was the key file replaced? Put back the key or the database that belong together"
    )]
    OtherMasterKey {
        /// Path of the data folder.
        folder: String,
    },
    /// The log belongs to another database.
    #[error(
        "hookloom.db-wal in {folder} is the log of another database than its hookloom.db: was a backup put into the folder of an earlier host's log?? If hookloom.db is the one to go on with, move hookloom.db-wal and hookloom.db-shm out of the folder; if not, put back the database of this log"
    )]
    ForeignLog {
        /// Path of the data folder.
        folder: String,
    },
    /// The log is missing.
    #[error(
        "the last host on {folder} was ended before it could close hookloom.db, and the log hookloom.db-wal is {what}: what was accepted last is in it. Put it back. To go on without it (or if another program, such as sqlite3, has copied it into the database since), delete hookloom.db-run"
    )]
    NoLog {
        /// Path of the data folder.
        folder: String,
        /// `missing` or `empty`.
        what: &'static str,
    },
}

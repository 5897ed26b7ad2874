//! Errors of the store. None names a database.

use crate::folder_fault::FolderFault;
use crate::usage::{Usage, grouped};
use crate::vault::VaultError;
use hookloom_model::event_type::EventTypeError;
use hookloom_model::plural::counted;
use hookloom_model::subscription::SubscriptionId;
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Fault that an error of a database is a sign of, as far as the store must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseFault {
    /// The disk is full.
    DiskFull,
    /// Stored data is damaged.
    Damage,
    /// Files of the database were removed or replaced.
    FilesGone,
    /// Anything else.
    Other,
}

/// Error of a database, with its cause. A clone is the same error.
#[derive(Clone, Debug)]
pub struct DatabaseError {
    fault: DatabaseFault,
    cause: Arc<dyn Error + Send + Sync>,
}

impl DatabaseError {
    /// Wraps an error of a database.
    pub(crate) fn new(fault: DatabaseFault, cause: impl Error + Send + Sync + 'static) -> Self {
        DatabaseError { fault, cause: Arc::new(cause) }
    }

    /// Returns the fault that the error is a sign of.
    pub fn fault(&self) -> DatabaseFault {
        self.fault
    }

    /// Returns the database's own error, if it has this type.
    pub(crate) fn cause<E: Error + 'static>(&self) -> Option<&E> {
        self.cause.downcast_ref()
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl Error for DatabaseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

/// Error of a store operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused a statement.
    #[error("the database refused a statement")]
    Database(#[source] DatabaseError),
    /// The commit failed: nothing of the transaction is durable.
    #[error("the database could not commit")]
    Commit(#[source] DatabaseError),
    /// The database cannot be reached. Nothing was written.
    #[error("the database cannot be reached")]
    Unavailable,
    /// The database could not be reached at the start.
    #[error("the PostgreSQL server {server} cannot be reached")]
    Unreachable {
        /// Addresses of the server.
        server: String,
        /// Error of the connection.
        source: DatabaseError,
    },
    /// The answer of the database was lost: what was written may be durable or not.
    #[error("the answer of the database was lost")]
    Unknown,
    /// An earlier write of the same transaction ended it, usually because the disk is full.
    #[error("the database ended the transaction that this write was part of")]
    TransactionEnded,
    /// The disk is full, and the write would make the store larger.
    #[error("the disk of the data folder is full")]
    DiskFull,
    /// The host's own code panicked; the write was undone.
    #[error("a write panicked and was undone")]
    Panicked,
    /// The store has stopped.
    #[error("the store has stopped")]
    Stopped,
    /// The database was written by a newer host.
    #[error("the database has schema {found}, and this host knows up to {known}: use the newer host")]
    NewerSchema {
        /// Schema version of the database.
        found: usize,
        /// Newest schema version that this host supports.
        known: usize,
    },
    /// The database has a schema that this program cannot work with.
    #[error(
        "the database has schema {found}, which needs Hookloom {needs} or newer; this is Hookloom {version}, which knows schema {known}: start the newer one"
    )]
    SchemaTooNew {
        /// Schema of the database.
        found: usize,
        /// First version of Hookloom that can work with it.
        needs: String,
        /// Version of this program.
        version: &'static str,
        /// Newest schema that this program knows.
        known: usize,
    },
    /// Live hosts of an older version could not work with the schema that this program needs.
    #[error(
        "the database has schema {found}, and schema {to} would end hosts of an older version that run on it: {hosts}. Stop them first"
    )]
    HostsTooOld {
        /// Schema of the database.
        found: usize,
        /// Schema that would follow.
        to: usize,
        /// Names of the hosts, with their versions.
        hosts: String,
    },
    /// The account may not change the tables.
    #[error(
        "the database has schema {found}, and its account may not bring it to schema {to}: run `hookloom migrate` with an account that owns the tables"
    )]
    MayNotMigrate {
        /// Schema of the database. 0: it has no tables of Hookloom.
        found: usize,
        /// Schema that would follow.
        to: usize,
        /// Answer of the server.
        source: Box<StoreError>,
    },
    /// Another host uses the folder.
    #[error("the data folder {folder} is in use by the process {pid}; stop it, or name another folder with --data-dir")]
    Locked {
        /// Path of the data folder.
        folder: String,
        /// Process id of the host that holds the lock.
        pid: String,
    },
    /// Hosts use the database.
    #[error(
        "the database is in use by a host, or was until some seconds ago; stop all hosts, or name another database"
    )]
    DatabaseInUse,
    /// The database or its server lacks something that the store needs.
    #[error("the database cannot be used: {0}")]
    DatabaseUnfit(String),
    /// Files of the data folder do not belong together.
    #[error(transparent)]
    Files(#[from] FolderFault),
    /// A file of the data folder cannot be used.
    #[error("the data folder {folder} cannot be used")]
    Folder {
        /// Path of the data folder.
        folder: String,
        /// Failure of the file system.
        source: std::io::Error,
    },
    /// The master key, or a secret that it sealed, cannot be used.
    #[error("secrets cannot be sealed or opened")]
    Vault(#[from] VaultError),
    /// A stored JSON text cannot be parsed.
    #[error("a stored text cannot be read")]
    Corrupt(#[from] serde_json::Error),
    /// The bytes of a component are not those that were uploaded.
    #[error("the component {sha256} is damaged in the store")]
    DamagedComponent {
        /// The sha256 of the uploaded component.
        sha256: String,
    },
    /// Data that every start needs is damaged.
    #[error(
        "the database in {folder} is damaged: `hookloom check` says where, and `hookloom rescue` writes the undamaged data into a new folder"
    )]
    Damaged {
        /// Path of the data folder.
        folder: String,
        /// First error of the read.
        source: Box<StoreError>,
    },
    /// The idempotency key was used with another body.
    #[error("the Idempotency-Key was used for another body before")]
    KeyReused,
    /// The tenant's share is used up.
    #[error(
        "the tenant's share would be exceeded: {} of {} bytes and {} of {} events are kept ({})",
        grouped(.0.bytes), grouped(.0.bytes_max), grouped(.0.events), grouped(.0.events_max), .0.largest()
    )]
    TenantFull(Box<Usage>),
    /// The request would make more deliveries than one request may.
    #[error("these {events} events would make {deliveries} deliveries; this host makes at most {most} for one request")]
    TooManyDeliveries {
        /// Number of events in the request.
        events: usize,
        /// Number of deliveries that the events would make now.
        deliveries: u64,
        /// Maximum number of deliveries.
        most: u64,
    },
    /// The query exceeded its time limit.
    #[error("the query took more than {ms} ms and was stopped")]
    QueryTooSlow {
        /// Time limit, in milliseconds.
        ms: u64,
    },
    /// The thing does not exist in this tenant.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The tenant's event types do not fit.
    #[error("the event types do not fit")]
    EventTypes(#[from] EventTypeError),
    /// Another edit came first.
    #[error("another edit was made at the same time")]
    Edited,
    /// Subscriptions use the thing that should be deleted.
    #[error("{what} is used by {}", counted(by.len() as u64, "subscription", "subscriptions"))]
    InUse {
        /// Description of the thing in use, for the message.
        what: String,
        /// Subscriptions that use it.
        by: Vec<SubscriptionId>,
    },
    /// The thing exists already, or is in a state that does not allow the operation.
    #[error("{0}")]
    Conflict(String),
}

const FULL_DISK: MachineFault = MachineFault {
    what: "the disk of the data folder is full, so events, uploads and other new rows are refused; pending deliveries are still attempted",
    remedy: "free disk space, or delete what is not needed (tenants, versions of plugins, bins; GET /v1/tenants/{t}/usage shows what is large): deleting works on a full disk",
};

const FILES_GONE: MachineFault = MachineFault {
    what: "a file of the database (hookloom.db, hookloom.db-wal or hookloom.db-shm) was removed or replaced while this host uses it, so nothing is accepted",
    remedy: "put the very file back; or stop the host, restore the data folder and start again",
};

impl StoreError {
    /// Returns what an error of the database is a sign of. None: it is not an error of the database.
    fn database_fault(&self) -> Option<DatabaseFault> {
        match self {
            StoreError::Database(error) | StoreError::Commit(error) => Some(error.fault()),
            _ => None,
        }
    }

    /// Returns true if the database cannot be reached, which is logged once when it begins and once when it ends.
    pub fn is_outage(&self) -> bool {
        matches!(self, StoreError::Unavailable)
    }

    /// Returns true if stored data is damaged: a page that does not belong to its tree, a value that is invalid in its column, a
    /// file that is shorter than its header says. A full disk or a failing device is not damage.
    pub fn is_damage(&self) -> bool {
        matches!(self, StoreError::Corrupt(_)) || self.database_fault() == Some(DatabaseFault::Damage)
    }

    /// Returns the fault of the machine that caused this error. None: another or an unknown cause.
    pub fn machine_fault(&self) -> Option<MachineFault> {
        match self.database_fault() {
            Some(DatabaseFault::DiskFull) => Some(FULL_DISK),
            Some(DatabaseFault::FilesGone) => Some(FILES_GONE),
            _ if matches!(self, StoreError::DiskFull) => Some(FULL_DISK),
            _ => None,
        }
    }

    /// Wraps damage that prevents a start, with advice. Other errors stay as they are.
    pub(crate) fn at_start(self, folder: &Path) -> StoreError {
        StoreError::Damaged { folder: folder.display().to_string(), source: Box::new(self) }
    }
}

/// Fault of the machine, as text for operators.
pub struct MachineFault {
    /// Description of the fault.
    pub what: &'static str,
    /// Advice to the operator.
    pub remedy: &'static str,
}

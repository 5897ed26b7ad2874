//! Search of a whole data folder for damage, for `hookloom check`.
//!
//! # Guarantees
//! - The database is opened read-only and not changed. A host may run at the same time.
//! - SQLite's own check reads every page of every table and index. Every row is read, and related data is compared: deliveries with
//!   their events, components with their sha256, the size of the file with its header, the log with its checksums.
//!
//! # Limits
//! SQLite has no checksums outside the log. A changed byte in a text or a payload that stays well-formed is found only in
//! components and in the log.

use super::log_check::{LogState, read_log};
use super::salvage::{Table, TableSalvage, salvage};
use super::{data_folder, repair};
use crate::StoreError;
use crate::folder_fault::FolderFault;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::io::Read as _;
use std::path::Path;

/// Maximum number of findings of one kind.
const NAMED_MAX: usize = 1_000;

/// Bytes of the header of a database (<https://www.sqlite.org/fileformat2.html#the_database_header>).
const HEADER_BYTES: usize = 100;

/// Findings in a data folder.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// True if nothing is damaged.
    pub whole: bool,
    /// Findings about the files.
    pub files: Vec<String>,
    /// Findings of SQLite's check, with the table or index if it is known.
    pub pages: Vec<String>,
    /// Tables, each with its number of rows.
    pub tables: Vec<TableReport>,
    /// Rows that contradict each other.
    pub relations: Vec<String>,
    /// Observations that are unusual, but not damage.
    pub notes: Vec<String>,
}

/// Rows of a table.
#[derive(Debug, Serialize)]
pub struct TableReport {
    /// Name of the table.
    pub table: String,
    /// Number of undamaged rows.
    pub rows: u64,
    /// Damaged rows, with the reason.
    pub damaged: Vec<DamagedKey>,
    /// True if pages cannot be read, so that there can be more damaged rows than listed.
    pub unreadable_pages: bool,
}

/// Damaged row.
#[derive(Debug, Serialize)]
pub struct DamagedKey {
    /// Values of the key.
    pub key: String,
    /// Description of the damage.
    pub reason: String,
}

impl TableReport {
    pub(super) fn of(table: &str, salvaged: TableSalvage) -> Self {
        let damaged = salvaged.lost.into_iter().take(NAMED_MAX).map(|(key, reason)| DamagedKey { key, reason });
        TableReport {
            table: table.to_owned(),
            rows: salvaged.whole,
            damaged: damaged.collect(),
            unreadable_pages: salvaged.has_gap,
        }
    }
}

/// Checks a data folder. Calls `progress` with the name of each step.
pub fn check_store(folder: &Path, mut progress: impl FnMut(&str)) -> Result<CheckReport, StoreError> {
    let path = folder.join("hookloom.db");
    let (mut files, notes) = check_files(&path)?;
    files.extend(log_fault(folder));
    if !folder.join("master.key").exists() {
        files.push("master.key is missing: without it no secret can be opened".to_owned());
    }
    progress("every page");
    let connection = match open_damaged(folder) {
        Ok(connection) => connection,
        Err(error) if error.is_damage() => {
            files.push(format!("the database cannot be opened: {}", hookloom_model::describe(&error)));
            let pages = Vec::new();
            let tables = Vec::new();
            let relations = Vec::new();
            return Ok(CheckReport { whole: false, files, pages, tables, relations, notes });
        }
        Err(error) => return Err(error),
    };
    let pages = named_findings(&connection)?;
    let mut tables = Vec::new();
    for table in Table::all(&connection)? {
        progress(&format!("every row of {}", table.name));
        let salvaged = salvage(&connection, &table, |_| Ok(()))?;
        tables.push(TableReport::of(&table.name, salvaged));
    }
    progress("what belongs together");
    let mut relations = Vec::new();
    // Rows that belong to unreadable rows are missing as well, and have been reported.
    relations.extend(without_events(&connection).unwrap_or_default());
    relations.extend(wrong_components(&connection).unwrap_or_default());
    let whole = files.is_empty()
        && pages.is_empty()
        && relations.is_empty()
        && tables.iter().all(|table| table.damaged.is_empty() && !table.unreadable_pages);
    Ok(CheckReport { whole, files, pages, tables, relations, notes })
}

/// Returns the fault of the log of a database: it belongs to another database, or it is missing. Such a log is not read.
pub(super) fn log_fault(folder: &Path) -> Option<String> {
    match data_folder::inspect(folder) {
        Err(StoreError::Files(fault @ (FolderFault::ForeignLog { .. } | FolderFault::NoLog { .. }))) => {
            Some(fault.to_string())
        }
        _ => None,
    }
}

/// Opens the database of a folder read-only, even if the file is shorter than it should be, or if the log is unusable or belongs to
/// another database.
pub(super) fn open_damaged(folder: &Path) -> Result<Connection, StoreError> {
    let path = folder.join(data_folder::DATABASE);
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if log_fault(folder).is_none() {
        let with_log = Connection::open_with_flags(&path, read_only)?;
        if accept_short(&with_log).is_ok() {
            return Ok(with_log);
        }
    }
    // Without the log. Escaped, because this form is a URI (RFC 3986, section 2.1).
    let path = path.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = read_only | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)?;
    accept_short(&connection)?;
    Ok(connection)
}

/// Makes SQLite open a file that is shorter than its header says, which it does only if the schema may be written. Nothing is
/// written.
fn accept_short(connection: &Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "writable_schema", true)?;
    super::tune(connection)?;
    Ok(connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |_| Ok(()))?)
}

/// Returns the findings of the file checks: damage, then unusual observations.
fn check_files(path: &Path) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let in_folder = |source| StoreError::Folder { folder: path.display().to_string(), source };
    let mut file = std::fs::File::open(path).map_err(in_folder)?;
    let bytes = file.metadata().map_err(in_folder)?.len();
    let mut findings = Vec::new();
    let mut header = [0; HEADER_BYTES];
    if file.read_exact(&mut header).is_err() || !header.starts_with(b"SQLite format 3\0") {
        findings.push(format!("hookloom.db ({bytes} bytes) does not begin as a database does"));
    }
    let log = read_log(&path.with_extension("db-wal")).map_err(in_folder)?;
    let page = match u64::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65_536,
        page => page,
    };
    let pages = u64::from(u32::from_be_bytes([header[28], header[29], header[30], header[31]]));
    // With a log, the file may be shorter than the database: the last pages are in the log.
    if log.is_none_or(|log| log.pages == 0) && bytes < page * pages {
        findings.push(format!(
            "hookloom.db has {bytes} bytes, and by its header it has {}: its end is missing",
            page * pages
        ));
    }
    let mut notes = Vec::new();
    if let Some(LogState { pages, pages_unfinished, is_cut }) = log
        && (is_cut || pages_unfinished > 0)
    {
        notes.push(format!(
            "hookloom.db-wal ends within a transaction, behind {pages} pages of complete ones: usual after a crash, where nothing of it \
             was answered yet; after a copy it means that the copy was cut off"
        ));
    }
    Ok((findings, notes))
}

fn named_findings(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let objects = repair::objects(connection).unwrap_or_default();
    let name = |finding: String| match repair::object_of(&finding, &objects) {
        Some(object) => format!("{} {}: {finding}", if object.is_index { "index" } else { "table" }, object.name),
        None => finding,
    };
    let findings = repair::findings(connection, "integrity_check")?;
    // Pages that remain from an index that was rebuilt cost only space.
    let findings = findings.into_iter().filter(|finding| !finding.ends_with(": never used"));
    Ok(findings.map(name).take(NAMED_MAX).collect())
}

/// Returns pending deliveries without an event, for which nothing can be sent.
pub(super) fn without_events(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let sql =
        "SELECT d.tenant, d.id, d.event FROM deliveries d LEFT JOIN events e ON e.tenant = d.tenant AND e.id = d.event
               WHERE d.state = 0 AND e.id IS NULL LIMIT ?1";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([NAMED_MAX], |row| {
        let tenant: String = row.get(0)?;
        let id: uuid::Uuid = row.get(1)?;
        let event: uuid::Uuid = row.get(2)?;
        Ok(format!("delivery {id} of {tenant}: its event {event} is not there"))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns components whose bytes do not have the sha256 of their name.
pub(super) fn wrong_components(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare("SELECT sha256, bytes FROM components")?;
    let mut rows = statement.query([])?;
    let mut wrong = Vec::new();
    while let Ok(Some(row)) = rows.next() {
        let sha256: String = row.get(0)?;
        let bytes = row.get_ref(1)?.as_bytes().map_err(rusqlite::Error::from)?;
        let found = hex::encode(Sha256::digest(bytes));
        if sha256 != found {
            wrong.push(format!("component {sha256}: its bytes have the sha256 {found}"));
        }
    }
    Ok(wrong)
}

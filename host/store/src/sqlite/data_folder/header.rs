//! Header of a database file, read without SQLite, which would use the log and might change both files.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Header of a database file, without changes in the log (<https://www.sqlite.org/fileformat2.html#the_database_header>).
pub(super) struct Header {
    /// The `application_id`: the number that identifies the database.
    pub(super) database: u32,
    /// `user_version`: 0 before the first migration.
    pub(super) schema: u32,
}

/// Finding at the path of a database.
pub(super) enum Found {
    Missing,
    /// The header is incomplete.
    Empty,
    Header(Header),
}

impl Header {
    pub(super) fn read(path: &Path) -> std::io::Result<Found> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Missing),
            Err(error) => return Err(error),
        };
        let number = |at: u64| -> std::io::Result<u32> {
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, at)?;
            Ok(u32::from_be_bytes(bytes))
        };
        match (number(60), number(68)) {
            (Ok(schema), Ok(database)) => Ok(Found::Header(Header { database, schema })),
            (Err(error), _) | (_, Err(error)) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(Found::Empty),
        }
    }
}

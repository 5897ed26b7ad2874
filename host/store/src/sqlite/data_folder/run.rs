//! File `hookloom.db-run`, which records the database of the log, and whether the log is needed.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Content of `hookloom.db-run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Numbers of the log's database: two numbers while it gets a new one.
    pub(super) databases: [u32; 2],
    /// True if the log has changes that the database file does not have.
    pub(super) needs_log: bool,
}

impl Run {
    /// Reads the file. None: it does not exist, or another version wrote it.
    pub(super) fn read(path: &Path) -> std::io::Result<Option<Self>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Run::parse(&text)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mut number = || u32::from_str_radix(words.next()?, 16).ok();
        let databases = [number()?, number()?];
        Some(Run { databases, needs_log: words.next()? == "open" })
    }

    /// Writes the file in place, in one write of constant length, so that a full disk does not prevent it.
    pub(super) fn write(self, path: &Path) -> std::io::Result<()> {
        let [one, other] = self.databases;
        let state = if self.needs_log { "open  " } else { "closed" };
        let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.write_all_at(format!("{one:08x} {other:08x} {state}\n").as_bytes(), 0)?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run");
        assert_eq!(Run::read(&path).expect("no file"), None);
        for run in [
            Run { databases: [0, u32::MAX], needs_log: true },
            Run { databases: [7, 7], needs_log: false },
            Run { databases: [7, 8], needs_log: true },
        ] {
            run.write(&path).expect("written");
            assert_eq!(Run::read(&path).expect("read"), Some(run));
        }
        for text in ["", "7", "x y open", "\u{0}\u{0}"] {
            assert_eq!(Run::parse(text), None, "{text:?}");
        }
    }
}

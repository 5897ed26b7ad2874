//! Check of a write-ahead log, up to its first invalid frame (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>).
//!
//! SQLite uses a log up to its last complete transaction and silently ignores the rest. After a crash, such a rest is usual: the
//! transaction had not been answered. After a truncated copy, the rest is missing data.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Sizes of the header of a log and of a frame, in bytes.
const HEADERS: [usize; 2] = [32, 24];

/// Summary of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogState {
    /// Number of pages in complete transactions.
    pub(super) pages: u64,
    /// Number of pages after them, in a transaction without an end.
    pub(super) pages_unfinished: u64,
    /// True if the file ends within a page, or if the checksum of the last page does not match.
    pub(super) is_cut: bool,
}

/// Reads a log. None: the file does not exist, or is empty.
pub(super) fn read_log(path: &Path) -> io::Result<Option<LogState>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut header = [0; HEADERS[0]];
    match read_up_to(&mut file, &mut header)? {
        0 => return Ok(None),
        read if read < header.len() => return Ok(Some(LogState { is_cut: true, ..LogState::default() })),
        _ => {}
    }
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let is_big_endian = word(0) & 1 == 1;
    let page_bytes = word(8) as usize;
    let salts = &header[16..24];
    let mut sums = checksum(is_big_endian, [0, 0], &header[..24]);
    if word(0) & !1 != 0x377f_0682 || sums != [word(24), word(28)] || !(512..=65_536).contains(&page_bytes) {
        return Ok(Some(LogState { is_cut: true, ..LogState::default() }));
    }
    let mut state = LogState::default();
    let mut frame = vec![0; HEADERS[1] + page_bytes];
    loop {
        let read = read_up_to(&mut file, &mut frame)?;
        // Frames of an earlier round of the log have other salts and are not part of the log.
        if read < HEADERS[1] || frame[8..16] != *salts {
            return Ok(Some(state));
        }
        if read < frame.len() {
            return Ok(Some(LogState { is_cut: true, ..state }));
        }
        let word = |at: usize| u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        sums = checksum(is_big_endian, sums, &frame[..8]);
        sums = checksum(is_big_endian, sums, &frame[HEADERS[1]..]);
        if sums != [word(16), word(20)] {
            return Ok(Some(LogState { is_cut: true, ..state }));
        }
        state.pages_unfinished += 1;
        if word(4) != 0 {
            state.pages += std::mem::take(&mut state.pages_unfinished);
        }
    }
}

fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read(&mut buffer[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

/// Returns the checksum of the log: two sums over pairs of words.
fn checksum(is_big_endian: bool, [mut first, mut second]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    for pair in bytes.chunks_exact(8) {
        let word = |at: usize| {
            let bytes = [pair[at], pair[at + 1], pair[at + 2], pair[at + 3]];
            if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        first = first.wrapping_add(word(0)).wrapping_add(second);
        second = second.wrapping_add(word(4)).wrapping_add(first);
    }
    [first, second]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn a_log_is_read_up_to_its_last_transaction() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let log = folder.path().join("a.db-wal");
        assert_eq!(read_log(&log).expect("no log"), None);
        let writer = Connection::open(path).expect("a database");
        writer.pragma_update(None, "journal_mode", "WAL").expect("a log");
        writer.execute_batch("CREATE TABLE rows (row BLOB)").expect("a table");
        for _ in 0..3 {
            writer.execute("INSERT INTO rows VALUES (zeroblob(20000))", []).expect("a row");
        }
        let whole = std::fs::read(&log).expect("a log");
        let found = |bytes: &[u8]| {
            let copy = folder.path().join("copy");
            std::fs::write(&copy, bytes).expect("a copy");
            read_log(&copy).expect("a log")
        };
        let frame = HEADERS[1] + 4_096;
        let pages = ((whole.len() - HEADERS[0]) / frame) as u64;
        assert_eq!(found(&whole), Some(LogState { pages, pages_unfinished: 0, is_cut: false }));
        // Truncated at the end of a page, within a page, and in the header; and with one changed bit.
        let last = pages - found(&whole[..whole.len() - frame]).expect("a state").pages;
        let cut = LogState { pages: pages - last, pages_unfinished: last - 1, is_cut: false };
        assert!(last > 1);
        assert_eq!(found(&whole[..whole.len() - frame]), Some(cut));
        assert_eq!(found(&whole[..whole.len() - 100]), Some(LogState { is_cut: true, ..cut }));
        assert_eq!(found(&whole[..20]), Some(LogState { is_cut: true, ..LogState::default() }));
        let mut flipped = whole.clone();
        let at = flipped.len() - 10;
        flipped[at] ^= 4;
        assert_eq!(found(&flipped), Some(LogState { is_cut: true, ..cut }));
        assert_eq!(found(&[]), None);
    }
}

//! The version that each plugin thread is calling, in a file mapped into memory, so that it can be read when the process died
//! in the call.
//!
//! # Theory of operation
//! Each plugin thread has a record of fixed size. A call writes tenant and version into it and clears its state afterwards: some
//! stores to memory, no system call. The pages belong to the file, so they outlive the process, however it ends.
//!
//! How it ended decides. A signal handler marks the record of the very thread that got SIGABRT, SIGSEGV or SIGBUS: an abort for
//! lack of memory, an overflown stack and a fault in code outside the sandbox are among them. At a stop, calls that are far
//! beyond their wall time are marked too. Only marked records count. A record that merely says "in a call" proves nothing: a
//! `kill -9` by an operator and the system's out-of-memory killer look the same, and the calls of other tenants that were under
//! way are innocent in any case.
//!
//! # Limits
//! One process has one file; the lock of the data folder sees to it. This file holds one of the project's two places with
//! unsafe code.

use crate::subscription::TenantId;
use memmap2::MmapMut;
use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use zerocopy::FromBytes as _;

/// Size of a record in words: some cache lines of its own.
const WORDS: usize = 32;

/// Places in a record: its state, the thread, when the call should be over (in milliseconds since the epoch), the length of the
/// tenant's id, the id, and the version's sha256 in hex.
const STATE: usize = 0;
const THREAD: usize = 1;
const DUE_MS: usize = 2;
const TENANT_BYTES: usize = 3;
const TENANT: usize = 4;
const SHA256: usize = 12;

/// A text of at most 64 bytes: tenants' ids are no longer, and a sha256 has as many digits.
const TEXT_WORDS: usize = 8;
const TEXT_BYTES: usize = TEXT_WORDS * 8;

/// States of a record. [`SIGNALLED`] has the signal's number added.
const IDLE: u64 = 0;
const IN_CALL: u64 = 1;
const OVERDUE: u64 = 2;
const SIGNALLED: u64 = 1 << 8;

/// How far beyond its wall time a call is when it counts as one that does not end.
const OVERDUE_AFTER: Duration = Duration::from_secs(2);

/// signal(7). A process dies of them unless somebody expects them; wasmtime does where guests trap.
const SIGNALS: [i32; 3] = [6, 7, 11];

/// Cause of a process's end in a call, or with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A signal to the thread that was in the call.
    Signal(u64),
    /// The process was stopped, and the call did not end.
    Overdue,
}

/// A version in whose call the process before this one died.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) tenant: TenantId,
    pub(super) sha256: String,
    pub(super) cause: Cause,
}

/// The records of all plugin threads.
#[derive(Clone, Copy)]
pub(super) struct CallRecords(&'static [AtomicU64]);

thread_local! {
    static RECORD: Cell<Option<&'static [AtomicU64]>> = const { Cell::new(None) };
}

impl CallRecords {
    /// Replaces the file by one with a record for each thread, and watches for the signals that end the process.
    pub(super) fn create(path: &Path, threads: usize) -> std::io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        // Written, not only made long: on a full disk a page without a place would be a signal when it is touched.
        file.write_all(&vec![0; threads * WORDS * 8])?;
        let file = file.persist(path)?;
        let records = CallRecords(map(&file)?);
        records.watch_signals()?;
        Ok(records)
    }

    /// Gives the calling thread the record with this number.
    pub(super) fn attach(self, index: usize) {
        let record = self.0.chunks_exact(WORDS).nth(index);
        if let Some(record) = record {
            record[THREAD].store(this_thread(), Ordering::Relaxed);
        }
        RECORD.set(record);
    }

    /// Marks the calls that should have been over long ago.
    pub(super) fn mark_overdue(self) {
        let now_ms = millis(SystemTime::now());
        for record in self.0.chunks_exact(WORDS) {
            if record[DUE_MS].load(Ordering::Relaxed).saturating_add(OVERDUE_AFTER.as_millis() as u64) < now_ms {
                let _ = record[STATE].compare_exchange(IN_CALL, OVERDUE, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// Marks the call of the calling thread. Safe in a signal handler: it stores to memory and asks for the thread's number.
    fn mark_signal(self, signal: i32) {
        let (thread, marked) = (this_thread(), SIGNALLED + u64::from(signal.unsigned_abs()));
        for record in self.0.chunks_exact(WORDS) {
            if record[THREAD].load(Ordering::Relaxed) == thread {
                let _ = record[STATE].compare_exchange(IN_CALL, marked, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// Must come before the first engine is made: wasmtime asks the handlers before its own about what is no trap of a guest.
    #[expect(unsafe_code, reason = "signal handlers are unsafe to install; see the safety comment")]
    fn watch_signals(self) -> std::io::Result<()> {
        for signal in SIGNALS {
            let action = move |_: &_| self.mark_signal(signal);
            // SAFETY: the action is async-signal-safe (signal-safety(7)): it loads and stores atomics in memory that is never
            // unmapped and makes the system call gettid. It neither allocates, locks nor panics. That a handler is installed
            // changes nothing about the end: Rust's own handler for SIGSEGV and SIGBUS is called after it and gives the signal
            // its default action, and abort(3) does so for SIGABRT.
            unsafe { signal_hook_registry::register_unchecked(signal, action) }?;
        }
        Ok(())
    }
}

/// Maps a file for as long as the process lives.
#[expect(unsafe_code, reason = "mapping a file is unsafe by nature; see the safety comment")]
fn map(file: &std::fs::File) -> std::io::Result<&'static [AtomicU64]> {
    // SAFETY: the file was just made in the data folder, which this process holds the lock of. Nobody else writes to it or cuts
    // it short; another start of the host replaces it by a new file and leaves this one as it is. All access is atomic.
    let map = unsafe { MmapMut::map_mut(file) }?;
    let map: &'static mut MmapMut = Box::leak(Box::new(map));
    let words = <[AtomicU64]>::mut_from_bytes(map)
        .map_err(|_| std::io::Error::other("a mapped file is not a list of words"))?;
    Ok(words)
}

fn this_thread() -> u64 {
    u64::from(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs())
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A call under way: it is over when this is dropped.
pub(super) struct InCall(Option<&'static [AtomicU64]>);

/// Notes that the calling thread calls a version, if the thread has a record.
pub(super) fn begin(tenant: &TenantId, sha256: &str, wall: Duration) -> InCall {
    let record = RECORD.get();
    if let Some(record) = record {
        put(&record[TENANT..], &tenant.0);
        put(&record[SHA256..], sha256);
        record[TENANT_BYTES].store(tenant.0.len() as u64, Ordering::Relaxed);
        record[DUE_MS].store(millis(SystemTime::now() + wall), Ordering::Relaxed);
        record[STATE].store(IN_CALL, Ordering::Release);
    }
    InCall(record)
}

impl Drop for InCall {
    fn drop(&mut self) {
        if let Some(record) = self.0 {
            record[STATE].store(IDLE, Ordering::Release);
        }
    }
}

fn put(words: &[AtomicU64], text: &str) {
    let mut bytes = [0; TEXT_BYTES];
    let length = text.len().min(TEXT_BYTES);
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    for (word, part) in words.iter().zip(bytes.as_chunks::<8>().0) {
        word.store(u64::from_ne_bytes(*part), Ordering::Relaxed);
    }
}

/// Reads which calls the process before this one died in. A file that is missing or of no use tells of none.
pub(super) fn suspects(path: &Path) -> Vec<Suspect> {
    const FILE_BYTES_MAX: u64 = 1 << 20;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    words.as_chunks::<WORDS>().0.iter().filter_map(suspect).collect()
}

fn suspect(record: &[u64; WORDS]) -> Option<Suspect> {
    let cause = match record[STATE] {
        OVERDUE => Cause::Overdue,
        signalled if signalled >= SIGNALLED => Cause::Signal(signalled - SIGNALLED),
        _ => return None,
    };
    let text = |at: usize| record[at..at + TEXT_WORDS].iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let mut tenant = text(TENANT);
    tenant.truncate(usize::try_from(record[TENANT_BYTES]).unwrap_or(TEXT_BYTES));
    let tenant = TenantId::parse(&String::from_utf8(tenant).ok()?).ok()?;
    Some(Suspect { tenant, sha256: String::from_utf8(text(SHA256)).ok()?, cause })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::ManuallyDrop;

    fn on_own_thread<T: Send>(records: CallRecords, index: usize, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                records.attach(index);
                work()
            });
            thread.join().expect("no panic")
        })
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).expect("a tenant's id")
    }

    /// A call in which the thread ends.
    fn begin(name: &str, digit: &str, wall: Duration) -> ManuallyDrop<InCall> {
        ManuallyDrop::new(super::begin(&tenant(name), &digit.repeat(64), wall))
    }

    fn suspect(name: &str, digit: &str, cause: Cause) -> Suspect {
        Suspect { tenant: tenant(name), sha256: digit.repeat(64), cause }
    }

    #[test]
    fn only_marked_calls_are_suspect() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("calls");
        assert_eq!(suspects(&path), []);
        let records = CallRecords::create(&path, 4).expect("records");
        on_own_thread(records, 0, || {
            let _aborted = begin(&"a".repeat(64), "0", Duration::ZERO);
            records.mark_signal(6);
        });
        on_own_thread(records, 1, || {
            let _killed = begin("b", "1", Duration::from_secs(60));
        });
        on_own_thread(records, 2, || {
            drop(super::begin(&tenant("c"), &"2".repeat(64), Duration::ZERO));
            records.mark_signal(6);
        });
        on_own_thread(records, 3, || {
            let _hangs = begin("d", "3", Duration::ZERO);
            while suspects(&path).len() < 2 {
                std::thread::sleep(Duration::from_millis(5));
                records.mark_overdue();
            }
        });
        let expected = [suspect(&"a".repeat(64), "0", Cause::Signal(6)), suspect("d", "3", Cause::Overdue)];
        assert_eq!(suspects(&path), expected);
        let _new = CallRecords::create(&path, 4).expect("records");
        assert_eq!(suspects(&path), []);
    }

    #[test]
    fn a_file_of_no_use_tells_of_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("calls");
        for bytes in [&[][..], &[0xff; 100], &[0xff; WORDS * 8], &[0; WORDS * 8]] {
            std::fs::write(&path, bytes).expect("written");
            assert_eq!(suspects(&path), []);
        }
    }
}

//! Record of the version that each plugin thread is calling, in a memory-mapped file that is read after a crash.
//!
//! # Theory of operation
//! Each plugin thread has a record of fixed size. A call writes tenant and version into the record and resets its state afterwards: a
//! few stores to memory, no system call. The pages belong to the file, so they outlive the process.
//!
//! Only marked records count after a crash. A signal handler marks the record of the thread that got SIGABRT, SIGSEGV or SIGBUS, for
//! example after an abort for lack of memory, a stack overflow or a fault in code outside the sandbox. At a stop, calls that are far
//! beyond their wall time are marked too. A record that is in a call and not marked proves nothing: a `kill -9` and the out-of-memory
//! killer leave the same records, and other calls under way did not cause the crash.
//!
//! # Limits
//! One process uses the file: the lock of the data folder ensures that. One of the two modules with unsafe code.

use hookloom_model::clock;
use hookloom_model::subscription::TenantId;
use memmap2::MmapMut;
use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use zerocopy::FromBytes as _;

/// Size of a record in 8-byte words: whole cache lines, so that threads do not share one.
const WORDS: usize = 32;

/// Offsets in a record, in words: state, thread, deadline of the call (milliseconds since the epoch), length of the tenant's id, the id,
/// and the version's sha256 in hex.
const STATE: usize = 0;
const THREAD: usize = 1;
const DUE_MS: usize = 2;
const TENANT_BYTES: usize = 3;
const TENANT: usize = 4;
const SHA256: usize = 12;

/// Size of a text: the maximum length of a tenant's id, and the length of a sha256 in hex.
const TEXT_WORDS: usize = 8;
const TEXT_BYTES: usize = TEXT_WORDS * 8;

/// States of a record. The signal's number is added to [`SIGNALLED`].
const IDLE: u64 = 0;
const IN_CALL: u64 = 1;
const OVERDUE: u64 = 2;
const SIGNALLED: u64 = 1 << 8;

/// Time beyond its wall time after which a call counts as endless.
const OVERDUE_AFTER: Duration = Duration::from_secs(2);

/// SIGABRT, SIGBUS and SIGSEGV (signal(7)). They end the process, except for traps of guests, which wasmtime handles.
const SIGNALS: [i32; 3] = [6, 7, 11];

/// Cause of the end of a process during a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A signal to the thread that was in the call.
    Signal(u64),
    /// The process was stopped while the call did not end.
    Overdue,
}

/// Version in whose call the previous process died.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) tenant: TenantId,
    pub(super) sha256: String,
    pub(super) cause: Cause,
}

/// Records of all plugin threads.
#[derive(Clone, Copy)]
pub(super) struct CallRecords(&'static [AtomicU64]);

thread_local! {
    static RECORD: Cell<Option<&'static [AtomicU64]>> = const { Cell::new(None) };
}

impl CallRecords {
    /// Replaces the file with one that has a record for each thread, and installs the signal handlers.
    pub(super) fn create(path: &Path, threads: usize) -> std::io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        // Written, not only extended: on a full disk, a store to an unallocated page would raise SIGBUS.
        file.write_all(&vec![0; threads * WORDS * 8])?;
        let file = file.persist(path)?;
        let records = CallRecords(map(&file)?);
        records.watch_signals()?;
        Ok(records)
    }

    /// Assigns the record with this index to the calling thread.
    pub(super) fn attach(self, index: usize) {
        let record = self.0.chunks_exact(WORDS).nth(index);
        if let Some(record) = record {
            record[THREAD].store(this_thread(), Ordering::Relaxed);
        }
        RECORD.set(record);
    }

    /// Marks calls that are more than [`OVERDUE_AFTER`] beyond their wall time.
    pub(super) fn mark_overdue(self) {
        let now_ms = millis(clock::system_time());
        for record in self.0.chunks_exact(WORDS) {
            if record[DUE_MS].load(Ordering::Relaxed).saturating_add(OVERDUE_AFTER.as_millis() as u64) < now_ms {
                let _ = record[STATE].compare_exchange(IN_CALL, OVERDUE, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// Marks the call of the calling thread. Async-signal-safe: only stores to memory and calls gettid.
    fn mark_signal(self, signal: i32) {
        let thread = this_thread();
        let marked = SIGNALLED + u64::from(signal.unsigned_abs());
        for record in self.0.chunks_exact(WORDS) {
            if record[THREAD].load(Ordering::Relaxed) == thread {
                let _ = record[STATE].compare_exchange(IN_CALL, marked, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// Installs the signal handlers. Must run before the first engine is created: wasmtime calls earlier handlers for signals that are
    /// not traps of guests.
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

/// Maps a file for the lifetime of the process.
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

/// Guard of a call under way. The call is over when the guard is dropped.
pub(super) struct InCall(Option<&'static [AtomicU64]>);

/// Records that the calling thread calls a version, if the thread has a record.
pub(super) fn begin(tenant: &TenantId, sha256: &str, wall: Duration) -> InCall {
    let record = RECORD.get();
    if let Some(record) = record {
        put(&record[TENANT..], &tenant.0);
        put(&record[SHA256..], sha256);
        record[TENANT_BYTES].store(tenant.0.len() as u64, Ordering::Relaxed);
        record[DUE_MS].store(millis(clock::system_time() + wall), Ordering::Relaxed);
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

/// Returns the versions in whose calls the previous process died. A missing or invalid file gives none.
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

    /// Begins a call during which the thread ends.
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

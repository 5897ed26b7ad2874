//! WASI for guests: linked in full, and empty.
//!
//! # Guarantees
//! - Standard libraries import WASI, so all of WASI 0.2 is linked. There are no files, environment variables, arguments or network.
//! - Clocks are stopped at the event's time, and random bytes are derived from the event, so every attempt gets the same.
//! - No guest can wait: a call that would wait is refused, because a waiting guest would hold a plugin thread without using CPU time.
//! - Output goes to a short tail, which is shown when the guest traps.

use futures_util::FutureExt as _;
use parking_lot::{Mutex, MutexGuard};
use rand::SeedableRng as _;
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock};
use wasmtime_wasi::p2::bindings::sync::io::poll;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiView};
use wasmtime_wasi_io::bindings::wasi::io::poll::{Host as WaitingPoll, HostPollable as WaitingPollable};
use wasmtime_wasi_io::poll::{DynPollable, Pollable};
use wasmtime_wasi_io::streams::{OutputStream, StreamError, StreamResult};

/// Adds WASI 0.2 to a linker, with a `wasi:io/poll` that never waits.
pub(super) fn add_to_linker<T: WasiView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    poll::add_to_linker::<T, NoWaiting>(linker, |state| Unwaiting(state.ctx().table))?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Creates the WASI context of one call.
pub(super) fn context(event_id: &[u8; 16], subscription_id: &[u8; 16], received_at_ms: i64, output: &Tail) -> WasiCtx {
    let seed = |label: &str| -> [u8; 32] {
        Sha256::new().chain_update(label).chain_update(event_id).chain_update(subscription_id).finalize().into()
    };
    let random = |label: &str| rand::rngs::ChaCha12Rng::from_seed(seed(label));
    let (half, _) =
        seed("insecure seed").split_first_chunk::<16>().map(|(half, rest)| (*half, rest.len())).unwrap_or_default();
    WasiCtxBuilder::new()
        .stdout(output.clone())
        .stderr(output.clone())
        .wall_clock(StoppedClock(Duration::from_millis(received_at_ms.unsigned_abs())))
        .monotonic_clock(StoppedClock(Duration::ZERO))
        .secure_random(random("secure"))
        .insecure_random(random("insecure"))
        .insecure_random_seed(u128::from_le_bytes(half))
        .max_random_size(64 << 10)
        .allow_ip_name_lookup(false)
        .allow_tcp(false)
        .allow_udp(false)
        .build()
}

/// Clock that always shows the same time.
struct StoppedClock(Duration);

impl HostWallClock for StoppedClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

impl HostMonotonicClock for StoppedClock {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// `wasi:io/poll` that answers what is ready and refuses to wait for what is not.
struct Unwaiting<'a>(&'a mut ResourceTable);

struct NoWaiting;

impl HasData for NoWaiting {
    type Data<'a> = Unwaiting<'a>;
}

/// Message of the trap of a guest that waits.
pub(super) const WAITS: &str = "the plugin waits for a clock or a stream, but a plugin may not sleep";

impl poll::Host for Unwaiting<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        WaitingPoll::poll(self.0, pollables).now_or_never().unwrap_or_else(|| Err(wasmtime::Error::msg(WAITS)))
    }
}

impl poll::HostPollable for Unwaiting<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        WaitingPollable::ready(self.0, pollable).now_or_never().unwrap_or(Ok(false))
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        WaitingPollable::block(self.0, pollable).now_or_never().unwrap_or_else(|| Err(wasmtime::Error::msg(WAITS)))
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        WaitingPollable::drop(self.0, pollable)
    }
}

/// Last bytes that a guest wrote to stdout and stderr, such as the message of a Rust panic. Also counts all other bytes that the guest
/// passes to the host, because both share one budget.
#[derive(Clone, Default)]
pub(super) struct Tail(Arc<Mutex<Output>>);

#[derive(Default)]
struct Output {
    kept: VecDeque<u8>,
    /// Remaining budget, in bytes. None: the budget was exceeded.
    room: Option<u64>,
}

/// Number of bytes of a guest's output that are kept.
const TAIL_BYTES: usize = 2 << 10;

impl Tail {
    /// Returns the kept output as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().kept.iter().copied().collect::<Vec<u8>>()).trim().to_owned()
    }

    /// Resets output and budget for a call.
    pub(super) fn begin(&self, budget_bytes: u64) {
        *self.lock() = Output { kept: VecDeque::new(), room: Some(budget_bytes) };
    }

    /// Charges bytes to the budget. Returns false if the budget is exceeded.
    pub(super) fn count(&self, bytes: usize) -> bool {
        let mut output = self.lock();
        output.room = output.room.and_then(|room| room.checked_sub(bytes as u64));
        output.room.is_some()
    }

    /// Returns the remaining budget, in bytes.
    pub(super) fn room(&self) -> u64 {
        self.lock().room.unwrap_or(0)
    }

    /// Returns the name of the limit, if the budget was exceeded.
    pub(super) fn over(&self) -> Option<&'static str> {
        if self.lock().room.is_none() { Some("host_call_bytes") } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, Output> {
        self.0.lock()
    }

    fn push(&self, bytes: &[u8]) {
        let kept = &mut self.lock().kept;
        kept.extend(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        let over = kept.len().saturating_sub(TAIL_BYTES);
        kept.drain(..over);
    }
}

impl IsTerminal for Tail {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Tail {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only used by WASI 0.3, which is not linked.
        Box::new(tokio::io::sink())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Tail {
    async fn ready(&mut self) {}
}

impl OutputStream for Tail {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.push(&bytes);
        if self.count(bytes.len()) { Ok(()) } else { Err(StreamError::Trap(wasmtime::Error::msg("over budget"))) }
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

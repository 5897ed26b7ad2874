//! Open connections: their timeouts, and the choice of a connection to close when there are too many.
//!
//! # Guarantees
//! - There are at most `connections_max` connections. A new one is admitted if another one can be closed, and that is always
//!   possible: the connections that cannot be closed ([`Activity::secure`]) are bounded by shares below the maximum.
//! - To make room, the client with the most connections loses the one that has used the largest part of its timeout. A connection
//!   whose request is being answered comes last. Clients with at most a [`FEW_DIVISOR`]th of all connections count alike, so that among a
//!   thousand clients with one connection each, a client with two requests has no disadvantage.
//! - A connection that does not complete a head, that is idle, or that takes its answer more slowly than [`SLOWEST_BYTES_PER_S`],
//!   is closed after its timeout.
//! - An idle connection ends in two steps (RFC 9112 §9.6): the host ends its sending direction, and reads for [`LINGER`] longer. A
//!   request that was sent before the client could know of the end is still handled, and an event in it is accepted.
//!
//! # Limits
//! Behind a proxy, the client is the one that the proxy named in the connection's last request. The timeout of a request's body is
//! enforced by its reader (`body.rs`). The duration of handlers is not bounded here.

use crate::clock;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Minimum rate of a body in either direction. A slower body is stalled. A bad mobile connection is five times as fast.
pub(super) const SLOWEST_BYTES_PER_S: u64 = 1_024;

/// Duration for which an idle connection is read after the host has ended its sending direction. Longer than a request and the end
/// take to cross on any network.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// Divisor of all connections up to which a client does not have more than others.
const FEW_DIVISOR: usize = 64;

/// Returns the address by which a client is counted. An IPv6 client has a network of 2^64 addresses.
pub(super) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        IpAddr::V4(address) => address.into(),
    }
}

/// Number of bytes that moved in a span of time. A new span begins when it has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    since: Instant,
    last: Instant,
    bytes: u64,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        Progress { since: now, last: now, bytes: 0 }
    }

    pub(super) fn note(&mut self, bytes: usize, now: Instant) {
        self.last = now;
        self.bytes += bytes as u64;
    }

    /// Returns the end of the current span.
    pub(super) fn end(&self, span: Duration) -> Instant {
        self.since + span
    }

    /// Returns true if fewer bytes than [`SLOWEST_BYTES_PER_S`] allows moved in a span that has ended.
    pub(super) fn is_stalled(&mut self, now: Instant, span: Duration) -> bool {
        if now < self.end(span) {
            return false;
        }
        let is_slow = (self.bytes as f64) < span.as_secs_f64() * SLOWEST_BYTES_PER_S as f64;
        *self = Progress::new(now);
        is_slow
    }
}

/// Timeouts after which a connection that keeps the host waiting may be closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionTimeouts {
    /// Duration of a request's head, from its first byte (of the first request: from the start of the connection).
    pub(super) head: Duration,
    /// Duration between an answer and the next request.
    pub(super) idle: Duration,
    /// Duration without progress of a body.
    pub(super) stall: Duration,
}

/// Phase of a connection, between two requests or within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionPhase {
    /// The head of a request is incomplete, or the first one has not begun.
    Head,
    /// The body of a request is incomplete.
    Body,
    /// A handler has the request.
    Handling,
    /// The answer is complete, but has not been written.
    Answered,
    /// The next request has not begun.
    Idle,
    /// The host has ended its sending direction, and reads what the client may have sent before it knew.
    Ending,
}

/// Record of a connection, updated by its socket and its requests.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<ConnectionState>,
    closing: Notify,
    ending: Notify,
}

#[derive(Debug)]
struct ConnectionState {
    phase: ConnectionPhase,
    /// Beginning of the phase. In [`ConnectionPhase::Body`], the time of the last byte.
    since: Instant,
    /// Bytes written since the peer last did not take everything at once. None: the peer has taken everything.
    blocked: Option<Progress>,
    is_secured: bool,
    /// True once the sending direction has ended, even for answers.
    is_ending: bool,
    client: IpAddr,
}

impl Activity {
    pub(super) fn new(peer: IpAddr, now: Instant) -> Self {
        let state = ConnectionState {
            phase: ConnectionPhase::Head,
            since: now,
            blocked: None,
            is_secured: false,
            is_ending: false,
            client: client_of(peer),
        };
        Activity { state: Mutex::new(state), closing: Notify::new(), ending: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionState> {
        self.state.lock()
    }

    /// Records received bytes.
    pub(super) fn received(&self, bytes: usize) {
        let mut state = self.lock();
        match state.phase {
            ConnectionPhase::Idle | ConnectionPhase::Ending if bytes > 0 => state.enter(ConnectionPhase::Head),
            ConnectionPhase::Body if bytes > 0 => state.since = clock::instant(),
            _ => {}
        }
    }

    /// Records bytes that the peer has taken.
    pub(super) fn sent(&self, bytes: usize) {
        if let Some(blocked) = &mut self.lock().blocked {
            blocked.note(bytes, clock::instant());
        }
    }

    /// Records that the peer takes nothing at present.
    pub(super) fn cannot_send(&self) {
        self.lock().blocked.get_or_insert_with(|| Progress::new(clock::instant()));
    }

    /// Records that everything is sent.
    pub(super) fn sent_all(&self) {
        let mut state = self.lock();
        state.blocked = None;
        if state.phase == ConnectionPhase::Answered {
            let next = if state.is_ending { ConnectionPhase::Ending } else { ConnectionPhase::Idle };
            state.enter(next);
        }
    }

    /// Records that a handler runs, with a new request or after reading a body.
    pub(super) fn handling(&self) {
        self.lock().enter(ConnectionPhase::Handling);
    }

    /// Records that a handler waits for the body.
    pub(super) fn awaits_body(&self) {
        self.lock().enter(ConnectionPhase::Body);
    }

    /// Records that the answer has ended. Its request holds no share any more.
    pub(super) fn answered(&self) {
        let mut state = self.lock();
        state.is_secured = false;
        state.enter(ConnectionPhase::Answered);
    }

    /// Protects the connection from being closed to make room, until its answer has ended, because its request holds a share.
    pub(super) fn secure(&self) {
        self.lock().is_secured = true;
    }

    /// Records the client of the present request.
    pub(super) fn serves(&self, client: IpAddr) {
        self.lock().client = client;
    }

    /// Waits until the timeout of the idle connection.
    pub(super) async fn idle_time_over(&self) {
        self.ending.notified().await;
    }

    /// Ends the sending direction if the connection is still idle. Returns true if it has ended.
    pub(super) fn begin_end(&self) -> bool {
        let mut state = self.lock();
        let is_idle = state.phase == ConnectionPhase::Idle;
        if is_idle {
            state.is_ending = true;
            state.enter(ConnectionPhase::Ending);
        }
        is_idle
    }

    /// Waits until the connection should be closed.
    pub(super) async fn closed(&self) {
        self.closing.notified().await;
    }

    fn close(&self) {
        self.closing.notify_one();
    }
}

impl ConnectionState {
    fn enter(&mut self, phase: ConnectionPhase) {
        self.phase = phase;
        self.since = clock::instant();
    }

    /// Returns the used part of the connection's timeout; 1 or more if all of it. None: the connection cannot be closed to make
    /// room.
    fn used_up(&self, now: Instant, timeouts: ConnectionTimeouts) -> Option<f64> {
        if self.is_secured {
            return None;
        }
        let (since, allowed) = match (&self.blocked, self.phase) {
            (Some(blocked), _) => (blocked.last, timeouts.stall),
            (None, ConnectionPhase::Head) => (self.since, timeouts.head),
            (None, ConnectionPhase::Body) => (self.since, timeouts.stall),
            (None, ConnectionPhase::Idle) => (self.since, timeouts.idle),
            (None, ConnectionPhase::Ending) => (self.since, LINGER),
            (None, ConnectionPhase::Handling | ConnectionPhase::Answered) => return Some(0.0),
        };
        Some(now.saturating_duration_since(since).as_secs_f64() / allowed.as_secs_f64())
    }

    fn is_idle_too_long(&self, now: Instant, timeouts: ConnectionTimeouts) -> bool {
        self.phase == ConnectionPhase::Idle && self.blocked.is_none() && now >= self.since + timeouts.idle
    }

    fn is_overdue(&mut self, now: Instant, timeouts: ConnectionTimeouts) -> bool {
        if let Some(blocked) = &mut self.blocked {
            return blocked.is_stalled(now, timeouts.stall);
        }
        match self.phase {
            ConnectionPhase::Head => now >= self.since + timeouts.head,
            ConnectionPhase::Ending => now >= self.since + LINGER,
            ConnectionPhase::Idle | ConnectionPhase::Body | ConnectionPhase::Handling | ConnectionPhase::Answered => {
                false
            }
        }
    }
}

/// All open connections.
#[derive(Debug)]
pub(super) struct Connections {
    open: Mutex<HashMap<u64, Arc<Activity>>>,
    ids: AtomicU64,
    max: usize,
    timeouts: ConnectionTimeouts,
}

impl Connections {
    pub(super) fn new(max: usize, timeouts: ConnectionTimeouts) -> Arc<Self> {
        Arc::new(Connections { open: Mutex::default(), ids: AtomicU64::new(0), max, timeouts })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Activity>>> {
        self.open.lock()
    }

    /// Admits a connection, if necessary in place of another one. None: no other connection can be closed.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<OpenConnection> {
        let now = clock::instant();
        let is_full = self.lock().len() >= self.max;
        if is_full && !self.make_room(now) {
            return None;
        }
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let activity = Arc::new(Activity::new(peer, now));
        self.lock().insert(id, activity.clone());
        Some(OpenConnection { connections: self.clone(), id, activity })
    }

    /// Closes the connection that has used the largest part of its timeout, of the client with the most connections. Returns false
    /// if none can be closed.
    pub(super) fn make_room(&self, now: Instant) -> bool {
        let mut open = self.lock();
        let candidate = |(id, activity): (&u64, &Arc<Activity>)| {
            let state = activity.lock();
            state.used_up(now, self.timeouts).map(|used_up| (state.client, used_up, *id))
        };
        let candidates: Vec<(IpAddr, f64, u64)> = open.iter().filter_map(candidate).collect();
        let mut of_client: HashMap<IpAddr, usize> = HashMap::new();
        candidates.iter().for_each(|(client, ..)| *of_client.entry(*client).or_default() += 1);
        let few = self.max / FEW_DIVISOR;
        let most = of_client.values().max().copied().unwrap_or_default();
        let of_the_largest = candidates.iter().filter(|(client, ..)| most <= few || of_client[client] == most);
        let chosen = of_the_largest.max_by(|one, other| one.1.total_cmp(&other.1).then(other.2.cmp(&one.2)));
        let closed = chosen.and_then(|(_, _, id)| open.remove(id));
        closed.inspect(|activity| activity.close()).is_some()
    }

    /// Closes connections after their timeout, and begins the end of those that were idle for too long.
    pub(super) fn close_overdue(&self, now: Instant) {
        self.lock().retain(|_, activity| {
            if activity.lock().is_idle_too_long(now, self.timeouts) {
                activity.ending.notify_one();
            }
            let is_overdue = activity.lock().is_overdue(now, self.timeouts);
            if is_overdue {
                activity.close();
            }
            !is_overdue
        });
    }
}

/// Membership of an open connection, until it is dropped.
#[derive(Debug)]
pub(super) struct OpenConnection {
    connections: Arc<Connections>,
    id: u64,
    pub(super) activity: Arc<Activity>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests;

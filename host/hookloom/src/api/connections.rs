//! The open connections: how long each may keep the host waiting, and which one is closed when there are too many.
//!
//! # Guarantees
//! - There are at most `connections_max` connections, and a new one is let in as long as one of the others can be closed.
//!   That is always so: connections that nobody may close ([`Activity::secure`]) are bounded by shares below the maximum.
//! - When there is no room, the client with the most connections loses one: the one that has used up the largest part of
//!   the time that it may keep the host waiting. A connection whose request is being answered comes last. Clients with no
//!   more than a [`FEW`]th of the connections count alike: if each of a thousand strangers holds one, a client that sends
//!   two requests at once is not the one that has too many.
//! - A connection that does not complete a head, that is idle, or that takes its answer more slowly than
//!   [`SLOWEST_BYTES_PER_S`], is closed when its time is over.
//! - An idle connection ends in two steps (RFC 9112 §9.6): the host says that it sends no more, and reads on for
//!   [`LINGER`]. A request that was sent before its client could know is still handled: an event in it is accepted.
//!
//! # Limits
//! Behind a proxy the client is the one that the proxy named in the connection's last request. The deadline of a request's
//! body is the reader's affair (`body.rs`), and nothing here bounds how long a handler takes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A body that moves more slowly than this, either way, counts as stalled. A bad mobile connection is five times as fast.
pub(super) const SLOWEST_BYTES_PER_S: u64 = 1_024;

/// Time for which an idle connection is read on after the host has said that it sends no more: longer than a request and the
/// news of the end take to cross, on any network.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// Part of all connections, as a divisor, up to which a client does not have more than others.
const FEW: usize = 64;

/// The address by which a client is counted: an IPv6 client has a network of 2^64 addresses to itself.
pub(super) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        IpAddr::V4(address) => address.into(),
    }
}

/// Number of bytes moved in a span of time; a new span begins when it has ended.
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

    /// The end of the current span.
    pub(super) fn end(&self, span: Duration) -> Instant {
        self.since + span
    }

    /// Returns true if a span has ended in which less moved than [`SLOWEST_BYTES_PER_S`].
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
pub(super) struct Patience {
    /// From the first byte of a request's head (for the first request: from the connection's begin) to its end.
    pub(super) head: Duration,
    /// From an answer to the next request.
    pub(super) idle: Duration,
    /// With a body that stalls.
    pub(super) stall: Duration,
}

/// The state of a connection between two requests and within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionPhase {
    /// The head of a request is awaited: the first one, or one that has begun.
    Head,
    /// The rest of a request's body is awaited.
    Body,
    /// A handler has the request.
    Handling,
    /// The answer is complete, but not yet written.
    Answered,
    /// The next request may come.
    Idle,
    /// The host sends no more, and reads what may have been sent before the client knew.
    Ending,
}

/// The record of one connection, kept by its socket and by its requests.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<ConnectionState>,
    closing: Notify,
    ending: Notify,
}

#[derive(Debug)]
struct ConnectionState {
    phase: ConnectionPhase,
    /// The begin of the phase; in [`ConnectionPhase::Body`] the time of the last byte.
    since: Instant,
    /// Bytes written since the peer last failed to take everything at once. None: the peer has taken everything.
    blocked: Option<Progress>,
    is_secured: bool,
    /// True once nothing more is sent, not even an answer.
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes bytes that came.
    pub(super) fn received(&self, bytes: usize) {
        let mut state = self.lock();
        match state.phase {
            ConnectionPhase::Idle | ConnectionPhase::Ending if bytes > 0 => state.enter(ConnectionPhase::Head),
            ConnectionPhase::Body if bytes > 0 => state.since = Instant::now(),
            _ => {}
        }
    }

    /// Notes bytes that the peer's side has taken.
    pub(super) fn sent(&self, bytes: usize) {
        if let Some(blocked) = &mut self.lock().blocked {
            blocked.note(bytes, Instant::now());
        }
    }

    /// Notes that the peer's side takes nothing at the moment.
    pub(super) fn cannot_send(&self) {
        self.lock().blocked.get_or_insert_with(|| Progress::new(Instant::now()));
    }

    /// Notes that everything is sent.
    pub(super) fn sent_all(&self) {
        let mut state = self.lock();
        state.blocked = None;
        if state.phase == ConnectionPhase::Answered {
            let next = if state.is_ending { ConnectionPhase::Ending } else { ConnectionPhase::Idle };
            state.enter(next);
        }
    }

    /// Notes that a handler goes on: with a new request, or with a body that it has read.
    pub(super) fn handling(&self) {
        self.lock().enter(ConnectionPhase::Handling);
    }

    /// Notes that a handler waits for the body.
    pub(super) fn awaits_body(&self) {
        self.lock().enter(ConnectionPhase::Body);
    }

    /// Notes that the answer has ended. Its request holds no share any more.
    pub(super) fn answered(&self) {
        let mut state = self.lock();
        state.is_secured = false;
        state.enter(ConnectionPhase::Answered);
    }

    /// Protects the connection from being closed to make room, until its answer has ended: its request holds a share.
    pub(super) fn secure(&self) {
        self.lock().is_secured = true;
    }

    /// Notes for which client the connection is used now.
    pub(super) fn serves(&self, client: IpAddr) {
        self.lock().client = client;
    }

    /// Waits until the idle connection's time is over.
    pub(super) async fn idle_time_over(&self) {
        self.ending.notified().await;
    }

    /// Begins the end of the connection, if it is idle still. Returns whether it does, and nothing more is sent from now on.
    pub(super) fn begin_end(&self) -> bool {
        let mut state = self.lock();
        let is_idle = state.phase == ConnectionPhase::Idle;
        if is_idle {
            state.is_ending = true;
            state.enter(ConnectionPhase::Ending);
        }
        is_idle
    }

    /// Waits until the connection is to be closed.
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
        self.since = Instant::now();
    }

    /// The part of its time that the connection has used up; 1 and more: all of it. None: it may not be closed to make room.
    fn used_up(&self, now: Instant, patience: Patience) -> Option<f64> {
        if self.is_secured {
            return None;
        }
        let (since, allowed) = match (&self.blocked, self.phase) {
            (Some(blocked), _) => (blocked.last, patience.stall),
            (None, ConnectionPhase::Head) => (self.since, patience.head),
            (None, ConnectionPhase::Body) => (self.since, patience.stall),
            (None, ConnectionPhase::Idle) => (self.since, patience.idle),
            (None, ConnectionPhase::Ending) => (self.since, LINGER),
            (None, ConnectionPhase::Handling | ConnectionPhase::Answered) => return Some(0.0),
        };
        Some(now.saturating_duration_since(since).as_secs_f64() / allowed.as_secs_f64())
    }

    fn is_idle_too_long(&self, now: Instant, patience: Patience) -> bool {
        self.phase == ConnectionPhase::Idle && self.blocked.is_none() && now >= self.since + patience.idle
    }

    fn is_overdue(&mut self, now: Instant, patience: Patience) -> bool {
        if let Some(blocked) = &mut self.blocked {
            return blocked.is_stalled(now, patience.stall);
        }
        match self.phase {
            ConnectionPhase::Head => now >= self.since + patience.head,
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
    patience: Patience,
}

impl Connections {
    pub(super) fn new(max: usize, patience: Patience) -> Arc<Self> {
        Arc::new(Connections { open: Mutex::default(), ids: AtomicU64::new(0), max, patience })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Activity>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, if need be in the place of another one. None: none of the others may be closed.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<OpenConnection> {
        let now = Instant::now();
        let is_full = self.lock().len() >= self.max;
        if is_full && !self.make_room(now) {
            return None;
        }
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let activity = Arc::new(Activity::new(peer, now));
        self.lock().insert(id, activity.clone());
        Some(OpenConnection { connections: self.clone(), id, activity })
    }

    /// Closes the connection that can be missed most easily. Returns whether there was one.
    pub(super) fn make_room(&self, now: Instant) -> bool {
        let mut open = self.lock();
        let candidate = |(id, activity): (&u64, &Arc<Activity>)| {
            let state = activity.lock();
            state.used_up(now, self.patience).map(|used_up| (state.client, used_up, *id))
        };
        let candidates: Vec<(IpAddr, f64, u64)> = open.iter().filter_map(candidate).collect();
        let mut of_client: HashMap<IpAddr, usize> = HashMap::new();
        candidates.iter().for_each(|(client, ..)| *of_client.entry(*client).or_default() += 1);
        let few = self.max / FEW;
        let most = of_client.values().max().copied().unwrap_or_default();
        let of_the_largest = candidates.iter().filter(|(client, ..)| most <= few || of_client[client] == most);
        let chosen = of_the_largest.max_by(|one, other| one.1.total_cmp(&other.1).then(other.2.cmp(&one.2)));
        let closed = chosen.and_then(|(_, _, id)| open.remove(id));
        closed.inspect(|activity| activity.close()).is_some()
    }

    /// Closes those whose time is over, and begins the end of those that were idle for too long.
    pub(super) fn close_overdue(&self, now: Instant) {
        self.lock().retain(|_, activity| {
            if activity.lock().is_idle_too_long(now, self.patience) {
                activity.ending.notify_one();
            }
            let is_overdue = activity.lock().is_overdue(now, self.patience);
            if is_overdue {
                activity.close();
            }
            !is_overdue
        });
    }
}

/// The place of a connection, until this is dropped.
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

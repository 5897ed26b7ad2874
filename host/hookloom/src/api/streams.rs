//! Event streams of sessions. A session has a maximum number of streams; a further one ends the oldest.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

/// Hash of a session's cookie.
type SessionHash = [u8; 32];

/// Open event streams of all sessions.
#[derive(Debug)]
pub(super) struct Streams {
    open: Mutex<HashMap<SessionHash, VecDeque<Arc<Notify>>>>,
    per_session_max: usize,
}

impl Streams {
    pub(super) fn new(per_session_max: usize) -> Arc<Self> {
        Arc::new(Streams { open: Mutex::default(), per_session_max })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionHash, VecDeque<Arc<Notify>>>> {
        self.open.lock()
    }

    /// Begins a stream of a session, and ends its oldest one if there are too many.
    pub(super) fn open(self: &Arc<Self>, session: SessionHash) -> OpenStream {
        let displaced = Arc::new(Notify::new());
        let mut open = self.lock();
        let of_session = open.entry(session).or_default();
        of_session.push_back(displaced.clone());
        if of_session.len() > self.per_session_max {
            of_session.pop_front().inspect(|oldest| oldest.notify_one());
        }
        drop(open);
        OpenStream { streams: self.clone(), session, displaced }
    }
}

/// Membership of an event stream in its session, until it is dropped.
#[derive(Debug)]
pub(super) struct OpenStream {
    streams: Arc<Streams>,
    session: SessionHash,
    displaced: Arc<Notify>,
}

impl OpenStream {
    /// Waits until a newer stream of the session displaces this one.
    pub(super) async fn displaced(&self) {
        self.displaced.notified().await;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        if let Some(of_session) = open.get_mut(&self.session) {
            of_session.retain(|one| !Arc::ptr_eq(one, &self.displaced));
            if of_session.is_empty() {
                open.remove(&self.session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn the_oldest_stream_of_a_session_gives_way() {
        let streams = Streams::new(2);
        let of_another = streams.open([2; 32]);
        let first = streams.open([1; 32]);
        let second = streams.open([1; 32]);
        fn is_displaced(stream: &OpenStream) -> bool {
            stream.displaced().now_or_never().is_some()
        }
        assert!(![&of_another, &first, &second].into_iter().any(is_displaced));
        drop(first);
        let third = streams.open([1; 32]);
        assert!(![&of_another, &second, &third].into_iter().any(is_displaced), "one had ended by itself");
        let fourth = streams.open([1; 32]);
        assert!(is_displaced(&second) && ![&of_another, &third, &fourth].into_iter().any(is_displaced));
        drop((of_another, second, third, fourth));
        assert!(streams.lock().is_empty());
    }
}

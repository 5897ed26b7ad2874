//! A connection of HTTP/1 that remembers what hyper does not tell: the head of the answer, and whether a request was read.
//!
//! # Guarantees
//! - The bytes of an answer's head are kept, up to [`HEAD_BYTES_MAX`], so that a status that came counts although hyper
//!   refuses the rest of the head. Hyper gets a head once it is complete: it would refuse a line before the others came.
//! - A write that fails because the receiver closed its end does not end the exchange. What the receiver answered before it
//!   closed is read first (RFC 9112 section 9.5: a client should read what came while it was sending).
//! - [`Exchanges::is_unread`] is true only if the connection had carried an answer before, no byte of an answer to the
//!   last request came, and the receiver's end was reset. A system resets a connection when data arrives after it was closed,
//!   or when it is closed before all data was read; a server that read the request and went away only ends the stream.
//!
//! # Theory of operation
//! HTTP/1 has one request at a time on a connection, so the first write after a complete head begins the next request. At the
//! end of the stream the reset may still be on its way: it follows the request's first segment, one round trip later. So the
//! end is held back for [`RESET_WAITS`] in the one case in which it matters.
//!
//! # Limits
//! Connections of HTTP/2 are passed through; its own frames say which requests were not processed.

use super::connect::HasSocket;
use super::meter::HEAD_BYTES_MAX;
use super::salvage::{self, Salvaged};
use bytes::BytesMut;
use hyper_util::client::legacy::connect::{Connected, Connection};
use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Pauses between looks at a socket whose stream ended before an answer.
const RESET_WAITS: [Duration; 4] =
    [Duration::from_millis(10), Duration::from_millis(40), Duration::from_millis(150), Duration::from_millis(300)];

/// Size of a head for which a connection keeps room, in bytes.
const HEAD_BYTES_USUAL: usize = 4 << 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing was sent yet.
    #[default]
    New,
    /// A request is sent, and no byte of its answer came.
    Waiting,
    /// The head of the answer comes.
    Head,
    /// The head is complete.
    Answered,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// Whether the connection had carried an answer before the last request.
    reused: bool,
    reset: bool,
    /// What came of the head.
    head: Vec<u8>,
}

/// What a connection of HTTP/1 carried last.
#[derive(Debug, Default)]
pub(super) struct Exchanges(Mutex<State>);

impl Exchanges {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::New | Phase::Answered) {
            state.reused = state.phase == Phase::Answered;
            state.phase = Phase::Waiting;
            state.head.clear();
            // A large head is rare, and connections may be many.
            state.head.shrink_to(HEAD_BYTES_USUAL);
        }
    }

    /// Whether the next bytes are those of a head.
    fn expects_head(&self) -> bool {
        matches!(self.lock().phase, Phase::Waiting | Phase::Head)
    }

    /// Notes bytes of a head. Returns whether hyper is to have them now: a message is complete, or the head is too large.
    fn received(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        state.phase = Phase::Head;
        let room = (HEAD_BYTES_MAX as usize).saturating_sub(state.head.len());
        let former = state.head.len();
        state.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let came = state.head.len();
        if salvage::is_complete(&mut state.head, former) {
            state.phase = Phase::Answered;
        }
        state.phase == Phase::Answered || state.head.len() < came || bytes.len() >= room
    }

    /// Notes that the receiver's end was reset.
    fn reset(&self) {
        self.lock().reset = true;
    }

    /// Whether an end of the stream leaves open if the receiver has read the request.
    fn may_be_unread(&self) -> bool {
        let state = self.lock();
        state.phase == Phase::Waiting && state.reused
    }

    /// Whether the receiver cannot have read the last request.
    pub(super) fn is_unread(&self) -> bool {
        self.may_be_unread() && self.lock().reset
    }

    /// Returns the status and those headers that can be read of a complete head.
    pub(super) fn salvage(&self) -> Option<Salvaged> {
        let state = self.lock();
        if state.phase == Phase::Answered { salvage::read(&state.head) } else { None }
    }
}

/// A connection whose exchanges are observed.
pub(super) struct Observed<T> {
    io: T,
    /// None: HTTP/2.
    exchanges: Option<Arc<Exchanges>>,
    /// The receiver takes no more bytes.
    write_failed: bool,
    /// Bytes that hyper has not got yet.
    held: BytesMut,
    /// Whether hyper is to have them before more is read.
    released: bool,
    /// The wait for a reset after the end of the stream: the pause under way, and how many there were.
    held_back: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<T: Connection> Observed<T> {
    pub(super) fn new(io: T) -> Self {
        let exchanges = (!io.connected().is_negotiated_h2()).then(Arc::default);
        Observed { io, exchanges, write_failed: false, held: BytesMut::new(), released: false, held_back: None }
    }
}

fn is_reset(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
}

impl<T: HasSocket> Observed<T> {
    /// Looks for a reset after the end of the stream, several times if need be.
    fn poll_end(&mut self, exchanges: &Exchanges, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if self.write_failed || self.io.socket().take_error().is_ok_and(|error| error.is_some()) {
                exchanges.reset();
                return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
            }
            let (pause, number) =
                self.held_back.get_or_insert_with(|| (Box::pin(tokio::time::sleep(RESET_WAITS[0])), 1));
            ready!(pause.as_mut().poll(context));
            let Some(wait) = RESET_WAITS.get(*number) else { return Poll::Ready(Ok(())) };
            (*pause, *number) = (Box::pin(tokio::time::sleep(*wait)), *number + 1);
        }
    }

    /// Notes what was written. A failure is kept back: reading finds what the receiver said before, or the end.
    fn wrote(&mut self, result: Result<usize, Error>, all: usize) -> Result<usize, Error> {
        let Some(exchanges) = &self.exchanges else { return result };
        match result {
            Ok(bytes) => {
                exchanges.sent();
                Ok(bytes)
            }
            Err(error) if is_reset(&error) => {
                exchanges.sent();
                exchanges.reset();
                self.write_failed = true;
                Ok(all)
            }
            Err(error) => Err(error),
        }
    }
}

impl<T: Connection> Connection for Observed<T> {
    fn connected(&self) -> Connected {
        let connected = self.io.connected();
        match &self.exchanges {
            Some(exchanges) => connected.extra(exchanges.clone()),
            None => connected,
        }
    }
}

impl<T: AsyncRead + HasSocket + Unpin> Observed<T> {
    /// Reads until hyper is to have what came. An error or the end of the stream comes after what came before it.
    fn poll_head(&mut self, exchanges: &Exchanges, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut piece = [0; HEAD_BYTES_USUAL];
        loop {
            let mut came = ReadBuf::new(&mut piece);
            let result = ready!(Pin::new(&mut self.io).poll_read(context, &mut came));
            if let Err(error) = result {
                if is_reset(&error) {
                    exchanges.reset();
                }
                return Poll::Ready(if self.held.is_empty() { Err(error) } else { Ok(()) });
            }
            if came.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(came.filled());
            if exchanges.received(came.filled()) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncRead + HasSocket + Unpin> AsyncRead for Observed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        let Some(exchanges) = self.exchanges.clone() else {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        };
        let expects_head = exchanges.expects_head();
        if !expects_head && self.held.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        if expects_head && !self.released {
            ready!(self.poll_head(&exchanges, context))?;
        }
        if self.held.is_empty() && buffer.remaining() > 0 && exchanges.may_be_unread() {
            return self.poll_end(&exchanges, context);
        }
        let ready = self.held.len().min(buffer.remaining());
        buffer.put_slice(&self.held.split_to(ready));
        self.released = !self.held.is_empty();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + HasSocket + Unpin> AsyncWrite for Observed<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        if self.write_failed {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = ready!(Pin::new(&mut self.io).poll_write(context, bytes));
        Poll::Ready(self.wrote(result, bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.write_failed {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(Pin::new(&mut self.io).poll_flush(context));
        match result {
            Err(error) => Poll::Ready(self.wrote(Err(error), 0).map(|_| ())),
            Ok(()) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        let all = slices.iter().map(|slice| slice.len()).sum();
        if self.write_failed {
            return Poll::Ready(Ok(all));
        }
        let result = ready!(Pin::new(&mut self.io).poll_write_vectored(context, slices));
        Poll::Ready(self.wrote(result, all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    #[test]
    fn only_a_reused_connection_without_an_answer_can_be_unread() {
        let exchanges = Exchanges::default();
        exchanges.sent();
        exchanges.reset();
        assert!(!exchanges.is_unread(), "a fresh connection may have been closed because of the request");
        let exchanges = Exchanges::default();
        exchanges.sent();
        exchanges.received(HEAD);
        exchanges.sent();
        assert!(!exchanges.is_unread(), "the end of the stream alone says nothing");
        exchanges.reset();
        assert!(exchanges.is_unread());
        exchanges.received(b"H");
        assert!(!exchanges.is_unread(), "it answers, so it has read");
    }

    #[test]
    fn interim_responses_and_early_answers_belong_to_their_request() {
        let exchanges = Exchanges::default();
        exchanges.sent();
        assert!(!exchanges.received(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n"));
        assert!(exchanges.received(b"\r\nHTTP/1.1 "), "hyper counts interim responses");
        exchanges.sent();
        assert_eq!(exchanges.salvage().map(|salvaged| salvaged.status), None);
        assert!(!exchanges.received(b"413 Too Large\r\nX :\x01\r\n"));
        assert!(exchanges.received(b"\r\n"));
        assert_eq!(exchanges.salvage().map(|salvaged| salvaged.status), Some(413));
        exchanges.sent();
        assert!(exchanges.salvage().is_none() && exchanges.may_be_unread());
    }

    #[test]
    fn a_head_is_kept_up_to_its_limit() {
        let exchanges = Exchanges::default();
        exchanges.sent();
        exchanges.received(b"HTTP/1.1 200 OK\r\n");
        let released = (0..1_000).filter(|_| exchanges.received(&b"x: y\r\n".repeat(100))).count();
        assert!(released > 800, "hyper gets what is too large");
        assert_eq!(exchanges.lock().head.len(), HEAD_BYTES_MAX as usize);
        exchanges.received(b"\r\n");
        assert!(exchanges.salvage().is_none(), "a head without an end is no answer");
    }
}

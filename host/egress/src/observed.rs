//! Connection wrapper for HTTP/1 that records what hyper does not report: the head of the response, and whether a request was read.
//!
//! # Guarantees
//! - The bytes of a response head are kept, up to [`HEAD_BYTES_MAX`], so that its status counts even if hyper rejects the rest of the
//!   head. Hyper gets a head when it is complete, because it would reject a malformed line before the next ones arrive.
//! - A write that fails because the receiver closed its end does not end the exchange. The response that the receiver sent before is
//!   read first (RFC 9112 section 9.5).
//! - [`Exchanges::is_unread`] is true only if the connection had carried a response before, no byte of a response to the last request
//!   arrived, and the receiver's end was reset. A system resets a connection when data arrives after a close, or when the connection
//!   is closed before all data was read; a server that read the request and ended only closes the stream.
//!
//! # Theory of operation
//! HTTP/1 has one request at a time on a connection, so the first write after a complete head begins the next request. At the
//! end of the stream the reset may still be in transit: it follows the request's first segment, one round trip later. So the end of
//! the stream is held back for [`RESET_WAITS`] in the one case in which it matters.
//!
//! # Limits
//! HTTP/2 connections are passed through: the frames of HTTP/2 say which requests were not processed.

use super::meter::HEAD_BYTES_MAX;
use super::salvage::{self, Salvaged};
use super::socket::HasSocket;
use bytes::BytesMut;
use hyper_util::client::legacy::connect::{Connected, Connection};
use parking_lot::{Mutex, MutexGuard};
use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Pauses between checks of a socket whose stream ended before a response.
const RESET_WAITS: [Duration; 4] =
    [Duration::from_millis(10), Duration::from_millis(40), Duration::from_millis(150), Duration::from_millis(300)];

/// Capacity that a connection keeps for heads, in bytes.
const HEAD_BYTES_USUAL: usize = 4 << 10;

/// Progress of the last exchange on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ExchangePhase {
    /// No request was sent yet.
    #[default]
    New,
    /// A request was sent, and no byte of its response arrived.
    Waiting,
    /// A part of the head arrived.
    Head,
    /// The head is complete.
    Answered,
}

#[derive(Debug, Default)]
struct ExchangeState {
    phase: ExchangePhase,
    /// Set when the connection had carried a response before the last request.
    reused: bool,
    reset: bool,
    /// Bytes of the head that arrived.
    head: Vec<u8>,
}

/// State of the last exchange on an HTTP/1 connection.
#[derive(Debug, Default)]
pub(super) struct Exchanges(Mutex<ExchangeState>);

impl Exchanges {
    fn lock(&self) -> MutexGuard<'_, ExchangeState> {
        self.0.lock()
    }

    fn sent(&self) {
        let mut state = self.lock();
        if matches!(state.phase, ExchangePhase::New | ExchangePhase::Answered) {
            state.reused = state.phase == ExchangePhase::Answered;
            state.phase = ExchangePhase::Waiting;
            state.head.clear();
            // Large heads are rare, and there may be many connections.
            state.head.shrink_to(HEAD_BYTES_USUAL);
        }
    }

    /// Returns whether the next bytes belong to a head.
    fn expects_head(&self) -> bool {
        matches!(self.lock().phase, ExchangePhase::Waiting | ExchangePhase::Head)
    }

    /// Records bytes of a head. Returns whether to pass them to hyper now: a message is complete, or the head is too large.
    fn received(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        state.phase = ExchangePhase::Head;
        let room = (HEAD_BYTES_MAX as usize).saturating_sub(state.head.len());
        let looked_at = state.head.len();
        state.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let received = state.head.len();
        if salvage::is_complete(&mut state.head, looked_at) {
            state.phase = ExchangePhase::Answered;
        }
        state.phase == ExchangePhase::Answered || state.head.len() < received || bytes.len() >= room
    }

    /// Records that the receiver's end was reset.
    fn reset(&self) {
        self.lock().reset = true;
    }

    /// Returns whether it is unknown, at the end of the stream, if the receiver has read the request.
    fn may_be_unread(&self) -> bool {
        let state = self.lock();
        state.phase == ExchangePhase::Waiting && state.reused
    }

    /// Returns whether the receiver cannot have read the last request.
    pub(super) fn is_unread(&self) -> bool {
        self.may_be_unread() && self.lock().reset
    }

    /// Returns the status and the readable headers of a complete head.
    pub(super) fn salvage(&self) -> Option<Salvaged> {
        let state = self.lock();
        if state.phase == ExchangePhase::Answered { salvage::read(&state.head) } else { None }
    }
}

/// Connection whose exchanges are observed.
pub(super) struct Observed<T> {
    io: T,
    /// State of the exchanges. None: HTTP/2.
    exchanges: Option<Arc<Exchanges>>,
    /// Set when the receiver accepts no more bytes.
    write_failed: bool,
    /// Bytes that were not passed to hyper yet.
    held: BytesMut,
    /// Set when hyper gets these bytes before more is read.
    released: bool,
    /// Wait for a reset after the end of the stream: the current pause, and the number of pauses so far.
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
    /// Checks for a reset after the end of the stream, several times if necessary.
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
            *pause = Box::pin(tokio::time::sleep(*wait));
            *number += 1;
        }
    }

    /// Records the result of a write. Hides a reset: the next read returns the response that the receiver sent before, or the end.
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
    /// Reads until the received bytes are to be passed to hyper. An error or the end of the stream follows the bytes before it.
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

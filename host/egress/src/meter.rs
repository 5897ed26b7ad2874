//! Limit on the bytes that a receiver can make this host read.
//!
//! # Guarantees
//! - A connection reads at most [`CONNECTION_BYTES`] and the grants of its requests under way. The unused grant of a request ends with
//!   the request. Beyond this limit reading fails, and the connection ends.
//! - More than [`INTERIM_MAX`] interim (1xx) responses to a request also end the connection.
//!
//! Bytes are counted at the socket, below TLS. So one limit covers all floods: interim
//! responses, header lines, chunk extensions, trailers, chunks of one byte, TLS records without content, and the frames of
//! HTTP/2 that carry no answer (PING, SETTINGS, WINDOW_UPDATE, CONTINUATION, empty DATA).
//!
//! # Limits
//! Requests on one connection of HTTP/2 share their grants.

use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection};
use parking_lot::{Mutex, MutexGuard};
use std::io::{Error, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that a connection reads in addition to the grants of its requests: certificates, settings, and data in transit when a request
/// ends.
const CONNECTION_BYTES: i64 = 256 << 10;

/// Maximum size of a response's head, in bytes.
pub(super) const HEAD_BYTES_MAX: u32 = 64 << 10;

/// Receive window of an HTTP/2 stream, in bytes: the maximum in transit when a request ends.
pub(super) const STREAM_WINDOW_BYTES: u32 = 64 << 10;

/// Maximum number of interim responses to a request. RFC 9110 section 15.2 allows any number; servers send one or two.
const INTERIM_MAX: u32 = 16;

/// Limit that a receiver exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Excess {
    /// More bytes than were granted.
    #[error("the receiver sent more bytes than any answer needs")]
    Bytes,
    /// More than [`INTERIM_MAX`] interim responses.
    #[error("the receiver sent more than {INTERIM_MAX} interim (1xx) responses")]
    Interim,
}

#[derive(Debug)]
struct Allowance {
    /// Set when the connection has ended.
    ended: bool,
    /// Bytes that may still be read.
    left: i64,
    /// Sum of the grants of the requests under way.
    granted: i64,
    excess: Option<Excess>,
}

/// Byte counter of one connection.
#[derive(Debug)]
pub(super) struct Meter(Mutex<Allowance>);

impl Meter {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Meter(Mutex::new(Allowance { ended: false, left: CONNECTION_BYTES, granted: 0, excess: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Allowance> {
        self.0.lock()
    }

    fn count(&self, bytes: usize) -> Result<(), Excess> {
        let mut allowance = self.lock();
        allowance.left = allowance.left.saturating_sub_unsigned(bytes as u64);
        if allowance.left < 0 {
            allowance.excess.get_or_insert(Excess::Bytes);
        }
        allowance.excess.map_or(Ok(()), Err)
    }

    fn fail(&self, excess: Excess) {
        self.lock().excess.get_or_insert(excess);
    }

    /// Returns the meter of a connection, once the client has one for the request.
    fn of(connection: &CaptureConnection) -> Option<Arc<Self>> {
        let mut extensions = http::Extensions::new();
        connection.connection_metadata().as_ref()?.get_extras(&mut extensions);
        extensions.remove()
    }
}

/// Connection that the client has chosen for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    /// None yet.
    Unknown,
    Open,
    /// The socket is closed.
    Ended,
}

impl ConnectionState {
    pub(super) fn of(connection: &CaptureConnection) -> Self {
        match Meter::of(connection) {
            None => ConnectionState::Unknown,
            Some(meter) if meter.lock().ended => ConnectionState::Ended,
            Some(_) => ConnectionState::Open,
        }
    }
}

/// Bytes that one request may read on its connection. Withdrawn on drop.
struct Grant {
    meter: Arc<Meter>,
    bytes: i64,
}

impl Grant {
    fn new(meter: Arc<Meter>, bytes: i64) -> Self {
        let mut allowance = meter.lock();
        allowance.granted = allowance.granted.saturating_add(bytes);
        allowance.left = allowance.left.saturating_add(bytes);
        drop(allowance);
        Grant { meter, bytes }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let mut allowance = self.meter.lock();
        allowance.granted -= self.bytes;
        allowance.left = allowance.left.min(allowance.granted.saturating_add(CONNECTION_BYTES));
    }
}

/// Counter of interim responses, which runs on the task of the connection.
#[derive(Default)]
struct InterimCounter {
    count: AtomicU32,
    meter: OnceLock<Arc<Meter>>,
}

/// Meter of one request: grants bytes to its connection once that is known, and counts interim responses.
pub(super) struct RequestMeter {
    bytes: i64,
    connection: CaptureConnection,
    interim: Arc<InterimCounter>,
    grant: Option<Grant>,
}

impl RequestMeter {
    /// Attaches a meter to a request. `body_bytes_max`: maximum size of the answer's body that is read.
    pub(super) fn new<B>(request: &mut http::Request<B>, body_bytes_max: usize) -> Self {
        // Chunks of a few bytes take up to four times the size of their data.
        let body = i64::try_from(body_bytes_max).unwrap_or(i64::MAX).saturating_mul(4);
        let bytes = body.saturating_add(i64::from(HEAD_BYTES_MAX) + i64::from(STREAM_WINDOW_BYTES));
        let interim = Arc::new(InterimCounter::default());
        let counted = interim.clone();
        hyper::ext::on_informational(request, move |_| {
            if counted.count.fetch_add(1, Ordering::Relaxed) >= INTERIM_MAX
                && let Some(meter) = counted.meter.get()
            {
                meter.fail(Excess::Interim);
            }
        });
        let connection = hyper_util::client::legacy::connect::capture_connection(request);
        RequestMeter { bytes, connection, interim, grant: None }
    }

    /// Returns the connection of the request, once that is known. A request has only one such handle.
    pub(super) fn connection(&self) -> &CaptureConnection {
        &self.connection
    }

    /// Grants the request's bytes to its connection, once that is known.
    pub(super) fn grant(&mut self) {
        if self.grant.is_none()
            && let Some(meter) = Meter::of(&self.connection)
        {
            let _ = self.interim.meter.set(meter.clone());
            self.grant = Some(Grant::new(meter, self.bytes));
        }
    }

    /// Returns the limit that the receiver exceeded, if any.
    pub(super) fn excess(&self) -> Option<Excess> {
        self.grant.as_ref().and_then(|grant| grant.meter.lock().excess)
    }
}

/// Socket whose reads are counted.
pub(super) struct Metered<T> {
    io: T,
    meter: Arc<Meter>,
}

impl<T> Metered<T> {
    pub(super) fn new(io: T) -> Self {
        Metered { io, meter: Meter::new() }
    }

    pub(super) fn get_ref(&self) -> &T {
        &self.io
    }
}

impl<T> Drop for Metered<T> {
    fn drop(&mut self) {
        self.meter.lock().ended = true;
    }
}

impl<T: Connection> Connection for Metered<T> {
    fn connected(&self) -> Connected {
        self.io.connected().extra(self.meter.clone())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        self.meter.count(0).map_err(Error::other)?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        self.meter.count(buffer.filled().len() - before).map_err(Error::other)?;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.io).poll_flush(context)
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
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[test]
    fn a_connection_reads_what_its_requests_were_granted_and_no_more() {
        let meter = Meter::new();
        assert_eq!(meter.count(200 << 10), Ok(()));
        let grant = Grant::new(meter.clone(), 100 << 10);
        assert_eq!(meter.count(156 << 10), Ok(()));
        assert_eq!(meter.count(1), Err(Excess::Bytes));
        drop(grant);
        assert_eq!(meter.count(0), Err(Excess::Bytes), "once over it, always over it");
    }

    #[test]
    fn unused_turns_are_not_saved() {
        let meter = Meter::new();
        for _ in 0..1_000 {
            drop(Grant::new(meter.clone(), 100 << 10));
        }
        assert_eq!(meter.lock().left, CONNECTION_BYTES);
        let both = [Grant::new(meter.clone(), 10), Grant::new(meter.clone(), 20)];
        assert_eq!(meter.count(256 << 10), Ok(()));
        drop(both);
        assert_eq!(meter.lock().left, 30);
        assert_eq!(meter.lock().granted, 0);
    }

    #[tokio::test]
    async fn a_read_fails_once_a_limit_is_passed() {
        let mut io = Metered::new(tokio::io::repeat(b'x'));
        let mut piece = vec![0; 64 << 10];
        for _ in 0..4 {
            assert!(io.read_exact(&mut piece).await.is_ok());
        }
        let error = io.read_exact(&mut piece).await.expect_err("over the limit");
        assert_eq!(error.to_string(), Excess::Bytes.to_string());
        let mut io = Metered::new(tokio::io::repeat(b'x'));
        io.meter.fail(Excess::Interim);
        assert!(io.read(&mut piece).await.expect_err("failed").to_string().contains("16 interim (1xx) responses"));
    }
}

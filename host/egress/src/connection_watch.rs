//! Watch over the connection of a request, because the client's pool can lose a request.
//!
//! If several requests connect at the same time and the receiver chooses HTTP/2, the pool keeps one connection and lets the other
//! requests wait for it. If that connection ends before a request got it, the request waits until another request connects, which
//! may be never (hyper-util 0.1, `client/legacy/client.rs`, `one_connection_for`). Such a request was not sent: its own connect has
//! ended, and it has no connection.

use super::timing;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::CaptureConnection;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// Time after the end of its own connect in which a request gets a connection, if the pool has not lost it: a handshake of HTTP/2
/// is one write.
const ASSIGN_MAX: Duration = Duration::from_secs(1);

/// Watch over one request.
pub(super) struct ConnectionWatch {
    connection: CaptureConnection,
    /// Number of connects that had ended before the request.
    connects: u32,
    /// Only TLS negotiates HTTP/2.
    may_be_http2: bool,
}

impl ConnectionWatch {
    pub(super) fn new<B>(request: &http::Request<B>, connection: CaptureConnection) -> Self {
        let may_be_http2 = request.uri().scheme() == Some(&Scheme::HTTPS);
        ConnectionWatch { connection, connects: timing::connects(), may_be_http2 }
    }

    /// Returns when the pool has lost the request. Must be polled by the task of the request, after it.
    pub(super) async fn lost(self) {
        // The end of a connect wakes the task, which then polls this.
        let has_connected = || self.may_be_http2 && timing::connects() > self.connects;
        poll_fn(|_| if has_connected() { Poll::Ready(()) } else { Poll::Pending }).await;
        tokio::time::sleep(ASSIGN_MAX).await;
        if self.connection.connection_metadata().is_some() {
            std::future::pending::<()>().await;
        }
    }
}

//! Watch over the connection of a request, because the client can lose a request.
//!
//! A lost request was not sent, and would wait for its whole timeout:
//! - If several requests connect at the same time and the receiver chooses HTTP/2, the pool keeps one connection and lets the other
//!   requests wait for it. If that connection ends before a request got it, the request waits until another request connects, which
//!   may be never (hyper-util 0.1, `client/legacy/client.rs`, `one_connection_for`).
//! - A request that is passed to the task of its connection just when that task ends can stay in the channel between them: the
//!   receiving half skips a message that is being written while it is dropped (tokio 1, `sync/mpsc/chan.rs`, `Drop for Rx`), and the
//!   waiting request itself keeps the channel alive.
//!
//! A request that was sent fails as soon as its connection ends.

use super::meter::ConnectionState;
use super::timing;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::CaptureConnection;
use std::time::Duration;

/// Pause between two checks of a request. A request that is lost at two checks is lost for good: to get a connection after a connect
/// takes one write (the handshake of HTTP/2), and to fail after the end of a connection takes none.
const CHECK_EVERY: Duration = Duration::from_secs(1);

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

    /// Returns when the client has lost the request. Must be polled by the task of the request, after it.
    pub(super) async fn lost(self) {
        let mut was_lost = false;
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            let is_lost = self.is_lost();
            if is_lost && was_lost {
                return;
            }
            was_lost = is_lost;
        }
    }

    /// Returns whether the request has neither a connection, nor a connect of its own under way.
    fn is_lost(&self) -> bool {
        match ConnectionState::of(&self.connection) {
            ConnectionState::Unknown => self.may_be_http2 && timing::connects() > self.connects,
            ConnectionState::Open => false,
            ConnectionState::Ended => true,
        }
    }
}

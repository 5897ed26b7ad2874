//! Accept loop: passes connections to the router, with bounds for their number and their duration.
//!
//! Every connection is accepted at once, so that no client waits in the kernel. If there are too many connections, another one is
//! closed (`connections.rs`). Behind a proxy, peers outside of the proxy's ranges are disconnected before a byte is read.

use super::connections::{ConnectionTimeouts, Connections, OpenConnection};
use super::peer::Connection;
use super::socket::ClientSocket;
use super::vendor::VENDOR_PATH;
use super::{public_path, refused_body};
use crate::clock;
use crate::config::Config;
use crate::url_path::PublicUrl;
use axum::Router;
use axum::response::{IntoResponse as _, Response};
use futures_util::future::Either;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use ipnet::IpNet;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Interval at which timeouts of connections are checked.
const TIMEOUT_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Maximum size of the head of a request, in bytes. All connections may begin one at once.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Size of the kernel's send buffer of a connection, in bytes. The kernel accepts more only after a third of the buffer was sent.
/// With the largest buffer (4 MiB), that would look like a stall of minutes at a slow peer.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Time after which the kernel gives up a peer that is gone or reads nothing (tcp(7), `TCP_USER_TIMEOUT`), in milliseconds.
const TCP_USER_TIMEOUT_MS: u32 = 120_000;

/// Time for which the host waits for the next request longer than it announces (`Keep-Alive: timeout=…`), so that a request at the
/// last moment arrives in time.
const IDLE_GRACE: Duration = Duration::from_secs(2);

/// Pause after a failed `accept`, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Time for requests under way at a stop. Attempts have a separate, longer period.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Serves until `stop` gets a message or is dropped. Then completes requests under way, for at most [`STOP_GRACE`].
pub async fn listen(listener: TcpListener, router: Router, config: Config, mut stop: oneshot::Receiver<()>) {
    let timeouts = ConnectionTimeouts {
        head: Duration::from_secs(config.head_timeout_s),
        idle: Duration::from_secs(config.idle_timeout_s) + IDLE_GRACE,
        stall: Duration::from_secs(config.stall_timeout_s),
    };
    let connections = Connections::new(config.connections_max, timeouts);
    let prefix: Arc<str> = config.public_url.as_ref().map_or("", PublicUrl::prefix).into();
    let entry = RequestEntry { router, prefix };
    let graceful = GracefulShutdown::new();
    let mut timeout_checks = tokio::time::interval(TIMEOUT_CHECK_INTERVAL);
    loop {
        let accepted = tokio::select! {
            _ = &mut stop => break,
            _ = timeout_checks.tick() => {
                connections.close_overdue(clock::instant());
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) if may_come(peer.ip(), &config.behind_proxy) => match connections.admit(peer.ip()) {
                Some(connection) => serve((stream, peer.ip()), entry.clone(), &graceful, connection),
                None => tracing::warn!(%peer, "connection refused: all connections are in use (connections_max)"),
            },
            Ok((_, peer)) => tracing::warn!(%peer, "connection refused: the peer is not in the ranges of behind_proxy"),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                connections.make_room(clock::instant());
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    let _ = tokio::time::timeout(STOP_GRACE, graceful.shutdown()).await;
}

/// Returns true if a peer may connect. Without a proxy, the socket is on loopback, where everybody may connect.
fn may_come(peer: IpAddr, behind_proxy: &[IpNet]) -> bool {
    let peer = peer.to_canonical();
    behind_proxy.is_empty() || peer.is_loopback() || behind_proxy.iter().any(|range| range.contains(&peer))
}

/// Router, and the processing of requests before it.
#[derive(Clone)]
struct RequestEntry {
    router: Router,
    /// Path prefix of the public address.
    prefix: Arc<str>,
}

fn serve(
    (stream, peer): (TcpStream, IpAddr),
    entry: RequestEntry,
    graceful: &GracefulShutdown,
    connection: OpenConnection,
) {
    // An answer is one small packet, for which Nagle's algorithm would only add a delay.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, TCP_USER_TIMEOUT_MS);
    let activity = connection.activity.clone();
    let socket = ClientSocket::new(stream, activity.clone());
    let end = socket.end();
    let service = service_fn(move |mut request: Request<Incoming>| {
        activity.handling();
        request.extensions_mut().insert(Connection(peer));
        request.extensions_mut().insert(activity.clone());
        public_path::strip(&mut request, &entry.prefix);
        let is_sent_once = request.uri().path().starts_with(VENDOR_PATH);
        let answered = refused_body::answer(entry.router.clone(), request);
        if is_sent_once { Either::Left(outliving(answered)) } else { Either::Right(answered) }
    });
    // Heads and idle connections have timeouts in `connections.rs`.
    let served = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service);
    let served = graceful.watch(served);
    tokio::spawn(async move {
        let mut served = std::pin::pin!(served);
        loop {
            tokio::select! {
                ended = &mut served => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    break;
                }
                // Polling the connection again makes its socket check that it is still idle.
                () = connection.activity.idle_time_over() => end.store(true, Ordering::Relaxed),
                () = connection.activity.closed() => {
                    tracing::debug!(%peer, "a connection was closed: its time was over, or another one needed its place");
                    break;
                }
            }
        }
    });
}

/// Answers a request even if its connection ends meanwhile. hyper drops the handler when it sees the end, even before the handler
/// has begun, so that the event of a client that disconnects at once would be lost.
fn outliving(
    answered: impl Future<Output = Result<Response, Infallible>> + Send + 'static,
) -> impl Future<Output = Result<Response, Infallible>> {
    let task = tokio::spawn(answered);
    async {
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request to an address for Agile CRM could not be handled");
            Ok(StatusCode::INTERNAL_SERVER_ERROR.into_response())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_ranges_hold() {
        let ranges: Vec<IpNet> = vec!["10.0.0.0/8".parse().expect("a range")];
        fn comes(peer: &str, ranges: &[IpNet]) -> bool {
            may_come(peer.parse().expect(peer), ranges)
        }
        assert!(comes("10.1.2.3", &ranges) && comes("::ffff:10.1.2.3", &ranges) && comes("127.0.0.1", &ranges));
        assert!(!comes("192.168.1.1", &ranges) && !comes("::1:1", &ranges));
        assert!(comes("192.168.1.1", &[]));
    }
}

//! The accept loop: connections from sockets to the router, bounded in number and patience.
//!
//! Every connection is accepted at once, so that a client never waits in the kernel behind others: when there are as many as
//! may be, another one is closed (`connections.rs`). Behind a proxy, peers outside the proxy's ranges are turned away
//! before a byte is read.

use super::connections::{Connections, OpenConnection, Patience};
use super::peer::Connection;
use super::socket::ClientSocket;
use super::vendor::VENDOR_PATH;
use super::{public_path, refused_body};
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
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Interval at which connections are looked at whose time may be over.
const LOOK: Duration = Duration::from_millis(250);

/// The largest head of a request, in bytes. Connections may all begin one at once.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Size of the kernel's send buffer of a connection, in bytes. The kernel takes more only after a third of the buffer was sent;
/// with the largest buffer (4 MiB) that would look like a stall of minutes at a slow peer.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Time after which the kernel gives up a peer that is gone or reads nothing (tcp(7), `TCP_USER_TIMEOUT`), in milliseconds.
const GONE_AFTER_MS: u32 = 120_000;

/// Time beyond what it says (`Keep-Alive: timeout=…`) the host waits for the next request, so that one of a client that
/// keeps to it arrives in time.
const IDLE_GRACE: Duration = Duration::from_secs(2);

/// Pause after a failed `accept`, usually for want of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Time that requests under way have to finish at a stop. Attempts have a separate, longer period.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Serves until `stop` is told or dropped; then answers what was asked, for a while.
pub async fn listen(listener: TcpListener, router: Router, config: Config, mut stop: oneshot::Receiver<()>) {
    let patience = Patience {
        head: Duration::from_secs(config.head_timeout_s),
        idle: Duration::from_secs(config.idle_timeout_s) + IDLE_GRACE,
        stall: Duration::from_secs(config.stall_timeout_s),
    };
    let connections = Connections::new(config.connections_max, patience);
    let prefix: Arc<str> = config.public_url.as_ref().map_or("", PublicUrl::prefix).into();
    let front = Front { router, prefix };
    let graceful = GracefulShutdown::new();
    let mut looks = tokio::time::interval(LOOK);
    loop {
        let accepted = tokio::select! {
            _ = &mut stop => break,
            _ = looks.tick() => {
                connections.close_overdue(Instant::now());
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) if may_come(peer.ip(), &config.behind_proxy) => match connections.admit(peer.ip()) {
                Some(connection) => serve((stream, peer.ip()), front.clone(), &graceful, connection),
                None => tracing::warn!(%peer, "connection refused: all connections are in use (connections_max)"),
            },
            Ok((_, peer)) => tracing::warn!(%peer, "connection refused: the peer is not in the ranges of behind_proxy"),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                connections.make_room(Instant::now());
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    let _ = tokio::time::timeout(STOP_GRACE, graceful.shutdown()).await;
}

/// Without a proxy the socket is on loopback, where everybody may come.
fn may_come(peer: IpAddr, behind_proxy: &[IpNet]) -> bool {
    let peer = peer.to_canonical();
    behind_proxy.is_empty() || peer.is_loopback() || behind_proxy.iter().any(|range| range.contains(&peer))
}

/// The router, and what is done to requests before it.
#[derive(Clone)]
struct Front {
    router: Router,
    /// The path prefix of the public address.
    prefix: Arc<str>,
}

fn serve((stream, peer): (TcpStream, IpAddr), front: Front, graceful: &GracefulShutdown, connection: OpenConnection) {
    // An answer is one small packet; there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, GONE_AFTER_MS);
    let activity = connection.activity.clone();
    let socket = ClientSocket::new(stream, activity.clone());
    let end = socket.end();
    let service = service_fn(move |mut request: Request<Incoming>| {
        activity.handling();
        request.extensions_mut().insert(Connection(peer));
        request.extensions_mut().insert(activity.clone());
        public_path::strip(&mut request, &front.prefix);
        let is_sent_once = request.uri().path().starts_with(VENDOR_PATH);
        let answered = refused_body::answer(front.router.clone(), request);
        if is_sent_once { Either::Left(outliving(answered)) } else { Either::Right(answered) }
    });
    // Heads and idle connections have their deadlines in `connections.rs`.
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
                // Polling the connection again lets its socket find out whether it is idle still.
                () = connection.activity.idle_time_over() => end.store(true, Ordering::Relaxed),
                () = connection.activity.closed() => {
                    tracing::debug!(%peer, "a connection was closed: its time was over, or another one needed its place");
                    break;
                }
            }
        }
    });
}

/// Answers a request also when its connection ends meanwhile. hyper drops the handler as soon as it sees the end, even one that
/// has not begun: a client that sends its event and hangs up at once would lose it.
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

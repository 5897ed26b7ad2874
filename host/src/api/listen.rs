//! The accept loop: connections from sockets to the router, bounded in number and patience.
//!
//! A connection takes a permit first, so that a flood of them waits in the kernel; it must send a request's head within
//! [`HEAD_DEADLINE`], also the first one and also when it is kept alive, so that idle ones give their permits back.
//! Behind a proxy, peers outside the proxy's ranges are turned away before a byte is read.

use super::extract::Connection;
use super::refused_body;
use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How many connections are open at once. Each may hold a body up to its route's cap.
const CONNECTIONS_MAX: usize = 1_024;

/// How long a connection may take to send the head of its next request.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// After `accept` failed (no file descriptors left, as a rule), how long to let go.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How long requests under way have at a stop. Attempts have their own, longer period.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Serves until `stop` is told or dropped; then answers what was asked, for a while.
pub async fn listen(listener: TcpListener, router: Router, behind_proxy: Vec<IpNet>, mut stop: oneshot::Receiver<()>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            _ = &mut stop => break,
            next = next => next,
        };
        match (permit, accepted) {
            (Ok(permit), Ok((stream, peer))) if may_come(peer.ip(), &behind_proxy) => {
                serve((stream, peer.ip()), router.clone(), &graceful, permit);
            }
            (_, Ok((_, peer))) => tracing::warn!(%peer, "turned away: not from the ranges in behind_proxy"),
            (_, Err(error)) => {
                tracing::warn!(%error, "a connection could not be accepted");
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

fn serve(
    (stream, peer): (TcpStream, IpAddr),
    router: Router,
    graceful: &GracefulShutdown,
    permit: OwnedSemaphorePermit,
) {
    // An answer is one small packet; there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Connection(peer));
        refused_body::answer(router.clone(), request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(permit);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_ranges_hold() {
        let ranges: Vec<IpNet> = vec!["10.0.0.0/8".parse().expect("a range")];
        let comes = |peer: &str, ranges: &[IpNet]| may_come(peer.parse().expect(peer), ranges);
        assert!(comes("10.1.2.3", &ranges) && comes("::ffff:10.1.2.3", &ranges) && comes("127.0.0.1", &ranges));
        assert!(!comes("192.168.1.1", &ranges) && !comes("::1:1", &ranges));
        assert!(comes("192.168.1.1", &[]));
    }
}

//! Answers in the place of a host that has ended: 503 with `Retry-After`, on its address.
//!
//! # Guarantees
//! Nothing of the requests is kept, and no connection stays open.
//!
//! # Limits
//! The answer is the same for every request, and may precede its end (RFC 9112, section 9.6). The address is taken when the host has closed
//! it. If it cannot be taken, connections are refused meanwhile, as without this.

use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Interval at which the address is tried.
const TRY_INTERVAL: Duration = Duration::from_millis(20);

/// Maximum number of connections in the kernel's queue.
const BACKLOG: u32 = 1_024;

/// Maximum time of a connection. A client that sends for longer loses the answer.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(5);

/// Server that answers until it is dropped.
pub(super) struct StandIn(JoinHandle<()>);

impl StandIn {
    /// Begins to wait for the address.
    pub(super) fn start(address: SocketAddr) -> StandIn {
        StandIn(tokio::spawn(async move {
            let listener = loop {
                match bind(address) {
                    Ok(listener) => break listener,
                    Err(_) => tokio::time::sleep(TRY_INTERVAL).await,
                }
            };
            let answer: std::sync::Arc<str> = answer().into();
            let mut connections = JoinSet::new();
            loop {
                while connections.try_join_next().is_some() {}
                match listener.accept().await {
                    Ok((connection, _)) => {
                        let answer = answer.clone();
                        let refused = async move { refuse(connection, &answer).await };
                        connections.spawn(tokio::time::timeout(CONNECTION_TIME_MAX, refused));
                    }
                    // Too many connections, for example: they end soon.
                    Err(_) => tokio::time::sleep(TRY_INTERVAL).await,
                }
            }
        }))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn answer() -> String {
    let problem = json!({
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "the store of this host is being moved to another database: repeat the request"
    });
    let problem = problem.to_string();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nretry-after: 5\r\nconnection: close\r\n\r\n{problem}",
        problem.len()
    )
}

async fn refuse(mut connection: TcpStream, answer: &str) -> std::io::Result<()> {
    let mut unread = [0; 8_192];
    // A client takes an answer before its request for a fault of the connection.
    if connection.read(&mut unread).await? == 0 {
        return Ok(());
    }
    connection.write_all(answer.as_bytes()).await?;
    connection.shutdown().await?;
    // Closing a connection with unread bytes resets it, and the client may lose the answer.
    while connection.read(&mut unread).await? > 0 {}
    Ok(())
}

//! Forward proxy: `CONNECT` (RFC 9110 §9.3.6) and requests in absolute form. Keeps the heads of requests.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Running proxy.
pub(crate) struct Proxy {
    /// URL of the proxy.
    pub(crate) url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts a proxy on the first loopback address.
    pub(crate) async fn start() -> Proxy {
        Proxy::start_on("127.0.0.1").await
    }

    /// Starts a proxy on another loopback address.
    pub(crate) async fn start_on(address: &str) -> Proxy {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let list = heads.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let list = list.clone();
                tokio::spawn(async move {
                    let _ = forward(socket, &list).await;
                });
            }
        });
        Proxy { url, heads }
    }

    /// Returns the heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn forward(mut client: TcpStream, heads: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 4_096];
    let end = loop {
        if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        match client.read(&mut piece).await? {
            0 => return Ok(()),
            read => request.extend_from_slice(&piece[..read]),
        }
    };
    let head = String::from_utf8_lossy(&request[..end]).into_owned();
    heads.lock().unwrap().push(head.clone());
    let target = head.split(' ').nth(1).unwrap();
    let connects = head.starts_with("CONNECT ");
    let authority = target.strip_prefix("http://").unwrap_or(target).split('/').next().unwrap();
    let mut server = TcpStream::connect(authority).await?;
    if connects {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    } else {
        // Receivers accept a target in absolute form as well (RFC 9112 §3.2.2).
        server.write_all(&request).await?;
    }
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

//! Receiver that misbehaves: it reads a request and answers with any bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Receiver on plain sockets.
pub(crate) struct RawReceiver {
    /// URL of the receiver.
    pub(crate) url: String,
    requests: Arc<AtomicUsize>,
}

impl RawReceiver {
    /// Starts a receiver. Of each connection, it reads a request and passes the socket to `answer`.
    pub(crate) async fn start<F: Future<Output = ()> + Send>(
        answer: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> Self {
        RawReceiver::start_on("127.0.0.1", answer).await
    }

    /// Starts a receiver on another loopback address.
    pub(crate) async fn start_on<F: Future<Output = ()> + Send>(
        address: &str,
        answer: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let count = count.clone();
                let answer = answer.clone();
                tokio::spawn(async move {
                    read_request(&mut socket).await;
                    count.fetch_add(1, Ordering::SeqCst);
                    answer(socket).await;
                });
            }
        });
        RawReceiver { url, requests }
    }

    /// Starts a receiver that reads requests and never answers.
    pub(crate) async fn hanging() -> Self {
        RawReceiver::start(|socket| async move {
            let _held = socket;
            std::future::pending::<()>().await;
        })
        .await
    }

    /// Starts a receiver that answers each request with these bytes and closes.
    pub(crate) async fn answering(bytes: String) -> Self {
        RawReceiver::start(move |mut socket| {
            let bytes = bytes.clone();
            async move {
                let _ = socket.write_all(bytes.as_bytes()).await;
                let _ = socket.shutdown().await;
            }
        })
        .await
    }

    /// Returns the number of requests that arrived.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Reads the head, and the announced body.
async fn read_request(socket: &mut TcpStream) {
    let mut request = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        let read = socket.read(&mut piece).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        request.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let Some(head) = text.find("\r\n\r\n") else { continue };
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(0, |length| length.trim().parse().unwrap());
        if request.len() >= head + 4 + length {
            return;
        }
    }
}

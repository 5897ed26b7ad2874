//! The real nginx as a receiver: it answers 200 over HTTP/2, and writes a line for each request that it has processed.

use super::front::{free_port, nginx};
use super::{Authority, until};
use tempfile::TempDir;
use tokio::process::Child;

/// A running nginx.
pub(crate) struct NginxReceiver {
    /// URL of the receiver.
    pub(crate) url: String,
    folder: TempDir,
    _process: Child,
}

impl NginxReceiver {
    /// Starts one with a certificate of this authority; `settings` are lines of its `server` block.
    pub(crate) async fn start(authority: &Authority, settings: &str) -> NginxReceiver {
        let port = free_port();
        let folder = TempDir::new().unwrap();
        let identity = folder.path().join("identity.pem");
        std::fs::write(&identity, authority.identity("127.0.0.1")).unwrap();
        let identity = identity.display();
        let log = folder.path().join("requests");
        // `listen … http2` is the spelling that both Debian's nginx and newer ones understand.
        let server = format!(
            "server {{\nlisten 443 ssl http2;\nssl_certificate {identity};\nssl_certificate_key {identity};\n\
             access_log {} combined;\n{settings}\nlocation / {{ return 200; }}\n}}",
            log.display()
        );
        let process = nginx(folder.path(), &server, port);
        let url = format!("https://127.0.0.1:{port}/");
        until("nginx to listen", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        NginxReceiver { url, folder, _process: process }
    }

    /// Returns the number of POST requests that were processed with this status over HTTP/2.
    pub(crate) fn processed(&self, status: u16) -> usize {
        let log = std::fs::read_to_string(self.folder.path().join("requests")).unwrap_or_default();
        let answered = format!("\"POST / HTTP/2.0\" {status} ");
        log.lines().filter(|line| line.contains(&answered)).count()
    }
}

//! The real nginx with HTTP/2 in front of a receiver. It passes on a request when it has all of its body.

use super::front::{free_port, nginx};
use super::{Authority, Receiver, until};
use tempfile::TempDir;
use tokio::process::Child;

/// A running nginx.
pub(crate) struct NginxReceiver {
    /// URL of nginx.
    pub(crate) url: String,
    /// Receiver behind nginx.
    pub(crate) receiver: Receiver,
    _process: Child,
    _folder: TempDir,
}

impl NginxReceiver {
    /// Starts one with a certificate of this authority; `settings` are lines of its `server` block.
    pub(crate) async fn start(authority: &Authority, settings: &str) -> NginxReceiver {
        let port = free_port();
        let folder = TempDir::new().unwrap();
        let identity = folder.path().join("identity.pem");
        std::fs::write(&identity, authority.identity("127.0.0.1")).unwrap();
        let identity = identity.display();
        let receiver = Receiver::start().await;
        // `listen … http2` is the spelling that both Debian's nginx and newer ones understand.
        let server = format!(
            "server {{\nlisten 443 ssl http2;\nssl_certificate {identity};\nssl_certificate_key {identity};\n\
             {settings}\nlocation / {{ proxy_pass {}; }}\n}}",
            receiver.url
        );
        let process = nginx(folder.path(), &server, port);
        let url = format!("https://127.0.0.1:{port}/");
        until("nginx to listen", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        NginxReceiver { url, receiver, _process: process, _folder: folder }
    }
}

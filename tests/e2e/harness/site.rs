//! Site of a platform: one page, which shows the address in its query in a frame.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PAGE: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Platform</title>\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
    <style>body { margin: 0; font: 16px sans-serif } h1 { margin: 12px 16px; font-size: 18px } \
    iframe { width: 100%; height: 860px; border: 0; border-top: 1px solid #bbb }</style></head>\
    <body><main><h1>Settings of Acme</h1><iframe id=\"portal\" title=\"Webhooks\"></iframe></main>\
    <script>const src = new URLSearchParams(location.search).get('src'); if (src) document.getElementById('portal').src = src</script></body></html>";

/// Running site.
pub(crate) struct Site {
    /// Origin of the site, which is another site than that of a host on `127.0.0.1`.
    pub(crate) origin: String,
}

impl Site {
    pub(crate) async fn start() -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _ = answer(socket).await;
                });
            }
        });
        Site { origin }
    }

    /// Returns the URL of the page with this address in a frame.
    pub(crate) fn with_frame(&self, address: &str) -> String {
        let query: String = url_encoded(address);
        format!("{}/?src={query}", self.origin)
    }
}

fn url_encoded(text: &str) -> String {
    fn byte(byte: u8) -> String {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    }
    text.bytes().map(byte).collect()
}

async fn answer(mut socket: TcpStream) -> std::io::Result<()> {
    let mut request = [0; 8_192];
    if socket.read(&mut request).await? > 0 {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            PAGE.len()
        );
        socket.write_all(format!("{head}{PAGE}").as_bytes()).await?;
    }
    socket.shutdown().await
}

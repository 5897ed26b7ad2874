//! The way to a receiver: a socket to a vetted address, directly or through a forward proxy, with TLS for `https`.
//!
//! Every socket is [`Metered`], whatever is spoken on it. For `https` behind a proxy, the proxy opens a tunnel
//! (`CONNECT`, RFC 9110 section 9.3.6); for `http`, it gets the request itself. A proxy is spoken to with TLS if its own URL
//! is `https`.

use super::Vetting;
use super::meter::Metered;
use crate::transport::ReadyTransport;
use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tower::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// A metered socket.
type Socket = TokioIo<Metered<TcpStream>>;

/// The connector of a client.
pub(super) type Connector = HttpsConnector<Route>;

/// Problem with the certificates of a transport or of this machine.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The configuration is refused.
    #[error("TLS cannot be set up")]
    Config(#[from] rustls::Error),
    /// A certificate or key cannot be read.
    #[error("a certificate or its key cannot be read")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The proxy's URL cannot be used.
    #[error("the proxy's URL cannot be used")]
    Proxy(#[from] http::uri::InvalidUri),
}

/// Makes the connector of a transport.
pub(super) fn connector(vetting: Vetting, transport: &ReadyTransport) -> Result<Connector, TlsError> {
    let tls = tls_config(transport)?;
    let mut http = HttpConnector::new_with_resolver(vetting);
    http.enforce_http(false);
    http.set_nodelay(true);
    let direct = Direct(http);
    let route = match &transport.proxy {
        None => Route::Direct(direct),
        Some((url, authorization)) => Route::Proxy {
            uri: url.as_str().parse()?,
            authorization: authorization.clone(),
            // A proxy speaks HTTP/1: tunnels over HTTP/2 are another protocol.
            connector: HttpsConnectorBuilder::new()
                .with_tls_config(tls.clone())
                .https_or_http()
                .enable_http1()
                .wrap_connector(direct),
        },
    };
    Ok(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(route))
}

fn tls_config(transport: &ReadyTransport) -> Result<ClientConfig, TlsError> {
    // Only the first call of a process installs it; the others find it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = ClientConfig::builder();
    let builder = match &transport.authorities {
        None => builder.with_platform_verifier()?,
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate?)?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let Some(pem) = &transport.client_certificate else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    Ok(builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(pem)?)?)
}

/// Connects to vetted addresses.
#[derive(Clone)]
pub(super) struct Direct(HttpConnector<Vetting>);

impl Service<Uri> for Direct {
    type Response = Socket;
    type Error = BoxError;
    type Future = Connecting<Socket>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move { Ok(TokioIo::new(Metered::new(connecting.await?.into_inner()))) })
    }
}

/// Connects to a receiver, or to the proxy in front of it.
#[derive(Clone)]
pub(super) enum Route {
    Direct(Direct),
    Proxy { uri: Uri, authorization: Option<HeaderValue>, connector: HttpsConnector<Direct> },
}

impl Service<Uri> for Route {
    type Response = Stream;
    type Error = BoxError;
    type Future = Connecting<Stream>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Route::Direct(direct) => direct.poll_ready(context),
            Route::Proxy { connector, .. } => connector.poll_ready(context),
        }
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        match self {
            Route::Direct(direct) => {
                let connecting = direct.call(to);
                Box::pin(async move { Ok(Stream::new(connecting.await?, false)) })
            }
            Route::Proxy { uri, authorization, connector } if to.scheme() == Some(&Scheme::HTTPS) => {
                let mut tunnel = Tunnel::new(uri.clone(), connector.clone());
                if let Some(authorization) = authorization {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                let connecting = tunnel.call(to);
                Box::pin(async move { Ok(Stream::new(connecting.await?, false)) })
            }
            Route::Proxy { uri, connector, .. } => {
                let connecting = connector.call(uri.clone());
                Box::pin(async move { Ok(Stream::new(connecting.await?, true)) })
            }
        }
    }
}

trait Io: Read + Write + Connection + Send {}

impl<T: Read + Write + Connection + Send> Io for T {}

/// A connection to a receiver or to a proxy.
pub(super) struct Stream {
    io: Pin<Box<dyn Io>>,
    /// The other end is a proxy that gets the request itself, with the whole URL in it.
    forwarded: bool,
}

impl Stream {
    fn new(io: impl Io + 'static, forwarded: bool) -> Self {
        Stream { io: Box::pin(io), forwarded }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.forwarded)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.io.as_mut().poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.io.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.io.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.io.as_mut().poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.io.as_mut().poll_write_vectored(context, slices)
    }
}

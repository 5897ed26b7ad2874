//! Connector: sockets to vetted addresses, directly or through a forward proxy, with TLS for `https`.
//!
//! Every socket is [`Metered`], and every connection is [`Observed`] above TLS. For an `https` URL the proxy opens a tunnel (`CONNECT`,
//! RFC 9110 section 9.3.6); for an `http` URL the proxy gets the request. The connection to the proxy uses TLS if the proxy's URL is
//! `https`.

use super::Vetting;
use super::dial::dial;
use super::meter::Metered;
use super::observed::Observed;
use super::socket::HasSocket;
use crate::transport::ReadyTransport;
use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tower::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Socket whose reads are counted.
type MeteredSocket = TokioIo<Metered<TcpStream>>;

/// Connector of a client, which opens observed connections.
#[derive(Clone)]
pub(super) struct Connector(HttpsConnector<Route>);

/// Connection as hyper's client gets it.
pub(super) type HttpStream = TokioIo<Observed<TokioIo<MaybeHttpsStream<ReceiverStream>>>>;

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

/// Creates the connector of a transport.
pub(super) fn connector(vetting: Vetting, transport: &ReadyTransport) -> Result<Connector, TlsError> {
    let tls = tls_config(transport)?;
    let direct = Direct(vetting);
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
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    Ok(Connector(builder.enable_all_versions().wrap_connector(route)))
}

impl Service<Uri> for Connector {
    type Response = HttpStream;
    type Error = BoxError;
    type Future = Connecting<HttpStream>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move { Ok(TokioIo::new(Observed::new(TokioIo::new(connecting.await?)))) })
    }
}

fn tls_config(transport: &ReadyTransport) -> Result<ClientConfig, TlsError> {
    // Only the first call of a process has an effect.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = ClientConfig::builder();
    let builder = match &transport.authorities {
        None => builder.dangerous().with_custom_certificate_verifier(platform_verifier()?),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate?)?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let Some(pem) = &transport.client_certificate else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(pem.expose()).collect::<Result<Vec<_>, _>>()?;
    Ok(builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(pem.expose())?)?)
}

/// Returns the verifier with the system's certificates. They are read once, because that takes a megabyte and milliseconds.
fn platform_verifier() -> Result<Arc<Verifier>, TlsError> {
    static VERIFIER: OnceLock<Arc<Verifier>> = OnceLock::new();
    if let Some(verifier) = VERIFIER.get() {
        return Ok(verifier.clone());
    }
    let verifier = Verifier::new(Arc::new(rustls::crypto::ring::default_provider()))?;
    Ok(VERIFIER.get_or_init(|| Arc::new(verifier)).clone())
}

/// Connector without a proxy, which dials vetted addresses.
#[derive(Clone)]
pub(super) struct Direct(Vetting);

impl Service<Uri> for Direct {
    type Response = MeteredSocket;
    type Error = BoxError;
    type Future = Connecting<MeteredSocket>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let vetting = self.0.clone();
        Box::pin(async move {
            let addresses = vetting.addresses(&uri).await?;
            Ok(TokioIo::new(Metered::new(dial(addresses).await?)))
        })
    }
}

/// Connector to a receiver, directly or through a forward proxy.
#[derive(Clone)]
pub(super) enum Route {
    Direct(Direct),
    Proxy { uri: Uri, authorization: Option<HeaderValue>, connector: HttpsConnector<Direct> },
}

impl Service<Uri> for Route {
    type Response = ReceiverStream;
    type Error = BoxError;
    type Future = Connecting<ReceiverStream>;

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
                Box::pin(async move { Ok(ReceiverStream::new(connecting.await?, false)) })
            }
            Route::Proxy { uri, authorization, connector } if to.scheme() == Some(&Scheme::HTTPS) => {
                let mut tunnel = Tunnel::new(uri.clone(), connector.clone());
                if let Some(authorization) = authorization {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                let connecting = tunnel.call(to);
                Box::pin(async move { Ok(ReceiverStream::new(connecting.await?, false)) })
            }
            Route::Proxy { uri, connector, .. } => {
                let connecting = connector.call(uri.clone());
                Box::pin(async move { Ok(ReceiverStream::new(connecting.await?, true)) })
            }
        }
    }
}

impl HasSocket for ReceiverStream {
    fn socket(&self) -> &TcpStream {
        self.io.socket()
    }
}

impl<T: HasSocket> HasSocket for MaybeHttpsStream<T> {
    fn socket(&self) -> &TcpStream {
        match self {
            MaybeHttpsStream::Http(stream) => stream.socket(),
            MaybeHttpsStream::Https(stream) => stream.inner().get_ref().0.inner().socket(),
        }
    }
}

trait Io: Read + Write + Connection + HasSocket + Send {}

impl<T: Read + Write + Connection + HasSocket + Send> Io for T {}

/// Connection to a receiver or to a proxy.
pub(super) struct ReceiverStream {
    io: Pin<Box<dyn Io>>,
    /// Set when the peer is a proxy that gets the request with an absolute URL.
    forwarded: bool,
}

impl ReceiverStream {
    fn new(io: impl Io + 'static, forwarded: bool) -> Self {
        ReceiverStream { io: Box::pin(io), forwarded }
    }
}

impl Connection for ReceiverStream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.forwarded)
    }
}

impl Read for ReceiverStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.io.as_mut().poll_read(context, buffer)
    }
}

impl Write for ReceiverStream {
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

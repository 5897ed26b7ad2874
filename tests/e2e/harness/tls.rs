//! Receiver that speaks TLS with a certificate of a test authority, and optionally asks for client certificates.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Returns the authority's certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate for a name. Returns it with its private key, both in PEM.
    pub(crate) fn identity(&self, name: &str) -> String {
        let (certificate, key) = self.issue(name);
        certificate.pem() + &key.serialize_pem()
    }

    /// Returns the server side of TLS for a name, with this protocol (ALPN).
    pub(crate) fn acceptor(&self, name: &str, protocol: &str) -> TlsAcceptor {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (certificate, key) = self.issue(name);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let builder = ServerConfig::builder().with_no_client_auth();
        let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        self.issue_for(name, [2020, 2060])
    }

    /// Issues a certificate that is valid from the beginning of one year to that of another.
    fn issue_for(&self, name: &str, [from, to]: [i32; 2]) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        (params.signed_by(&key, &self.0).unwrap(), key)
    }
}

/// Receiver that always answers 200.
pub(crate) struct TlsReceiver {
    /// URL of the receiver.
    pub(crate) url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl TlsReceiver {
    /// Starts a receiver for 127.0.0.1 with a certificate of `own`, which asks for client certificates of `clients`.
    pub(crate) async fn start(own: &Authority, clients: Option<&Authority>) -> TlsReceiver {
        TlsReceiver::named("127.0.0.1", own, clients).await
    }

    /// Starts a receiver for another name.
    pub(crate) async fn named(name: &str, own: &Authority, clients: Option<&Authority>) -> TlsReceiver {
        TlsReceiver::with(own.issue(name), clients).await
    }

    /// Starts a receiver for 127.0.0.1 whose certificate is valid from the beginning of one year to that of another.
    pub(crate) async fn valid_in(years: [i32; 2], own: &Authority) -> TlsReceiver {
        TlsReceiver::with(own.issue_for("127.0.0.1", years), None).await
    }

    async fn with((certificate, key): (rcgen::Certificate, KeyPair), clients: Option<&Authority>) -> TlsReceiver {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let builder = match clients {
            None => ServerConfig::builder().with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
                ServerConfig::builder().with_client_cert_verifier(verifier)
            }
        };
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let list = heads.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                let list = list.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(socket).await else { return };
                    let mut request = Vec::new();
                    let mut piece = [0; 4_096];
                    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
                        match stream.read(&mut piece).await {
                            Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
                            _ => return,
                        }
                    }
                    list.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    let _ = stream.write_all(answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        TlsReceiver { url, heads }
    }

    /// Returns the number of requests that arrived.
    pub(crate) fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

//! TLS of connections, by rustls.
//!
//! # Guarantees
//! - A certificate is always verified if TLS is used, for every `sslmode`: it must come from an authority that this machine or
//!   `sslrootcert` trusts, and name the host in the URL (except [`TlsMode::VerifyCa`] with `sslrootcert`).
//! - A server whose certificate is refused is never used without TLS instead.
//!
//! # Limits
//! Certificates of authorities are read once, at the start. This host sends no client certificate (`sslcert`), and does not look for
//! revoked certificates (`sslcrl`). Files in `~/.postgresql` are not read.

use super::url_params::{TlsMode, TlsParams};
use crate::StoreError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;
use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Name of the protocol in the handshake (ALPN), which a server requires with `sslnegotiation=direct`.
const PROTOCOL: &[u8] = b"postgresql";

/// Creates the connector of TLS.
pub(super) fn connector(params: &TlsParams) -> Result<MakeRustlsConnect, StoreError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| StoreError::DatabaseUnfit(format!("TLS cannot be set up: {error}")))?;
    let builder = match verifier(params, provider)? {
        Some(verifier) => builder.dangerous().with_custom_certificate_verifier(verifier),
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

/// Returns the verifier of the server's certificate. None: no certificate is trusted.
fn verifier(
    params: &TlsParams,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ServerCertVerifier>>, StoreError> {
    if params.mode == TlsMode::Disable {
        return Ok(None);
    }
    let roots = params.root_certificates.as_deref().map(read_certificates).transpose()?;
    if let (TlsMode::VerifyCa, Some(roots)) = (params.mode, &roots) {
        return Ok(Some(Arc::new(AuthorityVerifier::new(roots, provider)?)));
    }
    match Verifier::new_with_extra_roots(roots.into_iter().flatten(), provider) {
        Ok(verifier) => Ok(Some(Arc::new(verifier))),
        // The server may not offer TLS, or be reached by a local socket.
        Err(_) if params.mode == TlsMode::Prefer && params.root_certificates.is_none() => Ok(None),
        Err(error) => Err(StoreError::DatabaseUnfit(format!(
            "certificates of authorities cannot be used ({error}); install those of this machine (ca-certificates), or name a file with sslrootcert in the URL"
        ))),
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(unreadable(path, "it has no certificate in PEM")),
        Err(error) => Err(unreadable(path, &hookloom_model::describe(&error))),
    }
}

fn unreadable(path: &Path, why: &str) -> StoreError {
    StoreError::DatabaseUnfit(format!("the file {} (sslrootcert in the URL) cannot be used: {why}", path.display()))
}

/// Verifier of certificates for any name, which must come from given authorities.
#[derive(Debug)]
struct AuthorityVerifier {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl AuthorityVerifier {
    fn new(authorities: &[CertificateDer<'static>], provider: Arc<CryptoProvider>) -> Result<Self, StoreError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            let added = roots.add(authority.clone());
            added.map_err(|error| {
                StoreError::DatabaseUnfit(format!("a certificate of sslrootcert is invalid: {error}"))
            })?;
        }
        Ok(AuthorityVerifier { roots, provider })
    }
}

impl ServerCertVerifier for AuthorityVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Returns the error of a connection that failed because of TLS. None: it failed for another reason.
pub(super) fn refusal(error: &tokio_postgres::Error) -> Option<StoreError> {
    let cause = error.source()?;
    let io_error = cause.downcast_ref::<std::io::Error>();
    let message = match io_error.and_then(std::io::Error::get_ref).and_then(|inner| inner.downcast_ref()) {
        Some(error) => describe(error),
        // The driver has no types for these.
        None => match &*cause.to_string() {
            "server does not support TLS" => NO_TLS.to_owned(),
            "no hostname provided for TLS handshake" => NO_HOST.to_owned(),
            _ => return None,
        },
    };
    Some(StoreError::DatabaseUnfit(message))
}

const NO_TLS: &str = "the server does not offer TLS, which sslmode in the URL requires; enable ssl at the server, or write sslmode=disable if all networks between are trusted";
const NO_HOST: &str = "the URL has only hostaddr, so the certificate of the server cannot be verified; add host";
const UNTRUSTED: &str = "the certificate of the server comes from an authority that is not trusted; name a file with the authority's certificate with sslrootcert in the URL, or write sslmode=disable if all networks between are trusted";
const OTHER_NAME: &str = "write that name as the host of the URL, or have a certificate issued for it";

/// Returns a message for an error of TLS, with advice.
fn describe(error: &rustls::Error) -> String {
    match error {
        // The signature is wrong if an authority with the same name, such as an earlier one, has signed.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            UNTRUSTED.to_owned()
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => format!(
            "the certificate of the server is for {}, not for {}; {OTHER_NAME}",
            presented.iter().map(|name| bare_name(name)).collect::<Vec<_>>().join(", "),
            expected.to_str()
        ),
        rustls::Error::InvalidCertificate(CertificateError::NotValidForName) => {
            format!("the certificate of the server is for another name; {OTHER_NAME}")
        }
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the certificate of the server has expired; renew it".to_owned()
        }
        rustls::Error::InvalidCertificate(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            "the certificate of the server is an authority's own (self-signed); issue one for the server with it"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(error) => {
            format!("the certificate of the server is refused ({error}); have it issued again")
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server requires a client certificate, which this host does not support; use a password".to_owned()
        }
        other => format!("TLS with the server failed: {other}"),
    }
}

/// Returns a name without the verifier's wrapper, as in `DnsName("db.example")`.
fn bare_name(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

#[cfg(test)]
mod tests;

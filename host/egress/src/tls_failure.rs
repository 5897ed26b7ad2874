//! Messages for TLS failures, which say what is wrong with the certificate or protocol and what to do.

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Object identifiers of signatures that are no longer secure, in DER: sha1WithRSAEncryption and md5WithRSAEncryption (RFC
/// 8017 appendix C), ecdsa-with-SHA1 (RFC 3279 section 2.2.3).
const WEAK_SIGNATURES: [(&[u8], &str); 3] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5], "SHA-1"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4], "MD5"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1], "SHA-1"),
];

/// Maximum number of a certificate's names that are shown.
const NAMES_MAX: usize = 5;

/// Message for a TLS error.
pub(super) fn describe(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::AlertReceived(alert) => alert_words(*alert),
        Error::NoCertificatesPresented => "the receiver shows no certificate; configure one at the receiver".to_owned(),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => OLD_PROTOCOL.to_owned(),
        Error::PeerIncompatible(_) => format!(
            "the receiver and this host have no TLS version or cipher suite in common ({error}); allow TLS 1.2 or 1.3 with current cipher suites at the receiver"
        ),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) | Error::InappropriateMessage { .. } => {
            "the receiver does not speak TLS at this port; correct the port, or write http:// if that is meant"
                .to_owned()
        }
        other => format!("{other}; check the TLS configuration of the receiver"),
    }
}

const OLD_PROTOCOL: &str =
    "the receiver offers only TLS 1.1 or older, which is no longer secure; allow TLS 1.2 or 1.3 at the receiver";

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "the certificate has expired; renew it at the receiver".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the certificate expired on {}; renew it at the receiver", day(not_after))
        }
        CertificateError::NotValidYet => format!("the certificate is not valid yet; {CHECK_CLOCKS}"),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the certificate is not valid before {}; {CHECK_CLOCKS}", day(not_before))
        }
        CertificateError::UnknownIssuer => "the certificate comes from an issuer that is not trusted. If the issuer is public, let the receiver send its intermediate certificates too; if it is your own, put its certificate into `transport.authorities`".to_owned(),
        CertificateError::NotValidForName => format!("the certificate is for another name; {CORRECT_NAME}"),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("the certificate is for {}, not for {}; {CORRECT_NAME}", names(presented), expected.to_str())
        }
        CertificateError::Revoked => "the certificate was revoked by its issuer; renew it at the receiver".to_owned(),
        CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { signature_algorithm_id, .. } => {
            signature(signature_algorithm_id)
        }
        CertificateError::BadSignature => {
            "the certificate's signature is not its issuer's; let the receiver send the right chain of certificates".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not for servers; have one issued with the extended key usage serverAuth".to_owned()
        }
        CertificateError::BadEncoding => "the certificate cannot be read; have it issued again".to_owned(),
        other => other_certificate(&other.to_string()),
    }
}

const CHECK_CLOCKS: &str = "check the clocks of this host and of the issuer";
const CORRECT_NAME: &str = "correct the host of the Notify URL, or have a certificate issued for it";

/// Message for a certificate error that the verifier reports by name only.
fn other_certificate(name: &str) -> String {
    if name.contains("CaUsedAsEndEntity") {
        return "the certificate is an authority's own (self-signed). Issue one for the server with it, and put the authority's into `transport.authorities`".to_owned();
    }
    if name.contains("UnsupportedCertVersion") {
        return "the certificate is of an old version of X.509; have it issued again as version 3".to_owned();
    }
    format!("the certificate is refused ({name}); have it issued again for this server")
}

fn signature(algorithm: &[u8]) -> String {
    // The identifier is part of a sequence, or alone.
    let weak = WEAK_SIGNATURES.iter().find(|(id, _)| algorithm.windows(id.len()).any(|window| window == *id));
    match weak {
        Some((_, name)) => {
            format!("the certificate is signed with {name}, which is no longer secure; have it issued again with SHA-256")
        }
        None => "the certificate is signed with an algorithm that this host does not know; have it issued again with RSA or ECDSA and SHA-256".to_owned(),
    }
}

fn alert_words(alert: AlertDescription) -> String {
    let what = match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "the receiver wants a client certificate; name one in `transport.client_certificate`"
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => {
            "the receiver refuses the client certificate, or wants one; check `transport.client_certificate` and what the receiver trusts"
        }
        AlertDescription::ProtocolVersion => OLD_PROTOCOL,
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            "the receiver and this host have no cipher suite or key type in common, or it wants a client certificate; check the TLS configuration of the receiver"
        }
        AlertDescription::UnrecognisedName => {
            "the receiver does not know the host of the Notify URL; correct it, or configure the name at the receiver"
        }
        _ => "the receiver ended the TLS handshake; its log may say why",
    };
    format!("{what} (alert {alert:?})")
}

fn day(time: &UnixTime) -> String {
    let timestamp = i64::try_from(time.as_secs()).ok().and_then(|secs| jiff::Timestamp::from_second(secs).ok());
    timestamp.map_or_else(|| "an unknown day".to_owned(), |timestamp| timestamp.strftime("%Y-%m-%d").to_string())
}

/// Lists at most [`NAMES_MAX`] names of a certificate. The receiver chooses them, so each is cut as well.
fn names(presented: &[String]) -> String {
    let mut names: Vec<String> = presented.iter().take(NAMES_MAX).map(|name| bare_name(name)).collect();
    match presented.len() {
        0 => return "no name".to_owned(),
        all if all > NAMES_MAX => names.push(format!("{} others", all - NAMES_MAX)),
        _ => {}
    }
    names.join(", ")
}

/// Name without the verifier's wrapper, as in `DnsName("a.example")`.
fn bare_name(name: &str) -> String {
    name.split('"').nth(1).unwrap_or(name).chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use std::time::Duration;

    #[track_caller]
    fn check(error: Error, expected: &str) {
        let result = describe(&error);
        assert!(result.starts_with(expected), "{result}");
        assert!(!result.contains("InvalidCertificate") && !result.contains("Context"), "Rust's own form: {result}");
    }

    #[test]
    fn certificates() {
        let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let check = |error: CertificateError, expected: &str| check(Error::InvalidCertificate(error), expected);
        check(
            CertificateError::ExpiredContext { time: at(1_800_000_000), not_after: at(1_700_000_000) },
            "the certificate expired on 2023-11-14; renew it",
        );
        check(
            CertificateError::NotValidYetContext { time: at(0), not_before: at(1_700_000_000) },
            "the certificate is not valid before 2023-11-14; check the clocks",
        );
        check(CertificateError::UnknownIssuer, "the certificate comes from an issuer that is not trusted. If");
        let expected = ServerName::try_from("hooks.example").expect("a name").to_owned();
        let presented = ["DnsName(\"a.example\")".to_owned(), "b.example".to_owned()].to_vec();
        check(
            CertificateError::NotValidForNameContext { expected: expected.clone(), presented },
            "the certificate is for a.example, b.example, not for hooks.example; correct the host",
        );
        let presented = vec!["x".to_owned(); 7];
        check(
            CertificateError::NotValidForNameContext { expected, presented },
            "the certificate is for x, x, x, x, x, 2 others, not for hooks.example",
        );
        for (id, name) in WEAK_SIGNATURES {
            let signature_algorithm_id = [&[6, u8::try_from(id.len()).expect("short")], id, &[5, 0]].concat();
            let error = CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id,
                supported_algorithms: Vec::new(),
            };
            check(error, &format!("the certificate is signed with {name}, which"));
        }
        check(CertificateError::Revoked, "the certificate was revoked");
        check(CertificateError::InvalidPurpose, "the certificate is not for servers");
        check(CertificateError::UnhandledCriticalExtension, "the certificate is refused (");
    }

    #[test]
    fn protocols_and_alerts() {
        check(
            Error::AlertReceived(AlertDescription::CertificateRequired),
            "the receiver wants a client certificate; name",
        );
        check(Error::AlertReceived(AlertDescription::UnknownCA), "the receiver refuses the client certificate");
        check(Error::AlertReceived(AlertDescription::ProtocolVersion), "the receiver offers only TLS 1.1");
        check(Error::AlertReceived(AlertDescription::InternalError), "the receiver ended the TLS handshake");
        check(
            Error::InvalidMessage(InvalidMessage::InvalidContentType),
            "the receiver does not speak TLS at this port",
        );
        check(
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
            "the receiver offers only TLS 1.1",
        );
        check(Error::DecryptError, "cannot decrypt peer's message; check the TLS configuration");
    }
}

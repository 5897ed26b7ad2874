//! Per-subscription transport: forward proxy, custom certificate authorities, client certificate (mutual TLS).
//!
//! The settings name secrets. [`ready`] resolves them, and reports faults by the names of the settings. Pure: reads no file and
//! dials nothing. The result contains keys, so it is never printed.

use hookloom_model::address::{AddressPolicy, check_url};
use hookloom_model::headers::{HeaderAuthor, check_header, fill_secrets};
use hookloom_model::subscription::{Secret, Transport};
use http::HeaderValue;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use url::Url;

/// Transport with its secrets.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct ReadyTransport {
    /// Forward proxy, and the value of `Proxy-Authorization`.
    pub proxy: Option<(Url, Option<HeaderValue>)>,
    /// Authorities to trust instead of the system's, as PEM.
    pub authorities: Option<String>,
    /// Certificate chain with its private key, as PEM.
    pub client_certificate: Option<Secret>,
}

/// Field of a transport, and its fault.
pub type Fault = (&'static str, String);

/// Resolves secrets and checks everything. Returns all faults at once.
pub fn ready(
    transport: &Transport,
    secrets: &BTreeMap<String, Secret>,
    policy: &AddressPolicy,
) -> Result<ReadyTransport, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut take = |field: &'static str, fault: String| faults.push((field, fault));
    let mut ready = ReadyTransport::default();
    match proxy(transport, secrets, policy) {
        Ok(proxy) => ready.proxy = proxy,
        Err((field, fault)) => take(field, fault),
    }
    match transport.authorities.as_deref().map(checked_authorities).transpose() {
        Ok(authorities) => ready.authorities = authorities,
        Err(fault) => take("authorities", fault),
    }
    match transport.client_certificate.as_deref().map(|name| client_certificate(name, secrets)).transpose() {
        Ok(certificate) => ready.client_certificate = certificate,
        Err(fault) => take("client_certificate", fault),
    }
    if faults.is_empty() { Ok(ready) } else { Err(faults) }
}

fn proxy(
    transport: &Transport,
    secrets: &BTreeMap<String, Secret>,
    policy: &AddressPolicy,
) -> Result<Option<(Url, Option<HeaderValue>)>, Fault> {
    let authorization = transport.proxy_authorization.as_deref();
    let Some(text) = transport.proxy.as_deref() else {
        return match authorization {
            None => Ok(None),
            Some(_) => Err(("proxy_authorization", "there is no proxy to authorize to".to_owned())),
        };
    };
    let url = check_url(text, policy).map_err(|error| ("proxy", error.to_string()))?;
    if url.path() != "/" || url.query().is_some() {
        return Err(("proxy", "a proxy is a scheme, a host and a port: http://proxy.example:3128".to_owned()));
    }
    fn unfit(detail: String) -> Fault {
        ("proxy_authorization", detail)
    }
    let filled = authorization.map(|value| fill_secrets(value, secrets)).transpose().map_err(unfit)?;
    // The value follows the rule of other headers; only the name is particular to proxies.
    let value =
        filled.map(|value| check_header("authorization", &value, HeaderAuthor::Owner)).transpose().map_err(unfit)?;
    let value = value.map(|(_, mut value)| {
        value.set_sensitive(true);
        value
    });
    Ok(Some((url, value)))
}

fn checked_authorities(pem: &str) -> Result<String, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(pem.to_owned()),
        Ok(_) => Err("there is no certificate in it (-----BEGIN CERTIFICATE-----)".to_owned()),
        Err(error) => Err(format!("the certificates cannot be read: {error}")),
    }
}

fn client_certificate(name: &str, secrets: &BTreeMap<String, Secret>) -> Result<Secret, String> {
    let pem = secrets.get(name).ok_or_else(|| format!("there is no secret {name:?} in this subscription"))?;
    let unreadable = |what: &str, error: &dyn std::fmt::Display| {
        format!("the {what} in the secret {name:?} cannot be read: {error}")
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose()).collect();
    let chain = chain.map_err(|error| unreadable("certificate", &error))?;
    if chain.is_empty() {
        return Err(format!("there is no certificate in the secret {name:?} (-----BEGIN CERTIFICATE-----)"));
    }
    let key = PrivateKeyDer::from_pem_slice(pem.expose()).map_err(|error| unreadable("private key", &error))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| {
        format!("the certificate and the private key in the secret {name:?} do not belong together: {error}")
    })?;
    Ok(pem.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the faults of a transport, as `field: detail`.
    fn faults(transport: serde_json::Value, secrets: &[(&str, &str)]) -> Vec<String> {
        let transport: Transport = serde_json::from_value(transport).expect("a transport");
        let secrets =
            secrets.iter().map(|(name, text)| ((*name).to_owned(), Secret::from((*text).to_owned()))).collect();
        let ready = ready(&transport, &secrets, &AddressPolicy::default());
        ready.err().unwrap_or_default().into_iter().map(|(field, detail)| format!("{field}: {detail}")).collect()
    }

    #[test]
    fn faults_are_reported_by_field() {
        #[track_caller]
        fn check(transport: serde_json::Value, expected: &[&str]) {
            assert_eq!(faults(transport, &[("auth", "Basic eDp5"), ("line", "a\r\nb")]), expected);
        }
        use serde_json::json;
        check(json!({}), &[]);
        check(json!({"proxy": "http://proxy.example:3128"}), &[]);
        check(json!({"proxy": "http://proxy.example:3128/", "proxy_authorization": "{{secret:auth}}"}), &[]);
        check(
            json!({"proxy": "http://10.0.0.1:3128"}),
            &[
                "proxy: the address 10.0.0.1 is refused: private range; the operator may allow its range in `egress_allow`",
            ],
        );
        check(json!({"proxy": "socks5://proxy.example:1080"}), &["proxy: the scheme \"socks5\" is not http or https"]);
        check(
            json!({"proxy": "http://a:b@proxy.example:3128"}),
            &["proxy: the URL holds credentials; put them into a header of the subscription"],
        );
        check(
            json!({"proxy": "http://proxy.example/x"}),
            &["proxy: a proxy is a scheme, a host and a port: http://proxy.example:3128"],
        );
        check(json!({"proxy_authorization": "x"}), &["proxy_authorization: there is no proxy to authorize to"]);
        check(
            json!({"proxy": "http://proxy.example", "proxy_authorization": "{{secret:line}}"}),
            &["proxy_authorization: the value of the header \"authorization\" holds a byte that is not visible ASCII"],
        );
        check(
            json!({"authorities": "x", "client_certificate": "none"}),
            &[
                "authorities: there is no certificate in it (-----BEGIN CERTIFICATE-----)",
                "client_certificate: there is no secret \"none\" in this subscription",
            ],
        );
        check(
            json!({"client_certificate": "auth"}),
            &["client_certificate: there is no certificate in the secret \"auth\" (-----BEGIN CERTIFICATE-----)"],
        );
    }
}

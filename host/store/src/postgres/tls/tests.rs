//! TLS with a server of PostgreSQL whose certificate comes from an authority of the test.

use crate::postgres::connection::{self, Connection};
use crate::postgres::test_server::{TestPooler, TestServer, free_port};
use crate::{Store, StoreError, StoreLimits};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Every mode that uses TLS.
const MODES: [&str; 4] = ["prefer", "require", "verify-ca", "verify-full"];

/// Certificate authority, with the file of its certificate.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a file");
        Authority { issuer, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Returns a certificate for 127.0.0.1 and its key, in PEM.
    fn certify(&self) -> [String; 2] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        [certificate.pem(), key.serialize_pem()]
    }

    /// Starts a server whose certificate is for 127.0.0.1.
    async fn start_server(&self) -> TestServer {
        let [certificate, key] = self.certify();
        TestServer::start_on_port(Some([&certificate, &key])).await
    }
}

/// Returns the URL of a server with a mode, and with the certificate of an authority.
fn url(server: &TestServer, mode: &str, authority: Option<&Path>) -> String {
    let url = format!("postgresql://hookloom@127.0.0.1:{}/postgres?sslmode={mode}", server.port);
    match authority {
        Some(file) => format!("{url}&sslrootcert={}", file.display()),
        None => url,
    }
}

/// Connects, and returns true if the connection uses TLS.
async fn uses_tls(url: &str) -> Result<bool, StoreError> {
    let connection = Connection::open(&connection::config(url)?).await?;
    let row = connection.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await?;
    Ok(row.try_get(0)?)
}

async fn refusal(url: &str) -> String {
    match uses_tls(url).await {
        Err(StoreError::DatabaseUnfit(message)) => message,
        other => panic!("{url}: {other:?}"),
    }
}

#[tokio::test]
async fn certificates_are_verified_in_every_mode() {
    let authority = Authority::new();
    let server = authority.start_server().await;
    for mode in MODES {
        assert!(uses_tls(&url(&server, mode, Some(&authority.file()))).await.expect(mode), "{mode}");
        for file in [None, Some(Authority::new().file())] {
            let message = refusal(&url(&server, mode, file.as_deref())).await;
            assert!(message.contains("an authority that is not trusted; name a file"), "{mode}: {message}");
        }
    }
    assert!(!uses_tls(&url(&server, "disable", None)).await.expect("connected"));
    let url = url(&server, "require", Some(&authority.file()));
    let key = authority.folder.path().join("master.key");
    Store::open_postgres(&url, &key, StoreLimits::default()).await.map(drop).expect("a store");
}

#[tokio::test]
async fn the_certificate_of_a_pooler_is_verified() {
    let authority = Authority::new();
    let server = TestServer::start_on_port(None).await;
    let port = free_port();
    let settings = "listen_addr = 127.0.0.1
client_tls_sslmode = require
client_tls_cert_file = %/tls.crt
client_tls_key_file = %/tls.key";
    let [certificate, key] = authority.certify();
    let files = [("tls.crt", &*certificate), ("tls.key", &*key)];
    let _pooler = TestPooler::start_with(&server, 2, port, settings, &files);
    let url = |authority: &Authority| {
        let file = authority.file();
        let url = format!("postgresql://hookloom@127.0.0.1:{port}/postgres?sslmode=verify-full&pooler=transaction");
        format!("{url}&sslrootcert={}", file.display())
    };
    let message = refusal(&url(&Authority::new())).await;
    assert!(message.contains("an authority that is not trusted"), "{message}");
    let key = authority.folder.path().join("master.key");
    Store::open_postgres(&url(&authority), &key, StoreLimits::default()).await.map(drop).expect("a store");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_unless_the_mode_allows_it() {
    let authority = Authority::new();
    let server = authority.start_server().await;
    for mode in MODES {
        let with = |file: Option<PathBuf>| {
            let file = file.map_or(String::new(), |file| format!("sslrootcert={}", file.display()));
            format!(
                "host=db.example hostaddr=127.0.0.1 port={} user=hookloom dbname=postgres sslmode={mode} {file}",
                server.port
            )
        };
        if mode == "verify-ca" {
            assert!(uses_tls(&with(Some(authority.file()))).await.expect("connected"));
            let message = refusal(&with(Some(Authority::new().file()))).await;
            assert!(message.contains("an authority that is not trusted"), "{message}");
            refusal(&with(None)).await;
        } else {
            let message = refusal(&with(Some(authority.file()))).await;
            assert!(message.contains("not for db.example; write that name as the host"), "{mode}: {message}");
        }
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_if_the_mode_requires_tls() {
    let authority = Authority::new();
    let server = TestServer::start_on_port(None).await;
    assert!(!uses_tls(&url(&server, "prefer", None)).await.expect("connected"));
    for mode in ["require", "verify-ca", "verify-full"] {
        let message = refusal(&url(&server, mode, Some(&authority.file()))).await;
        assert!(message.contains("does not offer TLS, which sslmode in the URL requires"), "{message}");
    }
}

#[tokio::test]
async fn a_file_without_certificates_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ca.pem");
    for (text, why) in [(None, "cannot be used: "), (Some("no certificate"), "it has no certificate in PEM")] {
        text.into_iter().for_each(|text| std::fs::write(&path, text).expect("written"));
        let url = format!("postgresql://127.0.0.1/a?sslmode=require&sslrootcert={}", path.display());
        let message = refusal(&url).await;
        assert!(message.contains("(sslrootcert in the URL)") && message.contains(why), "{message}");
    }
}

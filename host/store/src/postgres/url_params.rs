//! Parameters in the URL of a database that the driver does not know: `sslmode`, `sslrootcert` and `pooler`.
//!
//! The driver knows neither `sslmode=verify-ca` and `verify-full` nor `sslrootcert`, which the URLs of managed databases have, and
//! `pooler` is of this host. So these parameters are taken out of the URL before the driver reads it.
//!
//! # Limits
//! In the form `key=value key=value`, these parameters have no spaces around `=`.

use crate::StoreError;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::path::PathBuf;

/// Value of `sslmode`. Every mode that uses TLS verifies the certificate of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if the server offers it. This protects from listeners, not from an attacker who answers instead of the server.
    #[default]
    Prefer,
    /// TLS, as `verify-full`. In libpq, this mode verifies nothing unless there are root certificates.
    Require,
    /// TLS, with a certificate of the authorities in `sslrootcert` for any name. Without `sslrootcert`, the name is verified as well,
    /// because a public authority issues certificates for anyone's names.
    VerifyCa,
    /// TLS, with a certificate of a trusted authority for the name of the host in the URL.
    VerifyFull,
}

/// Parameters of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsParams {
    pub(super) mode: TlsMode,
    /// File with certificates of authorities (PEM), which are trusted besides those of this machine.
    pub(super) root_certificates: Option<PathBuf>,
}

/// Parameters of a URL that the driver does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct UrlParams {
    pub(super) tls: TlsParams,
    /// True behind a pooler that may give each transaction another session of the server.
    pub(super) is_pooled: bool,
}

impl UrlParams {
    /// Takes the parameters out of a URL, and returns the rest of it.
    ///
    /// # Errors
    /// [`StoreError::DatabaseUnfit`]: the value of `sslmode` or `pooler` is unknown.
    pub(super) fn take_from(url: &str) -> Result<(String, Self), StoreError> {
        let mut params = UrlParams::default();
        let is_url = url.starts_with("postgresql://") || url.starts_with("postgres://");
        let rest = if is_url { params.take_from_query(url)? } else { params.take_from_pairs(url)? };
        Ok((rest, params))
    }

    fn take_from_query(&mut self, url: &str) -> Result<String, StoreError> {
        // The driver looks for the end of the password first, which may contain a question mark.
        let after_password = url.find('@').map_or(0, |at| at + 1);
        let Some(query) = url[after_password..].find('?').map(|at| after_password + at) else {
            return Ok(url.to_owned());
        };
        let mut kept = Vec::new();
        for pair in url[query + 1..].split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = [key, value].map(|text| percent_decode_str(text).decode_utf8_lossy());
            if !self.set(&decoded[0], decoded[1].clone())? {
                kept.push(pair);
            }
        }
        let address = &url[..query];
        Ok(if kept.is_empty() { address.to_owned() } else { format!("{address}?{}", kept.join("&")) })
    }

    fn take_from_pairs(&mut self, text: &str) -> Result<String, StoreError> {
        let mut kept = Vec::new();
        for word in words(text) {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            if !self.set(key, unquoted(value).into())? {
                kept.push(word);
            }
        }
        Ok(kept.join(" "))
    }

    /// Sets a parameter. Returns false if it is another one.
    fn set(&mut self, key: &str, value: Cow<'_, str>) -> Result<bool, StoreError> {
        match key {
            "sslmode" => self.tls.mode = mode(&value)?,
            // Name of the authorities of the machine in libpq.
            "sslrootcert" if value == "system" || value.is_empty() => self.tls.root_certificates = None,
            "sslrootcert" => self.tls.root_certificates = Some(PathBuf::from(value.into_owned())),
            "pooler" => self.is_pooled = is_pooled(&value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn mode(name: &str) -> Result<TlsMode, StoreError> {
    match name {
        "disable" => Ok(TlsMode::Disable),
        "prefer" => Ok(TlsMode::Prefer),
        "require" => Ok(TlsMode::Require),
        "verify-ca" => Ok(TlsMode::VerifyCa),
        "verify-full" => Ok(TlsMode::VerifyFull),
        other => Err(StoreError::DatabaseUnfit(format!(
            "the URL has sslmode={other}; write disable, prefer, require, verify-ca or verify-full"
        ))),
    }
}

/// Returns true if a pooler in this mode may give each transaction another session.
fn is_pooled(mode: &str) -> Result<bool, StoreError> {
    match mode {
        "transaction" => Ok(true),
        "session" => Ok(false),
        other => Err(StoreError::DatabaseUnfit(format!("the URL has pooler={other}; write transaction or session"))),
    }
}

/// Splits a text at spaces outside of quotes.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let at_space = move |char: char| {
        let is_plain = !std::mem::take(&mut is_escaped);
        match char {
            '\\' => is_escaped = is_plain,
            '\'' if is_plain => is_quoted = !is_quoted,
            _ => {}
        }
        char.is_whitespace() && is_plain && !is_quoted
    };
    text.split(at_space).filter(|word| !word.is_empty())
}

/// Removes the quotes and escapes of a value.
fn unquoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        match char {
            '\'' => {}
            '\\' => text.extend(chars.next()),
            char => text.push(char),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, rest: &str, mode: TlsMode, root_certificates: Option<&str>) {
        let tls = TlsParams { mode, root_certificates: root_certificates.map(PathBuf::from) };
        let expected = UrlParams { tls, is_pooled: false };
        assert_eq!(UrlParams::take_from(url).expect(url), (rest.to_owned(), expected));
        rest.parse::<tokio_postgres::Config>().expect("the driver reads the rest");
    }

    #[test]
    fn urls() {
        check("postgresql://me@a.example/db", "postgresql://me@a.example/db", TlsMode::Prefer, None);
        check(
            "postgresql://me:p?sslmode=x@a.example/db?sslmode=verify-full&sslrootcert=%2Fetc%2Fmy%20ca.pem&application_name=a%26b",
            "postgresql://me:p?sslmode=x@a.example/db?application_name=a%26b",
            TlsMode::VerifyFull,
            Some("/etc/my ca.pem"),
        );
        check("postgres://a.example?sslmode=verify-ca", "postgres://a.example", TlsMode::VerifyCa, None);
        check(
            "postgres://me@a.example/db?sslrootcert=system&sslmode=require",
            "postgres://me@a.example/db",
            TlsMode::Require,
            None,
        );
    }

    #[test]
    fn pairs() {
        check("host=/run user=me", "host=/run user=me", TlsMode::Prefer, None);
        check(
            r"host=a sslmode=disable  password='it\'s sslmode=require' sslrootcert='/my \'ca\'.pem'",
            r"host=a password='it\'s sslmode=require'",
            TlsMode::Disable,
            Some("/my 'ca'.pem"),
        );
    }

    #[test]
    fn the_mode_of_a_pooler() {
        for (url, rest, is_pooled) in [
            ("postgres://a/db?pooler=transaction", "postgres://a/db", true),
            ("postgres://a/db?application_name=b&pooler=session", "postgres://a/db?application_name=b", false),
            ("host=a pooler=transaction user=b", "host=a user=b", true),
        ] {
            let expected = UrlParams { tls: TlsParams::default(), is_pooled };
            assert_eq!(UrlParams::take_from(url).expect(url), (rest.to_owned(), expected));
        }
    }

    #[test]
    fn an_unknown_mode_is_refused() {
        for (url, expected) in [
            ("postgres://a?sslmode=allow", "the URL has sslmode=allow; write disable, prefer,"),
            ("postgres://a?pooler=statement", "the URL has pooler=statement; write transaction or session"),
        ] {
            let refused = UrlParams::take_from(url).expect_err("refused");
            assert!(refused.to_string().contains(expected), "{refused}");
        }
    }
}

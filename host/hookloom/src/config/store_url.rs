//! Setting `store`: empty for SQLite in the data folder, or the URL of a PostgreSQL database.
//!
//! # Guarantees
//! The password in a URL is never shown: neither by `Debug`, nor in errors, nor by `hookloom config`.

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};
use std::fmt;
use url::Url;

/// Place of the durable state.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreUrl(Option<Url>);

/// Text in the place of a password.
const HIDDEN: &str = "***";

impl StoreUrl {
    /// Returns the URL of the PostgreSQL database, with its password. None: SQLite in the data folder.
    pub fn postgres(&self) -> Option<&str> {
        self.0.as_ref().map(Url::as_str)
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(StoreUrl(None));
        }
        // The text itself is not repeated: it may hold a password.
        let form = "write postgres://USER:PASSWORD@HOST:PORT/DATABASE, or nothing for SQLite in data_dir";
        let url = Url::parse(text).map_err(|error| format!("it is not a URL ({error}): {form}"))?;
        match url.scheme() {
            "postgres" | "postgresql" => Ok(StoreUrl(Some(url))),
            scheme => Err(format!("{scheme:?} is not a database that this host knows: {form}")),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(url) = &self.0 else { return Ok(()) };
        let mut shown = url.clone();
        if shown.password().is_some() {
            // It fails only for a URL that cannot have a password.
            let _ = shown.set_password(Some(HIDDEN));
        }
        if shown.query_pairs().any(|(name, _)| name == "password") {
            let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
            let visible = pairs.iter().map(|(name, value)| (name, if name == "password" { HIDDEN } else { value }));
            shown.query_pairs_mut().clear().extend_pairs(visible);
        }
        f.write_str(shown.as_str())
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        StoreUrl::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        #[track_caller]
        fn check(text: &str, shown: &str) {
            let url = StoreUrl::parse(text).expect("a URL");
            assert_eq!((url.to_string().as_str(), format!("{url:?}").as_str()), (shown, shown));
            assert_eq!(url.postgres().unwrap_or_default(), text);
        }
        check("", "");
        check("postgres://h/d", "postgres://h/d");
        check("postgres://u:secret@h:5433/d?sslmode=require", "postgres://u:***@h:5433/d?sslmode=require");
        check("postgresql://u@h/d?password=secret&x=1", "postgresql://u@h/d?password=***&x=1");
        check("postgres:///d?host=/run/postgresql", "postgres:///d?host=/run/postgresql");
    }

    #[test]
    fn other_texts_are_refused_without_being_repeated() {
        for text in ["mysql://u:secret@h/d", "u:secret@h/d", "secret", "host=h password=secret"] {
            let error = StoreUrl::parse(text).expect_err("no URL of PostgreSQL");
            assert!(error.contains("postgres://USER") && !error.contains("secret"), "{text}: {error}");
        }
    }
}

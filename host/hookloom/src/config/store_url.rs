//! Setting `store`: empty for SQLite in the data folder, or the URL of a PostgreSQL database.
//!
//! # Guarantees
//! The password in a URL is never shown: neither by `Debug`, nor in errors, nor by `hookloom config`.

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Place of the durable state.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreUrl(Option<String>);

/// Text in the place of a password.
const HIDDEN: &str = "***";

/// Names of parameters whose values are secret.
const SECRET_PARAMETERS: [&str; 2] = ["password", "sslpassword"];

impl StoreUrl {
    /// Returns the URL of the PostgreSQL database, with its password. None: SQLite in the data folder.
    pub fn postgres(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl FromStr for StoreUrl {
    type Err = String;

    /// Accepts any URL of PostgreSQL's client library, which may have several hosts or the folder of a socket.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(StoreUrl(None));
        }
        // The text itself is not repeated: it may hold a password.
        let form = "write postgres://USER:PASSWORD@HOST:PORT/DATABASE, or nothing for SQLite in data_dir";
        match text.split_once("://") {
            Some(("postgres" | "postgresql", _)) => Ok(StoreUrl(Some(text.to_owned()))),
            _ => Err(format!("it is not the URL of a PostgreSQL database: {form}")),
        }
    }
}

/// Returns a URL with its secrets hidden.
fn without_secrets(url: &str) -> String {
    let begin = url.find("://").map_or(0, |at| at + 3);
    // As in the client library, a password may have any character but `@`.
    let password_end = url[begin..].find('@').map_or(begin, |at| begin + at);
    let end = url[password_end..].find(['/', '?', '#']).map_or(url.len(), |at| password_end + at);
    let mut shown = url[..begin].to_owned();
    let authority = &url[begin..end];
    match authority.rsplit_once('@') {
        Some((user, hosts)) => match user.split_once(':') {
            Some((name, _)) => shown.push_str(&format!("{name}:{HIDDEN}@{hosts}")),
            None => shown.push_str(authority),
        },
        None => shown.push_str(authority),
    }
    let Some((path, query)) = url[end..].split_once('?') else { return shown + &url[end..] };
    let parameters: Vec<String> = query.split('&').map(shown_parameter).collect();
    format!("{shown}{path}?{}", parameters.join("&"))
}

fn shown_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, _)) if SECRET_PARAMETERS.contains(&name) => format!("{name}={HIDDEN}"),
        _ => parameter.to_owned(),
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.as_deref().map(without_secrets).unwrap_or_default())
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
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        #[track_caller]
        fn check(text: &str, shown: &str) {
            let url: StoreUrl = text.parse().expect("a URL");
            assert_eq!((url.to_string().as_str(), format!("{url:?}").as_str()), (shown, shown));
            assert_eq!(url.postgres().unwrap_or_default(), text);
        }
        check("", "");
        check("postgres://h/d", "postgres://h/d");
        check("postgres://u:secret@h:5433/d?sslmode=require", "postgres://u:***@h:5433/d?sslmode=require");
        check("postgresql://u@h/d?password=secret&x=1", "postgresql://u@h/d?password=***&x=1");
        check("postgres:///d?host=/run/postgresql", "postgres:///d?host=/run/postgresql");
        check("postgres://u@/d?host=/run/a", "postgres://u@/d?host=/run/a");
        check("postgres://u:s:ecret@h,i:5433/d", "postgres://u:***@h,i:5433/d");
        check("postgres://u:sec@ret@h", "postgres://u:***@h");
        check("postgres://u:sec/r?et@h/d?x=1", "postgres://u:***@h/d?x=1");
        check("postgres://h/d?application_name=a@b", "postgres://h/d?application_name=a@b");
    }

    #[test]
    fn other_texts_are_refused_without_being_repeated() {
        for text in ["mysql://u:secret@h/d", "u:secret@h/d", "secret", "host=h password=secret"] {
            let error = text.parse::<StoreUrl>().expect_err("no URL of PostgreSQL");
            assert!(error.contains("postgres://USER") && !error.contains("secret"), "{text}: {error}");
        }
    }
}

//! E-mail addresses of recipients: a checked text.
//!
//! # Limits
//! Addresses with quotes, comments or other letters than those of ASCII are refused, although RFC 5322 and RFC 6531 have them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Maximum number of recipients of a tenant.
pub const RECIPIENTS_MAX: usize = 10;

/// Maximum length of an address, in bytes (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const BYTES_MAX: usize = 254;

/// Maximum length of the part before the `@`, in bytes (RFC 5321, section 4.5.3.1.1).
const LOCAL_BYTES_MAX: usize = 64;

/// E-mail address, such as `ops@example.com`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct EmailAddress(String);

impl EmailAddress {
    /// Checks a text.
    ///
    /// # Errors
    /// A sentence with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if is_address(text) {
            return Ok(EmailAddress(text.to_owned()));
        }
        Err(format!("{text:?} is not an e-mail address such as ops@example.com"))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        EmailAddress::parse(&text)
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    text.len() <= BYTES_MAX && local.len() <= LOCAL_BYTES_MAX && is_dot_atom(local) && is_domain(domain)
}

/// Returns true for atoms that are separated by dots (RFC 5322, section 3.2.3).
fn is_dot_atom(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
}

fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

fn is_domain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    let is_inside = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (1..=63).contains(&text.len()) && is_inside && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: bool) {
        assert_eq!(EmailAddress::parse(text).is_ok(), expected, "{text:?}");
    }

    #[test]
    fn an_address_cannot_end_its_line() {
        check("ops@example.com", true);
        check("first.last+alerts@mail.example.co", true);
        check("root@localhost", true);
        for bad in [
            "",
            "ops",
            "@example.com",
            "ops@",
            "a@b@c",
            ".ops@example.com",
            "ops@example..com",
            "ops@-example.com",
            "ops@example.com\r\nRCPT TO:<x@y>",
            "<ops@example.com>",
            "Ops <ops@example.com>",
            "ops@example.com,other@example.com",
            "ops @example.com",
            "ops@exämple.com",
            "\"a b\"@example.com",
        ] {
            check(bad, false);
        }
        check(&format!("{}@example.com", "a".repeat(64)), true);
        check(&format!("{}@example.com", "a".repeat(65)), false);
        check(&format!("a@{}.com", "b.".repeat(130)), false);
    }
}

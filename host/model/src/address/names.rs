//! Host names: the rule for names that can be resolved.
//!
//! # Guarantees
//! The same rule applies wherever a name is accepted: Notify URLs, proxies, `url_hosts`, URLs of plugins and of replays. A valid
//! name is resolved as written. An invalid name is refused before it is stored.
//!
//! # Sources
//! RFC 1035 §2.3.4 for lengths, RFC 1123 §2.1 for hyphens. Underscores are not allowed by them, but names in private networks have
//! them, name servers serve them, and TLS certificates are checked against them (rustls).

use super::AddressError;
use url::Host;

/// Maximum length of a label, in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// Maximum length of a name, in bytes.
const NAME_BYTES_MAX: usize = 253;

/// Fault of a host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// A label is empty.
    #[error("has two dots in a row, or begins with one")]
    EmptyLabel,
    /// A label is longer than DNS allows.
    #[error("has a part of more than {LABEL_BYTES_MAX} characters between two dots")]
    LongLabel,
    /// A label begins or ends with a hyphen.
    #[error("has a part that begins or ends with a hyphen: {0:?}")]
    Hyphen(String),
    /// A character is not allowed in names.
    #[error("holds {0:?}; letters, digits, hyphens, underscores and dots are allowed")]
    Character(char),
}

/// Checks a name of a parsed URL, which is in ASCII and in lower case.
pub(super) fn check(name: &str) -> Result<(), AddressError> {
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.is_empty() {
        return Err(AddressError::NoHost);
    }
    if bare.len() > NAME_BYTES_MAX {
        return Err(AddressError::NameLength);
    }
    bare.split('.').try_for_each(check_label).map_err(|fault| AddressError::Name { name: name.to_owned(), fault })
}

fn check_label(label: &str) -> Result<(), NameFault> {
    if label.is_empty() {
        return Err(NameFault::EmptyLabel);
    }
    if label.len() > LABEL_BYTES_MAX {
        return Err(NameFault::LongLabel);
    }
    fn is_allowed(character: &char) -> bool {
        character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
    }
    if let Some(other) = label.chars().find(|character| !is_allowed(character)) {
        return Err(NameFault::Character(other));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(NameFault::Hyphen(label.to_owned()));
    }
    Ok(())
}

/// Parses and checks a host without scheme and port: a name, an IPv4 address, or an IPv6 address in brackets.
pub fn check_host(text: &str) -> Result<Host, AddressError> {
    let host = Host::parse(text).map_err(AddressError::Unreadable)?;
    if let Host::Domain(name) = &host {
        check(name)?;
    }
    Ok(host)
}

/// Returns true if a host without scheme and port is the host of a URL, in any spelling: names have no upper case, and names in
/// other scripts have an ASCII form.
pub fn is_host(text: &str, host: &str) -> bool {
    text == host || check_host(text).is_ok_and(|parsed| parsed.to_string() == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let result = check_host(text).expect_err(text).to_string();
        assert!(result.contains(expected), "{text}: {result}");
    }

    #[test]
    fn what_can_be_looked_up_may_be_named() {
        for name in [
            "hooks.example.com",
            "my_service.test",
            "a_b_c",
            "_dmarc.example.com",
            "x_",
            "a--b.example",
            "3com.example",
        ] {
            assert_eq!(check_host(name), Ok(Host::Domain(name.to_owned())));
        }
        assert_eq!(check_host("Hooks.EXAMPLE.com."), Ok(Host::Domain("hooks.example.com.".to_owned())));
        assert_eq!(check_host("m\u{fc}nchen.example"), Ok(Host::Domain("xn--mnchen-3ya.example".to_owned())));
        assert_eq!(check_host(&format!("{}.example", "a".repeat(63))).map(drop), Ok(()));
        assert!(check_host("192.0.2.1").is_ok() && check_host("[2001:db8::1]").is_ok());
    }

    #[test]
    fn unresolvable_names_are_refused_with_the_reason() {
        refused("-foo.example", "a part that begins or ends with a hyphen: \"-foo\"");
        refused("a.foo-.example", "a part that begins or ends with a hyphen: \"foo-\"");
        refused("a..example", "two dots in a row");
        refused(".example", "two dots in a row, or begins with one");
        refused("example..", "two dots in a row");
        refused("*.example", "holds '*'");
        refused("a,b.example", "holds ','");
        refused("it's.example", "holds '\\''");
        refused(&format!("{}.example", "a".repeat(64)), "more than 63 characters");
        refused(&"a.".repeat(130), "more than 253 characters");
        for unreadable in ["", "https://a.example", "a.example:443", "a b", "2001:db8::1", "a.example/x", "1.2.3.4.5"] {
            refused(unreadable, "cannot be read");
        }
    }

    #[test]
    fn hosts_are_compared_whatever_their_spelling() {
        assert!(is_host("Hooks.Example.COM", "hooks.example.com"));
        assert!(is_host("m\u{fc}nchen.example", "xn--mnchen-3ya.example"));
        assert!(is_host("[2001:DB8:0::1]", "[2001:db8::1]"));
        assert!(!is_host("example.com", "hooks.example.com") && !is_host("*", "example.com"));
    }
}

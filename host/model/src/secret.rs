//! Secrets of a subscription: values that are used and never shown, and the rule for their names.

use secrecy::{ExposeSecret as _, SecretSlice};
use std::fmt;
use std::hash::{Hash, Hasher};

/// Checks the name of a secret, which headers hold as `{{secret:NAME}}` and lists show.
///
/// # Errors
/// A sentence with the name and the rule.
pub fn check_secret_name(name: &str) -> Result<(), String> {
    if (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    {
        return Ok(());
    }
    Err(format!("{name:?} is not a name for a secret, which has 1 to 128 of A-Z, a-z, 0-9, -, _ and ."))
}

/// Bytes that are used and never shown. They are overwritten when they are dropped.
#[derive(Clone)]
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// Returns the bytes, to use them.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Secret(bytes.into())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl Hash for Secret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expose().hash(state);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_used_and_not_shown() {
        let secret = Secret::from("token".to_owned());
        assert_eq!((secret.expose(), format!("{secret:?}")), (b"token".as_slice(), "Secret(…)".to_owned()));
        assert_eq!(secret.clone(), secret);
        assert_ne!(secret, Secret::from(Vec::new()));
    }
}

//! Secrets of a subscription: values that are used and never shown, and the rule for their names.

use std::fmt;

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

/// Bytes that are used and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

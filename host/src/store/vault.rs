//! Seals secrets before they reach the database, and opens them again.
//!
//! XChaCha20-Poly1305 with a random nonce before each text, and the owner's identity as associated data, so that a
//! sealed secret copied into another row does not open. The master key is a file of 32 bytes outside the database, made
//! with mode 0600 when absent; it is in no backup of the database. From it come two more keys, for sealing and for the
//! cache of compiled plugins (HMAC-SHA256 with a label), so that no key has two uses.

use chacha20poly1305::aead::{Aead, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// What can go wrong with the master key and what it sealed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file could not be read or made.
    #[error("the master key file {path} cannot be read or made")]
    File {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The key file has another size.
    #[error("the master key file {path} has {found} bytes instead of 32")]
    Length {
        /// Which file.
        path: String,
        /// How many.
        found: usize,
    },
    /// A sealed secret does not open.
    #[error("a sealed secret does not open with this master key; was the key file replaced?")]
    DoesNotOpen,
}

const NONCE_BYTES: usize = 24;

/// The keys that come from the master key.
pub struct Vault {
    sealer: XChaCha20Poly1305,
    cache_key: [u8; 32],
}

impl Vault {
    /// Reads the master key, or makes one.
    pub fn open(path: &Path) -> Result<Self, VaultError> {
        let named = |source| VaultError::File { path: path.display().to_string(), source };
        let key = match std::fs::read(path) {
            Ok(key) => key,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_key(path).map_err(named)?,
            Err(error) => return Err(named(error)),
        };
        let found = key.len();
        let key: [u8; 32] =
            key.try_into().map_err(|_| VaultError::Length { path: path.display().to_string(), found })?;
        let sealing_key = derive(&key, "hookloom sealing 1");
        Ok(Vault {
            sealer: XChaCha20Poly1305::new(&Key::from(sealing_key)),
            cache_key: derive(&key, "hookloom compiled 1"),
        })
    }

    /// The key that authenticates compiled plugins on disk.
    pub fn cache_key(&self) -> [u8; 32] {
        self.cache_key
    }

    /// Encrypts a text for an owner.
    pub fn seal(&self, owner: &str, plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: plain, aad: owner.as_bytes() };
        let sealed =
            self.sealer.encrypt(&XNonce::from(nonce), payload).expect("a text in memory is short enough to seal");
        [&nonce[..], &sealed].concat()
    }

    /// Decrypts a text of the same owner.
    pub fn open_sealed(&self, owner: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(VaultError::DoesNotOpen)?;
        let payload = Payload { msg: sealed, aad: owner.as_bytes() };
        self.sealer.decrypt(&XNonce::from(*nonce), payload).map_err(|_| VaultError::DoesNotOpen)
    }
}

fn make_key(path: &Path) -> std::io::Result<Vec<u8>> {
    let key: [u8; 32] = rand::random();
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&key)?;
    file.sync_all()?;
    Ok(key.to_vec())
}

fn derive(key: &[u8; 32], label: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(label.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_for_its_owner_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("master.key");
        let vault = Vault::open(&path).expect("a new key");
        let sealed = vault.seal("tenant/subscription", b"a secret");
        assert!(!sealed.windows(8).any(|window| window == b"a secret"));
        let again = Vault::open(&path).expect("the same key");
        assert_eq!(again.open_sealed("tenant/subscription", &sealed).expect("opens"), b"a secret");
        assert!(again.open_sealed("tenant/other", &sealed).is_err());
        assert!(again.open_sealed("tenant/subscription", &sealed[..20]).is_err());
        let other = Vault::open(&folder.path().join("other.key")).expect("another key");
        assert!(other.open_sealed("tenant/subscription", &sealed).is_err());
    }
}

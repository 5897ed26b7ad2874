//! Vault: seals secrets for the database, and opens them.
//!
//! Secrets are sealed by XChaCha20-Poly1305 with a random nonce before each text. The owner's identity is the associated data, so
//! that a sealed secret does not open in another row. The master key is a file of 32 bytes outside the database, created with mode
//! 0600 if absent, and not part of a backup of the database alone. Two keys are derived from it, for sealing and for the cache of
//! compiled plugins (HMAC-SHA256 with a label), so that no key has two uses; and the fingerprint by which the database identifies
//! it.

use chacha20poly1305::aead::{Aead, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::io::Write as _;
use std::path::Path;

/// Error of the master key, or of a secret that it sealed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file could not be read or created.
    #[error("the master key file {path} cannot be read or made")]
    File {
        /// Path of the key file.
        path: String,
        /// Failure of the file system.
        source: std::io::Error,
    },
    /// The key file has the wrong size.
    #[error("the master key file {path} has {found} bytes instead of 32")]
    Length {
        /// Path of the key file.
        path: String,
        /// Size of the file in bytes.
        found: usize,
    },
    /// The database knows a master key, and the file does not exist.
    #[error(
        "the master key file {path} does not exist, and the database was used with a master key: put its file there"
    )]
    Missing {
        /// Path of the key file.
        path: String,
    },
    /// The database knows another master key.
    #[error("the master key file {path} has another key than the one that the database was used with")]
    OtherKey {
        /// Path of the key file.
        path: String,
    },
    /// A sealed secret cannot be opened.
    #[error("a sealed secret does not open with this master key; was the key file replaced?")]
    DoesNotOpen,
}

const NONCE_BYTES: usize = 24;

/// Keys derived from the master key.
pub struct Vault {
    sealer: XChaCha20Poly1305,
    cache_key: [u8; 32],
    fingerprint: [u8; 16],
}

impl Vault {
    /// Reads the master key, or creates one.
    pub fn open(path: &Path) -> Result<Self, VaultError> {
        if let Some(vault) = Vault::read(path)? {
            return Ok(vault);
        }
        let key = make_key(path).map_err(|source| VaultError::File { path: path.display().to_string(), source })?;
        Ok(Vault::of(&key))
    }

    /// Reads the master key. None: the file does not exist.
    pub fn read(path: &Path) -> Result<Option<Self>, VaultError> {
        let path_shown = || path.display().to_string();
        let key = match std::fs::read(path) {
            Ok(key) => key,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(VaultError::File { path: path_shown(), source }),
        };
        let found = key.len();
        let key: [u8; 32] = key.try_into().map_err(|_| VaultError::Length { path: path_shown(), found })?;
        Ok(Some(Vault::of(&key)))
    }

    fn of(key: &[u8; 32]) -> Self {
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&derive(key, "hookloom identity 1")[..16]);
        Vault {
            sealer: XChaCha20Poly1305::new(&Key::from(derive(key, "hookloom sealing 1"))),
            cache_key: derive(key, "hookloom compiled 1"),
            fingerprint,
        }
    }

    /// Returns the fingerprint by which the database identifies the key, and which reveals nothing about it.
    pub(super) fn fingerprint(&self) -> [u8; 16] {
        self.fingerprint
    }

    /// Returns the key that authenticates compiled plugins on disk.
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

/// Creates a key. After a crash, the file is either complete or does not exist.
fn make_key(path: &Path) -> std::io::Result<[u8; 32]> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let key: [u8; 32] = rand::random();
    // Only the owner can read the file.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&key)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(key)
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

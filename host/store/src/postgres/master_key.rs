//! Master key of a database: a file of the host, which the database knows by a value derived from the key.

use super::connection::Connection;
use crate::StoreError;
use crate::vault::{Vault, VaultError};
use std::path::Path;

/// Reads the master key, or creates one for a database that knows none.
///
/// # Errors
/// [`VaultError::Missing`] and [`VaultError::OtherKey`]: the database was used with a key that the file does not have.
pub(super) async fn open_vault(connection: &Connection, path: &Path) -> Result<Vault, StoreError> {
    let row = connection.query_one("SELECT master_key FROM host", &[]).await?;
    let known: Option<&[u8]> = row.try_get(0)?;
    let shown = || path.display().to_string();
    let vault = match (known, Vault::read(path)?) {
        (None, None) => Vault::open(path)?,
        (None, Some(vault)) => vault,
        (Some(_), None) => return Err(VaultError::Missing { path: shown() }.into()),
        (Some(known), Some(vault)) if known == vault.fingerprint() => return Ok(vault),
        (Some(_), Some(_)) => return Err(VaultError::OtherKey { path: shown() }.into()),
    };
    connection.execute("UPDATE host SET master_key = $1", &[&&vault.fingerprint()[..]]).await?;
    Ok(vault)
}

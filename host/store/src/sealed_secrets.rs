//! Secrets of a subscription, sealed for the database: signing keys, and secrets for the plugins.

use crate::StoreError;
use crate::vault::{Vault, VaultError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hookloom_model::signature::{SigningKey, SigningSecret};
use hookloom_model::subscription::{Secret, Subscription, SubscriptionId, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Plaintext of the sealed secrets. All keys are texts, so that the database does not show their kinds.
#[derive(Serialize, Deserialize)]
struct SealedSecrets {
    signing: Vec<String>,
    /// Time at which each signing key expires, in milliseconds since the epoch.
    #[serde(default)]
    until_ms: Vec<Option<i64>>,
    secrets: BTreeMap<String, String>,
}

fn owner(tenant: &TenantId, id: SubscriptionId) -> String {
    format!("{tenant}/{id}")
}

/// Seals the secrets of a subscription.
pub(crate) fn seal(vault: &Vault, subscription: &Subscription) -> Result<Vec<u8>, StoreError> {
    let secrets = subscription.settings.secrets().iter();
    let plain = SealedSecrets {
        signing: subscription.signing.iter().map(|key| key.secret.reveal()).collect(),
        until_ms: subscription.signing.iter().map(|key| key.until_ms).collect(),
        secrets: secrets.map(|(name, secret)| (name.clone(), BASE64.encode(secret.expose()))).collect(),
    };
    Ok(vault.seal(&owner(&subscription.tenant, subscription.id), &serde_json::to_vec(&plain)?))
}

/// Signing keys, and secrets by name.
type OpenedSecrets = (Vec<SigningKey>, BTreeMap<String, Secret>);

/// Opens the sealed secrets of a subscription.
pub(crate) fn unseal(
    vault: &Vault,
    tenant: &TenantId,
    id: SubscriptionId,
    sealed: &[u8],
) -> Result<OpenedSecrets, StoreError> {
    let plain: SealedSecrets = serde_json::from_slice(&vault.open_sealed(&owner(tenant, id), sealed)?)?;
    let ends = plain.until_ms.into_iter().chain(std::iter::repeat(None));
    let signing = plain.signing.iter().zip(ends).map(|(text, until_ms)| {
        let secret = SigningSecret::parse(text).map_err(|_| does_not_open())?;
        Ok(SigningKey { secret, until_ms })
    });
    let secrets = plain.secrets.into_iter().map(|(name, text)| {
        let bytes = BASE64.decode(text).map_err(|_| does_not_open())?;
        Ok((name, bytes.into()))
    });
    Ok((signing.collect::<Result<_, StoreError>>()?, secrets.collect::<Result<_, StoreError>>()?))
}

fn does_not_open() -> StoreError {
    StoreError::Vault(VaultError::DoesNotOpen)
}

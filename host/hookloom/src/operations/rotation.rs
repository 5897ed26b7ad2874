//! Rotation of the signing keys of a subscription.

use super::subscriptions::EDITS_MAX;
use super::{Access, Operations, Problem, SubscriptionBody, ToManage};
use crate::clock::now_ms;
use crate::signature::{SigningKey, SigningSecret};
use crate::store::StoreError;
use crate::subscription::Subscription;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Signing secret to use from now on.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rotation {
    /// Secret chosen by the owner (`whsec_…` or `whsk_…`). Absent: the host creates one.
    signing_secret: Option<String>,
    /// Scheme of the new secret: `v1` (HMAC-SHA256) or `v1a` (ed25519). `v1` if absent.
    scheme: Option<String>,
    /// Time for which the previous keys keep signing together with the new one, in seconds: up to 30 days, one day if absent.
    overlap_s: Option<u64>,
}

const OVERLAP_S: u64 = 86_400;

const OVERLAP_S_MAX: u64 = 30 * 86_400;

/// Maximum number of signing keys. More would make the header longer than some servers accept.
const KEYS_MAX: usize = 5;

impl Rotation {
    fn check(&self) -> Result<(SigningSecret, u64), Problem> {
        let secret = match (&self.signing_secret, self.scheme.as_deref()) {
            (Some(text), None) => {
                SigningSecret::parse(text).map_err(|error| Problem::field("/signing_secret", error.to_string()))?
            }
            (None, None | Some("v1")) => SigningSecret::generate(),
            (None, Some("v1a")) => SigningSecret::generate_pair(),
            (Some(_), Some(_)) => {
                return Err(Problem::field("/scheme", "leave scheme out: signing_secret says which scheme it has"));
            }
            (None, Some(_)) => return Err(Problem::field("/scheme", "v1 or v1a")),
        };
        match self.overlap_s.unwrap_or(OVERLAP_S) {
            overlap_s if overlap_s <= OVERLAP_S_MAX => Ok((secret, overlap_s)),
            _ => Err(Problem::field("/overlap_s", format!("at most {OVERLAP_S_MAX} s"))),
        }
    }
}

impl Operations {
    /// Rotates the signing secret. The result has the new secret, which is not shown again.
    pub(crate) async fn rotate_signing_secret(
        &self,
        access: &Access<ToManage>,
        id: Uuid,
        rotation: Rotation,
    ) -> Result<SubscriptionBody, Problem> {
        let (secret, overlap_s) = rotation.check()?;
        for _ in 0..EDITS_MAX {
            let old = self.subscription(&access.tenant, id)?;
            match self.store.rotate_signing_keys(access.actor(), &old, rotated(&old, &secret, overlap_s)).await {
                Err(StoreError::Edited) => {}
                rotated => return Ok(SubscriptionBody::new(&*rotated?, Some(secret.reveal()))),
            }
        }
        Err(StoreError::Edited.into())
    }
}

fn rotated(old: &Subscription, secret: &SigningSecret, overlap_s: u64) -> Vec<SigningKey> {
    let now_ms = now_ms();
    let end_ms = now_ms.saturating_add(i64::try_from(overlap_s.saturating_mul(1_000)).unwrap_or(i64::MAX));
    let replaced = old.signing.iter().filter(|key| overlap_s > 0 && key.signs_at(now_ms));
    let replaced = replaced.map(|key| SigningKey {
        secret: key.secret.clone(),
        until_ms: Some(key.until_ms.map_or(end_ms, |until_ms| until_ms.min(end_ms))),
    });
    std::iter::once(SigningKey::current(secret.clone())).chain(replaced).take(KEYS_MAX).collect()
}

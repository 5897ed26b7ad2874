//! Quarantine of versions in whose call the host died.
//!
//! # Guarantees
//! - A version is quarantined for one tenant, at the start, if the previous process was ended by a signal during a call of the version, or
//!   was stopped while such a call did not end ([`call_record`](super::call_record)).
//! - Deliveries of a quarantined version wait and use up no attempt. Everything else runs.
//! - Another version of the plugin judges at once. An admin ends the quarantine by activating the version again.

use super::call_record::{Cause, Suspect};
use super::report::Refusal;
use super::{PluginError, Plugins};
use hookloom_model::clock::now_ms;
use hookloom_model::subscription::TenantId;
use hookloom_store::{Quarantine, Store, StoreError};
use hookloom_telemetry as telemetry;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

/// Quarantined versions, by tenant and sha256.
pub(super) type Quarantined = RwLock<HashMap<(TenantId, String), Quarantine>>;

/// Stores suspects as quarantined. Returns all quarantined versions.
pub(super) async fn quarantine(store: &Store, suspects: Vec<Suspect>) -> Result<Quarantined, StoreError> {
    for Suspect { tenant, sha256, cause } in suspects {
        let reason = match cause {
            Cause::Signal(signal) => format!("the host died in a call of it (signal {signal})"),
            Cause::Overdue => "the host was stopped while a call of it did not end".to_owned(),
        };
        tracing::error!(%tenant, %sha256, %reason, "a version of a plugin is quarantined: its deliveries wait for another one, or for an admin to activate it again");
        store.quarantine(Quarantine { tenant, sha256, since_ms: now_ms(), reason }).await?;
    }
    let all = store.quarantined().await?.into_iter();
    all.clone().for_each(|one| telemetry::quarantined(&one.tenant, &one.sha256, true));
    Ok(RwLock::new(all.map(|one| ((one.tenant.clone(), one.sha256.clone()), one)).collect()))
}

impl Plugins {
    /// Returns the quarantine of a tenant's version, if there is one.
    pub fn quarantine(&self, tenant: &TenantId, sha256: &str) -> Option<Quarantine> {
        let quarantined = self.quarantined.read();
        if quarantined.is_empty() {
            return None;
        }
        quarantined.get(&(tenant.clone(), sha256.to_owned())).cloned()
    }

    /// Fails for a quarantined version.
    pub(super) fn check_quarantine(&self, tenant: &TenantId, sha256: &str) -> Result<(), PluginError> {
        let Some(Quarantine { reason, .. }) = self.quarantine(tenant, sha256) else { return Ok(()) };
        let what = format!("this version is quarantined: {reason}");
        let remedy = "upload another version; an admin can activate this one again";
        Err(PluginError::Compile(Refusal::new("quarantined", what, remedy).into()))
    }

    /// Ends the quarantine of a version.
    pub async fn release(self: &Arc<Self>, tenant: &TenantId, sha256: &str) -> Result<(), PluginError> {
        if self.quarantine(tenant, sha256).is_none() {
            return Ok(());
        }
        let plugins = self.clone();
        let owner = tenant.clone();
        let sha256 = sha256.to_owned();
        // In the order of the tenant's changes, so that `follow` does not put an earlier state in force afterwards.
        let release = move |store: Arc<Store>| async move {
            store.release(owner.clone(), sha256.clone()).await?;
            telemetry::quarantined(&owner, &sha256, false);
            tracing::warn!(tenant = %owner, %sha256, "a version of a plugin is no longer quarantined");
            plugins.quarantined.write().remove(&(owner, sha256));
            Ok(())
        };
        self.store.in_plugin_order(tenant.clone(), release).await
    }
}

//! Candidate: a component that has passed the check and can be called, and is not stored as a version yet.
//!
//! # Guarantees
//! - A dropped candidate leaves a file in the cache of compiled code, and nothing else.

use super::report::Report;
use super::version::VersionRef;
use super::{PLUGINS_MAX, PluginError, Plugins};
use bytes::Bytes;
use hookloom_model::subscription::TenantId;
use hookloom_store::{Actor, PluginVersion};

/// Component that can become the active version of a plugin.
pub struct Candidate {
    /// Author of the upload.
    actor: Actor,
    version: VersionRef,
    stored: PluginVersion,
    report: Report,
    component: Bytes,
}

impl Candidate {
    pub(super) fn version(&self) -> VersionRef {
        self.version.clone()
    }

    /// Returns the sha256 of the component, in hex.
    pub fn sha256(&self) -> &str {
        &self.stored.sha256
    }
}

impl Plugins {
    /// Checks, compiles and probes a component.
    ///
    /// # Errors
    /// [`PluginError::TooMany`] if the tenant has [`PLUGINS_MAX`] other plugins. [`PluginError::Compile`] if the component is refused.
    pub async fn candidate(
        &self,
        actor: Actor,
        tenant: &TenantId,
        name: &str,
        component: Bytes,
    ) -> Result<Candidate, PluginError> {
        if !self.exists(tenant, name) && self.count(tenant) >= PLUGINS_MAX {
            return Err(PluginError::TooMany);
        }
        let (version, stored, report) = self.prepare(&actor, tenant, name, &component).await?;
        Ok(Candidate { actor, version: version.reference(), stored, report, component })
    }

    /// Stores a candidate as the active version of a plugin, and activates it.
    pub async fn install_candidate(
        &self,
        tenant: TenantId,
        name: String,
        candidate: Candidate,
    ) -> Result<(PluginVersion, Report), PluginError> {
        let Candidate { actor, version, mut stored, report, component } = candidate;
        stored.active = true;
        // The activation ends a rollout of the plugin, whose counters are kept.
        self.store_rollout_counts().await;
        let swap = self.swap(&tenant, &name, version);
        self.store.activate_plugin(actor, tenant, name, stored.clone(), component, swap).await?;
        Ok((stored, report))
    }
}

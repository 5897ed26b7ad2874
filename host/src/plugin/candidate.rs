//! A component that passed every check and is not a version of its plugin yet.
//!
//! It was compiled, so that it can be called; nothing of it is stored. Whoever drops it leaves a file in the cache of compiled code,
//! and nothing else.

use super::check::Report;
use super::runtime::VersionRef;
use super::{PLUGINS_MAX, PluginError, Plugins};
use crate::store::PluginVersion;
use crate::subscription::TenantId;
use bytes::Bytes;

/// A component that could become the active version of a plugin.
pub struct Candidate {
    version: VersionRef,
    stored: PluginVersion,
    report: Report,
    component: Bytes,
}

impl Candidate {
    pub(super) fn version(&self) -> VersionRef {
        self.version.clone()
    }

    /// The sha256 of the component, in hex.
    pub fn sha256(&self) -> &str {
        &self.stored.sha256
    }
}

impl Plugins {
    /// Checks, compiles and tries a component.
    ///
    /// # Errors
    /// [`PluginError::TooMany`] if it would be one plugin more than a tenant may have.
    pub async fn candidate(
        &self,
        tenant: &TenantId,
        name: &str,
        component: Bytes,
        created_by: String,
    ) -> Result<Candidate, PluginError> {
        if !self.exists(tenant, name) && self.count(tenant) >= PLUGINS_MAX {
            return Err(PluginError::TooMany);
        }
        let (version, stored, report) = self.prepare(tenant, name, &component, created_by).await?;
        Ok(Candidate { version: version.reference(), stored, report, component })
    }

    /// Makes a candidate durable as the active version of a plugin, and swaps it in.
    pub async fn install_candidate(
        &self,
        tenant: TenantId,
        name: String,
        candidate: Candidate,
    ) -> Result<(PluginVersion, Report), PluginError> {
        let Candidate { version, mut stored, report, component } = candidate;
        stored.active = true;
        // A rollout of the plugin ends with it, and keeps what was counted.
        self.store_rollout_counts().await;
        let swap = self.swap(&tenant, &name, version);
        self.store.activate_plugin(tenant, name, stored.clone(), component, swap).await?;
        Ok((stored, report))
    }
}

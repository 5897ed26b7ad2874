//! Candidate: a component that has passed the check and can be called, and is not stored as a version yet.
//!
//! # Guarantees
//! - A dropped candidate leaves a file in the cache of compiled code, and nothing else.

use super::report::Report;
use super::version::VersionRef;
use super::{CompileError, PLUGINS_MAX, PluginError, Plugins, check};
use bytes::Bytes;
use hookloom_model::clock::now_ms;
use hookloom_model::subscription::TenantId;
use hookloom_store::{Actor, PluginVersion, StoreError};

/// Component or script that is to become a version, and its source.
pub struct NewComponent {
    pub(super) bytes: Bytes,
    /// Name of the plugin in the host's library. None: it does not come from there.
    pub(super) library: Option<&'static str>,
}

impl NewComponent {
    /// Returns a component of the host's library.
    pub fn of_library(name: &'static str, bytes: Bytes) -> Self {
        NewComponent { bytes, library: Some(name) }
    }
}

impl From<Bytes> for NewComponent {
    fn from(bytes: Bytes) -> Self {
        NewComponent { bytes, library: None }
    }
}

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
        component: NewComponent,
    ) -> Result<Candidate, PluginError> {
        if !self.exists(tenant, name) && self.count(tenant) >= PLUGINS_MAX {
            return Err(PluginError::TooMany);
        }
        let (version, stored, report) = self.prepare(&actor, tenant, name, &component).await?;
        Ok(Candidate { actor, version, stored, report, component: component.bytes })
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

    /// Checks, compiles and probes a component, and stores it as an inactive version of a plugin.
    pub async fn add(
        &self,
        actor: Actor,
        tenant: TenantId,
        name: String,
        component: NewComponent,
    ) -> Result<(PluginVersion, Report), PluginError> {
        let (_, stored, report) = self.prepare(&actor, &tenant, &name, &component).await?;
        self.store.add_version(actor, tenant.clone(), name.clone(), stored.clone(), component.bytes).await?;
        Ok((stored, report))
    }

    async fn prepare(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        name: &str,
        NewComponent { bytes, library }: &NewComponent,
    ) -> Result<(VersionRef, PluginVersion, Report), PluginError> {
        let _shown = self.show_compiling(tenant, name);
        check::check_upload(bytes).map_err(CompileError::from)?;
        let version = self.version_of(tenant, bytes.clone()).await?;
        self.check_quarantine(tenant, &version.sha256)?;
        let report = Report { library: library.map(str::to_owned), ..version.report.clone() };
        let stored = PluginVersion {
            sha256: version.sha256.clone(),
            size: bytes.len() as u64,
            report: serde_json::to_string(&report).map_err(StoreError::from)?,
            created_at_ms: now_ms(),
            created_by: actor.shown().to_owned(),
            active: false,
        };
        Ok((VersionRef::of(&version.sha256, &report), stored, report))
    }
}

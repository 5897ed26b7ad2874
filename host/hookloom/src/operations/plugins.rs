//! Plugins and their versions.

use super::{Access, ComparisonSize, Operations, Problem, ToManage, ToRead, gate};
use crate::ids::{PluginName, VersionId};
use crate::library::LibraryPlugin;
use crate::plugin::{Comparison, NewComponent, Origin, Report};
use crate::store::{PluginVersion, Quarantine};
use crate::subscription::TenantId;
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

/// Version of a plugin.
#[derive(Serialize, ToSchema)]
pub(crate) struct VersionBody {
    /// The sha256 of the component.
    sha256: String,
    /// Size of the component, in bytes.
    size: u64,
    /// True for the version that judges events.
    active: bool,
    created_at_ms: i64,
    /// Author of the upload: a key's label and first characters, or `plugins folder`.
    created_by: String,
    report: Report,
    /// True for an active version that was added from the host's library, if the library has another one now.
    update_available: bool,
    /// Quarantine of the version, if the host crashed in a call of it. An admin can activate it again.
    quarantined: Option<QuarantineBody>,
    /// Comparison with the version that was active, if the request asked for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
    /// Subscriptions whose config does not fit the manifest of the version. Only in the answer to an activation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl VersionBody {
    fn new(version: PluginVersion, report: Report) -> Self {
        let PluginVersion { sha256, size, created_at_ms, created_by, active, .. } = version;
        let library = report.library.as_deref();
        VersionBody {
            update_available: active && library.is_some_and(|library| LibraryPlugin::has_update(library, &sha256)),
            sha256,
            size,
            active,
            created_at_ms,
            created_by,
            report,
            quarantined: None,
            comparison: None,
            warnings: Vec::new(),
        }
    }
}

/// Quarantine of a version: its deliveries wait for another version, or for an admin to activate it again.
#[derive(Serialize, ToSchema)]
pub(crate) struct QuarantineBody {
    reason: String,
    since_ms: i64,
}

impl QuarantineBody {
    fn of(operations: &Operations, tenant: &TenantId, sha256: &str) -> Option<Self> {
        let Quarantine { reason, since_ms, .. } = operations.plugins.quarantine(tenant, sha256)?;
        Some(QuarantineBody { reason, since_ms })
    }
}

/// Plugin of a tenant.
#[derive(Serialize, ToSchema)]
pub(crate) struct PluginBody {
    pub(crate) name: String,
    /// Title by the plugin's author. Absent: the active version has no manifest.
    title: Option<String>,
    /// Description by the plugin's author, in one line.
    description: Option<String>,
    /// Name of the plugin in the host's library, if the active version was added from there.
    library: Option<String>,
    /// True if the host's library has another version of the plugin than the active one, which was added from there.
    update_available: bool,
    /// The sha256 of the active version. Absent if no component of the plugin could be used so far.
    active_sha256: Option<String>,
    /// Time of activation, in milliseconds since the epoch.
    activated_at_ms: Option<i64>,
    /// Author of the activation.
    activated_by: Option<String>,
    /// Time since which a new version is being compiled, in milliseconds since the epoch. Absent: none is.
    compiling_since_ms: Option<i64>,
    /// Quarantine of the active version, if the host crashed in a call of it.
    quarantined: Option<QuarantineBody>,
    /// Problem with the plugin's file in the plugins folder, if there is one.
    file_problem: Option<String>,
}

/// Active version.
#[derive(Serialize, ToSchema)]
pub(crate) struct ActivatedBody {
    sha256: String,
    /// Comparison with the previous version, if the request asked for one.
    comparison: Option<Comparison>,
    /// Subscriptions whose config does not fit the manifest of the version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Treatment of an uploaded version.
#[derive(Clone, Copy)]
pub(crate) struct Activation {
    /// False adds the version without activating it, to be tried or activated later.
    pub(crate) activate: bool,
    /// Number of the last real events that it must pass first.
    pub(crate) gate: Option<ComparisonSize>,
}

impl Operations {
    /// Adds a component as a version of a plugin, and activates it if it passes.
    pub(crate) async fn upload_plugin(
        &self,
        access: &Access<ToManage>,
        name: &PluginName,
        activation: Activation,
        component: Bytes,
    ) -> Result<VersionBody, Problem> {
        self.add_component(access, name, activation, component.into()).await
    }

    /// Adds a component as a version of a plugin, wherever it comes from, and activates it if it passes.
    pub(super) async fn add_component(
        &self,
        access: &Access<ToManage>,
        name: &PluginName,
        Activation { activate, gate: gated_events }: Activation,
        component: NewComponent,
    ) -> Result<VersionBody, Problem> {
        let tenant = &access.tenant;
        let is_first = !self.plugins.exists(tenant, name);
        if activate && (is_first || gated_events.is_none()) {
            let candidate = self.plugins.candidate(access.actor(), tenant, name, component).await?;
            let comparison = match gated_events {
                Some(events) => Some(gate::first_gate(self, tenant, name, &candidate, events).await?),
                None => None,
            };
            let installed = self.plugins.install_candidate(tenant.clone(), name.to_string(), candidate).await?;
            let (version, report) = installed;
            let warnings = self.unfit_configs(tenant, name, report.manifest.as_ref());
            return Ok(VersionBody { comparison, warnings, ..VersionBody::new(version, report) });
        }
        let added = self.plugins.add(access.actor(), tenant.clone(), name.to_string(), component).await?;
        let (mut version, report) = added;
        let comparison = match gated_events {
            Some(events) => {
                let added = VersionId::parse(&version.sha256).map_err(|detail| Problem::field("/sha256", detail))?;
                Some(gate::gate(self, tenant, name, &added, events).await?)
            }
            None => None,
        };
        if activate {
            self.plugins.activate(access.actor(), tenant.clone(), name.to_string(), version.sha256.clone()).await?;
            version.active = true;
        }
        // Without a gate, this version was only added, and with one its configs fit.
        Ok(VersionBody { comparison, ..VersionBody::new(version, report) })
    }

    /// Lists the tenant's plugins, also those of which only a broken file exists.
    pub(crate) async fn list_plugins(&self, access: &Access<ToRead>) -> Result<Vec<PluginBody>, Problem> {
        let plugins = self.store.plugins().await?.into_iter().filter(|plugin| plugin.tenant == access.tenant);
        let origins = self.plugins.origins(&access.tenant);
        fn has_update(origin: &Origin) -> bool {
            LibraryPlugin::has_update(&origin.library, &origin.sha256)
        }
        let body = plugins.map(|plugin| PluginBody {
            library: origins.get(&plugin.name).map(|origin| origin.library.to_string()),
            update_available: origins.get(&plugin.name).is_some_and(has_update),
            title: self.plugins.about(&plugin.tenant, &plugin.name).map(|about| about.title.clone()),
            description: self.plugins.about(&plugin.tenant, &plugin.name).map(|about| about.description.clone()),
            quarantined: QuarantineBody::of(self, &plugin.tenant, &plugin.active_sha256),
            file_problem: self.plugins.file_problem(&plugin.tenant, &plugin.name),
            compiling_since_ms: self.plugins.compiling_since_ms(&plugin.tenant, &plugin.name),
            activated_by: Some(plugin.activated_by),
            name: plugin.name,
            active_sha256: Some(plugin.active_sha256),
            activated_at_ms: Some(plugin.activated_at_ms),
        });
        let mut body: Vec<PluginBody> = body.collect();
        for (name, problem) in self.plugins.broken_files(&access.tenant) {
            if body.iter().all(|plugin| plugin.name != name) {
                body.push(PluginBody {
                    name,
                    title: None,
                    description: None,
                    library: None,
                    update_available: false,
                    active_sha256: None,
                    activated_at_ms: None,
                    activated_by: None,
                    compiling_since_ms: None,
                    quarantined: None,
                    file_problem: Some(problem),
                });
            }
        }
        Ok(body)
    }

    /// Lists the versions of a plugin, newest first.
    pub(crate) async fn list_plugin_versions(
        &self,
        access: &Access<ToRead>,
        name: &PluginName,
    ) -> Result<Vec<VersionBody>, Problem> {
        let versions = self.store.plugin_versions(access.tenant.clone(), name.to_string()).await?;
        if versions.is_empty() {
            return Err(Problem::not_found("plugin"));
        }
        let one = |version: PluginVersion| {
            let report = serde_json::from_str(&version.report).map_err(crate::store::StoreError::from)?;
            let quarantined = QuarantineBody::of(self, &access.tenant, &version.sha256);
            Ok(VersionBody { quarantined, ..VersionBody::new(version, report) })
        };
        versions.into_iter().map(one).collect()
    }

    /// Returns the component of a version, as it was uploaded.
    pub(crate) async fn get_component(
        &self,
        access: &Access<ToManage>,
        name: &PluginName,
        sha256: &VersionId,
    ) -> Result<Bytes, Problem> {
        if !self.store.has_version(access.tenant.clone(), name.to_string(), sha256.to_string()).await? {
            return Err(Problem::not_found("version"));
        }
        Ok(self.store.component(sha256.to_string()).await?)
    }

    /// Activates an earlier version of a plugin, if it passes the gate. A quarantined version requires an admin key, and is released.
    pub(crate) async fn activate_plugin_version(
        &self,
        access: &Access<ToManage>,
        name: &PluginName,
        sha256: &VersionId,
        gated_events: Option<ComparisonSize>,
    ) -> Result<ActivatedBody, Problem> {
        let tenant = &access.tenant;
        if access.key.is_admin() {
            self.plugins.release(tenant, sha256).await?;
        }
        let comparison = match gated_events {
            Some(events) => Some(gate::gate(self, tenant, name, sha256, events).await?),
            None => None,
        };
        let sha256 = sha256.to_string();
        self.plugins.activate(access.actor(), tenant.clone(), name.to_string(), sha256.clone()).await?;
        let manifest = self.plugins.manifest(tenant, name, &sha256).await?;
        let warnings = self.unfit_configs(tenant, name, manifest.as_ref());
        Ok(ActivatedBody { sha256, comparison, warnings })
    }

    /// Deletes a plugin with all its versions. Refused while a subscription uses it.
    pub(crate) async fn delete_plugin(&self, access: &Access<ToManage>, name: &PluginName) -> Result<(), Problem> {
        Ok(self.plugins.delete(access.actor(), access.tenant.clone(), name.to_string()).await?)
    }

    /// Deletes a version of a plugin. Refused while it is active, a subscription is pinned to it, or it is a canary or a shadow.
    pub(crate) async fn delete_plugin_version(
        &self,
        access: &Access<ToManage>,
        name: &PluginName,
        sha256: &VersionId,
    ) -> Result<(), Problem> {
        let tenant = access.tenant.clone();
        Ok(self.plugins.delete_version(access.actor(), tenant, name.to_string(), sha256.to_string()).await?)
    }
}

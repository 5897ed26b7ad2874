//! Library of plugins: those that a tenant can add, and those that it added.
//!
//! # Guarantees
//! - A component of the library is added as an uploaded one: with the same checks, the same gate and the same entry in the change log.
//! - Another version in another program is offered, and never added or activated by itself.
//! - A plugin of the tenant's own that only has the name of one in the library gets no version of it.

use super::{Access, Activation, Operations, Problem, ToManage, ToRead, VersionBody};
use crate::ids::PluginName;
use crate::library::LibraryPlugin;
use crate::plugin::{NewComponent, Origin, Report};
use crate::store::PluginVersion;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Plugin of the library, with the tenant's plugins that were added from it.
#[derive(Serialize, ToSchema)]
pub(crate) struct LibraryPluginBody {
    pub(crate) name: &'static str,
    /// Title: a few words.
    pub(crate) title: &'static str,
    /// Description in one line.
    pub(crate) description: &'static str,
    /// The sha256 of the component in the library.
    pub(crate) sha256: &'static str,
    /// Size of the component, in bytes.
    pub(crate) size: u64,
    /// The tenant's plugins whose active version was added from here.
    pub(crate) added: Vec<AddedPluginBody>,
}

/// Plugin of the tenant that was added from the library.
#[derive(Serialize, ToSchema)]
pub(crate) struct AddedPluginBody {
    /// Name of the tenant's plugin.
    pub(crate) plugin: String,
    /// The sha256 of its active version.
    pub(crate) active_sha256: String,
    /// True if the library has another version.
    pub(crate) update_available: bool,
}

impl LibraryPluginBody {
    fn new(plugin: &'static LibraryPlugin, added: Vec<AddedPluginBody>) -> Self {
        LibraryPluginBody {
            name: plugin.name,
            title: &plugin.title,
            description: &plugin.description,
            sha256: plugin.sha256(),
            size: plugin.size(),
            added,
        }
    }
}

impl LibraryPluginBody {
    /// Returns whether it is an update of this plugin of the tenant.
    pub(crate) fn updates(&self, plugin: &str) -> bool {
        self.added.iter().any(|added| added.plugin == plugin && added.update_available)
    }
}

impl AddedPluginBody {
    fn new(plugin: &str, origin: &Origin) -> Self {
        AddedPluginBody {
            plugin: plugin.to_owned(),
            active_sha256: origin.sha256.to_string(),
            update_available: LibraryPlugin::has_update(&origin.library, &origin.sha256),
        }
    }
}

/// Plugin of the library to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LibraryWrite {
    /// Name of the plugin in the library.
    pub(crate) library: String,
    /// Name of the tenant's plugin. Absent: that in the library.
    pub(crate) name: Option<String>,
}

impl Operations {
    /// Lists the library, by name.
    pub(crate) fn list_library(&self, access: &Access<ToRead>) -> Vec<LibraryPluginBody> {
        let origins = self.plugins.origins(&access.tenant);
        let added = |library: &str| {
            let of_plugin = origins.iter().filter(|(_, origin)| *origin.library == *library);
            of_plugin.map(|(name, origin)| AddedPluginBody::new(name, origin)).collect()
        };
        LibraryPlugin::all().iter().map(|plugin| LibraryPluginBody::new(plugin, added(plugin.name))).collect()
    }

    /// Adds a plugin of the library as a version of a plugin, and activates it if it passes.
    pub(crate) async fn add_library_plugin(
        &self,
        access: &Access<ToManage>,
        LibraryWrite { library, name }: &LibraryWrite,
        activation: Activation,
    ) -> Result<VersionBody, Problem> {
        let plugin = LibraryPlugin::find(library).ok_or_else(|| {
            Problem::field("/library", format!("the library has no plugin {library:?}"))
                .remedy("GET /v1/tenants/{t}/library or `hookloom plugin library` lists its plugins")
        })?;
        let name = PluginName::parse(name.as_deref().unwrap_or(plugin.name));
        let name = name.map_err(|detail| Problem::field("/name", detail))?;
        let versions = self.store.plugin_versions(access.tenant.clone(), name.to_string()).await?;
        if is_taken(plugin, &versions) {
            let detail = format!("this tenant has a plugin {name} that was not added from {library} of the library");
            return Err(Problem::conflict(&detail).remedy("add it under another name"));
        }
        let component = self.cpu.run(Some(&access.tenant), || plugin.component()).await?;
        self.add_component(access, &name, activation, NewComponent::of_library(plugin.name, component)).await
    }
}

/// Returns whether a plugin with these versions is another one than that of the library.
fn is_taken(plugin: &LibraryPlugin, versions: &[PluginVersion]) -> bool {
    !versions.is_empty() && !versions.iter().any(|version| is_of_library(plugin, version))
}

/// Returns whether a version was added from the library, or has the same component.
fn is_of_library(plugin: &LibraryPlugin, version: &PluginVersion) -> bool {
    let report: Option<Report> = serde_json::from_str(&version.report).ok();
    let library = report.and_then(|report| report.library);
    version.sha256 == plugin.sha256() || library.is_some_and(|library| library == plugin.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(sha256: &str, library: Option<&str>) -> PluginVersion {
        let report = Report { library: library.map(str::to_owned), ..Report::default() };
        PluginVersion {
            sha256: sha256.to_owned(),
            size: 1,
            report: serde_json::to_string(&report).expect("JSON"),
            created_at_ms: 0,
            created_by: "key".to_owned(),
            active: true,
        }
    }

    #[track_caller]
    fn check(versions: &[PluginVersion], expected: bool) {
        let plugin = LibraryPlugin::find("flatten").expect("a plugin of the library");
        assert_eq!(is_taken(plugin, versions), expected);
    }

    #[test]
    fn a_name_is_taken_by_a_plugin_of_the_tenants_own() {
        let current = LibraryPlugin::find("flatten").expect("a plugin of the library").sha256();
        check(&[], false);
        check(&[version(current, Some("flatten"))], false);
        check(&[version(current, None)], false);
        check(&[version("own", None), version("older", Some("flatten"))], false);
        check(&[version("own", None)], true);
        check(&[version("other", Some("redact"))], true);
    }
}

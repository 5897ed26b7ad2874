//! Library of plugins on the page of plugins: its rows, and the button that adds one or its update.

use super::forms::Form;
use super::user::TenantUser;
use super::{short, size};
use crate::api::ApiState;
use crate::ids::PluginName;
use crate::library::LibraryPlugin;
use crate::operations::{Activation, AddedPluginBody, LibraryPluginBody, LibraryWrite, Problem};

/// Plugin of the library in the list.
pub(super) struct LibraryRow {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    pub(super) size: String,
    pub(super) added: Vec<AddedPluginBody>,
    /// True if another plugin of the tenant has its name, so that a name must be chosen.
    pub(super) is_name_taken: bool,
    /// Submitted name, which was refused. Empty: none was.
    pub(super) typed: String,
}

impl LibraryRow {
    /// Returns whether it has a button that adds it: not if the tenant has it under its name.
    pub(super) fn needs_button(&self) -> bool {
        self.added.iter().all(|added| added.plugin != self.name)
    }

    pub(super) fn new(
        plugin: LibraryPluginBody,
        user: &TenantUser,
        state: &ApiState,
        fault: Option<(&Form, &Problem)>,
    ) -> Self {
        let refused = fault.filter(|(form, _)| form.get("library") == plugin.name);
        let is_own = plugin.added.iter().any(|added| added.plugin == plugin.name);
        LibraryRow {
            is_name_taken: !is_own && state.operations.plugins.exists(&user.tenant, plugin.name),
            name: plugin.name,
            title: plugin.title,
            description: plugin.description,
            size: size(plugin.size),
            added: plugin.added,
            typed: refused.map(|(form, _)| form.get("name").to_owned()).unwrap_or_default(),
        }
    }
}

/// Adds the plugin that a form names. Returns its name in the tenant.
pub(super) async fn add(user: &TenantUser, state: &ApiState, form: &Form) -> Result<PluginName, Problem> {
    let library = form.get("library");
    let name = if form.get("name").is_empty() { library } else { form.get("name") };
    let name = PluginName::parse(name).map_err(|detail| Problem::field("/name", detail))?;
    add_as(user, state, library, &name, true).await?;
    Ok(name)
}

/// Updates a plugin from the library, or only adds the update as a version. Returns the message about it.
pub(super) async fn update(
    user: &TenantUser,
    state: &ApiState,
    form: &Form,
    name: &PluginName,
) -> Result<&'static str, Problem> {
    let activate = form.get("how") != "add";
    add_as(user, state, form.get("library"), name, activate).await?;
    Ok(if activate {
        "The update is used from the next attempt on."
    } else {
        "The update was added. Compare it, or begin a shadow or a canary."
    })
}

async fn add_as(
    user: &TenantUser,
    state: &ApiState,
    library: &str,
    name: &PluginName,
    activate: bool,
) -> Result<(), Problem> {
    let wanted = LibraryWrite { library: library.to_owned(), name: Some(name.to_string()) };
    let activation = Activation { activate, gate: None };
    state.operations.add_library_plugin(&user.access(state)?, &wanted, activation).await.map(|_| ())
}

/// Origin of a plugin's active version in the library.
pub(super) struct OriginView {
    pub(super) library: String,
    /// Beginning of the sha256 of the library's version, if it is another one.
    pub(super) update: Option<String>,
}

impl OriginView {
    /// Returns the origin of a tenant's plugin. None: its active version was not added from the library.
    pub(super) fn of(state: &ApiState, user: &TenantUser, name: &str) -> Option<Self> {
        let origin = state.operations.plugins.origins(&user.tenant).remove(name)?;
        let library = LibraryPlugin::find(&origin.library)?;
        let is_other = *origin.sha256 != *library.sha256();
        Some(OriginView { library: library.name.to_owned(), update: is_other.then(|| short(library.sha256())) })
    }
}

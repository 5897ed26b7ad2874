//! Differences of a webhook's form in the portal, for customers of a platform.
//!
//! # Guarantees
//! - A customer uploads no plugin and no script. The form takes the tenant's plugins and those of the library, which are added when the
//!   form names them.
//! - What an operator chose stays chosen.

use super::filter_form::COUNT;
use super::form::{WebhookForm, chain_in};
use crate::api::ApiState;
use crate::api::pages::forms::Form;
use crate::api::pages::user::TenantUser;
use crate::event::{HOST_EVENT_NAMES, Module};
use crate::library::LibraryPlugin;
use crate::operations::{Activation, LibraryWrite, Problem};

/// Title of the folded part with the limits of plugins, which are an operator's.
const PLUGIN_CALLS: &str = "Plugin calls";

impl WebhookForm {
    /// Returns the form as a user sees it. A customer is not offered the host's own events, and is offered the plugins of the library.
    pub(super) fn shown_to(mut self, user: &TenantUser) -> Self {
        if !user.user.is_customer() {
            return self;
        }
        self.filter.is_for_customer = true;
        self.modules.retain(|(name, is_chosen)| *is_chosen || !is_hosts_module(name));
        self.events.retain(|(name, is_chosen)| *is_chosen || !is_hosts_event(name));
        // Limits of the host's sandbox. What is stored stays.
        self.parts.retain(|part| part.title != PLUGIN_CALLS);
        let library = LibraryPlugin::all().iter().map(|plugin| plugin.name.to_owned());
        self.plugins.extend(library);
        self.plugins.sort_unstable();
        self.plugins.dedup();
        self
    }
}

/// Returns true if the host makes the events of the module with this name.
pub(super) fn is_hosts_module(name: &str) -> bool {
    Module::parse(name).is_some_and(Module::is_hosts)
}

fn is_hosts_event(name: &str) -> bool {
    HOST_EVENT_NAMES.iter().any(|(hosts, _)| *hosts == name)
}

/// Adds the plugins of the library that a customer's form names and the tenant does not have.
pub(super) async fn add_library_plugins(state: &ApiState, user: &TenantUser, form: &Form) -> Result<(), Problem> {
    if !user.user.is_customer() || form.has(COUNT) {
        return Ok(());
    }
    // A chain that cannot be read is refused with the rest of the form.
    let chain = chain_in(form.get("plugin")).unwrap_or_default();
    for step in &chain.0 {
        let name = step.plugin.as_str();
        if LibraryPlugin::find(name).is_none() || state.operations.plugins.exists(&user.tenant, name) {
            continue;
        }
        let wanted = LibraryWrite { library: name.to_owned(), name: None };
        let activation = Activation { activate: true, gate: None };
        state.operations.add_library_plugin(&user.access(state)?, &wanted, activation).await?;
    }
    Ok(())
}

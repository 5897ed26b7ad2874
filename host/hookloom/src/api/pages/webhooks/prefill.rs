//! Values that another page puts into a webhook's form: a plugin to add, a module, a bin that receives.
//!
//! # Guarantees
//! - Nothing is saved but the bin. A second request for a bin gets the same one, until a webhook uses it.

use super::config_fields::groups;
use super::form::{WebhookForm, chain_in};
use crate::api::ApiState;
use crate::api::pages::forms::as_lines;
use crate::api::pages::user::TenantUser;
use crate::api::pages::{PageError, bin_urls};
use crate::event::Module;
use crate::inspector::{Bin, BinSettings};
use crate::operations::Problem;
use crate::subscription::{Subscription, TenantId};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Field of the button that fills in the URL of a bin and saves nothing.
pub(super) const RECEIVE: &str = "receive";

/// Name of a bin that the button makes.
const BIN_NAME: &str = "Receiver of a webhook";

/// Query of a page with the form.
#[derive(Default, Deserialize)]
pub(in crate::api::pages) struct PrefillParams {
    /// Plugin to add to the chain.
    #[serde(default)]
    plugin: Option<String>,
    /// Module to tick.
    #[serde(default)]
    module: Option<String>,
}

impl PrefillParams {
    /// Returns true if a plugin is to be added.
    pub(super) fn has_plugin(&self) -> bool {
        self.plugin.is_some()
    }
}

impl WebhookForm {
    /// Puts values of a query into the form.
    pub(super) async fn prefilled(
        mut self,
        state: &ApiState,
        tenant: &TenantId,
        saved: Option<&Subscription>,
        params: &PrefillParams,
    ) -> Result<Self, PageError> {
        if let Some(module) = params.module.as_deref().and_then(Module::parse) {
            for (name, is_ticked) in &mut self.modules {
                *is_ticked |= *name == module.as_str();
            }
        }
        let Some(plugin) = params.plugin.as_deref() else { return Ok(self) };
        let chain = chain_in(&self.plugin).unwrap_or_default();
        if chain.names(plugin) || !state.operations.plugins.exists(tenant, plugin) {
            return Ok(self);
        }
        let separator = if self.plugin.is_empty() { "" } else { ", " };
        self.plugin = format!("{}{separator}{plugin}", self.plugin);
        let chain = chain_in(&self.plugin).map_err(|detail| Problem::field("/plugin", detail))?;
        let mut config = saved.map_or_else(BTreeMap::new, |saved| saved.settings.config.clone());
        self.groups = groups(state, tenant, &chain, &mut config, None).await?;
        self.config = as_lines(&config);
        self.added_plugin = Some(plugin.to_owned());
        Ok(self)
    }
}

/// Returns the URL of a bin for a webhook that is not saved yet.
pub(super) async fn receiver_url(state: &ApiState, user: &TenantUser) -> Result<String, PageError> {
    let subscriptions = state.operations.store.catalog().subscriptions(&user.tenant);
    let is_free = |bin: &Bin| {
        let url = bin_urls::internal_url(&bin.id, state);
        bin.settings.name == BIN_NAME && subscriptions.iter().all(|one| one.settings.notify_url != url)
    };
    let bins = state.operations.store.bins(user.tenant.clone()).await?;
    if let Some(bin) = bins.into_iter().find(is_free) {
        return Ok(bin_urls::internal_url(&bin.id, state));
    }
    let wanted = BinSettings { name: BIN_NAME.to_owned(), ..BinSettings::default() };
    let made = state.operations.create_bin(&user.access(state)?, wanted).await?;
    Ok(bin_urls::internal_url(&made.id, state))
}

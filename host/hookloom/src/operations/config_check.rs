//! Checks of configurations by the manifests of plugins.
//!
//! # Guarantees
//! - A subscription is written only if its configuration fits the manifest of each plugin of its chain: of the pinned version, or of the
//!   active one. Plugins without a manifest accept everything.
//! - The activation of a version says which configurations in use do not fit it, and a gate refuses such a version.
//!
//! # Limits
//! The versions of canaries and shadows are not looked at.

use super::{FieldFault, Operations, Problem};
use crate::manifest::{ChainConfig, Manifest};
use crate::subscription::{Settings, TenantId};

/// Maximum number of configurations that an answer names.
const NAMED_MAX: usize = 20;

impl Operations {
    /// Returns the faults of a subscription's configuration.
    pub(super) async fn config_faults(
        &self,
        tenant: &TenantId,
        settings: &Settings,
    ) -> Result<Vec<FieldFault>, Problem> {
        let mut chain = ChainConfig::default();
        for step in &settings.plugin.0 {
            chain.add(step.plugin.as_str(), self.plugins.config_schema(tenant, step).await?);
        }
        let faults = chain.faults(&settings.config).into_iter();
        Ok(faults.map(|fault| FieldFault { pointer: fault.pointer(), detail: fault.detail }).collect())
    }

    /// Returns a warning for each subscription with the active version of a plugin whose configuration does not fit a manifest.
    pub(super) fn unfit_configs(&self, tenant: &TenantId, name: &str, manifest: Option<&Manifest>) -> Vec<String> {
        let Some(schema) = manifest.and_then(|manifest| manifest.schema().ok()) else { return Vec::new() };
        let mut warnings = Vec::new();
        let mut more = 0;
        for subscription in self.store.catalog().subscriptions(tenant).iter() {
            let settings = &subscription.settings;
            if !settings.plugin.0.iter().any(|step| step.plugin == *name && step.pin.is_none()) {
                continue;
            }
            let faults = schema.faults(&settings.config);
            let Some(first) = faults.first() else { continue };
            if warnings.len() == NAMED_MAX {
                more += 1;
                continue;
            }
            let id = subscription.id;
            warnings.push(format!(
                "the config of the subscription {id} does not fit this version: {}: {}",
                first.pointer(),
                first.detail
            ));
        }
        if more > 0 {
            warnings.push(format!("the configs of {more} more subscriptions do not fit this version"));
        }
        warnings
    }
}

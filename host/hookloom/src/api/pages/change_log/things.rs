//! Things that entries of the log are about: their present names, and the pages that show them.

use crate::api::ApiState;
use crate::api::pages::{bins_view, webhook_words};
use crate::delivery::DeliveryId;
use crate::ids::PluginName;
use crate::operations::Problem;
use crate::store::Change;
use crate::subscription::{SubscriptionId, TenantId};
use crate::url_path::UrlPath;
use std::collections::HashMap;

/// Name and page of a thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Thing {
    pub(super) name: String,
    /// Empty: there is no page, or the thing is gone.
    pub(super) href: String,
}

/// Things that exist, by the kind of the entry and its subject.
#[derive(Default)]
pub(super) struct Things(HashMap<(&'static str, String), Thing>);

impl Things {
    /// Finds the things of these entries that exist.
    pub(super) async fn of(state: &ApiState, tenant: &TenantId, changes: &[Change]) -> Result<Things, Problem> {
        let mut things = Things::default();
        let pages = UrlPath::pages_of(tenant);
        let store = &state.operations.store;
        let has_bins = changes.iter().any(|change| change.action.starts_with("bin."));
        let bins = if has_bins { store.bins(tenant.clone()).await? } else { Vec::new() };
        for bin in bins {
            let href = pages.clone().then("bins").then(&bin.id).to_string();
            things.add("bin", bin.id.to_string(), Thing { name: bins_view::name(&bin), href });
        }
        for token in store.catalog().tokens(tenant) {
            let name = if token.label.is_empty() { format!("{}…", token.hint) } else { token.label.clone() };
            let href = format!("{}#tokens", pages.clone().then("access"));
            things.add("intake-token", token.id.to_string(), Thing { name, href });
        }
        for change in changes {
            things.find(state, tenant, change);
        }
        Ok(things)
    }

    /// Finds the webhook, the plugin or the tenant of an entry.
    fn find(&mut self, state: &ApiState, tenant: &TenantId, change: &Change) {
        let pages = UrlPath::pages_of(tenant);
        let subject = &change.subject;
        match change.action.split('.').next() {
            Some("subscription") => {
                let id = subject.parse().ok().map(SubscriptionId);
                let found = id.and_then(|id| state.operations.store.catalog().subscription(tenant, id));
                if let Some(webhook) = found {
                    let href = pages.then("webhooks").then(&webhook.id).to_string();
                    let name = webhook_words::name(&webhook);
                    self.add("subscription", subject.clone(), Thing { name, href });
                }
            }
            Some("plugin") if state.operations.plugins.exists(tenant, subject) => {
                if let Ok(name) = PluginName::parse(subject) {
                    let href = pages.then("plugins").then(&name).to_string();
                    self.add("plugin", subject.clone(), Thing { name: subject.clone(), href });
                }
            }
            Some("delivery") => {
                // It may have been pruned, and its page says so then.
                if let Ok(id) = subject.parse().map(DeliveryId) {
                    let href = pages.then("deliveries").then(&id).to_string();
                    self.add("delivery", subject.clone(), Thing { name: end_of(subject), href });
                }
            }
            Some("tenant") => {
                let id = TenantId::parse(subject).ok();
                if let Some(id) = id.filter(|id| state.operations.store.catalog().tenant(id).is_some()) {
                    let href = UrlPath::root().then("tenants").then(&id).to_string();
                    self.add("tenant", subject.clone(), Thing { name: subject.clone(), href });
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, kind: &'static str, subject: String, thing: Thing) {
        self.0.insert((kind, subject), thing);
    }

    /// Returns a thing of an entry. None: it does not exist any more.
    pub(super) fn get(&self, kind: &'static str, subject: &str) -> Option<&Thing> {
        self.0.get(&(kind, subject.to_owned()))
    }
}

/// Returns the end of an id, by which things without a name are told apart. The beginning of an id is its time.
pub(super) fn end_of(id: &str) -> String {
    let tail: String = id.chars().rev().take(12).collect();
    tail.chars().rev().collect()
}

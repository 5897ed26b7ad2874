//! Names of webhooks on the pages. Pure.

use crate::subscription::Subscription;

/// Returns the name of a subscription on the pages.
pub(super) fn name(subscription: &Subscription) -> String {
    match subscription.settings.description.as_str() {
        "" => without_query(&subscription.settings.notify_url),
        description => description.to_owned(),
    }
}

/// Returns a URL without its query, which may contain keys, for lists that others may see.
pub(super) fn without_query(url: &str) -> String {
    match url.split_once('?') {
        Some((before, _)) => format!("{before}?…"),
        None => url.to_owned(),
    }
}

/// Returns the modules of a webhook as a text.
pub(super) fn modules(subscription: &Subscription) -> String {
    subscription.settings.modules.iter().map(|module| module.as_str()).collect::<Vec<_>>().join(", ")
}

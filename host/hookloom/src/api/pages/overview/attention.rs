//! List of things that need attention: a sentence for each, with the one action that helps, the most urgent first.
//!
//! # Guarantees
//! - A subject with an open incident has one item, that of the incident.
//! - The reads are bounded, and are of this tenant only. Hosts are shown to admins only.
//!
//! # Limits
//! - A webhook fails by its attempts of the last day, unless half of those of the last two hours succeeded. One that fails by faults of its
//!   plugin alone is left out, because the plugin is shown.
//! - A canary that the host has taken back is shown for [`TAKEN_BACK_SHOWN_MS`] after its last percentage began.

use super::items::{
    AttentionItem, broken_file, damage, faults, halted, hosts, incident, quarantine, refused_requests, share, webhook,
};
use crate::api::ApiState;
use crate::api::pages::PageError;
use crate::api::pages::chart::{DAY_S, HOUR_S};
use crate::api::pages::user::TenantUser;
use crate::api::pages::webhooks::health::WebhookHealth;
use crate::api::pages::webhooks::list::{health, next_try};
use crate::clock::now_ms;
use crate::figures::Figures;
use crate::store::{DamageReport, Halt, HaltedVersion, SpanFigures, Usage};
use crate::subscription::{Subscription, SubscriptionId};
use hookloom_model::alerts::{Incident, IncidentKind};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Number of items on the page, unless all are asked for.
const SHOWN: usize = 8;

/// Maximum number of items on the page.
const SHOWN_MAX: usize = 200;

/// Number of the newest refused requests that are counted.
const REFUSED_COUNTED: usize = 100;

const DAY_MS: i64 = DAY_S * 1_000;

/// Time for which a canary that was taken back is shown, in milliseconds.
const TAKEN_BACK_SHOWN_MS: i64 = 14 * DAY_MS;

/// Items on the page.
pub(super) struct Attention {
    pub(super) items: Vec<AttentionItem>,
    /// Number of items that are left out.
    pub(super) more: usize,
}

/// Figures that the page has read already.
pub(super) struct AttentionFigures<'a> {
    /// Those of the last day, by the hour.
    pub(super) day: &'a [SpanFigures],
    pub(super) usage: &'a Usage,
    pub(super) damage: &'a DamageReport,
}

impl Attention {
    /// Reads what is wrong with a tenant. `all` shows more of it.
    pub(super) async fn of(
        user: &TenantUser,
        state: &ApiState,
        figures: AttentionFigures<'_>,
        all: bool,
    ) -> Result<Attention, PageError> {
        let tenant = &user.tenant;
        let store = &state.operations.store;
        let now_ms = now_ms();
        let mut incidents = store.live_incidents(tenant.clone()).await?;
        incidents.retain(Incident::is_open);
        let known = OpenSubjects::of(&incidents);
        let mut items: Vec<AttentionItem> = incidents.iter().map(|one| incident(tenant, one)).collect();
        items.extend(damage(figures.damage));
        items.extend(webhooks(state, user, figures.day, &known, now_ms));
        let halted_versions = store.halted_versions(tenant.clone(), now_ms - TAKEN_BACK_SHOWN_MS).await?;
        items.extend(plugins(state, user, &halted_versions, figures.day, &known, now_ms));
        if !known.has_kind(IncidentKind::ShareFilling) {
            items.extend(share(figures.usage));
        }
        let mut refused = store.rejected_requests(tenant.clone(), None, REFUSED_COUNTED).await?;
        refused.retain(|one| one.received_at_ms > now_ms - DAY_MS);
        items.extend(refused_requests(tenant, &refused, REFUSED_COUNTED));
        if user.user.key.is_admin() && state.operations.config.store.postgres().is_some() {
            items.extend(hosts(&store.fleet().await?, now_ms - DAY_MS));
        }
        Ok(Attention::sorted(items, if all { SHOWN_MAX } else { SHOWN }))
    }

    /// Sorts items by their urgency, and leaves out those that are too many.
    fn sorted(mut items: Vec<AttentionItem>, shown: usize) -> Attention {
        items.sort_by_key(|one| one.urgency);
        let more = items.len().saturating_sub(shown);
        items.truncate(shown);
        Attention { items, more }
    }
}

/// Subjects of open incidents.
struct OpenSubjects<'a>(HashSet<(IncidentKind, &'a str)>);

impl<'a> OpenSubjects<'a> {
    fn of(incidents: &'a [Incident]) -> OpenSubjects<'a> {
        OpenSubjects(incidents.iter().map(|one| (one.kind, one.subject.as_str())).collect())
    }

    fn has(&self, kind: IncidentKind, subject: &str) -> bool {
        self.0.contains(&(kind, subject))
    }

    fn has_kind(&self, kind: IncidentKind) -> bool {
        self.0.iter().any(|(known, _)| *known == kind)
    }

    fn has_webhook(&self, id: SubscriptionId) -> bool {
        let id = id.to_string();
        [IncidentKind::WebhookFailing, IncidentKind::WebhookStopped].into_iter().any(|kind| self.has(kind, &id))
    }
}

/// Figures of a webhook.
#[derive(Default)]
struct WebhookSums {
    day: Figures,
    /// Those of this hour and the one before.
    recent: Figures,
}

fn is_recent(span: &SpanFigures, now_ms: i64) -> bool {
    span.at_s >= now_ms / 1_000 - 2 * HOUR_S
}

fn webhooks(
    state: &ApiState,
    user: &TenantUser,
    day: &[SpanFigures],
    known: &OpenSubjects<'_>,
    now_ms: i64,
) -> Vec<AttentionItem> {
    let mut sums: HashMap<SubscriptionId, WebhookSums> = HashMap::new();
    for span in day {
        let of = sums.entry(span.subscription).or_default();
        of.day.merge(&span.figures);
        if is_recent(span, now_ms) {
            of.recent.merge(&span.figures);
        }
    }
    let pending = state.operations.store.pending(&user.tenant);
    let none = WebhookSums::default();
    let mut items = Vec::new();
    for one in state.operations.store.catalog().subscriptions(&user.tenant).iter() {
        if known.has_webhook(one.id) {
            continue;
        }
        let WebhookSums { day, recent } = sums.get(&one.id).unwrap_or(&none);
        let health = health(state, one, day);
        // The item of the plugin has the action that helps.
        let by_plugin = recent.faults.values().sum::<u64>() > 0 && day.faults.values().sum::<u64>() >= day.failed;
        if health == WebhookHealth::Failing && by_plugin {
            continue;
        }
        let waits = pending.get(&one.id).copied().unwrap_or_default();
        let item = webhook(one, health, [day, recent], waits);
        items.extend(item.map(|item| match next_try(state, one.id, health) {
            Some(at) => item.noting("next attempt", at),
            None => item.noting_since(one.failing_since_ms),
        }));
    }
    items
}

fn plugins(
    state: &ApiState,
    user: &TenantUser,
    halted_versions: &[HaltedVersion],
    day: &[SpanFigures],
    known: &OpenSubjects<'_>,
    now_ms: i64,
) -> Vec<AttentionItem> {
    let tenant = &user.tenant;
    let is_known = |name: &str, sha256: &str| known.has(IncidentKind::PluginFaulting, &format!("{name}@{sha256}"));
    let mut items = Vec::new();
    for one in halted_versions {
        if one.halt == Halt::TakenBack || !is_known(&one.name, &one.sha256) {
            items.push(halted(tenant, one));
        }
    }
    for (name, sha256) in pinned_versions(&state.operations.store.catalog().subscriptions(tenant)) {
        let is_listed = halted_versions.iter().any(|one| one.halt == Halt::Quarantined && one.sha256 == sha256);
        if let Some(found) = state.operations.plugins.quarantine(tenant, &sha256)
            && !is_listed
            && !is_known(&name, &sha256)
        {
            items.push(quarantine(tenant, &name, &sha256, &found.reason));
        }
    }
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (version, count) in day.iter().filter(|span| is_recent(span, now_ms)).flat_map(|span| &span.figures.faults) {
        *counts.entry(version).or_default() += count;
    }
    for (version, count) in counts {
        let Some((name, sha256)) = version.split_once('@') else { continue };
        let is_quarantined = state.operations.plugins.quarantine(tenant, sha256).is_some();
        if !is_quarantined && !is_known(name, sha256) && state.operations.plugins.exists(tenant, name) {
            items.push(faults(tenant, name, sha256, count));
        }
    }
    items.extend(
        state.operations.plugins.broken_files(tenant).iter().map(|(name, problem)| broken_file(tenant, name, problem)),
    );
    items
}

/// Returns the names and versions that webhooks are pinned to, each once.
fn pinned_versions(subscriptions: &[std::sync::Arc<Subscription>]) -> Vec<(String, String)> {
    let steps = subscriptions.iter().flat_map(|one| &one.settings.plugin.0);
    let mut pinned: Vec<(String, String)> =
        steps.filter_map(|step| Some((step.plugin.to_string(), step.pin.as_ref()?.to_string()))).collect();
    pinned.sort_unstable();
    pinned.dedup();
    pinned
}

#[cfg(test)]
mod tests {
    use super::super::items::Urgency;
    use super::*;

    #[test]
    fn the_most_urgent_come_first_and_the_others_are_counted() {
        fn item(urgency: Urgency, sentence: &str) -> AttentionItem {
            AttentionItem::new(urgency, sentence.to_owned(), "/".to_owned(), "Open")
        }
        fn items() -> Vec<AttentionItem> {
            vec![
                item(Urgency::Notice, "a"),
                item(Urgency::Warning, "b"),
                item(Urgency::Critical, "c"),
                item(Urgency::Warning, "d"),
            ]
        }
        #[track_caller]
        fn check(attention: &Attention, sentences: &[&str], more: usize) {
            let found: Vec<&str> = attention.items.iter().map(|one| one.sentence.as_str()).collect();
            assert_eq!((found.as_slice(), attention.more), (sentences, more));
        }
        check(&Attention::sorted(items(), 8), &["c", "b", "d", "a"], 0);
        check(&Attention::sorted(items(), 2), &["c", "b"], 2);
        check(&Attention::sorted(Vec::new(), 2), &[], 0);
    }
}

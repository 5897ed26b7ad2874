//! Figures of a tenant, as readings that the rules of alerts judge.
//!
//! # Cost
//! Figures are added up once for all webhooks and plugins, so that the time grows with their number and not with its square.

use crate::{EventFilter, SpanFigures, Store, StoreError};
use hookloom_model::alerts::{
    Incident, IncidentKind, IntakeReading, PluginReading, RECENT_S, Rate, Reading, ShareReading, WINDOW_S,
    WebhookReading, WebhookState,
};
use hookloom_model::figures::Figures;
use hookloom_model::pauses;
use hookloom_model::subscription::{Subscription, SubscriptionId, SubscriptionState, Tenant, TenantId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Number of the newest events among which the newest one of a sender is found: the host's own are few.
const NEWEST_EVENTS: usize = 50;

/// Attempts of a webhook.
#[derive(Clone, Copy, Default)]
struct Rates {
    window: Rate,
    recent: Rate,
}

/// Sums of the figures of [`WINDOW_S`].
#[derive(Default)]
struct Sums {
    webhooks: HashMap<SubscriptionId, Rates>,
    /// Number of faults, by `NAME@SHA256`.
    faults: BTreeMap<String, u64>,
    /// Number of attempts without a fault, by the name of a plugin.
    judged: HashMap<String, u64>,
}

impl Sums {
    fn of(spans: &[SpanFigures], now_s: i64) -> Sums {
        let mut sums = Sums::default();
        for span in spans {
            let rates = sums.webhooks.entry(span.subscription).or_default();
            add(&mut rates.window, &span.figures);
            if span.at_s >= now_s - RECENT_S {
                add(&mut rates.recent, &span.figures);
            }
            for (subject, count) in &span.figures.faults {
                *sums.faults.entry(subject.clone()).or_default() += count;
            }
            for plugin in span.plugin.split('+').filter(|name| !name.is_empty()) {
                let judged = span.figures.delivered + span.figures.dropped;
                *sums.judged.entry(plugin.to_owned()).or_default() += judged;
            }
        }
        sums
    }
}

fn add(rate: &mut Rate, figures: &Figures) {
    rate.succeeded += figures.delivered + figures.dropped;
    rate.failed += figures.failed;
}

impl Store {
    /// Returns the readings of a tenant.
    pub(super) async fn alert_readings(
        &self,
        tenant: &Tenant,
        live: &[Incident],
        now_s: i64,
    ) -> Result<Vec<Reading>, StoreError> {
        let id = &tenant.id;
        let sums = Sums::of(&self.figures(id.clone(), now_s - WINDOW_S).await?, now_s);
        let subscriptions = self.catalog().subscriptions(id);
        let mut readings: Vec<Reading> =
            subscriptions.iter().map(|one| Reading::Webhook(webhook(one, &sums))).collect();
        let has_live_plugin = live.iter().any(|one| one.kind == IncidentKind::PluginFaulting);
        if has_live_plugin || subscriptions.iter().any(|one| !one.settings.plugin.0.is_empty()) {
            let plugins = self.plugin_readings(id, &subscriptions, &sums).await?;
            readings.extend(plugins.into_iter().map(Reading::Plugin));
        }
        let usage = self.backend.usage(id.clone()).await?;
        readings.push(Reading::Share(ShareReading {
            events: usage.events,
            events_max: usage.events_max,
            bytes: usage.bytes,
            bytes_max: usage.bytes_max,
        }));
        if tenant.alerts.intake_silent.after_hours.is_some() {
            let filter = EventFilter { limit: NEWEST_EVENTS, ..EventFilter::default() };
            let events = self.backend.events(id.clone(), filter).await?;
            let newest = events.iter().find(|one| !one.module.is_hosts());
            readings.push(Reading::Intake(IntakeReading { last_event_at_ms: newest.map(|one| one.received_at_ms) }));
        }
        Ok(readings)
    }

    /// Returns the readings of the versions that are active, pinned, or have faulted.
    async fn plugin_readings(
        &self,
        tenant: &TenantId,
        subscriptions: &[Arc<Subscription>],
        sums: &Sums,
    ) -> Result<Vec<PluginReading>, StoreError> {
        let stored = self.backend.tenant_plugins(tenant.clone()).await?;
        let mut used: BTreeSet<(String, String)> =
            stored.active.iter().map(|one| (one.name.clone(), one.sha256.clone())).collect();
        let steps = subscriptions.iter().flat_map(|one| &one.settings.plugin.0);
        used.extend(steps.filter_map(|one| Some((one.plugin.to_string(), one.pin.as_ref()?.to_string()))));
        let faulted = sums.faults.keys().filter_map(|subject| subject.split_once('@'));
        used.extend(faulted.map(|(name, sha256)| (name.to_owned(), sha256.to_owned())));
        let reading = |(name, sha256): (String, String)| PluginReading {
            faults: sums.faults.get(&PluginReading::subject(&name, &sha256)).copied().unwrap_or_default(),
            judged: sums.judged.get(&name).copied().unwrap_or_default(),
            quarantined: stored.quarantined.iter().find(|one| one.sha256 == sha256).map(|one| one.reason.clone()),
            name,
            sha256,
        };
        Ok(used.into_iter().map(reading).collect())
    }
}

fn webhook(subscription: &Subscription, sums: &Sums) -> WebhookReading {
    let reason = subscription.state_reason.clone().unwrap_or_default();
    let rates = sums.webhooks.get(&subscription.id).copied().unwrap_or_default();
    WebhookReading {
        id: subscription.id,
        name: subscription.settings.short_name(),
        state: match subscription.state {
            SubscriptionState::Active => WebhookState::Active,
            SubscriptionState::Disabled => WebhookState::Disabled(reason),
            SubscriptionState::Paused if reason.starts_with(pauses::BY_HOST) => WebhookState::PausedByHost(reason),
            SubscriptionState::Paused => WebhookState::PausedByOperator,
        },
        failing_since_ms: subscription.failing_since_ms,
        window: rates.window,
        recent: rates.recent,
    }
}

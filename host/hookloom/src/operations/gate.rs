//! Promotion gate, and the events on which versions are compared.
//!
//! # Guarantees
//! - A gate fails if nothing could be judged, if the version fails on an event that the active version can judge, or if its manifest
//!   refuses a config in use.
//! - Real events come first: those of the plugin's subscriptions, then the tenant's others of the same modules. Samples are used
//!   only if there are none. The answer says which events were judged.

use super::{Operations, Problem, UpTo};
use crate::event::{Event, EventId, Module, sample_events};
use crate::ids::{PluginName, VersionId};
use crate::plugin::{Candidate, ComparedEvent, Comparison, EventSource};
use crate::subscription::{CallSettings, Subscription, SubscriptionId, TenantId};
use crate::url_path::UrlPath;
use http::StatusCode;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Number of events that one comparison judges.
pub(crate) type ComparisonSize = UpTo<500>;

/// Modules of the events for a plugin without subscriptions.
const MODULES: [Module; 2] = [Module::Contact, Module::Deal];

/// Returns the events on which a version of a plugin is tried.
pub(crate) async fn events_for(
    operations: &Operations,
    tenant: &TenantId,
    name: &str,
    limit: usize,
) -> Result<Vec<ComparedEvent>, Problem> {
    let all = operations.store.catalog().subscriptions(tenant);
    let users: HashMap<SubscriptionId, Arc<Subscription>> =
        all.iter().filter(|one| one.settings.plugin.names(name)).map(|one| (one.id, one.clone())).collect();
    let of_plugin = operations.store.last_events_of(tenant.clone(), users.keys().copied().collect(), limit).await?;
    let mut judged = Vec::new();
    for (event, id) in of_plugin {
        let subscription = users.get(&id).cloned();
        judged.extend(subscription.map(|subscription| of(event, subscription, EventSource::Subscription)));
    }
    let mut modules: Vec<Module> = users.values().flat_map(|one| one.settings.modules.iter().copied()).collect();
    modules.sort_unstable();
    modules.dedup();
    if modules.is_empty() {
        modules = MODULES.to_vec();
    }
    let nobody = Arc::new(Subscription::passing(tenant.clone(), CallSettings::default()));
    let judge_of = |module: Module| {
        let user = users.values().filter(|one| one.settings.modules.contains(&module)).min_by_key(|one| one.id.0);
        user.unwrap_or(&nobody).clone()
    };
    if judged.len() < limit {
        let seen: HashSet<EventId> = judged.iter().map(|one| one.event.id).collect();
        let others = operations.store.recent_events(tenant.clone(), modules.clone(), limit).await?;
        let others = others.into_iter().filter(|event| !seen.contains(&event.id)).take(limit - judged.len());
        judged.extend(others.map(|event| {
            let subscription = judge_of(event.module);
            of(event, subscription, EventSource::Tenant)
        }));
    }
    if judged.is_empty() {
        let samples = sample_events().into_iter().filter(|sample| modules.contains(&sample.module));
        judged.extend(samples.map(|event| {
            let subscription = judge_of(event.module);
            of(Arc::new(event), subscription, EventSource::Sample)
        }));
        for module in modules.iter().filter(|module| module.is_hosts()) {
            let subscription = judge_of(*module);
            let mut samples = operations.accepted_samples_for(&subscription).into_iter();
            let sample = samples.find(|sample| sample.module == *module);
            judged.extend(sample.map(|event| of(Arc::new(event), subscription, EventSource::Sample)));
        }
    }
    Ok(judged)
}

fn of(event: Arc<Event>, subscription: Arc<Subscription>, source: EventSource) -> ComparedEvent {
    ComparedEvent { event, subscription, source }
}

/// Compares a version with the active one over the last events.
pub(crate) async fn compare(
    operations: &Operations,
    tenant: &TenantId,
    name: &str,
    sha256: &str,
    limit: ComparisonSize,
) -> Result<Comparison, Problem> {
    let events = events_for(operations, tenant, name, limit.get()).await?;
    Ok(operations.plugins.compare(tenant, name, sha256, events).await?)
}

/// Runs the gate of a stored version.
pub(crate) async fn gate(
    operations: &Operations,
    tenant: &TenantId,
    name: &PluginName,
    sha256: &VersionId,
    limit: ComparisonSize,
) -> Result<Comparison, Problem> {
    let comparison = compare(operations, tenant, name, sha256, limit).await?;
    let manifest = operations.plugins.manifest(tenant, name, sha256).await?;
    let unfit = operations.unfit_configs(tenant, name, manifest.as_ref());
    if !unfit.is_empty() {
        let detail = format!("version {sha256} was kept but not activated: {}", unfit.join("; "));
        let remedy = "change the config of these subscriptions, and activate it again; without a gate it is activated in any case";
        return Err(failed(detail).remedy(remedy));
    }
    let Some(objection) = comparison.objection() else { return Ok(comparison) };
    let path = UrlPath::api_of(tenant).then("plugins").then(name).then("versions").then(sha256).then("compare");
    let detail = format!("version {sha256} was kept but not activated: {objection}");
    Err(failed(detail).remedy(format!("POST {path} shows the differences; without a gate it is activated in any case")))
}

/// Runs the gate of a plugin's first version, which is stored only if it passes.
pub(crate) async fn first_gate(
    operations: &Operations,
    tenant: &TenantId,
    name: &PluginName,
    candidate: &Candidate,
    limit: ComparisonSize,
) -> Result<Comparison, Problem> {
    let events = events_for(operations, tenant, name, limit.get()).await?;
    let comparison = operations.plugins.evaluate_first_version(tenant, name, candidate, events).await?;
    let Some(objection) = comparison.objection() else { return Ok(comparison) };
    let detail = format!("the plugin {name} was not made with version {}: {objection}", candidate.sha256());
    Err(failed(detail)
        .remedy("correct it, or upload it without a gate: config comes with the first webhook that uses it"))
}

fn failed(detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "gate-failed", detail)
}

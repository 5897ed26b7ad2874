//! The way of one event through the plugins of a subscription: which versions judge, what they may know and use, and
//! what follows their judgement.
//!
//! What happens on the plugin thread stands in [`chain`]; here is what surrounds it.

use super::Plugins;
use super::call::NotCalled;
use super::chain::{self, ChainStep, ShadowWork};
use super::judgement::{Judged, PluginFault, PluginInput};
use super::rollout::Rollout;
use super::runtime::{Version, VersionRef};
use crate::chain::Step;
use crate::delivery::Arm;
use crate::event::Event;
use crate::limits::Limits;
use crate::store::{StoreError, now_ms};
use crate::subscription::{Subscription, TenantId};
use crate::telemetry;
use std::sync::Arc;

/// Whether calls are counted in the metrics: those of deliveries are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Metrics {
    Count,
    Leave,
}

impl Plugins {
    /// Judges an event for a subscription with the plugins that it names, and with what was accepted before it.
    pub async fn judge(self: &Arc<Self>, event: Arc<Event>, subscription: Arc<Subscription>) -> Judged {
        let steps = match self.plan(&event, &subscription).await {
            Ok(steps) => steps,
            Err(missing) => return missing,
        };
        let reads_history = steps.iter().any(PlannedStep::reads_history);
        match self.plugin_input(event, subscription, reads_history).await {
            Ok(input) => self.ask(steps, input, Metrics::Count).await,
            Err(error) => {
                tracing::error!(error = %crate::describe(&error), "the previous event of an entity could not be read");
                shortage(&steps)
            }
        }
    }

    /// The same with a past that is given, for nobody but who asks: no trial and no metric counts it.
    pub async fn judge_with(self: &Arc<Self>, input: PluginInput) -> Judged {
        match self.plan(&input.event, &input.subscription).await {
            Ok(steps) => {
                let steps = steps.into_iter().map(PlannedStep::without_rollout).collect();
                let subscription = self.bounded(input.subscription);
                self.ask(steps, PluginInput { subscription, ..input }, Metrics::Leave).await
            }
            Err(missing) => missing,
        }
    }

    /// The versions that judge, in order; a fault if one is not there.
    async fn plan(&self, event: &Event, subscription: &Subscription) -> Result<Vec<PlannedStep>, Judged> {
        let mut steps = Vec::new();
        for step in &subscription.settings.plugin.0 {
            steps.push(self.planned(step, event, subscription).await.ok_or_else(|| missing(&step.plugin, None))?);
        }
        Ok(steps)
    }

    async fn ask(self: &Arc<Self>, steps: Vec<PlannedStep>, input: PluginInput, metrics: Metrics) -> Judged {
        let steps = Arc::new(steps);
        let versions = steps.iter().flat_map(PlannedStep::versions).cloned().collect();
        let (asked, planned, pool) = (input.clone(), steps.clone(), self.runtime.pool.clone());
        let trials: Vec<Arc<Rollout>> = steps.iter().filter_map(|step| step.rollout.clone()).collect();
        let judge = move |code: Vec<Arc<Version>>| {
            let mut code = code.into_iter();
            let chain_steps: Option<Vec<ChainStep>> = planned.iter().map(|step| step.with_code(&mut code)).collect();
            Some(chain::judge(&chain_steps?, &asked, &pool))
        };
        let (mut judged, shadows) = match self.call(&input.subscription.tenant, versions, judge).await {
            Ok(Some(judged)) => judged,
            Ok(None) | Err(NotCalled::Shortage) => return shortage(&steps),
            Err(NotCalled::NotLoaded(sha256)) => {
                let step = steps.iter().find(|step| step.versions().any(|version| version.sha256 == sha256));
                return missing(step.map_or("", |step| &step.plugin), Some(sha256.to_string()));
            }
        };
        let limit = input.subscription.settings.limits.log_bytes_per_minute;
        self.log_budget.trim(input.subscription.id, limit, now_ms(), &mut judged.log);
        self.after(trials, shadows, &input);
        for step in judged.steps.iter().filter(|_| metrics == Metrics::Count) {
            telemetry::judged(&input.subscription.tenant, &step.plugin, &step.verdict, step.cost.wall_us);
        }
        judged
    }

    /// An event with what was accepted before it, for a subscription whose limits the host allows.
    pub(super) async fn plugin_input(
        &self,
        event: Arc<Event>,
        subscription: Arc<Subscription>,
        reads_history: bool,
    ) -> Result<PluginInput, StoreError> {
        let previous = match reads_history {
            true => self.store.previous(subscription.tenant.clone(), &event).await?,
            false => None,
        };
        // An older host accepted what no plugin can read. Its plugins failed at it; a later event must not fail for it too.
        let previous = previous.filter(|previous| previous.is_readable());
        Ok(PluginInput { previous, ..PluginInput::new(event, self.bounded(subscription)) })
    }

    /// The most that a tenant may give its plugins: the host's maxima, or its own where they are lower.
    pub fn limits_max(&self, tenant: &TenantId) -> Limits {
        let own = self.store.catalog().tenant(tenant);
        let own = own.filter(|tenant| !tenant.limits_max.is_empty());
        // They were checked when they were written.
        let lowered = own.and_then(|tenant| self.limits_max.lowered(&tenant.limits_max).ok());
        lowered.unwrap_or(self.limits_max)
    }

    /// The subscription with no limit above the maxima, which may have been lowered since it was written.
    fn bounded(&self, subscription: Arc<Subscription>) -> Arc<Subscription> {
        let limits = subscription.settings.limits.within(&self.limits_max(&subscription.tenant));
        if limits == subscription.settings.limits {
            return subscription;
        }
        let mut bounded = Subscription::clone(&subscription);
        bounded.settings.limits = limits;
        Arc::new(bounded)
    }

    async fn planned(&self, step: &Step, event: &Event, subscription: &Subscription) -> Option<PlannedStep> {
        let (tenant, plugin) = (&subscription.tenant, step.plugin.to_string());
        if let Some(pin) = &step.pin {
            let version = self.version(tenant, &plugin, pin).await;
            let version = version.inspect_err(|error| {
                let error = crate::describe(error);
                tracing::error!(%tenant, %plugin, sha256 = %pin, %error, "a version that a subscription is pinned to was not found");
            });
            return Some(PlannedStep {
                plugin,
                version: version.ok()?,
                arm: Arm::Pinned,
                fallback: None,
                rollout: None,
            });
        }
        let active = self.current(tenant, &plugin)?;
        let rollout = self.rollout(tenant, &plugin);
        Some(match rollout.as_ref().filter(|rollout| rollout.takes(event)) {
            Some(canary) => {
                let version = canary.version.clone();
                PlannedStep { plugin, version, arm: Arm::Canary, fallback: Some(active), rollout }
            }
            None => PlannedStep { plugin, version: active, arm: Arm::Active, fallback: None, rollout },
        })
    }

    /// What follows a judgement and must not hold it up.
    fn after(self: &Arc<Self>, trials: Vec<Arc<Rollout>>, shadows: Vec<ShadowWork>, input: &PluginInput) {
        for trial in trials {
            self.end_if_worse(trial);
        }
        for work in shadows {
            self.judge_in_the_shadow(work, input.clone());
        }
    }
}

/// A plugin whose turn it will be, by the versions that may judge.
struct PlannedStep {
    plugin: String,
    version: VersionRef,
    arm: Arm,
    /// For a canary: the active version, which judges when the canary fails.
    fallback: Option<VersionRef>,
    rollout: Option<Arc<Rollout>>,
}

impl PlannedStep {
    /// The versions whose code the step needs.
    fn versions(&self) -> impl Iterator<Item = &VersionRef> {
        std::iter::once(&self.version).chain(&self.fallback)
    }

    /// The step with the code of its versions, in their order.
    fn with_code(&self, code: &mut impl Iterator<Item = Arc<Version>>) -> Option<ChainStep> {
        let version = code.next()?;
        let fallback = if self.fallback.is_some() { Some(code.next()?) } else { None };
        let (plugin, rollout) = (self.plugin.clone(), self.rollout.clone());
        Some(ChainStep { plugin, version, arm: self.arm, fallback, rollout })
    }

    /// Whether any version that may judge here asks for what was accepted before.
    fn reads_history(&self) -> bool {
        let in_the_shadow = self.rollout.as_ref().is_some_and(|rollout| rollout.version.reads_history);
        self.versions().any(|version| version.reads_history) || in_the_shadow
    }

    /// The same as if no version were on trial.
    fn without_rollout(self) -> Self {
        match self.fallback {
            Some(active) => PlannedStep { version: active, arm: Arm::Active, fallback: None, rollout: None, ..self },
            None => PlannedStep { rollout: None, ..self },
        }
    }
}

fn missing(plugin: &str, sha256: Option<String>) -> Judged {
    Judged::fault(plugin, sha256, PluginFault::Missing(plugin.to_owned()))
}

/// The host could not ask: no fault of the plugins.
fn shortage(steps: &[PlannedStep]) -> Judged {
    let first = steps.first().map(|step| (step.plugin.clone(), step.version.sha256.to_string()));
    let (plugin, sha256) = first.unzip();
    Judged::fault(&plugin.unwrap_or_default(), sha256, PluginFault::Shortage)
}

//! Judgement of an event by the plugins of a subscription: selection of versions, input and limits, metrics and shadows.
//!
//! # Guarantees
//! - Limits of a call never exceed the maxima of the host, the tenant and the subscription.
//! - A shortage of this host is reported as [`PluginFault::Shortage`], which is not a fault of a plugin.
//!
//! # Limits
//! The calls run on a plugin thread and are made by [`chain`].

use super::Plugins;
use super::call::NotCalled;
use super::chain::{self, ChainStep, ShadowWork};
use super::judgement::{Judged, PluginFault, PluginInput};
use super::rollout::Rollout;
use super::version::{Version, VersionRef};
use hookloom_model::chain::Step;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::Arm;
use hookloom_model::event::Event;
use hookloom_model::limits::Limits;
use hookloom_model::settle::SettledEvents;
use hookloom_model::subscription::{Subscription, TenantId};
use hookloom_store::StoreError;
use hookloom_telemetry as telemetry;
use std::sync::Arc;

/// Effect of calls on the metrics. Calls of deliveries are counted, dry runs are not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Metrics {
    Count,
    Ignore,
}

impl Plugins {
    /// Judges an event of a delivery with the subscription's plugins. Looks up the previous event if a plugin imports it: the one before
    /// those that the delivery stands for.
    pub async fn judge(
        self: &Arc<Self>,
        event: Arc<Event>,
        settled: Option<SettledEvents>,
        subscription: Arc<Subscription>,
    ) -> Judged {
        let steps = match self.plan(&event, &subscription).await {
            Ok(steps) => steps,
            Err(missing) => return missing,
        };
        let reads_history = steps.iter().any(PlannedStep::reads_history);
        match self.plugin_input(event, settled, subscription, reads_history).await {
            Ok(input) => self.call_chain(steps, input, Metrics::Count).await,
            Err(error) => {
                tracing::error!(error = %hookloom_model::describe(&error), "the previous event of an entity could not be read");
                shortage(&steps)
            }
        }
    }

    /// Judges a given input, for a dry run: counts for no rollout and no metric.
    pub async fn judge_with(self: &Arc<Self>, input: PluginInput) -> Judged {
        match self.plan(&input.event, &input.subscription).await {
            Ok(steps) => {
                let steps = steps.into_iter().map(PlannedStep::without_rollout).collect();
                let subscription = self.bounded(input.subscription);
                self.call_chain(steps, PluginInput { subscription, ..input }, Metrics::Ignore).await
            }
            Err(missing) => missing,
        }
    }

    /// Selects the versions that judge, in the order of the chain. Fails if a plugin or version does not exist.
    async fn plan(&self, event: &Event, subscription: &Subscription) -> Result<Vec<PlannedStep>, Judged> {
        let mut steps = Vec::new();
        for step in &subscription.settings.plugin.0 {
            steps.push(self.planned(step, event, subscription).await.ok_or_else(|| missing(&step.plugin, None))?);
        }
        Ok(steps)
    }

    async fn call_chain(self: &Arc<Self>, steps: Vec<PlannedStep>, input: PluginInput, metrics: Metrics) -> Judged {
        let steps = Arc::new(steps);
        let versions = steps.iter().flat_map(PlannedStep::versions).cloned().collect();
        let asked = input.clone();
        let planned = steps.clone();
        let pool = self.runtime.pool.clone();
        let rollouts: Vec<Arc<Rollout>> = steps.iter().filter_map(|step| step.rollout.clone()).collect();
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
        self.after(rollouts, shadows, &input);
        for step in judged.steps.iter().filter(|_| metrics == Metrics::Count) {
            telemetry::judged(&input.subscription.tenant, &step.plugin, step.verdict.as_str(), step.cost.wall_us);
        }
        judged
    }

    /// Builds the input of an event: its previous event, if a plugin reads it, and the subscription with limits within the maxima.
    pub(super) async fn plugin_input(
        &self,
        event: Arc<Event>,
        settled: Option<SettledEvents>,
        subscription: Arc<Subscription>,
        reads_history: bool,
    ) -> Result<PluginInput, StoreError> {
        let previous =
            if reads_history { self.store.history(&subscription.tenant, &event, settled).await? } else { None };
        // Earlier versions of this host accepted events that plugins cannot read. A later event must not fail because of one.
        let previous = previous.filter(|previous| previous.is_readable());
        Ok(PluginInput { previous, settled, ..PluginInput::new(event, self.bounded(subscription)) })
    }

    /// Returns the maximum limits of a tenant's plugins: the host's maxima, lowered by those of the tenant.
    pub fn limits_max(&self, tenant: &TenantId) -> Limits {
        let lowering = self.store.catalog().tenant(tenant).filter(|tenant| !tenant.limits_max.is_empty());
        // The limits were checked when they were stored.
        let lowered = lowering.and_then(|tenant| self.limits_max.lowered(&tenant.limits_max).ok());
        lowered.unwrap_or(self.limits_max)
    }

    /// Returns the subscription with limits within the maxima, which may have been lowered since the subscription was stored.
    fn bounded(&self, subscription: Arc<Subscription>) -> Arc<Subscription> {
        let limits = subscription.settings.limits.within(&self.limits_max(&subscription.tenant));
        if limits == subscription.settings.limits {
            return subscription;
        }
        let mut bounded = Subscription::clone(&subscription);
        bounded.settings.change_calls(|_, wanted, _| *wanted = limits);
        Arc::new(bounded)
    }

    async fn planned(&self, step: &Step, event: &Event, subscription: &Subscription) -> Option<PlannedStep> {
        let tenant = &subscription.tenant;
        let plugin = step.plugin.to_string();
        if let Some(pin) = &step.pin {
            let version = self.version(tenant, &plugin, pin).await;
            let version = version.inspect_err(|error| {
                let error = hookloom_model::describe(error);
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
        Some(match rollout.as_ref().filter(|rollout| rollout.selects(event)) {
            Some(canary) => {
                let version = canary.version.clone();
                PlannedStep { plugin, version, arm: Arm::Canary, fallback: Some(active), rollout }
            }
            None => PlannedStep { plugin, version: active, arm: Arm::Active, fallback: None, rollout },
        })
    }

    /// Starts the work after a judgement that must not delay it: the end of canaries and the calls of shadows.
    fn after(self: &Arc<Self>, rollouts: Vec<Arc<Rollout>>, shadows: Vec<ShadowWork>, input: &PluginInput) {
        for rollout in rollouts {
            self.end_if_worse(rollout);
        }
        for work in shadows {
            self.call_shadow(work, input.clone());
        }
    }
}

/// Step of a chain before its code is loaded: a plugin with references to the versions that may judge.
struct PlannedStep {
    plugin: String,
    version: VersionRef,
    arm: Arm,
    /// Active version that judges when a canary fails. None: the step has no canary.
    fallback: Option<VersionRef>,
    rollout: Option<Arc<Rollout>>,
}

impl PlannedStep {
    /// Returns the versions whose code the step needs.
    fn versions(&self) -> impl Iterator<Item = &VersionRef> {
        std::iter::once(&self.version).chain(&self.fallback)
    }

    /// Combines the step with the code of its versions, in the order of [`PlannedStep::versions`].
    fn with_code(&self, code: &mut impl Iterator<Item = Arc<Version>>) -> Option<ChainStep> {
        let version = code.next()?;
        let fallback = if self.fallback.is_some() { Some(code.next()?) } else { None };
        let plugin = self.plugin.clone();
        let rollout = self.rollout.clone();
        Some(ChainStep { plugin, version, arm: self.arm, fallback, rollout })
    }

    /// Returns whether a version of the step, or its shadow, reads the previous event of an entity.
    fn reads_history(&self) -> bool {
        let shadow_reads = self.rollout.as_ref().is_some_and(|rollout| rollout.version.reads_history);
        self.versions().any(|version| version.reads_history) || shadow_reads
    }

    /// Returns the step without its rollout: the active version judges.
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

/// Result of an event whose plugins could not be called for a reason of this host.
fn shortage(steps: &[PlannedStep]) -> Judged {
    let first = steps.first().map(|step| (step.plugin.clone(), step.version.sha256.to_string()));
    let (plugin, sha256) = first.unzip();
    Judged::fault(&plugin.unwrap_or_default(), sha256, PluginFault::Shortage)
}

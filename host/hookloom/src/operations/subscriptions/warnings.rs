//! Warnings about a subscription's plugins, found by judging some events at a write.
//!
//! # Guarantees
//! - Nothing is sent, and nothing is counted by metrics or by a rollout.
//! - There is a warning for a chain that fails on every tried event, with the plugin, its reason, and whether another order would
//!   succeed; and for config keys that no plugin reads.
//! - A write takes at most [`TIME_MAX`] longer. There are no warnings about what could not be tried in that time, or for lack of
//!   capacity.
//!
//! A warning does not refuse the write, because config or a plugin may come later, and real events may differ.

use crate::event::{Event, Module};
use crate::operations::Operations;
use crate::plugin::{ConfigReads, Judged, Judgement, PluginFault, PluginInput, meant};
use crate::plural::counted;
use crate::subscription::{Subscription, SubscriptionId};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Maximum duration of the calls.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Number of the tenant's last events that are tried for each module, besides the sample.
const RECENT: usize = 2;

/// Maximum of the limits of a call, in milliseconds. A call that needs more has no result.
const CPU_MS_MAX: u64 = 200;
const WALL_MS_MAX: u64 = 1_000;

/// TriedEvent event, and the reason why it could not be delivered, if there is one.
struct TriedEvent {
    event: Arc<Event>,
    failure: Option<PredictedFailure>,
}

struct PredictedFailure {
    /// Index of the plugin in the chain.
    step: usize,
    reason: String,
}

/// Lets the plugins of a subscription judge some events, and returns predicted failures.
pub(crate) async fn warnings(operations: &Operations, subscription: &Subscription) -> Vec<String> {
    let settings = &subscription.settings;
    if settings.plugin.0.is_empty() {
        let unread =
            (!settings.config.is_empty()).then(|| "config is set, and there is no plugin to read it".to_owned());
        return unread.into_iter().collect();
    }
    let run = SampleRun {
        operations,
        subscription: tried(subscription),
        reads: Arc::new(ConfigReads::default()),
        until: Instant::now() + TIME_MAX,
    };
    let tried = run.run().await;
    let mut warnings = Vec::new();
    for module in &settings.modules {
        let of_module: Vec<&TriedEvent> = tried.iter().filter(|one| one.event.module == *module).collect();
        warnings.extend(run.failing_module(*module, &of_module).await);
    }
    if !tried.is_empty() {
        warnings.extend(run.unread(tried.len()).await);
    }
    warnings
}

/// Returns a copy of the subscription for the calls, which uses no log budget and keeps no instances.
fn tried(subscription: &Subscription) -> Arc<Subscription> {
    let mut tried = subscription.clone();
    tried.id = SubscriptionId(uuid::Uuid::nil());
    tried.settings.change_calls(|_, limits, reuse| {
        *reuse = None;
        limits.cpu_ms = limits.cpu_ms.min(CPU_MS_MAX);
        limits.wall_ms = limits.wall_ms.min(WALL_MS_MAX);
    });
    Arc::new(tried)
}

struct SampleRun<'a> {
    operations: &'a Operations,
    subscription: Arc<Subscription>,
    reads: Arc<ConfigReads>,
    until: Instant,
}

impl SampleRun<'_> {
    /// Tries the samples and the last events, until one has no result.
    async fn run(&self) -> Vec<TriedEvent> {
        let mut tried = Vec::new();
        for event in self.events().await {
            let Some(failure) = self.judge(&event, self.subscription.clone()).await else { break };
            tried.push(TriedEvent { event, failure });
        }
        tried
    }

    async fn events(&self) -> Vec<Arc<Event>> {
        let settings = &self.subscription.settings;
        let samples = self.operations.accepted_samples_for(&self.subscription).into_iter();
        let mut events: Vec<Arc<Event>> = samples.map(Arc::new).collect();
        for module in &settings.modules {
            let recent =
                self.operations.store.recent_events(self.subscription.tenant.clone(), vec![*module], RECENT).await;
            events.extend(recent.unwrap_or_default().into_iter().filter(|event| settings.lists(&event.name)));
        }
        events
    }

    /// Judges an event. None: no result, for lack of time or capacity.
    async fn judge(&self, event: &Arc<Event>, subscription: Arc<Subscription>) -> Option<Option<PredictedFailure>> {
        let input =
            PluginInput { config_reads: Some(self.reads.clone()), ..PluginInput::new(event.clone(), subscription) };
        let judged = timeout_at(self.until, self.operations.plugins.judge_with(input)).await.ok()?;
        failure(&judged)
    }

    /// Returns a warning if no event of a module can be delivered.
    async fn failing_module(&self, module: Module, tried: &[&TriedEvent]) -> Option<String> {
        let first = tried.first()?;
        let failures: Vec<&PredictedFailure> = tried.iter().filter_map(|one| one.failure.as_ref()).collect();
        let failure = failures.first().filter(|_| failures.len() == tried.len())?;
        let chain = &self.subscription.settings.plugin.0;
        let plugin = &chain.get(failure.step)?.plugin;
        let events = counted(tried.len() as u64, "event that was tried", "events that were tried");
        let mut text = format!(
            "no {} event can be delivered: the plugin {plugin} fails on the {events} ({})",
            module.as_str(),
            failure.reason
        );
        if failure.step > 0 && self.judges_alone(failure.step, &first.event).await {
            let before: Vec<&str> = chain[..failure.step].iter().map(|step| step.plugin.as_str()).collect();
            text += &format!(
                "; it gets what {} makes of the event and cannot read that, but it can judge the event itself: name {plugin} before {}",
                before.join(" and "),
                before[0]
            );
        }
        Some(text)
    }

    async fn judges_alone(&self, step: usize, event: &Arc<Event>) -> bool {
        let mut alone = Subscription::clone(&self.subscription);
        alone.settings.change_calls(|chain, _, _| chain.0 = chain.0.drain(..).skip(step).take(1).collect());
        matches!(self.judge(event, Arc::new(alone)).await, Some(None))
    }

    /// Returns a warning about config keys that no plugin reads.
    async fn unread(&self, events: usize) -> Vec<String> {
        let settings = &self.subscription.settings;
        let known = self.reads.missing(&settings.config);
        let mut warnings = Vec::new();
        let mut others = Vec::new();
        for key in self.reads.unread(&settings.config) {
            match meant(&key, &known) {
                Some(meant) => {
                    warnings.push(format!("no plugin reads the config key {key:?}: perhaps {meant:?} is meant"));
                }
                None => others.push(key),
            }
        }
        let tenant = &self.subscription.tenant;
        let others = self.operations.plugins.not_mentioned(tenant, &settings.plugin, others).await.unwrap_or_default();
        let known = match &known[..] {
            [] => "they asked for no other key".to_owned(),
            keys => format!("they asked for {} as well", keys.join(", ")),
        };
        let events = counted(events as u64, "event", "events");
        warnings.extend(
            others
                .iter()
                .map(|key| format!("no plugin read the config key {key:?} for the {events} that were tried; {known}")),
        );
        warnings
    }
}

/// Returns the reason why plugins prevent the delivery of an event. None: no result.
fn failure(judged: &Judged) -> Option<Option<PredictedFailure>> {
    let reason = match &judged.judgement {
        Judgement::Pass | Judgement::Replace(_) | Judgement::Drop(_) | Judgement::Later { .. } => return Some(None),
        Judgement::Fault(fault) if fault.is_ours() || matches!(fault, PluginFault::Timeout { .. }) => return None,
        Judgement::Fault(fault) => fault.to_string(),
        Judgement::InvalidEvent(reason) | Judgement::Transient(reason) | Judgement::BadConfig(reason) => {
            reason.to_string()
        }
    };
    let step = judged.steps.len().checked_sub(1)?;
    Some(Some(PredictedFailure { step, reason }))
}

//! The way of one event through the plugins of a subscription: which versions judge, what they may know and use, and
//! what follows their judgement.
//!
//! What happens on the plugin thread stands in [`chain`]; here is what surrounds it.

use super::Plugins;
use super::chain::{self, ShadowWork, Turn};
use super::judgement::{Judged, Matter, PluginFault};
use super::rollout::Rollout;
use crate::chain::Step;
use crate::delivery::Arm;
use crate::event::Event;
use crate::limits::Limits;
use crate::store::{StoreError, now_ms};
use crate::subscription::{Subscription, TenantId};
use crate::telemetry;
use std::sync::Arc;

impl Plugins {
    /// Judges an event for a subscription with the plugins that it names, and with what was accepted before it.
    pub async fn judge(self: &Arc<Self>, event: Arc<Event>, subscription: Arc<Subscription>) -> Judged {
        let turns = match self.turns(&event, &subscription).await {
            Ok(turns) => turns,
            Err(missing) => return missing,
        };
        let reads_history = turns.iter().any(Turn::reads_history);
        match self.matter(event, subscription, reads_history).await {
            Ok(matter) => self.ask(turns, matter).await,
            Err(error) => {
                tracing::error!(error = %crate::describe(&error), "what was accepted before an event could not be read");
                shortage(&turns)
            }
        }
    }

    /// The same with a past that is given, for nobody but who asks: no trial counts it.
    pub async fn judge_with(self: &Arc<Self>, matter: Matter) -> Judged {
        match self.turns(&matter.event, &matter.subscription).await {
            Ok(turns) => {
                let turns = turns.into_iter().map(Turn::without_trial).collect();
                let subscription = self.bounded(matter.subscription);
                self.ask(turns, Matter { subscription, ..matter }).await
            }
            Err(missing) => missing,
        }
    }

    /// Whose turn it is, in order; a fault if one cannot be loaded.
    async fn turns(&self, event: &Event, subscription: &Subscription) -> Result<Vec<Turn>, Judged> {
        let mut turns = Vec::new();
        for step in &subscription.settings.plugin.0 {
            let missing = || Judged::fault(&step.plugin, None, PluginFault::Missing(step.plugin.clone()));
            turns.push(self.turn(step, event, subscription).await.ok_or_else(missing)?);
        }
        Ok(turns)
    }

    async fn ask(self: &Arc<Self>, turns: Vec<Turn>, matter: Matter) -> Judged {
        let turns = Arc::new(turns);
        let (asked, in_turn, rest) = (matter.clone(), turns.clone(), self.runtime.rest.clone());
        let trials: Vec<Arc<Rollout>> = turns.iter().filter_map(|turn| turn.rollout.clone()).collect();
        let judge = move || chain::judge(&in_turn, &asked, &rest);
        let Some((mut judged, shadows)) = self.runtime.threads.run(&matter.subscription.tenant, judge).await else {
            return shortage(&turns);
        };
        let limit = matter.subscription.settings.limits.log_bytes_per_minute;
        self.log_budget.trim(matter.subscription.id, limit, now_ms(), &mut judged.log);
        self.after(trials, shadows, &matter);
        for step in &judged.steps {
            telemetry::judged(&matter.subscription.tenant, &step.plugin, &step.verdict, step.cost.wall_us);
        }
        judged
    }

    /// An event with what was accepted before it, for a subscription whose limits the host allows.
    pub(super) async fn matter(
        &self,
        event: Arc<Event>,
        subscription: Arc<Subscription>,
        reads_history: bool,
    ) -> Result<Matter, StoreError> {
        let previous = match reads_history {
            true => self.store.previous(subscription.tenant.clone(), &event).await?,
            false => None,
        };
        Ok(Matter { event, previous, subscription: self.bounded(subscription) })
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

    async fn turn(&self, step: &Step, event: &Event, subscription: &Subscription) -> Option<Turn> {
        let (tenant, plugin) = (&subscription.tenant, step.plugin.clone());
        if let Some(pin) = &step.pin {
            let version = self.pinned(tenant, &plugin, pin).await?;
            return Some(Turn { plugin, version, arm: Arm::Pinned, otherwise: None, rollout: None });
        }
        let active = self.current_or_restored(tenant, &plugin).await?;
        let rollout = self.rollout(tenant, &plugin);
        Some(match rollout.as_ref().filter(|rollout| rollout.takes(event)) {
            Some(canary) => {
                Turn { plugin, version: canary.version.clone(), arm: Arm::Canary, otherwise: Some(active), rollout }
            }
            None => Turn { plugin, version: active, arm: Arm::Active, otherwise: None, rollout },
        })
    }

    /// What follows a judgement and must not hold it up.
    fn after(self: &Arc<Self>, trials: Vec<Arc<Rollout>>, shadows: Vec<ShadowWork>, matter: &Matter) {
        for trial in trials {
            self.end_if_worse(trial);
        }
        for work in shadows {
            self.judge_in_the_shadow(work, matter.clone());
        }
    }
}

/// The host could not ask: no fault of the plugins.
fn shortage(turns: &[Turn]) -> Judged {
    let first = turns.first().map(|turn| (turn.plugin.clone(), turn.version.sha256.clone()));
    let (plugin, sha256) = first.unzip();
    Judged::fault(&plugin.unwrap_or_default(), sha256, PluginFault::Shortage)
}

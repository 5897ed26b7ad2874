//! Plugins of a simulation: verdicts by the event and by the mode of the world.

use crate::plan::JudgeMode;
use crate::world::World;
use async_trait::async_trait;
use hookloom_deliver::Judge;
use hookloom_model::delivery::{Arm, Cost, JudgedStep, Reason};
use hookloom_model::event::Event;
use hookloom_model::settle::SettledEvents;
use hookloom_model::subscription::{Subscription, TenantId};
use hookloom_plugin::{Judged, Judgement, PluginFault};
use std::sync::Arc;
use std::time::Duration;

/// Plugins of the world, as one host has installed them.
pub(crate) struct SimJudge {
    pub(crate) world: World,
    pub(crate) host: u64,
}

#[async_trait]
impl Judge for SimJudge {
    async fn judge(
        self: Arc<Self>,
        event: Arc<Event>,
        _: Option<SettledEvents>,
        subscription: Arc<Subscription>,
    ) -> Judged {
        let SimJudge { world, host } = &*self;
        tokio::time::sleep(world.latency(Duration::from_millis(20))).await;
        let sha256 = world.with(|state| state.installed.get(&(*host, subscription.tenant.clone())).cloned());
        let judgement = match &sha256 {
            None => Judgement::Fault(PluginFault::Missing("p".into())),
            Some(sha256) => verdict(world, &event, sha256),
        };
        let verdict = judgement.verdict();
        let step = JudgedStep {
            plugin: "p".to_owned(),
            sha256,
            arm: Arm::Active,
            verdict,
            reason: None,
            cost: Cost::default(),
        };
        Judged { judgement, steps: vec![step], log: Vec::new() }
    }

    fn missing_code(&self, _: &Subscription) -> Vec<Arc<str>> {
        Vec::new()
    }

    async fn compile_missing(&self, _: &TenantId, _: &[Arc<str>]) {}
}

/// Returns the judgement of a version. The same event and version give the same verdict while the mode stays, except for `later`.
fn verdict(world: &World, event: &Event, sha256: &str) -> Judgement {
    let mode = world.with(|state| if state.trapping.contains(sha256) { JudgeMode::Traps } else { state.judge });
    let picks = event.payload.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    match mode {
        JudgeMode::Drops if picks.is_multiple_of(4) => Judgement::Drop(Reason::new("dropped", "every fourth")),
        JudgeMode::Passes | JudgeMode::Drops => Judgement::Pass,
        JudgeMode::Postpones if world.latency(Duration::from_micros(1)).is_zero() => {
            Judgement::Later { delay_ms: 3_000, reason: Reason::new("later", "not yet") }
        }
        JudgeMode::Postpones => Judgement::Pass,
        JudgeMode::Traps => {
            world.with(|state| state.trapping.insert(sha256.to_owned()));
            let message = "unreachable".to_owned();
            Judgement::Fault(PluginFault::Trap { message, backtrace: Vec::new(), output: String::new() })
        }
        JudgeMode::Transient => Judgement::Transient(Reason::new("transient", "try again")),
        JudgeMode::BadConfig => Judgement::BadConfig(Reason::new("bad-config", "a key is missing")),
        JudgeMode::Shortage => Judgement::Fault(PluginFault::Shortage),
    }
}

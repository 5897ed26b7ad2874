//! Gate that holds back a lane while code of its plugins is compiled, after a start or after compiled code was lost from disk.
//!
//! A lane that waits at its gate begins no attempt, so its deliveries use up no attempts and hold no permits. Lanes without a
//! plugin, and lanes whose plugins are compiled, never wait.

use super::queue::LaneHandle;
use super::services::Judge;
use hookloom_model::subscription::Subscription;
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

/// Compilation state of one lane's plugins.
#[derive(Default)]
pub(super) struct PluginGate {
    /// Code that is being compiled for the lane, and the task that waits for it. The task is aborted when the lane needs other code.
    compiling: Option<(Vec<Arc<str>>, AbortOnDropHandle<()>)>,
}

impl PluginGate {
    /// Returns whether an attempt may begin. If not, compiles the missing code and wakes the lane when that has ended.
    pub(super) fn is_open(
        &mut self,
        judge: &Arc<dyn Judge>,
        subscription: &Subscription,
        handle: &Arc<LaneHandle>,
    ) -> bool {
        let missing = judge.missing_code(subscription);
        if missing.is_empty() {
            self.compiling = None;
            return true;
        }
        let is_under_way =
            |(code, task): &(Vec<Arc<str>>, AbortOnDropHandle<()>)| *code == missing && !task.is_finished();
        if !self.compiling.as_ref().is_some_and(is_under_way) {
            let judge = judge.clone();
            let handle = handle.clone();
            let tenant = subscription.tenant.clone();
            let wanted = missing.clone();
            let task = tokio::spawn(async move {
                judge.compile_missing(&tenant, &wanted).await;
                handle.wake.notify_one();
            });
            self.compiling = Some((missing, AbortOnDropHandle::new(task)));
        }
        false
    }
}

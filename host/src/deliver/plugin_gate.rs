//! Holds a lane back while code of its plugins is compiled: after a start, or when compiled code is gone from the disk.
//!
//! A lane that waits here begins no attempt, so its deliveries use up none and hold no permit. Lanes without a plugin, and
//! those whose plugins are compiled, never wait.

use super::queue::LaneHandle;
use crate::plugin::Plugins;
use crate::subscription::Subscription;
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

/// The gate of one lane.
#[derive(Default)]
pub(super) struct PluginGate {
    /// The code that is being compiled for the lane, and its task. It gives its turn up when the lane wants other code.
    compiling: Option<(Vec<Arc<str>>, AbortOnDropHandle<()>)>,
}

impl PluginGate {
    /// Whether an attempt may begin. If not, the missing code is compiled, and the lane is told when that has ended.
    pub(super) fn is_open(
        &mut self,
        plugins: &Arc<Plugins>,
        subscription: &Subscription,
        handle: &Arc<LaneHandle>,
    ) -> bool {
        let missing = plugins.missing_code(subscription);
        if missing.is_empty() {
            self.compiling = None;
            return true;
        }
        let is_under_way =
            |(code, task): &(Vec<Arc<str>>, AbortOnDropHandle<()>)| *code == missing && !task.is_finished();
        if !self.compiling.as_ref().is_some_and(is_under_way) {
            let (plugins, handle, tenant) = (plugins.clone(), handle.clone(), subscription.tenant.clone());
            let wanted = missing.clone();
            let task = tokio::spawn(async move {
                plugins.compile_missing(&tenant, &wanted).await;
                handle.wake.notify_one();
            });
            self.compiling = Some((missing, AbortOnDropHandle::new(task)));
        }
        false
    }
}

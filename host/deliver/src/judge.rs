//! Plugins, as lanes see them: a judgement, and the code that is missing.
//!
//! The runtime of plugins implements it, and the judges of the simulation.

use async_trait::async_trait;
use hookloom_model::event::Event;
use hookloom_model::subscription::{Subscription, TenantId};
use hookloom_plugin::{Judged, Plugins};
use std::sync::Arc;

/// Plugins of subscriptions.
#[async_trait]
pub trait Judge: Send + Sync {
    /// Judges an event of a delivery with the subscription's plugins.
    async fn judge(self: Arc<Self>, event: Arc<Event>, subscription: Arc<Subscription>) -> Judged;

    /// Returns the sha256 of each version that the subscription needs and whose code is not compiled.
    fn missing_code(&self, subscription: &Subscription) -> Vec<Arc<str>>;

    /// Compiles missing code. A failure is shown by the next judgement.
    async fn compile_missing(&self, tenant: &TenantId, missing: &[Arc<str>]);
}

#[async_trait]
impl Judge for Plugins {
    async fn judge(self: Arc<Self>, event: Arc<Event>, subscription: Arc<Subscription>) -> Judged {
        Plugins::judge(&self, event, subscription).await
    }

    fn missing_code(&self, subscription: &Subscription) -> Vec<Arc<str>> {
        Plugins::missing_code(self, subscription)
    }

    async fn compile_missing(&self, tenant: &TenantId, missing: &[Arc<str>]) {
        Plugins::compile_missing(self, tenant, missing).await;
    }
}

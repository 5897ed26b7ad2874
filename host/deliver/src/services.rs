//! Services that attempts use, as they see them: plugins that judge, and the network that requests are sent to.
//!
//! The runtime of plugins and the HTTP clients implement them, and the judges and the network of the simulation.

use async_trait::async_trait;
use hookloom_egress::{Answer, ClientError, Clients, NotAnswered, Request};
use hookloom_model::address::Egress;
use hookloom_model::delivery::{NoAnswer, Timings};
use hookloom_model::event::Event;
use hookloom_model::settle::SettledEvents;
use hookloom_model::subscription::{Subscription, TenantId};
use hookloom_plugin::{Judged, Plugins};
use std::sync::Arc;

/// Plugins of subscriptions.
#[async_trait]
pub trait Judge: Send + Sync {
    /// Judges an event of a delivery with the subscription's plugins. `settled` are the events that the delivery stands for.
    async fn judge(
        self: Arc<Self>,
        event: Arc<Event>,
        settled: Option<SettledEvents>,
        subscription: Arc<Subscription>,
    ) -> Judged;

    /// Returns the sha256 of each version that the subscription needs and whose code is not compiled.
    fn missing_code(&self, subscription: &Subscription) -> Vec<Arc<str>>;

    /// Compiles missing code. A failure is shown by the next judgement.
    async fn compile_missing(&self, tenant: &TenantId, missing: &[Arc<str>]);
}

#[async_trait]
impl Judge for Plugins {
    async fn judge(
        self: Arc<Self>,
        event: Arc<Event>,
        settled: Option<SettledEvents>,
        subscription: Arc<Subscription>,
    ) -> Judged {
        Plugins::judge(&self, event, settled, subscription).await
    }

    fn missing_code(&self, subscription: &Subscription) -> Vec<Arc<str>> {
        Plugins::missing_code(self, subscription)
    }

    async fn compile_missing(&self, tenant: &TenantId, missing: &[Arc<str>]) {
        Plugins::compile_missing(self, tenant, missing).await;
    }
}

/// Result of a request.
#[derive(Debug)]
pub struct Sent {
    /// Answer of the receiver, or the reason why there is none.
    pub answer: Result<Answer, NotAnswered>,
    /// Times of the exchange. None: the request was not sent.
    pub timings: Option<Timings>,
}

/// Network that requests of subscriptions are sent to.
#[async_trait]
pub trait Sender: Send + Sync {
    /// Sends a request of a subscription, over its transport and to the addresses that it and its tenant (`narrowed`) allow.
    async fn send(&self, subscription: &Subscription, narrowed: &Egress, request: Request) -> Sent;
}

#[async_trait]
impl Sender for Clients {
    async fn send(&self, subscription: &Subscription, narrowed: &Egress, request: Request) -> Sent {
        let client = match self.of(subscription, narrowed) {
            Ok(client) => client,
            Err(error) => return Sent { answer: Err(not_sent(error)), timings: None },
        };
        let (answer, timings) = client.send(request).await;
        Sent { answer, timings: Some(timings) }
    }
}

/// Returns the failure of a request for which there is no client.
fn not_sent(error: ClientError) -> NotAnswered {
    match error {
        ClientError::Transport(detail) => NotAnswered::Receiver { kind: NoAnswer::Connect, detail },
        error => NotAnswered::Host { detail: hookloom_model::describe(&error) },
    }
}

//! Network, as attempts see it: a request is sent, and answered or not.
//!
//! The HTTP clients implement it, and the network of the simulation.

use async_trait::async_trait;
use hookloom_egress::{Answer, ClientError, Clients, NotAnswered, Request};
use hookloom_model::address::Egress;
use hookloom_model::delivery::{NoAnswer, Timings};
use hookloom_model::subscription::Subscription;

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

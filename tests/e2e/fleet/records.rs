//! Records of a trial: what was sent, what was received, and what the hosts say in the end. All times are since its beginning.

use serde_json::json;
use std::time::Duration;

/// Event that was sent, possibly several times with the same `Idempotency-Key`.
#[derive(Clone, Debug)]
pub(super) struct SentEvent {
    /// Number in the payload, by which a receipt is recognised.
    pub(super) number: u64,
    pub(super) entity: u64,
    /// Time of the first request.
    pub(super) sent_at: Duration,
    /// Id and time of the answer 202. None: every request ended without a known result.
    pub(super) accepted: Option<(String, Duration)>,
    /// Number of requests whose result is unknown.
    pub(super) unknown: u32,
    /// Number of requests that were refused (503, or no connection).
    pub(super) refused: u32,
}

impl SentEvent {
    /// Returns an event of an entity that is about to be sent.
    pub(super) fn new(number: u64, entity: u64, sent_at: Duration) -> SentEvent {
        SentEvent { number, entity, sent_at, accepted: None, unknown: 0, refused: 0 }
    }

    /// Returns the body of its request.
    pub(super) fn body(&self) -> String {
        json!({"eventName": "Contact is Updated", "eventData": {"id": self.entity, "mark": self.number}}).to_string()
    }
}

/// Request that the endpoint received.
#[derive(Clone, Debug)]
pub(super) struct Receipt {
    /// Path of the request, which names the subscription.
    pub(super) subscription: String,
    pub(super) webhook_id: String,
    pub(super) event: String,
    pub(super) number: u64,
    pub(super) is_verified: bool,
    pub(super) begun_at: Duration,
    /// Time of the answer, or of the end of the connection. None: the request is under way.
    pub(super) ended_at: Option<Duration>,
    /// Status of the answer. None: there was none.
    pub(super) status: Option<u16>,
}

impl Receipt {
    /// Returns true if the request was answered with a success.
    pub(super) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// End, stop or standstill of a host or of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disruption {
    pub(super) at: Duration,
}

/// Subscription to every event, and its limits.
#[derive(Clone, Debug)]
pub(super) struct Subscribed {
    /// Path of its Notify URL.
    pub(super) name: String,
    pub(super) id: String,
    /// Time at which its creation was answered.
    pub(super) created_at: Duration,
    pub(super) concurrency: usize,
    pub(super) is_ordered: bool,
    pub(super) rate_per_s: Option<u32>,
    /// Times from the answer to a pause until the request to resume.
    pub(super) pauses: Vec<(Duration, Duration)>,
}

/// Delivery, as the hosts list it in the end.
#[derive(Clone, Debug)]
pub(super) struct ListedDelivery {
    pub(super) id: String,
    pub(super) event: String,
    pub(super) subscription: String,
    pub(super) kind: String,
    pub(super) state: String,
}

/// Everything that is known about a trial.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub(super) subscriptions: Vec<Subscribed>,
    pub(super) sent: Vec<SentEvent>,
    pub(super) receipts: Vec<Receipt>,
    pub(super) deliveries: Vec<ListedDelivery>,
    pub(super) disruptions: Vec<Disruption>,
}

impl Records {
    /// Returns the receipts of a subscription, in the order in which they began.
    pub(super) fn receipts_of(&self, subscription: &str) -> Vec<&Receipt> {
        let mut receipts: Vec<_> = self.receipts.iter().filter(|one| one.subscription == subscription).collect();
        receipts.sort_by_key(|one| one.begun_at);
        receipts
    }

    /// Returns the number of requests that came after the delivery had been received, for each subscription.
    pub(super) fn duplicates_of(&self, subscription: &str) -> usize {
        let mut received = std::collections::HashSet::new();
        let mut duplicates = 0;
        for receipt in self.receipts_of(subscription) {
            // A refused request is repeated on purpose.
            if receipt.status.is_none() || receipt.is_success() {
                duplicates += usize::from(!received.insert(&receipt.webhook_id));
            }
        }
        duplicates
    }
}

//! Intake of events, and their fan-out to subscriptions.
//!
//! # Guarantees of every backend
//! - [`IntakeBackend::accept`] stores the events, their deliveries and the idempotency key of the request in one transaction, or
//!   nothing. `Ok` means durable.
//! - Events are in the order of their transactions: an event that was accepted before another transaction began has a smaller id
//!   and a smaller place in the order of acceptance.
//! - A condition `$changed` compares an event with the one before it of the same contact or deal, in the order of acceptance. That may be
//!   one of the same request or of the same transaction.
//! - Nothing is written if the catalog has moved on since the receivers were matched: the answer is `Stale`, and the caller matches again.
//!
//! # Limits
//! Two events of one contact or deal that two hosts accept at the same time may both be compared with the one before both.

use crate::StoreError;
use crate::audit::Actor;
use crate::caps::Caps;
use crate::catalog::Receivers;
use crate::matching::MatchedReceivers;
pub use crate::new_event::NewEvent;
use async_trait::async_trait;
use hookloom_model::event::EventId;
use hookloom_model::subscription::TenantId;
use uuid::Uuid;

/// Outcome of an accepted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Id of the event.
    pub event: EventId,
    /// Number of deliveries that the event makes (its fan-out).
    pub deliveries: usize,
}

/// Request with an idempotency key, which its sender may repeat.
#[derive(Clone, Debug)]
pub struct Repeatable {
    /// Idempotency key that the sender chose.
    pub key: String,
    /// SHA-256 of the request body. Another body under the same key is refused.
    pub body_sha256: [u8; 32],
}

/// Outcome of a request that its sender may repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedOnce {
    /// Events in their order, as accepted the first time.
    pub events: Vec<Accepted>,
    /// True if an earlier request with the same key and body was accepted.
    pub is_repetition: bool,
}

impl Repeatable {
    /// Returns the answer to the earlier request with the same key, from the hash of its body and the text of [`answer_text`].
    ///
    /// # Errors
    /// [`StoreError::KeyReused`]: the earlier request had another body.
    pub(crate) fn earlier_answer(&self, body_sha256: &[u8], answer: &str) -> Result<Vec<Accepted>, StoreError> {
        if self.body_sha256 != body_sha256 {
            return Err(StoreError::KeyReused);
        }
        let pairs: Vec<(EventId, usize)> = serde_json::from_str(answer)?;
        Ok(pairs.into_iter().map(|(event, deliveries)| Accepted { event, deliveries }).collect())
    }
}

/// Returns an answer as a database stores it, for repetitions of the request.
pub(crate) fn answer_text(accepted: &[Accepted]) -> Result<String, StoreError> {
    let pairs: Vec<(EventId, usize)> = accepted.iter().map(|one| (one.event, one.deliveries)).collect();
    Ok(serde_json::to_string(&pairs)?)
}

/// Request that stores events, with the receivers that they were matched with.
#[derive(Debug)]
pub struct IntakeRequest {
    /// Tenant of the events.
    pub tenant: TenantId,
    /// Events, in their order.
    pub events: Vec<NewEvent>,
    /// Receivers of the events, by the catalog.
    pub receivers: MatchedReceivers,
    /// Share of the tenant.
    pub caps: Caps,
    /// Idempotency key, if the events are accepted once.
    pub once: Option<Repeatable>,
    /// Id of the fan-out, if the deliveries follow in steps.
    pub steps: Option<Uuid>,
    /// Rejected request that the events replace, and the author of the entry in the log of changes.
    pub replaces: Option<(Actor, Uuid)>,
}

/// Answer to an [`IntakeRequest`].
#[derive(Debug)]
pub enum IntakeAnswer {
    /// The events are durable.
    Accepted(Vec<Accepted>),
    /// An earlier request with the same key and body was accepted, with this answer.
    Repetition(Vec<Accepted>),
    /// The receivers have changed. Nothing was written, and the request is returned.
    Stale(Box<IntakeRequest>),
}

/// Answer to a step of a fan-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FanOutAnswer {
    /// Deliveries were made, and others follow.
    More,
    /// All deliveries have been made.
    Complete,
    /// The receivers have changed. Nothing was written.
    Stale,
}

/// Maximum number of deliveries that a step makes for few subscriptions.
pub(crate) const STEP: usize = 512;

/// Maximum number of deliveries in a step for [`SCATTERED_MIN`] subscriptions or more. A delivery changes pages of its
/// subscription's indexes; with few subscriptions, each page is changed once for many deliveries.
pub(crate) const SCATTERED_STEP: usize = 64;

/// Number of matching subscriptions above which pages are rarely shared.
pub(crate) const SCATTERED_MIN: usize = 64;

/// Returns the number of deliveries in a step for this number of matching subscriptions.
pub(crate) fn step_of(subscriptions: usize) -> usize {
    if subscriptions >= SCATTERED_MIN { SCATTERED_STEP } else { STEP }
}

/// Intake of events.
#[async_trait]
pub trait IntakeBackend: Send + Sync {
    /// Stores events, all or none, with one pending delivery for each receiver unless they follow in steps. Deliveries that are due at
    /// once are claimed before the commit, and published after it.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`], [`StoreError::TenantFull`], [`StoreError::DiskFull`], and [`StoreError::NotFound`] for a rejected
    /// request that is gone. Nothing was written.
    async fn accept(&self, request: IntakeRequest) -> Result<IntakeAnswer, StoreError>;

    /// Returns the answer to an earlier request with the same key, if there was one.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`]: the earlier request had another body.
    async fn answer(&self, tenant: TenantId, request: Repeatable) -> Result<Option<Vec<Accepted>>, StoreError>;
}

/// Deliveries of large requests, which follow in steps.
#[async_trait]
pub trait FanOutBackend: Send + Sync {
    /// Returns the fan-outs whose deliveries are not complete, by tenant and age.
    async fn fan_outs(&self) -> Result<Vec<(TenantId, Uuid)>, StoreError>;

    /// Makes the next deliveries of a fan-out: at most as many as [`step_of`] says.
    async fn fan_out_step(&self, tenant: &TenantId, id: Uuid, receivers: Receivers)
    -> Result<FanOutAnswer, StoreError>;
}

//! Intake: from the bytes of a request to durable events.
//!
//! Three requests use it, with the same rules: `POST /v1/tenants/{t}/events` of senders with a key, which get an answer and can try
//! again; `POST /in/{token}` of Agile CRM, which sends once and reads no answer, so that requests without an event are kept; and the
//! second submission of a request that was kept. Works on bytes of bodies; the routes are in `api`.

use super::{Access, Operations, Problem, ToSend};
use crate::config::Config;
use crate::cpu_pool::{CpuPool, CpuPoolError};
use crate::event::{Envelope, EnvelopeError, VENDOR_EVENT_NAMES, oversized_entity_id_note, read_batch, read_envelope};
use crate::limits::shortened;
use crate::store::{Accepted, AcceptedOnce, Actor, Caps, NewEvent, Repeatable, Store, StoreError};
use crate::subscription::TenantId;
use bytes::Bytes;
use http::StatusCode;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Reason why a request is not accepted: it has no event, or the store failed.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The body is not an envelope.
    #[error(transparent)]
    Envelope(EnvelopeError),
    /// The tenant does not accept the event name.
    #[error("{place}the event name {:?} is not accepted; accepted are {accepted}", shortened(name, NAME_BYTES_MAX))]
    UnknownName {
        /// Position of the event in a batch; empty for a single event.
        place: String,
        /// Event name of the request.
        name: String,
        /// Accepted names, as text.
        accepted: String,
    },
    /// The request has more events than one transaction may have.
    #[error("the batch has more than {events_max} events, and this host accepts no more at once")]
    TooMany {
        /// Maximum number of events.
        events_max: usize,
    },
    /// An event is too large.
    #[error("{place}the event has {bytes} bytes; this host accepts at most {most}")]
    TooLarge {
        /// Position of the event in a batch; empty for a single event.
        place: String,
        /// Size of the event, in bytes.
        bytes: usize,
        /// Maximum size, in bytes.
        most: u64,
    },
    /// The store could not accept the events.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The CPU pool could not parse the body.
    #[error(transparent)]
    CpuPool(#[from] CpuPoolError),
}

impl From<EnvelopeError> for IntakeError {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::TooMany { events_max } => IntakeError::TooMany { events_max },
            error => IntakeError::Envelope(error),
        }
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        let detail = error.to_string();
        match error {
            IntakeError::Envelope(error) => error.into(),
            IntakeError::Store(error) => error.into(),
            IntakeError::CpuPool(error) => error.into(),
            IntakeError::UnknownName { .. } => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown-event-name", detail).remedy(
                    "correct the name, or add an event type with this name: PUT /v1/tenants/{t}/event-types/{name}",
                )
            }
            IntakeError::TooMany { .. } => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-many-events", detail)
                .remedy("send several smaller batches"),
            IntakeError::TooLarge { .. } => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "event-too-large", detail)
                .remedy("send less, or let the operator raise event_bytes_max"),
        }
    }
}

/// Maximum size of a body that is parsed on the network thread, in bytes: it takes less than half a millisecond.
const PARSED_IN_PLACE_MAX: usize = 64 << 10;

/// Maximum length of an unknown event name in an error, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// Maximum number of events in one request, because their transaction delays every other write.
const EVENTS_MAX: usize = 10_000;

/// Accepted event, and a note for its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedEntry {
    /// The accepted event.
    pub accepted: Accepted,
    /// Note on an event that is treated unusually.
    pub note: Option<String>,
}

/// Accepted events of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedEvents {
    /// Events in the order of the request.
    pub events: Vec<AcceptedEntry>,
    /// True if an earlier request with the same key had already submitted them.
    pub is_repetition: bool,
}

/// Outcome of a request to `/in`.
#[derive(Debug)]
pub(crate) enum VendorIntake {
    /// The event was accepted.
    Accepted(Accepted),
    /// The request is not an event, and was kept under this id.
    Kept(Uuid, IntakeError),
}

/// Request to `/in` as received, which is kept if it is not an event.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    /// Received bytes, at most one more than the maximum size of an event.
    pub(crate) bytes: Bytes,
    /// True if the stored bytes are the whole body.
    pub(crate) is_whole: bool,
}

/// Parts of the host that intake needs, with the limits of a request.
#[derive(Clone, Copy)]
pub struct Intake<'a> {
    /// Store that accepts the events.
    pub store: &'a Store,
    /// Thread pool that parses large bodies.
    pub cpu: &'a CpuPool,
    /// Maximum size of an event, in bytes.
    pub event_bytes_max: u64,
    /// Storage limits of the tenant.
    pub caps: Caps,
}

impl Operations {
    /// Accepts one event, an array of events, or one a line: all or none. With an idempotency key, once.
    pub(crate) async fn send_events(
        &self,
        access: &Access<ToSend>,
        body: &Bytes,
        idempotency_key: Option<String>,
    ) -> Result<AcceptedEvents, Problem> {
        Ok(self.intake().accept(&access.tenant, body, idempotency_key).await?)
    }

    /// Accepts a request of Agile CRM, or keeps it. `body` is the event in it, without its content encoding. The tenant is that of the
    /// request's token.
    pub(crate) async fn accept_from_vendor(
        &self,
        tenant: &TenantId,
        received: ReceivedRequest,
        body: &Bytes,
    ) -> Result<VendorIntake, IntakeError> {
        match self.intake().for_vendor().accept_one(tenant, body).await {
            Ok(accepted) => Ok(VendorIntake::Accepted(accepted)),
            Err(error @ (IntakeError::Store(_) | IntakeError::CpuPool(_))) => Err(error),
            Err(error) => {
                let id = self.keep_rejected(tenant, received, error.to_string()).await?;
                Ok(VendorIntake::Kept(id, error))
            }
        }
    }

    /// Keeps a request that is not an event, up to the maximum size of an event.
    pub(crate) async fn keep_rejected(
        &self,
        tenant: &TenantId,
        received: ReceivedRequest,
        reason: String,
    ) -> Result<Uuid, StoreError> {
        let ReceivedRequest { bytes, is_whole } = received;
        let most = usize::try_from(self.config.event_bytes_max).unwrap_or(usize::MAX);
        let kept = bytes.slice(..bytes.len().min(most));
        self.store.reject(tenant.clone(), reason, kept, !is_whole || bytes.len() > most).await
    }

    /// Returns the intake, with the limits of the settings.
    pub(super) fn intake(&self) -> Intake<'_> {
        let Config { event_bytes_max, .. } = self.config;
        Intake { store: &self.store, cpu: &self.cpu, event_bytes_max, caps: (&self.config).into() }
    }
}

impl Intake<'_> {
    /// Accepts one event, an array of events, or one a line: all or none. With an idempotency key, once.
    ///
    /// # Errors
    /// The body has no events that the host and the tenant accept, or they could not be stored. Nothing was accepted.
    pub async fn accept(
        self,
        tenant: &TenantId,
        body: &Bytes,
        key: Option<String>,
    ) -> Result<AcceptedEvents, IntakeError> {
        let is_keyed = key.is_some();
        let parsed = self.parsed(tenant, body, move |body| {
            let sha256: Option<[u8; 32]> = is_keyed.then(|| Sha256::digest(body).into());
            read_batch(body, EVENTS_MAX).map(|envelopes| (envelopes, sha256))
        });
        let (envelopes, sha256) = parsed.await??;
        let notes: Vec<Option<String>> = envelopes.iter().map(note).collect();
        let events = self.checked(tenant, envelopes)?;
        let AcceptedOnce { events, is_repetition } = match key.zip(sha256) {
            None => {
                let events = self.store.accept(tenant.clone(), events, self.caps).await?;
                AcceptedOnce { events, is_repetition: false }
            }
            Some((key, body_sha256)) => {
                let request = Repeatable { key, body_sha256 };
                self.store.accept_once(request, tenant.clone(), events, self.caps).await?
            }
        };
        let events = events.into_iter().zip(notes).map(|(accepted, note)| AcceptedEntry { accepted, note }).collect();
        Ok(AcceptedEvents { events, is_repetition })
    }

    /// Accepts the event of a rejected request, unchanged or edited. The record of the request is deleted with that.
    pub(super) async fn accept_again(
        self,
        actor: Actor,
        tenant: &TenantId,
        rejected: Uuid,
        body: &Bytes,
    ) -> Result<AcceptedEntry, IntakeError> {
        let envelope = self.parsed(tenant, body, read_envelope).await??;
        let note = note(&envelope);
        let event = self.checked(tenant, vec![envelope])?.remove(0);
        let accepted = self.store.accept_rejected(actor, tenant.clone(), rejected, event, self.caps).await?;
        Ok(AcceptedEntry { accepted, note })
    }

    /// Accepts exactly one event.
    async fn accept_one(self, tenant: &TenantId, body: &Bytes) -> Result<Accepted, IntakeError> {
        let envelope = self.parsed(tenant, body, read_envelope).await??;
        let events = self.checked(tenant, vec![envelope])?;
        Ok(self.store.accept(tenant.clone(), events, self.caps).await?[0])
    }

    /// Returns the intake for Agile CRM, which does not send again: with a share that is a tenth larger.
    fn for_vendor(self) -> Self {
        Intake { caps: self.caps.with_a_tenth_more(), ..self }
    }

    /// Parses a body in place if it is small, and otherwise on the CPU pool when the tenant's turn comes.
    async fn parsed<T: Send + 'static>(
        self,
        tenant: &TenantId,
        body: &Bytes,
        parse: impl FnOnce(&Bytes) -> T + Send + 'static,
    ) -> Result<T, CpuPoolError> {
        if body.len() <= PARSED_IN_PLACE_MAX {
            return Ok(parse(body));
        }
        let body = body.clone();
        self.cpu.run(Some(tenant), move || parse(&body)).await
    }

    /// Checks the rules of an event beyond its envelope.
    fn checked(self, tenant: &TenantId, envelopes: Vec<Envelope>) -> Result<Vec<NewEvent>, IntakeError> {
        fn place(envelope: &Envelope) -> String {
            match envelope.place.as_str() {
                "" => String::new(),
                place => format!("{place}: "),
            }
        }
        let most = self.event_bytes_max;
        let one = |envelope: Envelope| {
            let bytes = envelope.payload.len();
            if bytes as u64 > most {
                return Err(IntakeError::TooLarge { place: place(&envelope), bytes, most });
            }
            match self.store.catalog().module_of(tenant, &envelope.name) {
                Some(module) => {
                    let Envelope { name, entity_id, payload, .. } = envelope;
                    Ok(NewEvent { name, module, entity_id, payload })
                }
                None => Err(IntakeError::UnknownName {
                    place: place(&envelope),
                    name: envelope.name,
                    accepted: self.accepted_names(tenant),
                }),
            }
        };
        envelopes.into_iter().map(one).collect()
    }

    fn accepted_names(self, tenant: &TenantId) -> String {
        let extra = self.store.catalog().tenant(tenant);
        let extra = extra.iter().flat_map(|tenant| tenant.event_types.iter().map(|(name, _)| name));
        let names: Vec<String> =
            VENDOR_EVENT_NAMES.iter().map(|(name, _)| *name).chain(extra).map(|name| format!("{name:?}")).collect();
        names.join(", ")
    }
}

fn note(envelope: &Envelope) -> Option<String> {
    envelope.oversized_entity_id.map(oversized_entity_id_note)
}

//! Intake: from the bytes of a request to durable events.
//!
//! Two routes use it, with the same rules: `POST /v1/tenants/{t}/events` for senders with a key, which get an answer and can try
//! again; and `POST /in/{token}` for Agile CRM, which sends once and reads no answer, so that requests without an event are kept.
//! Works on bytes of bodies; the routes are in `api`.

use crate::cpu_pool::{CpuPool, CpuPoolError};
use crate::event::{Envelope, EnvelopeError, VENDOR_EVENT_NAMES, oversized_entity_id_note, read_batch, read_envelope};
use crate::limits::shortened;
use crate::store::{Accepted, AcceptedOnce, Actor, Caps, NewEvent, Repeatable, Store, StoreError};
use crate::subscription::TenantId;
use bytes::Bytes;
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

/// Maximum size of a body that is parsed on the network thread, in bytes: it takes less than half a millisecond.
const PARSED_IN_PLACE_MAX: usize = 64 << 10;

/// Parses a body in place if it is small, and otherwise on the CPU pool when the tenant's turn comes.
async fn parse<T: Send + 'static>(
    cpu: &CpuPool,
    tenant: &TenantId,
    body: &Bytes,
    parse: impl FnOnce(&Bytes) -> T + Send + 'static,
) -> Result<T, CpuPoolError> {
    if body.len() <= PARSED_IN_PLACE_MAX {
        return Ok(parse(body));
    }
    let body = body.clone();
    cpu.run(Some(tenant), move || parse(&body)).await
}

/// Maximum length of an unknown event name in an error, in bytes.
const NAME_BYTES_MAX: usize = 200;

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

/// Maximum number of events in one request, because their transaction delays every other write.
const EVENTS_MAX: usize = 10_000;

/// Limits of a request, and of the tenant's stored data.
#[derive(Clone, Copy, Debug)]
pub struct IntakeLimits {
    /// Maximum size of an event, in bytes.
    pub event_bytes_max: u64,
    /// Storage limits of the tenant.
    pub caps: Caps,
}

impl IntakeLimits {
    /// Returns the limits for Agile CRM, which does not send again: a share that is a tenth larger.
    fn for_vendor(self) -> Self {
        IntakeLimits { caps: self.caps.with_a_tenth_more(), ..self }
    }
}

/// Accepts one event, an array of events, or one a line: all or none. With an idempotency key, once.
pub async fn accept(
    store: &Store,
    cpu: &CpuPool,
    tenant: &TenantId,
    body: &Bytes,
    key: Option<String>,
    limits: IntakeLimits,
) -> Result<AcceptedEvents, IntakeError> {
    let is_keyed = key.is_some();
    let parsed = parse(cpu, tenant, body, move |body| {
        let sha256: Option<[u8; 32]> = is_keyed.then(|| Sha256::digest(body).into());
        read_batch(body, EVENTS_MAX).map(|envelopes| (envelopes, sha256))
    });
    let (envelopes, sha256) = parsed.await??;
    let notes: Vec<Option<String>> = envelopes.iter().map(note).collect();
    let events = checked(store, tenant, envelopes, limits.event_bytes_max)?;
    let AcceptedOnce { events, is_repetition } = match key.zip(sha256) {
        None => {
            let events = store.accept(tenant.clone(), events, limits.caps).await?;
            AcceptedOnce { events, is_repetition: false }
        }
        Some((key, body_sha256)) => {
            let request = Repeatable { key, body_sha256 };
            store.accept_once(request, tenant.clone(), events, limits.caps).await?
        }
    };
    let events = events.into_iter().zip(notes).map(|(accepted, note)| AcceptedEntry { accepted, note }).collect();
    Ok(AcceptedEvents { events, is_repetition })
}

fn note(envelope: &Envelope) -> Option<String> {
    envelope.oversized_entity_id.map(oversized_entity_id_note)
}

/// Outcome of a request to `/in`.
#[derive(Debug)]
pub enum VendorIntake {
    /// The event was accepted.
    Accepted(Accepted),
    /// The request is not an event, and was kept under this id.
    Kept(Uuid, IntakeError),
}

/// Request to `/in` as received, which is kept if it is not an event.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// Received bytes, at most one more than the maximum size of an event.
    pub bytes: Bytes,
    /// True if the stored bytes are the whole body.
    pub is_whole: bool,
}

/// Accepts a request of Agile CRM, or keeps it. `body` is the event in it, without its content encoding.
pub async fn accept_from_vendor(
    store: &Store,
    cpu: &CpuPool,
    tenant: &TenantId,
    received: ReceivedRequest,
    body: &Bytes,
    limits: IntakeLimits,
) -> Result<VendorIntake, IntakeError> {
    match accept_one(store, cpu, tenant, body, limits.for_vendor()).await {
        Ok(accepted) => Ok(VendorIntake::Accepted(accepted)),
        Err(error @ (IntakeError::Store(_) | IntakeError::CpuPool(_))) => Err(error),
        Err(error) => {
            let id = keep(store, tenant, received, error.to_string(), limits).await?;
            Ok(VendorIntake::Kept(id, error))
        }
    }
}

/// Keeps a request that is not an event, up to the maximum size of an event.
pub async fn keep(
    store: &Store,
    tenant: &TenantId,
    received: ReceivedRequest,
    reason: String,
    limits: IntakeLimits,
) -> Result<Uuid, StoreError> {
    let ReceivedRequest { bytes, is_whole } = received;
    let most = usize::try_from(limits.event_bytes_max).unwrap_or(usize::MAX);
    let kept = bytes.slice(..bytes.len().min(most));
    store.reject(tenant.clone(), reason, kept, !is_whole || bytes.len() > most).await
}

/// Accepts exactly one event.
async fn accept_one(
    store: &Store,
    cpu: &CpuPool,
    tenant: &TenantId,
    body: &Bytes,
    limits: IntakeLimits,
) -> Result<Accepted, IntakeError> {
    let envelope = parse(cpu, tenant, body, read_envelope).await??;
    let events = checked(store, tenant, vec![envelope], limits.event_bytes_max)?;
    Ok(store.accept(tenant.clone(), events, limits.caps).await?[0])
}

/// Accepts a request that was rejected earlier, unchanged or edited.
pub async fn accept_again(
    store: &Store,
    cpu: &CpuPool,
    actor: Actor,
    tenant: &TenantId,
    rejected: Uuid,
    body: &Bytes,
    limits: IntakeLimits,
) -> Result<AcceptedEntry, IntakeError> {
    let envelope = parse(cpu, tenant, body, read_envelope).await??;
    let note = note(&envelope);
    let event = checked(store, tenant, vec![envelope], limits.event_bytes_max)?.remove(0);
    let accepted = store.accept_rejected(actor, tenant.clone(), rejected, event, limits.caps).await?;
    Ok(AcceptedEntry { accepted, note })
}

/// Checks the rules of an event beyond its envelope.
fn checked(
    store: &Store,
    tenant: &TenantId,
    envelopes: Vec<Envelope>,
    event_bytes_max: u64,
) -> Result<Vec<NewEvent>, IntakeError> {
    fn place(envelope: &Envelope) -> String {
        match envelope.place.as_str() {
            "" => String::new(),
            place => format!("{place}: "),
        }
    }
    let one = |envelope: Envelope| {
        let bytes = envelope.payload.len();
        if bytes as u64 > event_bytes_max {
            return Err(IntakeError::TooLarge { place: place(&envelope), bytes, most: event_bytes_max });
        }
        match store.catalog().module_of(tenant, &envelope.name) {
            Some(module) => {
                Ok(NewEvent { name: envelope.name, module, entity_id: envelope.entity_id, payload: envelope.payload })
            }
            None => Err(IntakeError::UnknownName {
                place: place(&envelope),
                name: envelope.name,
                accepted: accepted_names(store, tenant),
            }),
        }
    };
    envelopes.into_iter().map(one).collect()
}

fn accepted_names(store: &Store, tenant: &TenantId) -> String {
    let extra = store.catalog().tenant(tenant);
    let extra = extra.iter().flat_map(|tenant| tenant.extra_event_names.keys().map(String::as_str));
    let names: Vec<String> =
        VENDOR_EVENT_NAMES.iter().map(|(name, _)| *name).chain(extra).map(|name| format!("{name:?}")).collect();
    names.join(", ")
}

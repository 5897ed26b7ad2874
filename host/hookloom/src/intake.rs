//! Intake: from a request's bytes to durable events.
//!
//! Two doors lead here: `POST /v1/tenants/{t}/events` for senders with a key, who get an answer and can try again; and
//! `POST /in/{token}` for Agile CRM, which sends once and reads no answer, so what cannot be an event is kept there.
//! Both check the same rules. Knows HTTP's bytes but not its requests; the routes stand in `api`.

use crate::cpu_pool::{CpuPool, CpuPoolError};
use crate::event::{Envelope, EnvelopeError, VENDOR_EVENT_NAMES, oversized_entity_id_note, read_batch, read_envelope};
use crate::limits::shortened;
use crate::store::{Accepted, AcceptedOnce, Caps, NewEvent, Repeatable, Store, StoreError};
use crate::subscription::TenantId;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Reason why a request is not accepted: it holds no event, or it could not be made durable.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The bytes.
    #[error(transparent)]
    Envelope(EnvelopeError),
    /// An event name that the tenant does not accept.
    #[error("{place}the event name {:?} is not accepted; accepted are {accepted}", shortened(name, NAME_BYTES_MAX))]
    UnknownName {
        /// Position of the event in a batch; empty for a single event.
        place: String,
        /// The name.
        name: String,
        /// The names that are, in words.
        accepted: String,
    },
    /// More events than one transaction may hold.
    #[error("the batch has more than {events_max} events, and this host accepts no more at once")]
    TooMany {
        /// Maximum number of events.
        events_max: usize,
    },
    /// An event above the cap.
    #[error("{place}the event has {bytes} bytes; this host accepts at most {most}")]
    TooLarge {
        /// Position of the event in a batch; empty for a single event.
        place: String,
        /// Its size.
        bytes: usize,
        /// The cap.
        most: u64,
    },
    /// The store could not make it durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The body could not be parsed, by a fault of the host's.
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

/// Bodies above this size are parsed on the CPU pool: smaller ones take less than half a millisecond.
const PARSED_IN_PLACE_MAX: usize = 64 << 10;

/// Parses a body in place if it is small, and on the CPU pool in the tenant's turn otherwise.
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

/// An accepted event, and what its sender should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedEntry {
    /// The accepted event.
    pub accepted: Accepted,
    /// Note on an event that is treated unusually. None: it is treated as usual.
    pub note: Option<String>,
}

/// The events of a request, accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedEvents {
    /// In the order they were sent.
    pub events: Vec<AcceptedEntry>,
    /// True if an earlier request with the same key had already submitted them.
    pub is_repetition: bool,
}

/// Maximum number of events in one request: their transaction delays every other write.
const EVENTS_MAX: usize = 10_000;

/// Limits of what one request and one tenant may store.
#[derive(Clone, Copy, Debug)]
pub struct IntakeLimits {
    /// The largest event, in bytes.
    pub event_bytes_max: u64,
    /// Storage limits of the tenant.
    pub caps: Caps,
}

impl IntakeLimits {
    /// Those of the door for Agile CRM, which sends nothing twice: a tenth more than others have.
    fn for_vendor(self) -> Self {
        IntakeLimits { caps: self.caps.with_a_tenth_more(), ..self }
    }
}

/// Accepts one event, an array of them, or one a line: all or none. With a key, once.
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
    /// An event, durable.
    Accepted(Accepted),
    /// No event: kept for somebody to look at, under this id.
    Kept(Uuid, IntakeError),
}

/// A request to `/in` as it came, to be kept if it is no event.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// The bytes that came, at most one more than the largest event has.
    pub bytes: Bytes,
    /// True if the stored bytes are the whole body.
    pub is_whole: bool,
}

/// Accepts what Agile CRM sent, or keeps it. `body` is the event in it, without its content encoding.
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

/// Keeps a request that is no event, up to the size of the largest one.
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

/// Accepts a request that was rejected earlier: as it was, now that the cause is gone, or edited.
pub async fn accept_again(
    store: &Store,
    cpu: &CpuPool,
    tenant: &TenantId,
    rejected: Uuid,
    body: &Bytes,
    limits: IntakeLimits,
) -> Result<AcceptedEntry, IntakeError> {
    let envelope = parse(cpu, tenant, body, read_envelope).await??;
    let note = note(&envelope);
    let event = checked(store, tenant, vec![envelope], limits.event_bytes_max)?.remove(0);
    let accepted = store.accept_rejected(tenant.clone(), rejected, event, limits.caps).await?;
    Ok(AcceptedEntry { accepted, note })
}

/// The rules that hold for each event beyond its shape.
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

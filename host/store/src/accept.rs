//! Accepting events: the transaction behind `202`.

use super::audit::{Actor, AuditAction};
use super::batch::Transaction;
use super::caps::Caps;
use super::order_key::OrderKey;
use super::rows::{DeliveryRow, EventRow};
use super::writer::{Terms, WriteMode, payload_rows};
use super::{Catalog, Due, NewDeliveries, Store, StoreError, StoreEvent, fan_out, now_ms, rejected};
use bytes::Bytes;
use hookloom_model::delivery::{DeliveryId, DeliveryKind, DueDelivery};
use hookloom_model::event::{Event, EventId, Module};
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use hookloom_telemetry as telemetry;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::cell::LazyCell;
use std::sync::Arc;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Checked event that has not been stored.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The `eventName` of the webhook.
    pub name: String,
    /// Module of the event name.
    pub module: Module,
    /// `eventData.id` as text.
    pub entity_id: Option<String>,
    /// Exact bytes of the event.
    pub payload: Bytes,
}

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

/// Rule by which a request is accepted.
enum IntakeKind {
    /// Accepts the events.
    Plain,
    /// Accepts the events once for each idempotency key.
    Once(Repeatable),
    /// Accepts a rejected request, deletes its record and adds an entry to the log of changes, in one transaction.
    Rejected(Actor, Uuid),
}

impl Store {
    /// Stores events, all or none, with one pending delivery for each matching subscription.
    ///
    /// When this returns `Ok`, the deliveries are durable and will be attempted, even if the process ends.
    pub async fn accept(
        &self,
        tenant: TenantId,
        events: Vec<NewEvent>,
        caps: Caps,
    ) -> Result<Vec<Accepted>, StoreError> {
        Ok(self.accept_by(IntakeKind::Plain, tenant, events, caps).await?.events)
    }

    /// Accepts events as [`Store::accept`] does, once for each idempotency key. A repetition gets the answer of the first request.
    pub async fn accept_once(
        &self,
        request: Repeatable,
        tenant: TenantId,
        events: Vec<NewEvent>,
        caps: Caps,
    ) -> Result<AcceptedOnce, StoreError> {
        self.accept_by(IntakeKind::Once(request), tenant, events, caps).await
    }

    /// Accepts a rejected request and deletes its record in one transaction, so that it can be accepted only once.
    pub async fn accept_rejected(
        &self,
        actor: Actor,
        tenant: TenantId,
        id: Uuid,
        event: NewEvent,
        caps: Caps,
    ) -> Result<Accepted, StoreError> {
        Ok(self.accept_by(IntakeKind::Rejected(actor, id), tenant, vec![event], caps).await?.events[0])
    }

    async fn accept_by(
        &self,
        kind: IntakeKind,
        tenant: TenantId,
        events: Vec<NewEvent>,
        caps: Caps,
    ) -> Result<AcceptedOnce, StoreError> {
        let catalog = self.catalog.clone();
        let owner = tenant.clone();
        let store_events = self.store_events.clone();
        let most = self.limits.request_deliveries_max;
        let volume = Volume::of(&events);
        let Matching { deliveries, subscriptions } = volume.matching(&catalog, &tenant);
        if let Err(error) = volume.check(deliveries, most) {
            // A repetition gets the answer of the first request, even if more subscriptions match by now.
            let IntakeKind::Once(request) = kind else { return Err(error) };
            let read = move |connection: &Connection| answered(connection, &tenant, &request);
            let events = self.readers.read(&owner, read).await?.ok_or(error)?;
            return Ok(AcceptedOnce { events, is_repetition: true });
        }
        let mode = if matches!(kind, IntakeKind::Rejected(..)) { WriteMode::Shared } else { WriteMode::Intake };
        let steps = fan_out::takes_steps(deliveries, subscriptions).then(|| self.fan_outs.begin());
        let steps_id = steps.as_ref().map(fan_out::FanOutGuard::id);
        let at_once = if steps.is_some() { 0 } else { deliveries };
        let terms = Terms { owner: (&owner).into(), mode, rows: volume.rows(at_once) };
        let requester = tenant.clone();
        let request = IntakeRequest { kind, tenant, volume, events, caps, steps: steps_id };
        let write = move |tx: &Transaction<'_>| request.write(tx, &catalog, most);
        let then = move |(accepted, new_deliveries): &mut (AcceptedOnce, NewDeliveries)| {
            if !accepted.is_repetition {
                telemetry::accepted(&owner, accepted.events.len());
            }
            publish(&store_events, std::mem::take(new_deliveries));
        };
        let (accepted, _) = self.writer.write(terms, write, then).await?;
        if let Some(steps) = steps {
            self.fan_out(&requester, steps).await;
        }
        Ok(accepted)
    }
}

/// Accepted request, before its transaction.
struct IntakeRequest {
    kind: IntakeKind,
    tenant: TenantId,
    volume: Volume,
    events: Vec<NewEvent>,
    caps: Caps,
    /// Id of the fan-out, if the deliveries follow in steps.
    steps: Option<Uuid>,
}

impl IntakeRequest {
    /// Writes the events and their deliveries, or returns the answer of the first request. Every error comes before the first
    /// change.
    fn write(
        self,
        tx: &Transaction<'_>,
        catalog: &Catalog,
        most: u64,
    ) -> Result<(AcceptedOnce, NewDeliveries), StoreError> {
        let IntakeRequest { kind, tenant, volume, events, caps, steps } = self;
        let mut new_deliveries = NewDeliveries::default();
        if let IntakeKind::Once(request) = &kind
            && let Some(events) = answered(tx, &tenant, request)?
        {
            return Ok((AcceptedOnce { events, is_repetition: true }, new_deliveries));
        }
        tx.require_disk()?;
        // Subscriptions may have been added since the request was queued.
        volume.check(volume.matching(catalog, &tenant).deliveries, most)?;
        if let IntakeKind::Rejected(_, id) = &kind {
            rejected::forget(tx, &tenant, *id)?;
        }
        let mut accepted = Vec::with_capacity(events.len());
        for event in events {
            accepted.push(match steps {
                None => accept_one(tx, catalog, &tenant, event, None, &mut new_deliveries),
                Some(_) => accept_without_deliveries(tx, catalog, &tenant, event),
            });
        }
        let answer = match &kind {
            IntakeKind::Once(request) => Some((request, answer_to(tx, &tenant, request, &accepted)?)),
            IntakeKind::Plain | IntakeKind::Rejected(..) => None,
        };
        // Last check. So far, the rows are only in memory.
        tx.check_share(&tenant, caps)?;
        if let Some((request, answer)) = answer {
            remember(tx, &tenant, request, &answer)?;
        }
        if let IntakeKind::Rejected(actor, id) = &kind {
            tx.record(actor, Some(&tenant), &AuditAction::RejectedRequestResubmit(*id))?;
        }
        if let Some(id) = steps {
            let lacks = accepted.iter().map(|one| one.deliveries).sum();
            fan_out::note(tx, &tenant, id, accepted.iter().map(|one| one.event), lacks)?;
        }
        Ok((AcceptedOnce { events: accepted, is_repetition: false }, new_deliveries))
    }
}

/// Size of a request, known before any row is built.
#[derive(Clone, Copy)]
struct Volume {
    bytes: usize,
    /// Number of events by module.
    events: [usize; Module::ALL.len()],
}

/// Size of a request's fan-out.
struct Matching {
    deliveries: u64,
    /// Number of matching subscriptions. A subscription of two modules counts twice.
    subscriptions: usize,
}

impl Volume {
    fn of(events: &[NewEvent]) -> Self {
        let mut volume = Volume { bytes: 0, events: [0; Module::ALL.len()] };
        for event in events {
            volume.bytes += event.payload.len();
            volume.events[event.module as usize] += 1;
        }
        volume
    }

    /// Counts the deliveries that the events would make now, and the matching subscriptions.
    fn matching(self, catalog: &Catalog, tenant: &TenantId) -> Matching {
        let mut matching = Matching { deliveries: 0, subscriptions: 0 };
        for module in Module::ALL {
            let events = self.events[module as usize];
            if events > 0 {
                let subscriptions = catalog.matching(tenant, module).len();
                matching.deliveries += events as u64 * subscriptions as u64;
                matching.subscriptions += subscriptions;
            }
        }
        matching
    }

    /// Refuses two or more events that make more deliveries than one transaction may. One event is always accepted.
    fn check(self, deliveries: u64, most: u64) -> Result<(), StoreError> {
        let events: usize = self.events.iter().sum();
        if events <= 1 || deliveries <= most {
            return Ok(());
        }
        Err(StoreError::TooManyDeliveries { events, deliveries, most })
    }

    fn rows(self, deliveries: u64) -> u64 {
        self.events.iter().sum::<usize>() as u64 + deliveries + payload_rows(self.bytes)
    }
}

/// Publishes new deliveries. The dispatcher is gone only while the host stops, and reads them from the store at the next start.
pub(super) fn publish(store_events: &mpsc::UnboundedSender<StoreEvent>, new_deliveries: NewDeliveries) {
    if !new_deliveries.due.is_empty() || !new_deliveries.later.is_empty() {
        let _ = store_events.send(StoreEvent::Accepted(new_deliveries));
    }
}

/// Returns the answer to an earlier request with the same key, if there was one.
///
/// # Errors
///
/// [`StoreError::KeyReused`]: the earlier request had another body.
fn answered(
    connection: &Connection,
    tenant: &TenantId,
    request: &Repeatable,
) -> Result<Option<Vec<Accepted>>, StoreError> {
    let sql = "SELECT body_sha256, answer FROM idempotency_keys WHERE tenant = ?1 AND key = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement
        .query_row(params![&*tenant.0, request.key], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?)));
    let Some((body_sha256, answer)) = found.optional()? else {
        return Ok(None);
    };
    if body_sha256 != request.body_sha256 {
        return Err(StoreError::KeyReused);
    }
    let pairs: Vec<(EventId, usize)> = serde_json::from_str(&answer)?;
    Ok(Some(pairs.into_iter().map(|(event, deliveries)| Accepted { event, deliveries }).collect()))
}

/// Returns the answer that a repetition gets, and counts its size.
fn answer_to(
    tx: &Transaction<'_>,
    tenant: &TenantId,
    request: &Repeatable,
    accepted: &[Accepted],
) -> Result<String, StoreError> {
    let pairs: Vec<(EventId, usize)> = accepted.iter().map(|one| (one.event, one.deliveries)).collect();
    let answer = serde_json::to_string(&pairs)?;
    tx.count_idempotency_key(tenant, &request.key, &answer);
    Ok(answer)
}

fn remember(connection: &Connection, tenant: &TenantId, request: &Repeatable, answer: &str) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO idempotency_keys (tenant, key, body_sha256, answer, received_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
    connection.prepare_cached(sql)?.execute(params![&*tenant.0, request.key, request.body_sha256, answer, now_ms()])?;
    Ok(())
}

/// Adds an event and its deliveries to all matching subscriptions except one.
pub(super) fn accept_one(
    tx: &Transaction<'_>,
    catalog: &Catalog,
    tenant: &TenantId,
    new: NewEvent,
    except: Option<SubscriptionId>,
    new_deliveries: &mut NewDeliveries,
) -> Accepted {
    let matching = catalog.matching(tenant, new.module);
    let matching = matching.iter().filter(|subscription| Some(subscription.id) != except);
    let deliveries = matching.clone().count();
    let event = write_event(tx, tenant, new, deliveries);
    let order_key = LazyCell::new(|| OrderKey::of_event(&event));
    for subscription in matching {
        write_usual_delivery(tx, tenant, &event, subscription, &order_key, new_deliveries);
    }
    Accepted { event: event.id, deliveries }
}

/// Adds an event whose deliveries follow in steps.
fn accept_without_deliveries(tx: &Transaction<'_>, catalog: &Catalog, tenant: &TenantId, new: NewEvent) -> Accepted {
    let deliveries = catalog.matching(tenant, new.module).len();
    Accepted { event: write_event(tx, tenant, new, deliveries).id, deliveries }
}

/// Adds the delivery of an accepted event to a subscription. The order key is the same for every ordered subscription.
pub(super) fn write_usual_delivery(
    tx: &Transaction<'_>,
    tenant: &TenantId,
    event: &Arc<Event>,
    subscription: &Subscription,
    order_key: &LazyCell<Option<OrderKey>, impl FnOnce() -> Option<OrderKey>>,
    new_deliveries: &mut NewDeliveries,
) {
    let order_key = subscription.settings.ordering.and_then(|_| **order_key);
    let wait_ms = subscription.settings.retry.first_wait_ms();
    let delivery = write_delivery(tx, tenant, event.id, subscription.id, DeliveryKind::Usual, wait_ms, order_key);
    match wait_ms {
        0 => new_deliveries.due.push(Due { delivery, event: event.clone() }),
        _ => new_deliveries.later.push(subscription.id),
    }
}

/// Adds an event, accepted now.
pub(super) fn write_event(tx: &Transaction<'_>, tenant: &TenantId, new: NewEvent, fan_out: usize) -> Arc<Event> {
    let (id, received_at_ms) = EventId::with_time();
    let event = Arc::new(Event {
        id,
        name: new.name,
        module: new.module,
        entity_id: new.entity_id,
        received_at_ms,
        payload: new.payload,
    });
    tx.add_event(EventRow { tenant: tenant.clone(), event: event.clone(), fan_out });
    event
}

/// Adds a pending delivery.
pub(super) fn write_delivery(
    tx: &Transaction<'_>,
    tenant: &TenantId,
    event: EventId,
    subscription: SubscriptionId,
    kind: DeliveryKind,
    wait_ms: i64,
    order_key: Option<OrderKey>,
) -> DueDelivery {
    let (id, now_ms) = DeliveryId::with_time();
    let delivery = DueDelivery {
        id,
        tenant: tenant.clone(),
        event,
        subscription,
        kind,
        attempts_made: 0,
        attempts_in_budget: 0,
        age_from_ms: now_ms,
    };
    let due_at_ms = now_ms.saturating_add(wait_ms);
    tx.add_delivery(DeliveryRow { delivery: delivery.clone(), due_at_ms, order_key });
    delivery
}

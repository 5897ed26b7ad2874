//! Accepting events: the transaction behind `202`.

use super::audit::{Actor, AuditAction};
use super::batch::{AdminTx, IntakeStatement, IntakeTx};
use super::caps::Caps;
use super::claims::Claims;
use super::new_events::{NewEvent, publish, write_event, write_usual_delivery};
use super::order_key::OrderKey;
use super::writer::{Terms, payload_rows};
use super::{Catalog, NewDeliveries, Store, StoreError, fan_out, rejected};
use hookloom_model::clock::now_ms;
use hookloom_model::event::{EventId, Module};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use hookloom_telemetry as telemetry;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::cell::LazyCell;
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
        Ok(self.accept_by(None, None, tenant, events, caps).await?.events)
    }

    /// Accepts events as [`Store::accept`] does, once for each idempotency key. A repetition gets the answer of the first request.
    pub async fn accept_once(
        &self,
        request: Repeatable,
        tenant: TenantId,
        events: Vec<NewEvent>,
        caps: Caps,
    ) -> Result<AcceptedOnce, StoreError> {
        self.accept_by(Some(request), None, tenant, events, caps).await
    }

    /// Accepts a rejected request, deletes its record and adds an entry to the log of changes in one transaction, so that it can be
    /// accepted only once.
    pub async fn accept_rejected(
        &self,
        actor: Actor,
        tenant: TenantId,
        id: Uuid,
        event: NewEvent,
        caps: Caps,
    ) -> Result<Accepted, StoreError> {
        Ok(self.accept_by(None, Some((actor, id)), tenant, vec![event], caps).await?.events[0])
    }

    /// Accepts events, once if a key is given, and instead of a rejected request if its id is given.
    async fn accept_by(
        &self,
        once: Option<Repeatable>,
        rejected: Option<(Actor, Uuid)>,
        tenant: TenantId,
        events: Vec<NewEvent>,
        caps: Caps,
    ) -> Result<AcceptedOnce, StoreError> {
        let catalog = self.catalog.clone();
        let claims = self.claims.clone();
        let owner = tenant.clone();
        let store_events = self.store_events.clone();
        let most = self.limits.request_deliveries_max;
        let volume = Volume::of(&events);
        let Matching { deliveries, subscriptions } = volume.matching(&catalog, &tenant);
        if let Err(error) = volume.check(deliveries, most) {
            // A repetition gets the answer of the first request, even if more subscriptions match by now.
            let Some(request) = once else { return Err(error) };
            let read = move |connection: &Connection| answered(connection, &tenant, &request);
            let events = self.readers.read(&owner, read).await?.ok_or(error)?;
            return Ok(AcceptedOnce { events, is_repetition: true });
        }
        let steps = fan_out::takes_steps(deliveries, subscriptions).then(|| self.fan_outs.begin());
        let steps_id = steps.as_ref().map(fan_out::FanOutGuard::id);
        let at_once = if steps.is_some() { 0 } else { deliveries };
        let terms = Terms { owner: (&owner).into(), rows: volume.rows(at_once) };
        let requester = tenant.clone();
        let request = IntakeRequest { once, tenant, volume, events, caps, steps: steps_id };
        let then = move |(accepted, new_deliveries): &mut (AcceptedOnce, NewDeliveries)| {
            if !accepted.is_repetition {
                telemetry::accepted(&owner, accepted.events.len());
            }
            publish(&store_events, std::mem::take(new_deliveries));
        };
        let written = match rejected {
            None => {
                let write = move |tx: &IntakeTx<'_, '_>| request.write(tx, &catalog, &claims, most);
                self.writer.intake(terms, write, then).await
            }
            Some((actor, id)) => {
                let write =
                    move |tx: &AdminTx<'_, '_>| request.write_instead(tx, &catalog, &claims, most, (&actor, id));
                self.writer.write(terms, write, then).await
            }
        };
        let (accepted, _) = written?;
        if let Some(steps) = steps {
            self.fan_out(&requester, steps).await;
        }
        Ok(accepted)
    }
}

/// Accepted request, before its transaction.
struct IntakeRequest {
    /// Idempotency key, if the events are accepted once.
    once: Option<Repeatable>,
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
        tx: &IntakeTx<'_, '_>,
        catalog: &Catalog,
        claims: &Claims,
        most: u64,
    ) -> Result<(AcceptedOnce, NewDeliveries), StoreError> {
        let IntakeRequest { once, tenant, volume, events, caps, steps } = self;
        let mut new_deliveries = NewDeliveries::default();
        if let Some(request) = &once
            && let Some(stored) = tx.find(IntakeStatement::Answer, params![&*tenant.0, request.key], answer_row)?
        {
            return Ok((AcceptedOnce { events: stored.answer(request)?, is_repetition: true }, new_deliveries));
        }
        tx.require_disk()?;
        // Subscriptions may have been added since the request was queued.
        volume.check(volume.matching(catalog, &tenant).deliveries, most)?;
        let mut accepted = Vec::with_capacity(events.len());
        for event in events {
            accepted.push(match steps {
                None => accept_one(tx, (catalog, claims), &tenant, event, None, &mut new_deliveries),
                Some(_) => accept_without_deliveries(tx, catalog, &tenant, event),
            });
        }
        let answer = match &once {
            Some(request) => Some((request, answer_to(tx, &tenant, request, &accepted)?)),
            None => None,
        };
        // Last check. So far, the rows are only in memory.
        tx.check_share(&tenant, caps)?;
        if let Some((request, answer)) = answer {
            remember(tx, &tenant, request, &answer)?;
        }
        if let Some(id) = steps {
            let lacks = accepted.iter().map(|one| one.deliveries).sum();
            fan_out::note(tx, &tenant, id, accepted.iter().map(|one| one.event), lacks)?;
        }
        Ok((AcceptedOnce { events: accepted, is_repetition: false }, new_deliveries))
    }

    /// Writes the events and their deliveries in the place of a rejected request.
    fn write_instead(
        self,
        tx: &AdminTx<'_, '_>,
        catalog: &Catalog,
        claims: &Claims,
        most: u64,
        (actor, id): (&Actor, Uuid),
    ) -> Result<(AcceptedOnce, NewDeliveries), StoreError> {
        let tenant = self.tenant.clone();
        rejected::forget(tx, &tenant, id)?;
        let accepted = self.write(&tx.intake(), catalog, claims, most)?;
        tx.record(actor, Some(&tenant), &AuditAction::RejectedRequestResubmit(id))?;
        Ok(accepted)
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
    let mut statement = connection.prepare_cached(IntakeStatement::Answer.sql())?;
    let found = statement.query_row(params![&*tenant.0, request.key], answer_row).optional()?;
    found.map(|stored| stored.answer(request)).transpose()
}

/// Hash of the body of an earlier request, and its answer.
struct StoredAnswer {
    body_sha256: Vec<u8>,
    answer: String,
}

fn answer_row(row: &Row<'_>) -> rusqlite::Result<StoredAnswer> {
    Ok(StoredAnswer { body_sha256: row.get(0)?, answer: row.get(1)? })
}

impl StoredAnswer {
    fn answer(&self, request: &Repeatable) -> Result<Vec<Accepted>, StoreError> {
        if self.body_sha256 != request.body_sha256 {
            return Err(StoreError::KeyReused);
        }
        let pairs: Vec<(EventId, usize)> = serde_json::from_str(&self.answer)?;
        Ok(pairs.into_iter().map(|(event, deliveries)| Accepted { event, deliveries }).collect())
    }
}

/// Returns the answer that a repetition gets, and counts its size.
fn answer_to(
    tx: &IntakeTx<'_, '_>,
    tenant: &TenantId,
    request: &Repeatable,
    accepted: &[Accepted],
) -> Result<String, StoreError> {
    let pairs: Vec<(EventId, usize)> = accepted.iter().map(|one| (one.event, one.deliveries)).collect();
    let answer = serde_json::to_string(&pairs)?;
    tx.count_idempotency_key(tenant, &request.key, &answer);
    Ok(answer)
}

fn remember(tx: &IntakeTx<'_, '_>, tenant: &TenantId, request: &Repeatable, answer: &str) -> Result<(), StoreError> {
    let row = params![&*tenant.0, request.key, request.body_sha256, answer, now_ms()];
    Ok(tx.execute(IntakeStatement::Remember, row)?)
}

/// Adds an event and its deliveries to all matching subscriptions except one.
pub(super) fn accept_one(
    tx: &IntakeTx<'_, '_>,
    (catalog, claims): (&Catalog, &Claims),
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
        write_usual_delivery(tx, &event, subscription, &order_key, claims, new_deliveries);
    }
    Accepted { event: event.id, deliveries }
}

/// Adds an event whose deliveries follow in steps.
fn accept_without_deliveries(tx: &IntakeTx<'_, '_>, catalog: &Catalog, tenant: &TenantId, new: NewEvent) -> Accepted {
    let deliveries = catalog.matching(tenant, new.module).len();
    Accepted { event: write_event(tx, tenant, new, deliveries).id, deliveries }
}

//! Accepting events: the transaction behind `202`.

use super::batch::{AdminTx, IntakeStatement, IntakeTx};
use super::new_events::{latest, write_event, write_usual_delivery};
use super::{Sqlite, fan_out, rejected};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::intake::{Accepted, IntakeAnswer, IntakeBackend, IntakeRequest, NewEvent, Repeatable, answer_text};
use crate::commits::IntakeCommit;
use crate::host_state::HostState;
use crate::matching::EventReceivers;
use crate::order_key::OrderKey;
use crate::store_event::NewDeliveries;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::cell::LazyCell;
use std::sync::Arc;
use uuid::Uuid;

#[async_trait]
impl IntakeBackend for Sqlite {
    async fn accept(&self, mut request: IntakeRequest) -> Result<IntakeAnswer, StoreError> {
        let terms = Terms::of_intake(&request);
        let tenant = request.tenant.clone();
        let state = self.state.clone();
        let then = move |written: &mut IntakeCommit<IntakeAnswer>| written.publish(&state, &tenant);
        let state = self.state.clone();
        let written = match request.replaces.take() {
            None => self.writer.intake(terms, move |tx| write(tx, request, &state), then).await,
            Some(replaced) => {
                self.writer.write(terms, move |tx| write_instead(tx, request, &state, replaced), then).await
            }
        };
        Ok(written?.answer)
    }

    async fn answer(&self, tenant: TenantId, request: Repeatable) -> Result<Option<Vec<Accepted>>, StoreError> {
        let owner = tenant.clone();
        self.readers.read(&owner, move |connection| answered(connection, &tenant, &request)).await
    }
}

/// Writes the events and their deliveries, or returns the answer of the first request. Every error comes before the first change.
fn write(
    tx: &IntakeTx<'_, '_>,
    request: IntakeRequest,
    state: &HostState,
) -> Result<IntakeCommit<IntakeAnswer>, StoreError> {
    let tenant = &request.tenant;
    if let Some(once) = &request.once
        && let Some(stored) = tx.find(IntakeStatement::Answer, params![&*tenant.0, once.key], answer_row)?
    {
        return Ok(IntakeCommit::nothing(IntakeAnswer::Repetition(stored.answer(once)?)));
    }
    tx.require_disk()?;
    if !state.catalog.is_current(tenant, &request.receivers.receivers) {
        return Ok(IntakeCommit::nothing(IntakeAnswer::Stale(Box::new(request))));
    }
    let IntakeRequest { tenant, events, receivers, caps, once, steps, .. } = request;
    let mut new_deliveries = NewDeliveries::default();
    let mut accepted = Vec::with_capacity(events.len());
    for (event, receivers) in events.into_iter().zip(receivers.events) {
        accepted.push(match steps {
            None => accept_one(tx, state, receivers, &tenant, event, None, &mut new_deliveries)?,
            Some(_) => accept_without_deliveries(tx, receivers, &tenant, event)?,
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
    Ok(IntakeCommit { answer: IntakeAnswer::Accepted(accepted), new_deliveries })
}

/// Writes the events and their deliveries in the place of a rejected request.
fn write_instead(
    tx: &AdminTx<'_, '_>,
    request: IntakeRequest,
    state: &HostState,
    (actor, id): (Actor, Uuid),
) -> Result<IntakeCommit<IntakeAnswer>, StoreError> {
    let tenant = request.tenant.clone();
    if !state.catalog.is_current(&tenant, &request.receivers.receivers) {
        let replaces = Some((actor, id));
        return Ok(IntakeCommit::nothing(IntakeAnswer::Stale(Box::new(IntakeRequest { replaces, ..request }))));
    }
    rejected::forget(tx, &tenant, id)?;
    let written = write(&tx.intake(), request, state)?;
    tx.record(&actor, Some(&tenant), &AuditAction::RejectedRequestResubmit(id))?;
    Ok(written)
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
        request.earlier_answer(&self.body_sha256, &self.answer)
    }
}

/// Returns the answer that a repetition gets, and counts its size.
fn answer_to(
    tx: &IntakeTx<'_, '_>,
    tenant: &TenantId,
    request: &Repeatable,
    accepted: &[Accepted],
) -> Result<String, StoreError> {
    let answer = answer_text(accepted)?;
    tx.count_idempotency_key(tenant, &request.key, &answer);
    Ok(answer)
}

fn remember(tx: &IntakeTx<'_, '_>, tenant: &TenantId, request: &Repeatable, answer: &str) -> Result<(), StoreError> {
    let row = params![&*tenant.0, request.key, request.body_sha256, answer, now_ms()];
    Ok(tx.execute(IntakeStatement::Remember, row)?)
}

/// Adds an event and its deliveries to all of its receivers except one.
pub(super) fn accept_one(
    tx: &IntakeTx<'_, '_>,
    state: &HostState,
    receivers: EventReceivers,
    tenant: &TenantId,
    new: NewEvent,
    except: Option<SubscriptionId>,
    new_deliveries: &mut NewDeliveries,
) -> Result<Accepted, StoreError> {
    let receivers = resolve(tx, receivers, tenant, &new)?;
    let matching = receivers.iter().filter(|subscription| Some(subscription.id) != except);
    let deliveries = matching.clone().count();
    let event = write_event(tx, tenant, new, deliveries);
    let order_key = LazyCell::new(|| OrderKey::of_event(&event));
    for subscription in matching {
        write_usual_delivery(tx, &event, subscription, &order_key, &state.claims, new_deliveries);
    }
    Ok(Accepted { event: event.id, deliveries })
}

/// Adds an event whose deliveries follow in steps.
fn accept_without_deliveries(
    tx: &IntakeTx<'_, '_>,
    receivers: EventReceivers,
    tenant: &TenantId,
    new: NewEvent,
) -> Result<Accepted, StoreError> {
    let deliveries = resolve(tx, receivers, tenant, &new)?.len();
    Ok(Accepted { event: write_event(tx, tenant, new, deliveries).id, deliveries })
}

/// Returns the subscriptions that match, after the conditions on the event before.
fn resolve(
    tx: &IntakeTx<'_, '_>,
    receivers: EventReceivers,
    tenant: &TenantId,
    new: &NewEvent,
) -> Result<Arc<Vec<Arc<Subscription>>>, StoreError> {
    let previous = if receivers.needs_previous() { latest(tx, tenant, new)? } else { None };
    Ok(receivers.resolve(&new.name, &new.payload, previous.as_deref()))
}

//! Accepting events: the transaction behind `202`.

use super::connection::Connection;
use super::new_events::NewRows;
use super::share::ShareCheck;
use super::transaction::WriteTx;
use super::{Postgres, fan_out, rejected};
use crate::StoreError;
use crate::audit::AuditAction;
use crate::backend::intake::{Accepted, IntakeAnswer, IntakeBackend, IntakeRequest, NewEvent, Repeatable};
use crate::catalog::Receivers;
use crate::claims::Claims;
use crate::order_key::OrderKey;
use crate::store_event::NewDeliveries;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::event::EventId;
use hookloom_model::subscription::{SubscriptionId, TenantId};

/// Answer of a transaction, and what is published after its commit.
struct AcceptCommit {
    answer: IntakeAnswer,
    new_deliveries: NewDeliveries,
}

impl AcceptCommit {
    fn only(answer: IntakeAnswer) -> Self {
        AcceptCommit { answer, new_deliveries: NewDeliveries::default() }
    }
}

#[async_trait]
impl IntakeBackend for Postgres {
    async fn accept(&self, request: IntakeRequest) -> Result<IntakeAnswer, StoreError> {
        let tenant = request.tenant.clone();
        let written = self.write_then(
            move |tx| Box::pin(async move { write(tx, request).await }),
            move |state, written: &mut AcceptCommit| {
                if let IntakeAnswer::Accepted(events) = &written.answer {
                    state.publish_accepted(&tenant, events.len(), std::mem::take(&mut written.new_deliveries));
                }
            },
        );
        Ok(written.await?.answer)
    }

    async fn answer(&self, tenant: TenantId, request: Repeatable) -> Result<Option<Vec<Accepted>>, StoreError> {
        let read = self
            .readers
            .read_one(move |connection| Box::pin(async move { earlier_answer(connection, &tenant, &request).await }));
        read.await
    }
}

/// Writes the events and their deliveries, or returns the answer of the first request.
async fn write(tx: &WriteTx, request: IntakeRequest) -> Result<AcceptCommit, StoreError> {
    if let Some(once) = &request.once
        && let Some(events) = earlier_answer(tx, &request.tenant, once).await?
    {
        return Ok(AcceptCommit::only(IntakeAnswer::Repetition(events)));
    }
    if !tx.catalog().is_current(&request.tenant, &request.receivers) {
        return Ok(AcceptCommit::only(IntakeAnswer::Stale(Box::new(request))));
    }
    let IntakeRequest { tenant, events, receivers, caps, once, steps, replaces } = request;
    if let Some((_, id)) = &replaces {
        rejected::forget(tx, &tenant, *id).await?;
    }
    let check = ShareCheck::begin(tx, &tenant, caps).await?;
    let mut rows = NewRows::default();
    let mut new_deliveries = NewDeliveries::default();
    let mut accepted = Vec::with_capacity(events.len());
    for event in events {
        accepted.push(match steps {
            None => accept_one(&mut rows, &tx.state().claims, &receivers, event, None, &mut new_deliveries),
            Some(_) => accept_without_deliveries(&mut rows, &receivers, event),
        });
    }
    rows.insert(tx, &tenant).await?;
    if let Some(once) = &once {
        remember(tx, &tenant, once, &accepted).await?;
    }
    check.end_of_events(tx).await?;
    if let Some(id) = steps {
        fan_out::begin(tx, &tenant, id, &accepted).await?;
    }
    if let Some((actor, id)) = replaces {
        tx.record(&actor, Some(&tenant), &AuditAction::RejectedRequestResubmit(id)).await?;
    }
    Ok(AcceptCommit { answer: IntakeAnswer::Accepted(accepted), new_deliveries })
}

/// Returns the answer to an earlier request with the same key, if there was one.
///
/// # Errors
/// [`StoreError::KeyReused`]: the earlier request had another body.
async fn earlier_answer(
    connection: &Connection,
    tenant: &TenantId,
    request: &Repeatable,
) -> Result<Option<Vec<Accepted>>, StoreError> {
    let sql = "SELECT body_sha256, answer FROM idempotency_keys WHERE tenant = $1 AND key = $2";
    let Some(row) = connection.query_opt(sql, &[&&*tenant.0, &request.key]).await? else { return Ok(None) };
    if row.try_get::<_, &[u8]>(0)? != request.body_sha256 {
        return Err(StoreError::KeyReused);
    }
    let pairs: Vec<(EventId, usize)> = serde_json::from_str(row.try_get(1)?)?;
    Ok(Some(pairs.into_iter().map(|(event, deliveries)| Accepted { event, deliveries }).collect()))
}

/// Stores the answer that a repetition gets.
async fn remember(
    tx: &WriteTx,
    tenant: &TenantId,
    request: &Repeatable,
    accepted: &[Accepted],
) -> Result<(), StoreError> {
    let pairs: Vec<(EventId, usize)> = accepted.iter().map(|one| (one.event, one.deliveries)).collect();
    let answer = serde_json::to_string(&pairs)?;
    let sql =
        "INSERT INTO idempotency_keys (tenant, key, body_sha256, answer, received_at_ms) VALUES ($1, $2, $3, $4, $5)";
    tx.execute(sql, &[&&*tenant.0, &request.key, &&request.body_sha256[..], &answer, &now_ms()]).await.map(drop)
}

/// Adds an event and its deliveries to all of its receivers except one.
pub(super) fn accept_one(
    rows: &mut NewRows,
    claims: &Claims,
    receivers: &Receivers,
    new: NewEvent,
    except: Option<SubscriptionId>,
    new_deliveries: &mut NewDeliveries,
) -> Accepted {
    let matching = receivers.of(new.module).iter().filter(|subscription| Some(subscription.id) != except);
    let deliveries = matching.clone().count();
    let event = rows.add_event(new, deliveries);
    let order_key = OrderKey::of_event(&event);
    for subscription in matching {
        rows.add_usual_delivery(&event, subscription, order_key, claims, new_deliveries);
    }
    Accepted { event: event.id, deliveries }
}

/// Adds an event whose deliveries follow in steps.
fn accept_without_deliveries(rows: &mut NewRows, receivers: &Receivers, new: NewEvent) -> Accepted {
    let deliveries = receivers.of(new.module).len();
    Accepted { event: rows.add_event(new, deliveries).id, deliveries }
}

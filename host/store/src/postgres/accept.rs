//! Accepting events: the transaction behind `202`.
//!
//! # Guarantees
//! - A key is accepted once, also by two hosts at the same time: the second one waits until the first one's transaction has ended, and
//!   answers as the first one did, or accepts the request if that was undone.
//! - A repetition is answered by a transaction that is committed itself. So a standby that must have a commit before it is answered has
//!   the first request as well.

use super::connection::Connection;
use super::job::SharedLocks;
use super::new_events::{self, NewRows};
use super::previous_events::PreviousEvents;
use super::settling_lock::{self, SettlingLock};
use super::share::ShareCheck;
use super::together::{Entry, Member};
use super::transaction::WriteTx;
use super::usage::{self, Kept};
use super::{Postgres, fan_out, rejected};
use crate::StoreError;
use crate::audit::AuditAction;
use crate::backend::intake::{Accepted, IntakeAnswer, IntakeBackend, IntakeRequest, NewEvent, Repeatable, answer_text};
use crate::claims::Claims;
use crate::commits::IntakeCommit;
use crate::fair_queue::Owner;
use crate::host_state::HostState;
use crate::matching::EventReceivers;
use crate::order_key::OrderKey;
use crate::store_event::NewDeliveries;
use crate::usage::UsageKind;
use crate::write_queue::{Terms, WriteMode};
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::event::Event;
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use std::collections::HashSet;
use std::slice;
use std::sync::Arc;

#[async_trait]
impl IntakeBackend for Postgres {
    async fn accept(&self, request: IntakeRequest) -> Result<IntakeAnswer, StoreError> {
        let tenant = request.tenant.clone();
        let terms = Terms::of_intake(&request);
        if request.once.is_none() && request.steps.is_none() && request.replaces.is_none() {
            let intake = Intake { tenant, request: Some(request) };
            return Ok(self.writer.run_together(WriteMode::Intake, terms, intake).await?.commit.answer);
        }
        let shared = SharedLocks { row: shared_row(&request), settling: settling_lock::locks_of(&request) };
        let written = self.writer.run_sharing(
            WriteMode::Intake,
            terms,
            shared,
            move |tx| Box::pin(async move { write(tx, request).await }),
            move |state, written: &mut IntakeCommit<IntakeAnswer>| written.publish(state, &tenant),
        );
        Ok(written.await?.answer)
    }

    async fn answer(&self, tenant: TenantId, request: Repeatable) -> Result<Option<Vec<Accepted>>, StoreError> {
        // A reader may see a commit that no standby has.
        let terms = Terms::small(Owner::from(&tenant));
        let written = self.writer.run_intake(
            terms,
            None,
            move |tx| Box::pin(async move { earlier_answer(tx, &tenant, &request).await }),
            |_, _| {},
        );
        written.await
    }
}

/// Returns the name of the row of a request that another host may lock as well: its key, or the request that it replaces.
fn shared_row(request: &IntakeRequest) -> Option<String> {
    let tenant = &request.tenant;
    match (&request.once, &request.replaces) {
        (Some(once), _) => Some(format!("{tenant} {}", once.key)),
        (None, Some((_, id))) => Some(format!("{tenant} {id}")),
        (None, None) => None,
    }
}

/// Request whose events only need rows of events and deliveries.
struct Intake {
    tenant: TenantId,
    /// None: it was returned to its caller as stale.
    request: Option<IntakeRequest>,
}

/// Result of an [`Intake`].
struct CommitOfTenant {
    tenant: TenantId,
    commit: IntakeCommit<IntakeAnswer>,
}

#[async_trait]
impl Member for Intake {
    type Value = CommitOfTenant;

    async fn run_all(
        tx: &WriteTx,
        members: &mut [Entry<'_, Self>],
    ) -> Result<Vec<Result<CommitOfTenant, StoreError>>, StoreError> {
        let tenants: HashSet<TenantId> = members.iter().map(|entry| entry.member.tenant.clone()).collect();
        let mut kept = usage::kept_by(tx, &tenants.iter().collect::<Vec<_>>()).await?;
        let requests = members.iter().filter_map(|entry| entry.member.request.as_ref());
        let mut previous = PreviousEvents::read(tx, requests).await?;
        let mut rows = Vec::with_capacity(members.len());
        let mut commits = Vec::with_capacity(members.len());
        for entry in members.iter() {
            let _clock = entry.enter_clock();
            let kept = kept.get_mut(&entry.member.tenant);
            commits.push(entry.member.add_rows(tx, kept, &mut previous, &mut rows));
        }
        new_events::insert_all(tx, &rows).await?;
        let results = members.iter_mut().zip(commits).map(|(entry, commit)| entry.member.result(commit));
        Ok(results.collect())
    }

    fn settling_locks(&self) -> Vec<SettlingLock> {
        self.request.as_ref().map(settling_lock::locks_of).unwrap_or_default()
    }

    fn publish(state: &HostState, value: &mut CommitOfTenant) {
        value.commit.publish(state, &value.tenant);
    }
}

impl Intake {
    /// Adds the rows of the request, unless it exceeds the share of the tenant, and adds their sizes to what the tenant keeps. None:
    /// the request is stale.
    fn add_rows(
        &self,
        tx: &WriteTx,
        kept: Option<&mut Kept>,
        previous: &mut PreviousEvents,
        all: &mut Vec<(TenantId, NewRows)>,
    ) -> Result<Option<IntakeCommit<IntakeAnswer>>, StoreError> {
        let Some(request) = &self.request else { return Ok(None) };
        if !tx.catalog().is_current(&request.tenant, &request.receivers.receivers) {
            return Ok(None);
        }
        let kept = kept.ok_or(StoreError::NotFound("tenant"))?;
        let mut rows = NewRows::default();
        let mut new_deliveries = NewDeliveries::default();
        let mut accepted = Vec::with_capacity(request.events.len());
        let mut seen = previous.clone();
        for (event, receivers) in request.events.iter().cloned().zip(request.receivers.events.iter().cloned()) {
            let receivers = resolve(receivers, &request.tenant, &event, &seen);
            let claims = &tx.state().claims;
            let written = accept_one(&mut rows, claims, &receivers, event, None, &mut new_deliveries);
            seen.add(&request.tenant, &written.event);
            accepted.push(written.accepted());
        }
        let mut after = *kept;
        let (of_events, of_deliveries) = rows.bytes();
        after.0 += rows.events_len();
        after.1[UsageKind::Events as usize] += of_events;
        after.1[UsageKind::Deliveries as usize] += of_deliveries;
        let caps = request.caps;
        if caps.is_exceeded_by(after.0, after.1.iter().sum()) {
            return Err(StoreError::TenantFull(Box::new(caps.of(*kept))));
        }
        *kept = after;
        *previous = seen;
        all.push((self.tenant.clone(), rows));
        Ok(Some(IntakeCommit { answer: IntakeAnswer::Accepted(accepted), new_deliveries }))
    }

    /// Returns the result of the request when all statements have succeeded. A stale request is returned to its caller.
    fn result(
        &mut self,
        commit: Result<Option<IntakeCommit<IntakeAnswer>>, StoreError>,
    ) -> Result<CommitOfTenant, StoreError> {
        let commit = match commit? {
            Some(commit) => commit,
            None => {
                let request = self.request.take().ok_or(StoreError::Stopped)?;
                IntakeCommit::nothing(IntakeAnswer::Stale(Box::new(request)))
            }
        };
        Ok(CommitOfTenant { tenant: self.tenant.clone(), commit })
    }
}

/// Writes the events and their deliveries, or returns the answer of the first request.
async fn write(tx: &WriteTx, request: IntakeRequest) -> Result<IntakeCommit<IntakeAnswer>, StoreError> {
    if let Some(once) = &request.once
        && let Some(events) = earlier_answer(tx, &request.tenant, once).await?
    {
        return Ok(IntakeCommit::nothing(IntakeAnswer::Repetition(events)));
    }
    if !tx.catalog().is_current(&request.tenant, &request.receivers.receivers) {
        return Ok(IntakeCommit::nothing(IntakeAnswer::Stale(Box::new(request))));
    }
    let mut previous = PreviousEvents::read(tx, slice::from_ref(&request).iter()).await?;
    let IntakeRequest { tenant, events, receivers, caps, once, steps, replaces } = request;
    if let Some((_, id)) = &replaces {
        rejected::forget(tx, &tenant, *id).await?;
    }
    let check = ShareCheck::begin(tx, &tenant, caps).await?;
    let mut rows = NewRows::default();
    let mut new_deliveries = NewDeliveries::default();
    let mut accepted = Vec::with_capacity(events.len());
    for (event, receivers) in events.into_iter().zip(receivers.events) {
        let receivers = resolve(receivers, &tenant, &event, &previous);
        let written = match steps {
            None => accept_one(&mut rows, &tx.state().claims, &receivers, event, None, &mut new_deliveries),
            Some(_) => accept_without_deliveries(&mut rows, &receivers, event),
        };
        previous.add(&tenant, &written.event);
        accepted.push(written.accepted());
    }
    // Before all other rows, which another host's answer makes needless.
    if let Some(once) = &once
        && let Some(events) = remember(tx, &tenant, once, &accepted).await?
    {
        return Ok(IntakeCommit::nothing(IntakeAnswer::Repetition(events)));
    }
    rows.insert(tx, &tenant).await?;
    check.end_of_events(tx).await?;
    if let Some(id) = steps {
        fan_out::begin(tx, &tenant, id, &accepted).await?;
    }
    if let Some((actor, id)) = replaces {
        tx.record(&actor, Some(&tenant), &AuditAction::RejectedRequestResubmit(id)).await?;
    }
    Ok(IntakeCommit { answer: IntakeAnswer::Accepted(accepted), new_deliveries })
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
    request.earlier_answer(row.try_get(0)?, row.try_get(1)?).map(Some)
}

/// Stores the answer that a repetition gets. Returns the answer of another host that has accepted the request meanwhile.
async fn remember(
    tx: &WriteTx,
    tenant: &TenantId,
    request: &Repeatable,
    accepted: &[Accepted],
) -> Result<Option<Vec<Accepted>>, StoreError> {
    let answer = answer_text(accepted)?;
    let sql =
        "INSERT INTO idempotency_keys (tenant, key, body_sha256, answer, received_at_ms) VALUES ($1, $2, $3, $4, $5)
               ON CONFLICT DO NOTHING";
    loop {
        // Waits for the end of a transaction of another host that has inserted the same key.
        if tx.execute(sql, &[&&*tenant.0, &request.key, &&request.body_sha256[..], &answer, &now_ms()]).await? == 1 {
            return Ok(None);
        }
        // Nothing if the key was deleted meanwhile.
        if let Some(events) = earlier_answer(tx, tenant, request).await? {
            return Ok(Some(events));
        }
    }
}

/// Returns the subscriptions that match, after the conditions on the event before.
fn resolve(
    receivers: EventReceivers,
    tenant: &TenantId,
    new: &NewEvent,
    previous: &PreviousEvents,
) -> Arc<Vec<Arc<Subscription>>> {
    receivers.resolve(&new.name, &new.payload, previous.of(tenant, new))
}

/// Accepted event, and the number of its deliveries.
pub(super) struct WrittenEvent {
    event: Arc<Event>,
    deliveries: usize,
}

impl WrittenEvent {
    pub(super) fn accepted(&self) -> Accepted {
        Accepted { event: self.event.id, deliveries: self.deliveries }
    }
}

/// Adds an event and its deliveries to all of its receivers except one.
pub(super) fn accept_one(
    rows: &mut NewRows,
    claims: &Claims,
    receivers: &[Arc<Subscription>],
    new: NewEvent,
    except: Option<SubscriptionId>,
    new_deliveries: &mut NewDeliveries,
) -> WrittenEvent {
    let matching = receivers.iter().filter(|subscription| Some(subscription.id) != except);
    let deliveries = matching.clone().count();
    let event = rows.add_event(new, deliveries);
    let order_key = OrderKey::of_event(&event);
    for subscription in matching {
        rows.add_usual_delivery(&event, subscription, order_key, claims, new_deliveries);
    }
    WrittenEvent { event, deliveries }
}

/// Adds an event whose deliveries follow in steps.
fn accept_without_deliveries(rows: &mut NewRows, receivers: &[Arc<Subscription>], new: NewEvent) -> WrittenEvent {
    WrittenEvent { event: rows.add_event(new, receivers.len()), deliveries: receivers.len() }
}

//! Part of a transaction that accepts events.
//!
//! # Guarantees
//! - A write of this kind has no savepoint, so it must be cheap and refuse before its first change. It can run the statements of
//!   [`IntakeStatement`] and no others.

use super::{Count, Transaction};
use crate::StoreError;
use crate::caps::Caps;
use crate::counted_tables::IDEMPOTENCY_KEY_BYTES;
use crate::sqlite::rows::{DeliveryRow, EventRow, SettlingRow};
use crate::sqlite::usage;
use crate::usage::UsageKind;
use hookloom_model::event::{Event, Module};
use hookloom_model::subscription::TenantId;
use rusqlite::{OptionalExtension as _, Params, Row};
use std::sync::Arc;

/// Statement besides the inserts of events and deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntakeStatement {
    /// Finds the answer to an earlier request with the same idempotency key.
    Answer,
    /// Stores the answer to a request with an idempotency key.
    Remember,
    /// Finds an event.
    Event,
    /// Finds the last event of a contact or deal.
    Latest,
    /// Finds the event of the same contact or deal before an event.
    Before,
    /// Finds the number of deliveries with which an event was accepted.
    Promised,
    /// Corrects that number.
    Correct,
    /// Stores a fan-out whose deliveries follow in steps.
    BeginFanOut,
    /// Finds the position of a fan-out.
    FanOut,
    /// Stores the position of a fan-out.
    MoveFanOut,
    /// Deletes a complete fan-out.
    EndFanOut,
}

impl IntakeStatement {
    /// Returns the statement, which readers use as well.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            IntakeStatement::Answer => {
                "SELECT body_sha256, answer FROM idempotency_keys WHERE tenant = ?1 AND key = ?2"
            }
            IntakeStatement::Remember => {
                "INSERT INTO idempotency_keys (tenant, key, body_sha256, answer, received_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)"
            }
            IntakeStatement::Event => {
                "SELECT id, name, module, entity_id, received_at_ms, payload FROM events WHERE tenant = ?1 AND id = ?2"
            }
            IntakeStatement::Latest => {
                "SELECT id, name, module, entity_id, received_at_ms, payload FROM events
                 WHERE tenant = ?1 AND entity_id = ?2 AND module = ?3 ORDER BY seq DESC LIMIT 1"
            }
            IntakeStatement::Before => {
                "SELECT id, name, module, entity_id, received_at_ms, payload FROM events
                 WHERE tenant = ?1 AND entity_id = ?3 AND module = ?4
                   AND seq < (SELECT this.seq FROM events this WHERE this.tenant = ?1 AND this.id = ?2) ORDER BY seq DESC LIMIT 1"
            }
            IntakeStatement::Promised => "SELECT fan_out FROM events WHERE tenant = ?1 AND id = ?2",
            IntakeStatement::Correct => "UPDATE events SET fan_out = ?3 WHERE tenant = ?1 AND id = ?2",
            IntakeStatement::BeginFanOut => {
                "INSERT INTO fan_outs (tenant, id, events, after, made, lacks) VALUES (?1, ?2, ?3, x'', 0, ?4)"
            }
            IntakeStatement::FanOut => "SELECT events, after, made, lacks FROM fan_outs WHERE tenant = ?1 AND id = ?2",
            IntakeStatement::MoveFanOut => {
                "UPDATE fan_outs SET events = ?3, after = ?4, made = ?5, lacks = ?6 WHERE tenant = ?1 AND id = ?2"
            }
            IntakeStatement::EndFanOut => "DELETE FROM fan_outs WHERE tenant = ?1 AND id = ?2",
        }
    }
}

/// Transaction, as a write sees it that accepts events.
#[derive(Clone, Copy)]
pub(crate) struct IntakeTx<'t, 'c>(pub(super) &'t Transaction<'c>);

impl IntakeTx<'_, '_> {
    /// Refuses a write that makes the store larger, if the disk is full.
    pub(crate) fn require_disk(&self) -> Result<(), StoreError> {
        self.0.room.require(self.0.connection)
    }

    /// Adds an event to the collected rows, and counts it.
    pub(crate) fn add_event(&self, event: EventRow) {
        let payload = Some(event.event.payload.len() as u64);
        self.0.count(Count { tenant: event.tenant.clone(), kind: UsageKind::Events, bytes: event.bytes(), payload });
        self.0.rows.borrow_mut().events.push(event);
    }

    /// Returns the last event of a contact or deal among the collected rows.
    pub(crate) fn collected_event(&self, tenant: &TenantId, module: Module, entity_id: &str) -> Option<Arc<Event>> {
        let rows = self.0.rows.borrow();
        let is_of = |row: &&EventRow| {
            row.event.module == module && row.event.entity_id.as_deref() == Some(entity_id) && row.tenant == *tenant
        };
        rows.events.iter().rev().find(is_of).map(|row| row.event.clone())
    }

    /// Adds a delivery to the collected rows, and counts it.
    pub(crate) fn add_delivery(&self, delivery: DeliveryRow) {
        let tenant = delivery.delivery.tenant.clone();
        self.0.count_pending(&tenant, delivery.delivery.subscription, 1);
        self.0.count(Count { tenant, kind: UsageKind::Deliveries, bytes: delivery.bytes(), payload: None });
        self.0.rows.borrow_mut().deliveries.push(delivery);
    }

    /// Adds a delivery of a burst to the collected rows, and counts it.
    pub(crate) fn add_settling(&self, row: SettlingRow) {
        let tenant = row.new.delivery.tenant.clone();
        self.0.count_pending(&tenant, row.new.delivery.subscription, 1);
        self.0.count(Count { tenant, kind: UsageKind::Deliveries, bytes: row.bytes(), payload: None });
        self.0.rows.borrow_mut().settling.push(row);
    }

    /// Counts an idempotency key before its insert.
    pub(crate) fn count_idempotency_key(&self, tenant: &TenantId, key: &str, answer: &str) {
        let bytes = IDEMPOTENCY_KEY_BYTES + (key.len() + answer.len()) as u64;
        self.0.count(Count { tenant: tenant.clone(), kind: UsageKind::IdempotencyKeys, bytes, payload: None });
    }

    /// Returns an error if a tenant exceeds its share with the rows that this transaction adds.
    pub(crate) fn check_share(&self, tenant: &TenantId, share: Caps) -> Result<(), StoreError> {
        let tally = &mut *self.0.tally.borrow_mut();
        let kept = tally.kept.entry(tenant.clone()).or_default();
        let [events, bytes] = match kept.before {
            Some(before) => before,
            None => *kept.before.insert(self.kept_before(tenant)?),
        };
        let added: u64 = kept.bytes.iter().sum();
        if !share.is_exceeded_by(events.saturating_add(kept.events), bytes.saturating_add(added)) {
            return Ok(());
        }
        let before = usage::kept(self.0.connection, tenant)?.ok_or(StoreError::NotFound("tenant"))?;
        Err(StoreError::TenantFull(Box::new(share.of(before))))
    }

    fn kept_before(&self, tenant: &TenantId) -> Result<[u64; 2], StoreError> {
        let (events, bytes) = usage::kept(self.0.connection, tenant)?.ok_or(StoreError::NotFound("tenant"))?;
        Ok([events, bytes.iter().sum()])
    }

    /// Runs a statement that changes rows.
    pub(crate) fn execute(&self, statement: IntakeStatement, params: impl Params) -> rusqlite::Result<()> {
        self.0.connection.prepare_cached(statement.sql())?.execute(params).map(drop)
    }

    /// Runs a statement that finds one row.
    pub(crate) fn find<T>(
        &self,
        statement: IntakeStatement,
        params: impl Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.0.connection.prepare_cached(statement.sql())?.query_row(params, row).optional()
    }
}

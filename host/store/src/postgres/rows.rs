//! Values of rows, as the host has them.

use crate::StoreError;
use crate::backend::deliveries::DeliveryView;
use bytes::Bytes;
use hookloom_model::delivery::{DeliveryId, DeliveryKind, DeliveryState};
use hookloom_model::event::{Event, EventId, Module};
use hookloom_model::settle::SettledEvents;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use serde::de::Error as _;
use std::borrow::Cow;
use tokio_postgres::Row;
use uuid::Uuid;

/// Columns of [`event_row`], of the table `events`.
pub(super) const EVENT: &str = "id, name, module, entity_id, received_at_ms, payload";

/// Query of [`view_row`], without a condition.
pub(super) const VIEW: &str = "SELECT id, event, subscription, state, awaiting_plugin, due_at_ms, attempts_made, reason, created_at_ms, updated_at_ms, kind, settled_events, settled_first, settles_key IS NOT NULL, superseded_by FROM deliveries";

/// Reads a number, which the database keeps as `int8`.
pub(super) fn number<N: TryFrom<i64>>(row: &Row, column: usize) -> Result<N, StoreError> {
    let found: i64 = row.try_get(column)?;
    N::try_from(found).map_err(|_| corrupt(format_args!("the number {found} is out of its range")))
}

/// Returns a number as the database keeps it. One that is too large becomes the largest.
pub(super) fn int(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Returns a text as the database keeps it: PostgreSQL has no texts with a zero byte, which is replaced by the sign for it.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{2400}").into() } else { text.into() }
}

/// Reads a tenant's id.
pub(super) fn tenant(row: &Row, column: usize) -> Result<TenantId, StoreError> {
    Ok(TenantId(row.try_get::<_, &str>(column)?.into()))
}

/// Reads a hash.
pub(super) fn hash<const BYTES: usize>(row: &Row, column: usize) -> Result<[u8; BYTES], StoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(|_| corrupt(format_args!("a hash has {} bytes", bytes.len())))
}

/// Returns the kind of a delivery.
pub(super) fn kind(number: i16) -> DeliveryKind {
    let index = usize::try_from(number).unwrap_or(0);
    DeliveryKind::ALL[index.min(DeliveryKind::ALL.len() - 1)]
}

/// Returns the state of a delivery.
pub(super) fn state(number: i16) -> DeliveryState {
    let index = usize::try_from(number).unwrap_or(0);
    DeliveryState::ALL[index.min(DeliveryState::ALL.len() - 1)]
}

/// Reads a delivery from the columns of [`VIEW`].
pub(super) fn view_row(row: &Row) -> Result<DeliveryView, StoreError> {
    let state = state(row.try_get(3)?);
    let reason: Option<&str> = row.try_get(7)?;
    Ok(DeliveryView {
        id: DeliveryId(row.try_get(0)?),
        event: EventId(row.try_get(1)?),
        subscription: SubscriptionId(row.try_get(2)?),
        state,
        awaiting_plugin: state == DeliveryState::Pending && row.try_get(4)?,
        due_at_ms: (state == DeliveryState::Pending).then_some(row.try_get(5)?),
        attempts_made: number(row, 6)?,
        reason: reason.and_then(|reason| serde_json::from_str(reason).ok()),
        created_at_ms: row.try_get(8)?,
        updated_at_ms: row.try_get(9)?,
        kind: kind(row.try_get(10)?),
        settled: settled(row, 11)?,
        is_settling: state == DeliveryState::Pending && row.try_get(13)?,
        superseded_by: row.try_get::<_, Option<Uuid>>(14)?.map(DeliveryId),
    })
}

/// Reads the events that a delivery stands for, from two columns: their number, and the first of them.
pub(super) fn settled(row: &Row, first: usize) -> Result<Option<SettledEvents>, StoreError> {
    let Some(event) = row.try_get::<_, Option<Uuid>>(first + 1)? else { return Ok(None) };
    Ok(Some(SettledEvents { count: number(row, first)?, first: EventId(event) }))
}

/// Reads an event from the columns of [`EVENT`], which are the first ones.
pub(super) fn event_row(row: &Row) -> Result<Event, StoreError> {
    let module: &str = row.try_get(2)?;
    Ok(Event {
        id: EventId(row.try_get(0)?),
        name: row.try_get(1)?,
        module: Module::parse(module).unwrap_or(Module::Contact),
        entity_id: row.try_get(3)?,
        received_at_ms: row.try_get(4)?,
        payload: Bytes::copy_from_slice(row.try_get(5)?),
    })
}

/// Returns the error of a value that is invalid in its column.
pub(super) fn corrupt(what: std::fmt::Arguments<'_>) -> StoreError {
    StoreError::Corrupt(serde_json::Error::custom(what))
}

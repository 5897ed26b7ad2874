//! Collected rows of events and deliveries, inserted many to a statement.
//!
//! A statement searches the position of its first row from the root of each tree, and keeps its cursors there. A row at the end of
//! a tree, as rows with the newest ids are if few tenants write, is appended without another search. Searches are most of the cost
//! of a row. Elsewhere, rows cost the same as with single inserts.
//!
//! # Cost and gain
//! Cost: this file, and rows that wait in the transaction until a write with a savepoint or the commit. Gain: the row *store* of the
//! bench rose from 0.87 to 1.05 of its floor, the row *no-plugin* takes 0.93 of the time, and an event has 7 allocations instead
//! of 11. Remove it, and insert each row at once, when that costs less than 3 % of *no-plugin*.
//!
//! # Limits
//! A row that is refused rolls the transaction back (`OR ROLLBACK`). To undo only the statement, SQLite would first copy every page
//! that it touches.

use crate::counted_tables::{DELIVERY_BYTES, EVENT_BYTES};
use crate::order_key::OrderKey;
use crate::settling::Settling;
use crate::store_event::NewDelivery;
use hookloom_model::delivery::DueDelivery;
use hookloom_model::event::Event;
use hookloom_model::subscription::TenantId;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use std::sync::{Arc, LazyLock};

/// Numbers of rows with a prepared statement, largest first.
const SIZES: [usize; 3] = [16, 4, 1];

/// Collected rows, each table in its order.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) events: Vec<EventRow>,
    pub(super) deliveries: Vec<DeliveryRow>,
    /// Deliveries that settle, which are written one by one.
    pub(super) settling: Vec<SettlingRow>,
}

/// Row of an event.
pub(super) struct EventRow {
    pub(super) tenant: TenantId,
    pub(super) event: Arc<Event>,
    pub(super) fan_out: usize,
}

/// Row of a pending delivery.
pub(super) struct DeliveryRow {
    pub(super) delivery: DueDelivery,
    pub(super) due_at_ms: i64,
    pub(super) order_key: Option<OrderKey>,
}

/// Row of a delivery of a burst.
pub(super) struct SettlingRow {
    pub(super) new: NewDelivery,
    pub(super) settling: Settling,
    pub(super) order_key: Option<OrderKey>,
}

impl EventRow {
    /// Returns the counted size: see [`usage`](super::usage).
    pub(super) fn bytes(&self) -> u64 {
        let Event { name, entity_id, payload, .. } = &*self.event;
        EVENT_BYTES + (name.len() + entity_id.as_ref().map_or(0, String::len) + payload.len()) as u64
    }
}

impl DeliveryRow {
    /// Returns the counted size without a reason: see [`usage`](super::usage).
    pub(super) fn bytes(&self) -> u64 {
        delivery_bytes(self.order_key)
    }
}

impl SettlingRow {
    /// Returns the counted size: that of any other delivery.
    pub(super) fn bytes(&self) -> u64 {
        delivery_bytes(self.order_key)
    }
}

fn delivery_bytes(order_key: Option<OrderKey>) -> u64 {
    DELIVERY_BYTES + order_key.map_or(0, |key| key.0.len()) as u64
}

/// Table with collected rows.
#[derive(Clone, Copy)]
pub(super) enum HotTable {
    Events,
    Deliveries,
}

/// Statement that inserts a number of rows.
#[derive(Clone, Copy)]
pub(super) struct Insert {
    table: HotTable,
    /// Index in [`SIZES`].
    size: usize,
}

/// Row of a table.
pub(super) trait Row {
    /// Table that the row belongs to.
    const TABLE: HotTable;

    /// Returns the values in the order of the table's statement.
    fn values(&self) -> [ToSqlOutput<'_>; 8];
}

impl HotTable {
    const ALL: [HotTable; 2] = [HotTable::Events, HotTable::Deliveries];

    fn columns(self) -> &'static str {
        match self {
            HotTable::Events => "events (tenant, id, name, module, entity_id, received_at_ms, fan_out, payload)",
            HotTable::Deliveries => {
                "deliveries (tenant, id, event, subscription, kind, order_key, due_at_ms, state, age_from_ms, created_at_ms, updated_at_ms)"
            }
        }
    }

    /// Returns the SQL of a row's values, the first of which has this parameter number.
    fn values_from(self, first: usize) -> String {
        let numbers: Vec<String> = (first..first + 8).map(|number| format!("?{number}")).collect();
        match self {
            HotTable::Events => format!("({})", numbers.join(", ")),
            HotTable::Deliveries => {
                let now = &numbers[7];
                format!("({}, 0, {now}, {now}, {now})", numbers[..7].join(", "))
            }
        }
    }
}

impl Insert {
    /// Number of insert statements.
    pub(super) const COUNT: usize = HotTable::ALL.len() * SIZES.len();

    /// Returns the largest statement for at most this many rows, of which there must be at least one.
    pub(super) fn of<R: Row>(rows: usize) -> Self {
        let size = SIZES.iter().position(|size| *size <= rows).unwrap_or(SIZES.len() - 1);
        Insert { table: R::TABLE, size }
    }

    /// Returns the number of rows that the statement inserts.
    pub(super) fn rows(self) -> usize {
        SIZES[self.size]
    }

    /// Returns the statement's index, below [`Insert::COUNT`].
    pub(super) fn index(self) -> usize {
        self.table as usize * SIZES.len() + self.size
    }

    pub(super) fn sql(self) -> &'static str {
        static ALL: LazyLock<Vec<String>> =
            LazyLock::new(|| HotTable::ALL.into_iter().flat_map(inserts_into).collect());
        &ALL[self.index()]
    }
}

/// Returns the statements that insert into a table, one for each of [`SIZES`].
fn inserts_into(table: HotTable) -> [String; SIZES.len()] {
    SIZES.map(|rows| {
        let values: Vec<String> = (0..rows).map(|row| table.values_from(row * 8 + 1)).collect();
        format!("INSERT OR ROLLBACK INTO {} VALUES {}", table.columns(), values.join(", "))
    })
}

impl Row for EventRow {
    const TABLE: HotTable = HotTable::Events;

    fn values(&self) -> [ToSqlOutput<'_>; 8] {
        let EventRow { tenant, event, fan_out } = self;
        [
            text(&tenant.0),
            blob(event.id.0.as_bytes()),
            text(&event.name),
            text(event.module.as_str()),
            event.entity_id.as_deref().map_or(NULL, text),
            integer(event.received_at_ms),
            integer(i64::try_from(*fan_out).unwrap_or(i64::MAX)),
            blob(&event.payload),
        ]
    }
}

impl Row for DeliveryRow {
    const TABLE: HotTable = HotTable::Deliveries;

    fn values(&self) -> [ToSqlOutput<'_>; 8] {
        let DeliveryRow { delivery, due_at_ms, order_key } = self;
        [
            text(&delivery.tenant.0),
            blob(delivery.id.0.as_bytes()),
            blob(delivery.event.0.as_bytes()),
            blob(delivery.subscription.0.as_bytes()),
            integer(delivery.kind as i64),
            order_key.as_ref().map_or(NULL, |key| blob(&key.0)),
            integer(*due_at_ms),
            integer(delivery.age_from_ms),
        ]
    }
}

const NULL: ToSqlOutput<'_> = ToSqlOutput::Owned(Value::Null);

fn text(text: &str) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))
}

fn blob(bytes: &[u8]) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Blob(bytes))
}

fn integer(number: i64) -> ToSqlOutput<'static> {
    ToSqlOutput::Owned(Value::Integer(number))
}

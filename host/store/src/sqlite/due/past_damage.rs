//! Page of a lane's due deliveries, without the rows that cannot be read.
//!
//! The deliveries are listed from an index, and each is read with a separate statement. If the index cannot be read, the lane waits
//! until it is rebuilt ([`repair`](crate::sqlite::repair)).

use super::DELIVERY_COLUMNS;
use crate::StoreError;
use crate::backend::lanes::{AttemptClass, DuePage, LaneRead, PAGE_BYTES_MAX};
use crate::backend::machine::{DamagedRow, RowKind};
use crate::claims::ClaimPage;
use crate::sqlite::damage::{Damage, damaged};
use crate::sqlite::partial_read::PartialRead;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryId, DueDelivery};
use hookloom_model::event::Event;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::sync::Arc;
use uuid::Uuid;

/// Delay of a lane while an index is being rebuilt, in milliseconds.
const WAIT_MS: i64 = 1_000;

impl PartialRead<DuePage> {
    /// Adds a delivery to the unreadable rows if its damage is confirmed, and returns whether it is. At first, a damaged index may
    /// be the cause; a check is requested meanwhile.
    fn set_apart(&mut self, unreadable: UnreadablePart, id: Uuid, known: &Damage) -> bool {
        let (has_event, row) = match unreadable {
            UnreadablePart::Delivery(row) => (true, row),
            UnreadablePart::Event(row) => (false, row),
        };
        if !known.confirm(&row.tenant, row.kind, row.id) {
            return false;
        }
        self.without_event.extend((!has_event).then_some(id));
        self.damaged.push(row);
        true
    }
}

/// Unreadable part of a delivery.
enum UnreadablePart {
    Delivery(DamagedRow),
    Event(DamagedRow),
}

/// A page of a lane, without the rows that cannot be read.
pub(super) fn due_page(
    connection: &Connection,
    lane: &LaneRead,
    claims: &ClaimPage,
    known: &Damage,
) -> PartialRead<DuePage> {
    let now_ms = now_ms();
    let mut read = PartialRead::of(DuePage::default());
    let pending = match pending(connection, lane) {
        Ok(pending) => pending,
        Err(error) => {
            known.note(&error);
            read.value.next_due_at_ms = Some(now_ms + WAIT_MS);
            return read;
        }
    };
    let mut bytes = 0;
    let mut must_wait = false;
    for (due_at_ms, id) in pending {
        let page = &mut read.value;
        if due_at_ms > now_ms {
            page.next_due_at_ms = Some(due_at_ms);
            break;
        }
        if page.due.len() == lane.limit || bytes > PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        if !claims.is_free(DeliveryId(id)) || known.has(&lane.tenant, RowKind::Delivery, id) {
            continue;
        }
        match one_due(connection, lane, id, known) {
            Ok(Some(due)) => {
                bytes += due.1.payload.len();
                page.due.push(due);
            }
            Ok(None) => {}
            Err(unreadable) => must_wait |= !read.set_apart(unreadable, id, known),
        }
    }
    if must_wait {
        let next = read.value.next_due_at_ms.unwrap_or(i64::MAX);
        read.value.next_due_at_ms = Some(next.min(now_ms + WAIT_MS));
    }
    read
}

/// Returns the pending deliveries of a lane in the order in which they are due, read from the index without the table.
fn pending(connection: &Connection, lane: &LaneRead) -> Result<Vec<(i64, Uuid)>, StoreError> {
    // In the order of the index, which begins with first attempts. A condition on that column would read the table.
    let sql = "SELECT due_at_ms, id FROM deliveries INDEXED BY deliveries_due
               WHERE tenant = ?1 AND subscription = ?2 AND state = 0";
    let mut statement = connection.prepare_cached(sql)?;
    let found =
        statement.query_map(params![&*lane.tenant.0, lane.subscription.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut all: Vec<(i64, Uuid)> = found.collect::<Result<_, _>>()?;
    let sql = "SELECT attempts_made FROM deliveries WHERE tenant = ?1 AND id = ?2";
    let mut row = connection.prepare_cached(sql)?;
    let mut attempts = |id: Uuid| row.query_row(params![&*lane.tenant.0, id], |row| row.get::<_, u32>(0)).ok();
    // An unreadable delivery has the class of the next readable one. Without one, it counts as a first attempt.
    let firsts = partition_point(all.len(), |at| {
        all[at..].iter().find_map(|(_, id)| attempts(*id)).is_none_or(|made| made == 0)
    });
    Ok(match lane.class {
        AttemptClass::First => {
            all.truncate(firsts);
            all
        }
        AttemptClass::Retry => all.split_off(firsts),
    })
}

/// Returns the first index that is not of the first kind, by binary search.
fn partition_point(len: usize, mut is_first_kind: impl FnMut(usize) -> bool) -> usize {
    let mut low = 0;
    let mut high = len;
    while low < high {
        let middle = low + (high - low) / 2;
        if is_first_kind(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Columns of [`LaneRead::due`] before those of the delivery.
const EVENT_COLUMNS: &str = "e.id, e.name, e.module, e.entity_id, e.received_at_ms, e.payload";

/// Returns a delivery with its event. None: an earlier delivery of the same entity goes first.
fn one_due(
    connection: &Connection,
    lane: &LaneRead,
    id: Uuid,
    known: &Damage,
) -> Result<Option<(DueDelivery, Arc<Event>)>, UnreadablePart> {
    let tenant = &lane.tenant;
    let broken = |detail: String| UnreadablePart::Delivery(damaged(tenant, RowKind::Delivery, id, detail));
    let of = params![&*tenant.0, id];
    let sql = "SELECT event, order_key FROM deliveries WHERE tenant = ?1 AND id = ?2 AND state = 0";
    let found = connection.prepare_cached(sql).and_then(|mut statement| {
        let ids = statement.query_row(of, |row| Ok((row.get::<_, Uuid>(0)?, row.get::<_, Option<Vec<u8>>>(1)?)));
        ids.optional()
    });
    let found = found.map_err(|error| broken(hookloom_model::describe(&error)))?;
    let (event, order_key) =
        found.ok_or_else(|| broken("it is in the index of due deliveries and not in the table".into()))?;
    if order_key.is_some_and(|order_key| is_blocked(connection, lane, &order_key, id, known)) {
        return Ok(None);
    }
    let sql = format!(
        "SELECT {EVENT_COLUMNS}, {DELIVERY_COLUMNS} FROM deliveries d JOIN events e ON e.tenant = d.tenant AND e.id = d.event
         WHERE d.tenant = ?1 AND d.id = ?2"
    );
    let found = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_row(of, |row| lane.due(row)).optional());
    let lost = |detail: String| UnreadablePart::Event(damaged(tenant, RowKind::Event, event, detail));
    match found {
        Ok(Some(due)) => Ok(Some(due)),
        Ok(None) => Err(lost("it is not in the table".into())),
        Err(error) => Err(lost(hookloom_model::describe(&error))),
    }
}

/// Returns true if an earlier delivery of the same entity blocks one. A delivery that cannot be read blocks nothing.
fn is_blocked(connection: &Connection, lane: &LaneRead, order_key: &[u8], id: Uuid, known: &Damage) -> bool {
    let sql = "SELECT id FROM deliveries INDEXED BY deliveries_in_order
               WHERE tenant = ?1 AND subscription = ?2 AND order_key = ?3 AND state = 0 AND id < ?4";
    let earlier = || -> rusqlite::Result<Vec<Uuid>> {
        let mut statement = connection.prepare_cached(sql)?;
        statement.query_map(params![&*lane.tenant.0, lane.subscription.0, order_key, id], |row| row.get(0))?.collect()
    };
    // Without the index, the answer is unknown, and the order is kept.
    let Ok(earlier) = earlier() else { return true };
    let mut earlier = earlier.into_iter().filter(|earlier| !known.has(&lane.tenant, RowKind::Delivery, *earlier));
    earlier.any(|earlier| {
        let sql = "SELECT attempts_made FROM deliveries WHERE tenant = ?1 AND id = ?2 AND state = 0";
        let attempts = connection.prepare_cached(sql).and_then(|mut statement| {
            statement.query_row(params![&*lane.tenant.0, earlier], |row| row.get::<_, u32>(0)).optional()
        });
        matches!(attempts, Ok(Some(attempts)) if attempts < lane.blocks_below)
    })
}

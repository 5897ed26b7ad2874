//! Reads that continue past damaged rows. They read row by row, and run only after the usual statement has failed.
//!
//! The rows are listed from an index, and each is read with a separate statement. Rows that cannot be read are returned, to be set
//! apart. If the index cannot be read, the read fails until the index is rebuilt ([`repair`](super::repair)).

use super::damage::{Damage, DamagedRow, RowKind, damaged};
use super::deliveries::{VIEW, event_row, kind, view_row};
use super::due::{COLUMNS, DuePage, LaneRead, PAGE_BYTES_MAX};
use super::ledger::LedgerCounts;
use super::{AttemptClass, DeliveryFilter, DeliveryView, StoreError, now_ms};
use hookloom_model::delivery::{Attempt, DeliveryId, DeliveryKind, DeliveryState};
use hookloom_model::event::Event;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::HashSet;
use uuid::Uuid;

/// Maximum number of index entries that a list reads.
const LISTED_MAX: usize = 20_000;

/// Delay of a lane while an index is being rebuilt, in milliseconds.
const WAIT_MS: i64 = 1_000;

/// Result of a read past damage: the readable part, and the rows that could not be read.
pub(super) struct Careful<T> {
    pub(super) value: T,
    pub(super) damaged: Vec<DamagedRow>,
    /// Readable deliveries whose event cannot be read.
    pub(super) without_event: Vec<Uuid>,
}

impl<T> Careful<T> {
    /// Wraps the result of a read without damage.
    pub(super) fn of(value: T) -> Self {
        Careful { value, damaged: Vec::new(), without_event: Vec::new() }
    }
}

impl Careful<DuePage> {
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
    limit: usize,
    skip: &HashSet<DeliveryId>,
    known: &Damage,
) -> Careful<DuePage> {
    let now_ms = now_ms();
    // Newer than anything the page can have read, so that fresh deliveries are left to the store.
    let newest = Some(DeliveryId::new());
    let mut careful = Careful::of(DuePage { due: Vec::new(), more: false, next_due_at_ms: None, newest });
    let pending = match pending(connection, lane) {
        Ok(pending) => pending,
        Err(error) => {
            known.note(&error);
            careful.value.next_due_at_ms = Some(now_ms + WAIT_MS);
            return careful;
        }
    };
    let mut bytes = 0;
    let mut must_wait = false;
    for (due_at_ms, id) in pending {
        let page = &mut careful.value;
        if due_at_ms > now_ms {
            page.next_due_at_ms = Some(due_at_ms);
            break;
        }
        if page.due.len() == limit || bytes > PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        if skip.contains(&DeliveryId(id)) || known.has(&lane.tenant, RowKind::Delivery, id) {
            continue;
        }
        match one_due(connection, lane, id, known) {
            Ok(Some(due)) => {
                bytes += due.event.payload.len();
                page.due.push(due);
            }
            Ok(None) => {}
            Err(unreadable) => must_wait |= !careful.set_apart(unreadable, id, known),
        }
    }
    if must_wait {
        let next = careful.value.next_due_at_ms.unwrap_or(i64::MAX);
        careful.value.next_due_at_ms = Some(next.min(now_ms + WAIT_MS));
    }
    careful
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

/// Returns a delivery with its event. None: an earlier delivery of the same entity goes first.
fn one_due(
    connection: &Connection,
    lane: &LaneRead,
    id: Uuid,
    known: &Damage,
) -> Result<Option<super::Due>, UnreadablePart> {
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
        "SELECT {COLUMNS} FROM deliveries d JOIN events e ON e.tenant = d.tenant AND e.id = d.event
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

/// Returns deliveries, approximately newest first, without those that cannot be read.
pub(super) fn list(
    connection: &Connection,
    tenant: &TenantId,
    filter: &DeliveryFilter,
) -> Result<Careful<Vec<DeliveryView>>, StoreError> {
    // Each of these two indexes has an entry for every delivery. Ids of events and of deliveries are in the order of time.
    let (condition, of) = match filter {
        DeliveryFilter { subscription: Some(id), event: None, .. } => (
            "INDEXED BY deliveries_of_subscription WHERE tenant = ?1 AND subscription = ?2 AND id < ?3 ORDER BY id DESC",
            id.0,
        ),
        DeliveryFilter { event: Some(id), .. } => {
            ("INDEXED BY deliveries_of_event WHERE tenant = ?1 AND event = ?2 AND id < ?3 ORDER BY id DESC", id.0)
        }
        _ => (
            "INDEXED BY deliveries_of_event WHERE tenant = ?1 AND event > ?2 AND id < ?3 ORDER BY event DESC, id DESC",
            Uuid::nil(),
        ),
    };
    let sql = format!("SELECT id FROM deliveries {condition} LIMIT ?4");
    let before = filter.before.map_or(Uuid::max(), |id| id.0);
    let mut statement = connection.prepare_cached(&sql)?;
    let ids = statement.query_map(params![&*tenant.0, of, before, LISTED_MAX], |row| row.get::<_, Uuid>(0))?;
    let mut listed = Careful::of(Vec::new());
    let sql = format!("{VIEW} WHERE tenant = ?1 AND id = ?2");
    for id in ids {
        if listed.value.len() == filter.limit {
            break;
        }
        let id = id?;
        let read = connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.query_row(params![&*tenant.0, id], view_row).optional());
        match read {
            Ok(Some(view)) => listed.value.extend(is_wanted(&view, filter).then_some(view)),
            Ok(None) => {}
            Err(error) => {
                listed.damaged.push(damaged(tenant, RowKind::Delivery, id, hookloom_model::describe(&error)));
            }
        }
    }
    listed.value.sort_by_key(|view| std::cmp::Reverse(view.id));
    Ok(listed)
}

fn is_wanted(view: &DeliveryView, filter: &DeliveryFilter) -> bool {
    filter.state.is_none_or(|state| state == view.state)
        && filter.subscription.is_none_or(|id| id == view.subscription)
        && filter.event.is_none_or(|id| id == view.event)
}

/// Returns the attempts of a delivery, without those that cannot be read.
pub(super) fn attempts(connection: &Connection, tenant: &TenantId, delivery: Uuid, made: u32) -> Vec<Attempt> {
    let sql = "SELECT detail FROM attempts WHERE tenant = ?1 AND delivery = ?2 AND number = ?3";
    // An attempt that did not count has the number of the next one.
    let numbers = 1..=made.saturating_add(1);
    let read = |number: u32| -> Option<Attempt> {
        let mut statement = connection.prepare_cached(sql).ok()?;
        let detail: String = statement.query_row(params![&*tenant.0, delivery, number], |row| row.get(0)).ok()?;
        serde_json::from_str(&detail).ok()
    };
    numbers.filter_map(read).collect()
}

/// Counts a tenant's events and deliveries row by row. The fan-out of an unreadable event is the number of its deliveries. An
/// unreadable delivery counts as pending, because its end is unknown.
pub(super) fn ledger_counts(connection: &Connection, tenant: &TenantId) -> Result<LedgerCounts, StoreError> {
    let mut counts = LedgerCounts::default();
    let mut ids = connection.prepare("SELECT id FROM events WHERE tenant = ?1")?;
    let mut event = connection.prepare("SELECT fan_out FROM events WHERE tenant = ?1 AND id = ?2")?;
    let mut deliveries = connection
        .prepare("SELECT id FROM deliveries INDEXED BY deliveries_of_event WHERE tenant = ?1 AND event = ?2")?;
    let mut delivery = connection.prepare("SELECT state, kind FROM deliveries WHERE tenant = ?1 AND id = ?2")?;
    let mut rows = ids.query([&*tenant.0])?;
    while let Some(row) = rows.next()? {
        let id: Uuid = row.get(0)?;
        let mut promised = 0;
        for delivery_id in deliveries.query_map(params![&*tenant.0, id], |row| row.get::<_, Uuid>(0))? {
            let of = params![&*tenant.0, delivery_id?];
            let found = delivery.query_row(of, |row| Ok((row.get::<_, usize>(0)?, kind(row.get(1)?))));
            let (state, kind) = found.unwrap_or((DeliveryState::Pending as usize, DeliveryKind::Usual));
            counts.deliveries[state.min(DeliveryState::ALL.len() - 1)] += 1;
            promised += u64::from(kind == DeliveryKind::Usual);
        }
        counts.events += 1;
        counts.fan_out += event.query_row(params![&*tenant.0, id], |row| row.get(0)).unwrap_or(promised);
    }
    Ok(counts)
}

/// Returns true if a row that was damaged can be read, or is gone. A pending delivery is readable only with its event.
pub(super) fn is_whole(connection: &Connection, row: &DamagedRow) -> bool {
    is_readable(connection, row).is_ok()
}

/// Reads a row, and returns the error of the read.
pub(super) fn is_readable(connection: &Connection, row: &DamagedRow) -> rusqlite::Result<()> {
    match row.kind {
        RowKind::Event => read_event(connection, &row.tenant, row.id).map(drop),
        RowKind::Delivery => {
            let sql = format!("{VIEW} WHERE tenant = ?1 AND id = ?2");
            connection.query_row(&sql, params![&*row.tenant.0, row.id], view_row).optional().map(drop)
        }
    }
}

fn read_event(connection: &Connection, tenant: &TenantId, id: Uuid) -> rusqlite::Result<Option<Event>> {
    let sql = "SELECT id, name, module, entity_id, received_at_ms, payload FROM events WHERE tenant = ?1 AND id = ?2";
    connection.query_row(sql, params![&*tenant.0, id], event_row).optional()
}

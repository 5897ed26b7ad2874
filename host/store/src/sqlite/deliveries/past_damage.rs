//! Deliveries and attempts for display, without those that cannot be read. Each is read with a separate statement.

use super::{VIEW, view_row};
use crate::StoreError;
use crate::backend::deliveries::{DeliveryFilter, DeliveryView};
use crate::backend::machine::RowKind;
use crate::sqlite::damage::damaged;
use crate::sqlite::partial_read::PartialRead;
use hookloom_model::delivery::Attempt;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

/// Maximum number of index entries that a list reads.
const LISTED_MAX: usize = 20_000;

/// Returns deliveries, approximately newest first, without those that cannot be read.
pub(super) fn list(
    connection: &Connection,
    tenant: &TenantId,
    filter: &DeliveryFilter,
) -> Result<PartialRead<Vec<DeliveryView>>, StoreError> {
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
    let mut listed = PartialRead::of(Vec::new());
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
        && filter.among.as_ref().is_none_or(|among| among.contains(&view.event))
        && filter.span.is_none_or(|span| span.contains(view.id.0))
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

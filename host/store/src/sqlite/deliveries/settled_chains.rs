//! Chains of superseded deliveries, found by their indexes.

use super::{VIEW, view_row};
use crate::StoreError;
use crate::backend::deliveries::{DeliveryView, SettledChain};
use crate::settled_chain::{EVENTS_READ, LISTED_MAX, POINTERS_MAX, UNORDERED_MAX};
use hookloom_model::delivery::DeliveryId;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::HashMap;

/// Follows the pointers of superseded deliveries from one (?2) to the last one that is stored.
const LAST: &str = "WITH RECURSIVE chain (id, next, pointers) AS (
       SELECT id, superseded_by, 0 FROM deliveries WHERE tenant = ?1 AND id = ?2
       UNION ALL SELECT d.id, d.superseded_by, c.pointers + 1 FROM chain c
         CROSS JOIN deliveries d ON d.tenant = ?1 AND d.id = c.next WHERE c.pointers < ?3)
     SELECT id FROM chain ORDER BY pointers DESC LIMIT 1";

/// Finds the superseded deliveries of a subscription (?2) and of the entity of an event (?3), back to another event (?4).
fn superseded_sql() -> String {
    format!(
        "{VIEW} INDEXED BY deliveries_of_event WHERE tenant = ?1 AND subscription = ?2 AND superseded_by IS NOT NULL AND event IN (
           SELECT e.id FROM events newest CROSS JOIN events e INDEXED BY events_of_entity
             ON e.tenant = ?1 AND e.module = newest.module AND e.entity_id = newest.entity_id AND e.seq <= newest.seq + ?5
               AND e.seq >= COALESCE((SELECT oldest.seq FROM events oldest WHERE oldest.tenant = ?1 AND oldest.id = ?4), 0) - ?5
           WHERE newest.tenant = ?1 AND newest.id = ?3 AND e.id >= ?4 AND e.id < ?3
           ORDER BY e.seq DESC LIMIT ?6)
         ORDER BY event DESC LIMIT ?7"
    )
}

/// Returns the chain of each of these deliveries that is in one.
pub(super) fn read(
    connection: &Connection,
    tenant: &TenantId,
    deliveries: Vec<DeliveryId>,
) -> Result<HashMap<DeliveryId, SettledChain>, StoreError> {
    let mut chains = HashMap::new();
    for id in deliveries {
        if let Some(survivor) = survivor(connection, tenant, id)? {
            let superseded = superseded(connection, tenant, &survivor)?;
            chains.extend(SettledChain::of(survivor, superseded).map(|chain| (id, chain)));
        }
    }
    Ok(chains)
}

fn survivor(connection: &Connection, tenant: &TenantId, id: DeliveryId) -> Result<Option<DeliveryView>, StoreError> {
    let mut last = connection.prepare_cached(LAST)?;
    let last = last.query_row(params![&*tenant.0, id.0, POINTERS_MAX], |row| row.get(0).map(DeliveryId)).optional()?;
    let Some(last) = last else { return Ok(None) };
    let mut view = connection.prepare_cached(&format!("{VIEW} WHERE tenant = ?1 AND id = ?2"))?;
    Ok(view.query_row(params![&*tenant.0, last.0], view_row).optional()?)
}

fn superseded(
    connection: &Connection,
    tenant: &TenantId,
    survivor: &DeliveryView,
) -> Result<Vec<DeliveryView>, StoreError> {
    let Some(settled) = survivor.settled.filter(|settled| settled.count > 1) else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(&superseded_sql())?;
    let values = params![
        &*tenant.0,
        survivor.subscription.0,
        survivor.event.0,
        settled.first.0,
        UNORDERED_MAX,
        EVENTS_READ,
        LISTED_MAX,
    ];
    let rows = statement.query_map(values, view_row)?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema;
    use uuid::Uuid;

    /// Returns the steps of a query's plan.
    fn plan_of(sql: &str, values: &[&dyn rusqlite::ToSql]) -> Vec<String> {
        let connection = Connection::open_in_memory().expect("a database");
        schema::make(&connection, schema::newest()).expect("the schema");
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a plan");
        let steps = plan.query_map(values, |row| row.get::<_, String>(3)).expect("its steps");
        steps.map(|step| step.expect("a step")).collect()
    }

    /// Returns true if a step reads deliveries, or events of an entity.
    fn is_of_table(step: &str) -> bool {
        step.contains("deliveries") || step.contains(" d ") || step.contains(" e ")
    }

    #[test]
    fn a_chain_is_found_by_keys_and_indexes() {
        let id = Uuid::nil();
        let pointers = plan_of(LAST, params![&"t", &id, &POINTERS_MAX]);
        let events =
            plan_of(&superseded_sql(), params![&"t", &id, &id, &id, &UNORDERED_MAX, &EVENTS_READ, &LISTED_MAX]);
        let of_tables: Vec<&String> = pointers.iter().chain(&events).filter(|step| is_of_table(step)).collect();
        assert!(of_tables.len() >= 4, "{pointers:?} {events:?}");
        for step in of_tables {
            assert!(step.starts_with("SEARCH") && step.contains("USING"), "{pointers:?} {events:?}");
        }
        let searched = |text: &str| events.iter().any(|step| step.contains(text));
        assert!(searched("deliveries_of_event (tenant=? AND event=?)"), "{events:?}");
        assert!(
            searched("events_of_entity (tenant=? AND module=? AND entity_id=? AND rowid>? AND rowid<?)"),
            "{events:?}"
        );
    }
}

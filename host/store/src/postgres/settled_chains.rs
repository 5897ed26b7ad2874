//! Chains of superseded deliveries, found by their indexes.

use super::connection::Connection;
use super::rows::{VIEW, int, view_row};
use crate::StoreError;
use crate::backend::deliveries::{DeliveryView, SettledChain};
use crate::settled_chain::{EVENTS_READ, LISTED_MAX, POINTERS_MAX, UNORDERED_MAX};
use hookloom_model::delivery::DeliveryId;
use hookloom_model::subscription::TenantId;
use std::collections::HashMap;
use uuid::Uuid;

/// Follows the pointers of superseded deliveries from one ($2) to the last one that is stored.
const LAST: &str = "WITH RECURSIVE chain (id, next, pointers) AS (
       SELECT id, superseded_by, 0::int8 FROM deliveries WHERE tenant = $1 AND id = $2
       UNION ALL SELECT d.id, d.superseded_by, c.pointers + 1 FROM chain c
         JOIN deliveries d ON d.tenant = $1 AND d.id = c.next WHERE c.pointers < $3)
     SELECT id FROM chain ORDER BY pointers DESC LIMIT 1";

/// Finds the stored events of the entity of an event ($2), back to another event ($3). `OFFSET 0` keeps the ids out of the choice of the
/// index, because a range of ids has the events of all entities.
const EVENTS: &str = "SELECT id FROM (
       SELECT e.id, e.seq FROM events newest
         JOIN events e ON e.tenant = $1 AND e.module = newest.module AND e.entity_id = newest.entity_id AND e.seq <= newest.seq + $4
           AND e.seq >= COALESCE((SELECT oldest.seq FROM events oldest WHERE oldest.tenant = $1 AND oldest.id = $3), 0) - $4
         WHERE newest.tenant = $1 AND newest.id = $2 OFFSET 0) of_entity
     WHERE id >= $3 AND id < $2 ORDER BY seq DESC LIMIT $5";

/// Returns the query of the superseded deliveries of a subscription ($1) and of events ($2), by the index of events.
fn superseded_sql() -> String {
    format!(
        "SELECT found.* FROM unnest($2::uuid[]) AS wanted (id)
         CROSS JOIN LATERAL ({VIEW} WHERE event = wanted.id OFFSET 0) found
         WHERE found.subscription = $1 AND found.superseded_by IS NOT NULL ORDER BY found.event DESC LIMIT $3"
    )
}

/// Returns the chain of each of these deliveries that is in one.
pub(super) async fn read(
    connection: &Connection,
    tenant: &TenantId,
    deliveries: Vec<DeliveryId>,
) -> Result<HashMap<DeliveryId, SettledChain>, StoreError> {
    let mut chains = HashMap::new();
    for id in deliveries {
        if let Some(survivor) = survivor(connection, tenant, id).await? {
            let superseded = superseded(connection, tenant, &survivor).await?;
            chains.extend(SettledChain::of(survivor, superseded).map(|chain| (id, chain)));
        }
    }
    Ok(chains)
}

async fn survivor(
    connection: &Connection,
    tenant: &TenantId,
    id: DeliveryId,
) -> Result<Option<DeliveryView>, StoreError> {
    let Some(last) = connection.query_opt(LAST, &[&&*tenant.0, &id.0, &int(POINTERS_MAX)]).await? else {
        return Ok(None);
    };
    let last: Uuid = last.try_get(0)?;
    let view = connection.query_opt(&format!("{VIEW} WHERE tenant = $1 AND id = $2"), &[&&*tenant.0, &last]).await?;
    view.as_ref().map(view_row).transpose()
}

async fn superseded(
    connection: &Connection,
    tenant: &TenantId,
    survivor: &DeliveryView,
) -> Result<Vec<DeliveryView>, StoreError> {
    let Some(settled) = survivor.settled.filter(|settled| settled.count > 1) else { return Ok(Vec::new()) };
    let tenant = &*tenant.0;
    let read = int(EVENTS_READ);
    let rows = connection.query(EVENTS, &[&tenant, &survivor.event.0, &settled.first.0, &UNORDERED_MAX, &read]).await?;
    let events = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Uuid>, _>>()?;
    let listed = int(LISTED_MAX);
    let rows = connection.query(&superseded_sql(), &[&survivor.subscription.0, &events, &listed]).await?;
    rows.iter().map(view_row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sql_param::SqlParams;
    use super::super::test_server::TestDatabase;
    use super::*;

    /// Adds superseded deliveries of a subscription, and their events, ten of each contact.
    const MANY: &str = "WITH new AS (SELECT gen_random_uuid() AS id, i FROM generate_series(1, 20000) i),
         event AS (INSERT INTO events (tenant, id, name, module, entity_id, received_at_ms, fan_out, payload)
                   SELECT 't', id, 'Contact is Created', 'Contact', (i / 10)::text, i, 1, '' FROM new)
         INSERT INTO deliveries (tenant, id, event, subscription, kind, state, due_at_ms, age_from_ms, created_at_ms, updated_at_ms, superseded_by)
         SELECT 't', id, id, $1, 0, 5, i, i, i, i, id FROM new";

    #[tokio::test]
    async fn a_chain_is_found_by_keys_and_indexes() {
        let database = TestDatabase::new().await;
        let (_store, _store_events) = database.open().await;
        let beside = database.connect().await;
        let of = Uuid::from_u128(7);
        beside.execute(MANY, &[&of]).await.expect("superseded deliveries");
        for statistics in ["SELECT 1", "ANALYZE"] {
            beside.batch_execute(statistics).await.expect(statistics);
            let plan_of = async |sql: &str, params: SqlParams<'_>| {
                let rows = beside.query(&format!("EXPLAIN {sql}"), params).await.expect("a plan");
                let plan: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
                plan.join("\n")
            };
            let pointers = plan_of(LAST, &[&"t", &of, &int(POINTERS_MAX)]).await;
            let events = plan_of(EVENTS, &[&"t", &of, &of, &UNORDERED_MAX, &int(EVENTS_READ)]).await;
            let few = vec![of; 10];
            let deliveries = plan_of(&superseded_sql(), &[&of, &few, &int(LISTED_MAX)]).await;
            assert!(events.contains("events_of_entity"), "{events}");
            assert!(deliveries.contains("deliveries_of_event"), "{deliveries}");
            // No delivery is pending, and PostgreSQL may read an empty table as a whole.
            for plan in [pointers, events, deliveries] {
                let is_whole = plan.contains("Seq Scan on deliveries_ended") || plan.contains("Seq Scan on events");
                assert!(!is_whole, "{statistics}: {plan}");
            }
        }
    }
}

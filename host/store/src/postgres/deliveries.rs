//! Deliveries, events and attempts, as they are displayed.

use super::Postgres;
use super::conditions::FilteredQuery;
use super::connection::Connection;
use super::rows::{EVENT, VIEW, event_row, int, number, view_row};
use super::settled_chains;
use crate::StoreError;
use crate::backend::deliveries::{DeliveryBackend, DeliveryFilter, DeliveryView, EventView, SettledChain};
use crate::backend::operator_actions::Span;
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::delivery::{Attempt, DeliveryId};
use hookloom_model::event::EventId;
use hookloom_model::subscription::TenantId;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

/// Condition of the last event of an entity ($3, $4) of a tenant ($1) before an event ($2). Ordered by `seq`, the order of
/// acceptance even if the clock was set back. There is no gap between stored events, because the oldest of an entity is pruned
/// first.
pub(super) const BEFORE: &str = "WHERE tenant = $1 AND entity_id = $3 AND module = $4
    AND seq < (SELECT this.seq FROM events this WHERE this.tenant = $1 AND this.id = $2) ORDER BY seq DESC LIMIT 1";

#[async_trait]
impl DeliveryBackend for Postgres {
    async fn delivery(&self, tenant: TenantId, id: DeliveryId) -> Result<(DeliveryView, Vec<Attempt>), StoreError> {
        let read = self.readers.read(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = format!("{VIEW} WHERE tenant = $1 AND id = $2");
                let row = connection.query_opt(&sql, &[&&*tenant.0, &id.0]).await?;
                let view = view_row(&row.ok_or(StoreError::NotFound("delivery"))?)?;
                Ok((view, attempts(connection, &tenant, id).await?))
            })
        });
        read.await
    }

    async fn attempts_of_event(
        &self,
        tenant: TenantId,
        event: EventId,
    ) -> Result<HashMap<DeliveryId, Vec<Attempt>>, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = "WITH d AS (SELECT id, last_attempt FROM deliveries WHERE tenant = $1 AND event = $2)
                           SELECT last_attempt, id, 0 AS place FROM d WHERE last_attempt IS NOT NULL
                           UNION ALL SELECT a.detail, a.delivery, 1 FROM attempts a WHERE a.tenant = $1 AND a.delivery IN (SELECT id FROM d)
                           ORDER BY place";
                let mut rows: HashMap<DeliveryId, Vec<Row>> = HashMap::new();
                for row in connection.query(sql, &[&&*tenant.0, &event.0]).await? {
                    rows.entry(DeliveryId(row.try_get(1)?)).or_default().push(row);
                }
                rows.into_iter().map(|(id, rows)| Ok((id, attempts_of_rows(&rows)?))).collect()
            })
        });
        read.await
    }

    async fn earlier_ones(
        &self,
        tenant: TenantId,
        event: EventId,
    ) -> Result<HashMap<DeliveryId, (DeliveryId, u32)>, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = "SELECT DISTINCT ON (d.id) d.id, o.id, o.attempts_made FROM deliveries d
                           JOIN deliveries o ON o.tenant = d.tenant AND o.subscription = d.subscription
                             AND o.order_key = d.order_key AND o.state = 0 AND o.id < d.id
                           WHERE d.tenant = $1 AND d.event = $2 AND d.state = 0 AND d.order_key IS NOT NULL
                           ORDER BY d.id, o.id";
                let rows = connection.query(sql, &[&&*tenant.0, &event.0]).await?;
                rows.iter()
                    .map(|row| Ok((DeliveryId(row.try_get(0)?), (DeliveryId(row.try_get(1)?), number(row, 2)?))))
                    .collect()
            })
        });
        read.await
    }

    async fn settled_chains(
        &self,
        tenant: TenantId,
        deliveries: Vec<DeliveryId>,
    ) -> Result<HashMap<DeliveryId, SettledChain>, StoreError> {
        let read = self.readers.read(Owner::from(&tenant), move |connection| {
            Box::pin(async move { settled_chains::read(connection, &tenant, deliveries).await })
        });
        read.await
    }

    async fn deliveries(&self, tenant: TenantId, filter: DeliveryFilter) -> Result<Vec<DeliveryView>, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move { list(connection, &tenant, &filter).await })
        });
        read.await
    }

    async fn event(&self, tenant: TenantId, id: EventId) -> Result<EventView, StoreError> {
        let read = self.readers.read(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = format!("SELECT {EVENT}, fan_out FROM events WHERE tenant = $1 AND id = $2");
                let row = connection.query_opt(&sql, &[&&*tenant.0, &id.0]).await?;
                let row = row.ok_or(StoreError::NotFound("event"))?;
                let event = event_row(&row)?;
                let sql = format!("SELECT id FROM events {BEFORE}");
                let entity_id = event.entity_id.as_deref();
                let module = event.module.as_str();
                let previous = connection.query_opt(&sql, &[&&*tenant.0, &id.0, &entity_id, &module]).await?;
                let previous = previous.map(|row| row.try_get(0).map(EventId)).transpose()?;
                let filter = DeliveryFilter { event: Some(id), limit: usize::MAX, ..DeliveryFilter::default() };
                let deliveries = list(connection, &tenant, &filter).await?;
                Ok(EventView { event: Arc::new(event), previous, fan_out: number(&row, 6)?, deliveries })
            })
        });
        read.await
    }
}

async fn attempts(connection: &Connection, tenant: &TenantId, id: DeliveryId) -> Result<Vec<Attempt>, StoreError> {
    let sql =
        "SELECT last_attempt, 0 AS place FROM deliveries WHERE tenant = $1 AND id = $2 AND last_attempt IS NOT NULL
               UNION ALL SELECT detail, 1 FROM attempts WHERE tenant = $1 AND delivery = $2
               ORDER BY place";
    attempts_of_rows(&connection.query(sql, &[&&*tenant.0, &id.0]).await?)
}

/// Reads the attempts of a delivery, of which the one in its own row comes first, and returns them by number. One of the same number
/// that did not count has been replaced.
fn attempts_of_rows(rows: &[Row]) -> Result<Vec<Attempt>, StoreError> {
    let attempts = rows.iter().map(|row| Ok(serde_json::from_str(row.try_get(0)?)?));
    let mut attempts = attempts.collect::<Result<Vec<Attempt>, StoreError>>()?;
    attempts.sort_by_key(|attempt| attempt.number);
    attempts.dedup_by_key(|attempt| attempt.number);
    Ok(attempts)
}

/// Query of [`VIEW`] for the deliveries of several events ($2), event by event. `OFFSET 0` keeps the tenant out of the choice of the
/// index: without statistics, the server would read all of its deliveries.
fn among_sql() -> String {
    let each = "FROM unnest($2::uuid[]) e (wanted) CROSS JOIN LATERAL
                  (SELECT * FROM deliveries d WHERE d.event = e.wanted OFFSET 0) deliveries";
    VIEW.replace("FROM deliveries", each)
}

async fn list(
    connection: &Connection,
    tenant: &TenantId,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliveryView>, StoreError> {
    let tenant = &*tenant.0;
    let subscription = filter.subscription.map(|id| id.0);
    let state = filter.state.map(|state| state as i16);
    let event = filter.event.map(|id| id.0);
    let before = filter.before.map(|id| id.0);
    let (from, to) = filter.span.map(Span::ids).unzip();
    let among: Option<Vec<Uuid>> = filter.among.as_ref().map(|among| among.iter().map(|id| id.0).collect());
    let limit = int(filter.limit);
    let mut query = match &among {
        None => FilteredQuery::new(format!("{VIEW} WHERE tenant = $1"), &[&tenant]),
        Some(among) => FilteredQuery::new(format!("{} WHERE tenant = $1", among_sql()), &[&tenant, among]),
    };
    query.push_some(" AND subscription =", &subscription);
    query.push_some(" AND state =", &state);
    query.push_some(" AND event =", &event);
    query.push_some(" AND id <", &before);
    query.push_some(" AND id >=", &from);
    query.push_some(" AND id <", &to);
    query.push(" ORDER BY id DESC LIMIT", &limit);
    connection.query(&query.sql, &query.params).await?.iter().map(view_row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::test_server::TestDatabase;
    use super::*;

    /// Many ended deliveries, each of an event of its own.
    const MANY: &str = "WITH new AS (SELECT i, ('01900000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid AS id FROM generate_series(1, 20000) i)
         INSERT INTO deliveries (tenant, id, event, subscription, kind, state, due_at_ms, age_from_ms, created_at_ms, updated_at_ms)
         SELECT 't', id, id, $1, 0, 1, i, i, i, i FROM new";

    #[tokio::test]
    async fn deliveries_of_several_events_are_found_by_their_index() {
        let database = TestDatabase::new().await;
        let (_store, _store_events) = database.open().await;
        let beside = database.connect().await;
        beside.execute(MANY, &[&Uuid::from_u128(7)]).await.expect("deliveries");
        let few: Vec<Uuid> = (1..=200).map(Uuid::from_u128).collect();
        for statistics in ["SELECT 1", "ANALYZE"] {
            beside.batch_execute(statistics).await.expect(statistics);
            let sql = format!("EXPLAIN {} WHERE tenant = $1 ORDER BY id DESC LIMIT $3", among_sql());
            let rows = beside.query(&sql, &[&"t", &few, &50_i64]).await.expect("a plan");
            let plan = rows.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>().join("\n");
            assert!(plan.contains("deliveries_of_event"), "{statistics}: {plan}");
            assert!(!plan.contains("Seq Scan on deliveries_ended"), "{statistics}: {plan}");
        }
    }
}

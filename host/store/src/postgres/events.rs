//! Lists of events: of a tenant, without payloads; recent ones, for trying plugins; the last ones of subscriptions.
//!
//! Events are listed by id, newest first: ids begin with the time of acceptance and grow. A span is a range of ids as well, as in a
//! replay, so that no row outside of it is read.
//!
//! # Limits
//! A page of events with a rare name, and without an entity or a span, may read all events of its tenant, within the time limit of
//! queries.

use super::Postgres;
use super::conditions::FilteredQuery;
use super::connection::Connection;
use super::rows::{EVENT, event_row, int, number, text};
use crate::StoreError;
use crate::backend::deliveries::{EVENTS_SEARCHED, EventBackend, EventFilter, EventSummary, NameCount};
use crate::backend::operator_actions::Span;
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::delivery::DeliveryKind;
use hookloom_model::event::{Event, EventId, Module};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

/// Columns of [`summary`].
const SUMMARY: &str = "SELECT id, name, module, entity_id, received_at_ms, fan_out, octet_length(payload)::int8";

#[async_trait]
impl EventBackend for Postgres {
    async fn events(&self, tenant: TenantId, filter: EventFilter) -> Result<Vec<EventSummary>, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move { list(connection, &tenant, &filter).await })
        });
        read.await
    }

    async fn event_summaries(
        &self,
        tenant: TenantId,
        ids: Vec<EventId>,
    ) -> Result<HashMap<EventId, EventSummary>, StoreError> {
        let ids: Vec<Uuid> = ids.into_iter().map(|id| id.0).collect();
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                let sql = format!("{SUMMARY} FROM events WHERE tenant = $1 AND id = ANY ($2)");
                let rows = connection.query(&sql, &[&&*tenant.0, &ids]).await?;
                rows.iter().map(|row| summary(row).map(|event| (event.id, event))).collect()
            })
        });
        read.await
    }

    async fn recent_events(
        &self,
        tenant: TenantId,
        modules: Vec<Module>,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                // OFFSET 0 keeps the planner from reading all deliveries to join them.
                let sql = format!(
                    "SELECT {EVENT} FROM (SELECT {EVENT} FROM events WHERE tenant = $1 ORDER BY id DESC LIMIT $2) e
                     WHERE module = ANY ($3)
                       AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.tenant = $1 AND d.event = e.id AND d.kind = $4 OFFSET 0)
                     ORDER BY id DESC LIMIT $5"
                );
                let modules: Vec<&str> = modules.into_iter().map(Module::as_str).collect();
                let searched = int(EVENTS_SEARCHED);
                let test = DeliveryKind::Test as i16;
                let rows = connection.query(&sql, &[&&*tenant.0, &searched, &modules, &test, &int(limit)]).await?;
                rows.iter().map(|row| event_row(row).map(Arc::new)).collect()
            })
        });
        read.await
    }

    async fn last_events_of(
        &self,
        tenant: TenantId,
        subscriptions: Vec<SubscriptionId>,
        limit: usize,
    ) -> Result<Vec<(Arc<Event>, SubscriptionId)>, StoreError> {
        let ids: Vec<Uuid> = subscriptions.into_iter().map(|id| id.0).collect();
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move {
                // In the order of the deliveries, because ids of deliveries grow within a subscription.
                let sql = format!(
                    "SELECT {EVENT}, subscription FROM unnest($2::uuid[]) s (subscription)
                     CROSS JOIN LATERAL (SELECT d.id AS delivery, d.event FROM deliveries d
                                         WHERE d.tenant = $1 AND d.subscription = s.subscription AND d.kind <> $3
                                         ORDER BY d.id DESC LIMIT $4) l
                     JOIN events e ON e.tenant = $1 AND e.id = l.event
                     ORDER BY l.delivery DESC LIMIT $4"
                );
                let test = DeliveryKind::Test as i16;
                let rows = connection.query(&sql, &[&&*tenant.0, &ids, &test, &int(limit)]).await?;
                rows.iter().map(|row| Ok((Arc::new(event_row(row)?), SubscriptionId(row.try_get(6)?)))).collect()
            })
        });
        read.await
    }

    async fn name_counts(&self, tenant: TenantId, limit: usize) -> Result<Vec<NameCount>, StoreError> {
        let read = self.readers.read_one(Owner::from(&tenant), move |connection| {
            Box::pin(async move { name_counts(connection, &tenant, limit).await })
        });
        read.await
    }
}

/// Counts the newest events by name.
async fn name_counts(connection: &Connection, tenant: &TenantId, limit: usize) -> Result<Vec<NameCount>, StoreError> {
    let sql = "SELECT name, COUNT(*), MAX(received_at_ms)
               FROM (SELECT name, received_at_ms FROM events WHERE tenant = $1 ORDER BY id DESC LIMIT $2) newest
               GROUP BY name ORDER BY name COLLATE \"C\"";
    let rows = connection.query(sql, &[&&*tenant.0, &int(limit)]).await?;
    let counted = rows.iter().map(|row| {
        Ok(NameCount { name: row.try_get(0)?, events: number(row, 1)?, last_received_at_ms: row.try_get(2)? })
    });
    counted.collect()
}

/// Returns the events of a filter. Absent conditions are left out, so that the server can use the index of the others.
async fn list(
    connection: &Connection,
    tenant: &TenantId,
    filter: &EventFilter,
) -> Result<Vec<EventSummary>, StoreError> {
    let tenant = &*tenant.0;
    let module = filter.module.map(Module::as_str);
    let name = filter.name.as_deref().map(text);
    let name = name.as_deref();
    let entity_id = filter.entity_id.as_deref().map(text);
    let entity_id = entity_id.as_deref();
    let (from, to) = filter.span.map(Span::ids).unzip();
    let before = filter.before.map(|id| id.0);
    let limit = int(filter.limit);
    let searched = int(EVENTS_SEARCHED);
    let text = filter.text.as_deref().map(str::as_bytes);
    let columns = if text.is_some() { "SELECT *" } else { SUMMARY };
    let mut query = FilteredQuery::new(format!("{columns} FROM events WHERE tenant = $1"), &[&tenant]);
    query.push_some(" AND module =", &module);
    query.push_some(" AND name =", &name);
    query.push_some(" AND entity_id =", &entity_id);
    if entity_id.is_some() && module.is_none() {
        // The index of entities begins with the module.
        let names = Module::ALL.map(|module| format!("'{}'", module.as_str()));
        query.sql.push_str(&format!(" AND module IN ({})", names.join(", ")));
    }
    query.push_some(" AND id >=", &from);
    query.push_some(" AND id <", &to);
    query.push_some(" AND id <", &before);
    if let Some(text) = &text {
        query.push(" ORDER BY id DESC LIMIT", &searched);
        query.sql = format!("{SUMMARY} FROM ({}) newest", query.sql);
        query.push(" WHERE position(", text);
        query.sql.push_str(" IN payload) > 0");
    }
    query.push(" ORDER BY id DESC LIMIT", &limit);
    connection.query(&query.sql, &query.params).await?.iter().map(summary).collect()
}

/// Reads an event from the columns of [`SUMMARY`].
fn summary(row: &Row) -> Result<EventSummary, StoreError> {
    Ok(EventSummary {
        id: EventId(row.try_get(0)?),
        name: row.try_get(1)?,
        module: Module::parse(row.try_get(2)?).unwrap_or(Module::Contact),
        entity_id: row.try_get(3)?,
        received_at_ms: row.try_get(4)?,
        fan_out: number(row, 5)?,
        bytes: number(row, 6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::test_server::TestDatabase;
    use super::*;
    use crate::{Actor, Caps, NewEvent, TenantChange};
    use bytes::Bytes;

    #[tokio::test]
    async fn an_event_is_found_by_texts_with_a_zero_byte() {
        let database = TestDatabase::new().await;
        let (store, _store_events) = database.open().await;
        let tenant = TenantId("t".into());
        store.create_tenant(Actor::Host, tenant.clone(), TenantChange::default()).await.expect("a tenant");
        let name = "Contact is\0Created".to_owned();
        let entity_id = Some("5\0 7".to_owned());
        let payload = Bytes::from_static(b"{\0}");
        let new = NewEvent { name: name.clone(), module: Module::Contact, entity_id: entity_id.clone(), payload };
        let accepted = store.accept(tenant.clone(), vec![new], Caps::NONE).await.expect("accepted");
        let filter = EventFilter { name: Some(name), entity_id, limit: 9, ..EventFilter::default() };
        let found = store.events(tenant.clone(), filter).await.expect("events");
        assert_eq!(found.iter().map(|one| (one.id, one.bytes)).collect::<Vec<_>>(), [(accepted[0].event, 3)]);
        let event = store.event(tenant, accepted[0].event).await.expect("the event");
        assert_eq!(event.event.payload.as_ref(), b"{\0}");
    }
}

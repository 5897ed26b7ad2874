//! Lists of events: of a tenant, without payloads; recent ones, for trying plugins; the last ones of subscriptions.
//!
//! Events are listed by id, newest first: ids begin with the time of acceptance and grow. A span is a range of ids as well, as in a
//! replay, so that no row outside of it is read.

use super::Sqlite;
use super::deliveries::{event_row, id_value};
use crate::StoreError;
use crate::backend::deliveries::{EVENTS_SEARCHED, EventBackend, EventFilter, EventSummary, NameCount};
use crate::backend::operator_actions::Span;
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::delivery::DeliveryKind;
use hookloom_model::event::{Event, EventId, Module};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Columns of [`summary`].
const SUMMARY: &str = "SELECT id, name, module, entity_id, received_at_ms, fan_out, length(payload)";

#[async_trait]
impl EventBackend for Sqlite {
    async fn events(&self, tenant: TenantId, filter: EventFilter) -> Result<Vec<EventSummary>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let (sql, values) = query(&tenant, &filter);
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(values), summary)?;
            rows.map(|row| row.map_err(StoreError::from)).collect()
        };
        self.readers.read(owner, read).await
    }

    async fn event_summaries(
        &self,
        tenant: TenantId,
        ids: Vec<EventId>,
    ) -> Result<HashMap<EventId, EventSummary>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let mut statement =
                connection.prepare_cached(&format!("{SUMMARY} FROM events WHERE tenant = ? AND id = ?"))?;
            let mut found = HashMap::new();
            for id in ids {
                match statement.query_row(params![&*tenant.0, id.0], summary).optional().map_err(StoreError::from) {
                    Ok(event) => found.extend(event.map(|event| (id, event))),
                    // The list that shows it has other rows.
                    Err(error) if error.is_damage() => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(found)
        };
        self.readers.read(owner, read).await
    }

    async fn recent_events(
        &self,
        tenant: TenantId,
        modules: Vec<Module>,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let owner = Owner::from(&tenant);
        let names: Vec<&str> = modules.into_iter().map(Module::as_str).collect();
        let modules = serde_json::to_string(&names)?;
        let read = move |connection: &Connection| {
            let sql = "SELECT id, name, module, entity_id, received_at_ms, payload FROM events e WHERE tenant = ?1 AND id IN
                         (SELECT id FROM (SELECT id, module FROM events WHERE tenant = ?1 ORDER BY id DESC LIMIT ?2)
                          WHERE module IN (SELECT value FROM json_each(?3)))
                       AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.tenant = ?1 AND d.event = e.id AND d.kind = ?4)
                       ORDER BY id DESC LIMIT ?5";
            let mut statement = connection.prepare_cached(sql)?;
            let test = DeliveryKind::Test as u8;
            let rows = statement.query_map(params![&*tenant.0, EVENTS_SEARCHED, modules, test, limit], event_row)?;
            rows.map(|row| Ok(Arc::new(row?))).collect()
        };
        self.readers.read(owner, read).await
    }

    async fn last_events_of(
        &self,
        tenant: TenantId,
        subscriptions: Vec<SubscriptionId>,
        limit: usize,
    ) -> Result<Vec<(Arc<Event>, SubscriptionId)>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT e.id, e.name, e.module, e.entity_id, e.received_at_ms, e.payload, d.id
                       FROM deliveries d INDEXED BY deliveries_of_subscription
                       JOIN events e ON e.tenant = d.tenant AND e.id = d.event
                       WHERE d.tenant = ?1 AND d.subscription = ?2 AND d.kind <> ?4 ORDER BY d.id DESC LIMIT ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let mut found = Vec::new();
            for id in subscriptions {
                let rows = statement.query_map(params![&*tenant.0, id.0, limit, DeliveryKind::Test as u8], |row| {
                    Ok((row.get::<_, Uuid>(6)?, Arc::new(event_row(row)?), id))
                })?;
                for row in rows {
                    found.push(row?);
                }
                found.sort_by_key(|(delivery, _, _)| std::cmp::Reverse(*delivery));
                found.truncate(limit);
            }
            Ok(found.into_iter().map(|(_, event, subscription)| (event, subscription)).collect())
        };
        self.readers.read(owner, read).await
    }

    async fn name_counts(&self, tenant: TenantId, limit: usize) -> Result<Vec<NameCount>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT name, COUNT(*), MAX(received_at_ms)
                       FROM (SELECT name, received_at_ms FROM events WHERE tenant = ?1 ORDER BY id DESC LIMIT ?2)
                       GROUP BY name ORDER BY name";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![&*tenant.0, limit], |row| {
                Ok(NameCount { name: row.get(0)?, events: row.get(1)?, last_received_at_ms: row.get(2)? })
            })?;
            rows.map(|row| row.map_err(StoreError::from)).collect()
        };
        self.readers.read(owner, read).await
    }
}

/// Returns the statement of a filter. Absent conditions are left out, so that SQLite can use the index of the others.
fn query(tenant: &TenantId, filter: &EventFilter) -> (String, Vec<Value>) {
    let EventFilter { module, name, entity_id, span, text, before, limit } = filter;
    let (from, to) = span.map(Span::ids).unzip();
    let conditions = [
        ("tenant =", Some(Value::from(tenant.to_string()))),
        ("module =", module.map(|module| module.as_str().to_owned().into())),
        ("name =", name.clone().map(Value::from)),
        ("entity_id =", entity_id.clone().map(Value::from)),
        ("id >=", from.map(id_value)),
        ("id <", to.map(id_value)),
        ("id <", before.map(|id| id_value(id.0))),
    ];
    let (texts, mut values): (Vec<&str>, Vec<Value>) =
        conditions.into_iter().filter_map(|(text, value)| Some((text, value?))).unzip();
    let mut conditions = texts.iter().map(|text| format!("{text} ?")).collect::<Vec<_>>().join(" AND ");
    if entity_id.is_some() && module.is_none() {
        // The index of entities begins with the module.
        let names = Module::ALL.map(|module| format!("'{}'", module.as_str()));
        conditions.extend([" AND module IN (", &names.join(", "), ")"]);
    }
    let limit = Value::from(i64::try_from(*limit).unwrap_or(i64::MAX));
    let sql = match text {
        None => format!("{SUMMARY} FROM events WHERE {conditions} ORDER BY id DESC LIMIT ?"),
        Some(text) => {
            values.push(Value::from(i64::try_from(EVENTS_SEARCHED).unwrap_or(i64::MAX)));
            values.push(Value::from(text.as_bytes().to_vec()));
            format!(
                "{SUMMARY} FROM (SELECT * FROM events WHERE {conditions} ORDER BY id DESC LIMIT ?)
                 WHERE instr(payload, ?) > 0 ORDER BY id DESC LIMIT ?"
            )
        }
    };
    values.push(limit);
    (sql, values)
}

fn summary(row: &Row<'_>) -> rusqlite::Result<EventSummary> {
    let module: String = row.get(2)?;
    let unknown = || rusqlite::Error::InvalidColumnType(2, module.clone(), rusqlite::types::Type::Text);
    Ok(EventSummary {
        id: EventId(row.get(0)?),
        name: row.get(1)?,
        module: Module::parse(&module).ok_or_else(unknown)?,
        entity_id: row.get(3)?,
        received_at_ms: row.get(4)?,
        fan_out: row.get(5)?,
        bytes: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_that_are_absent_are_left_out() {
        let tenant = TenantId::default();
        let (sql, values) = query(&tenant, &EventFilter { limit: 5, ..EventFilter::default() });
        assert!(sql.contains("WHERE tenant = ? ORDER BY") && values.len() == 2, "{sql}");
        let filter = EventFilter {
            module: Some(Module::Deal),
            entity_id: Some("57".into()),
            span: Some(Span { from_ms: 1, to_ms: 2 }),
            ..EventFilter::default()
        };
        let (sql, values) = query(&tenant, &filter);
        assert!(
            sql.contains("WHERE tenant = ? AND module = ? AND entity_id = ? AND id >= ? AND id < ? ORDER"),
            "{sql}"
        );
        assert_eq!(values.len(), 6);
        let of_any_module = EventFilter { module: None, ..filter };
        let (sql, values) = query(&tenant, &of_any_module);
        assert!(sql.contains("module IN ('Contact', 'Deal', 'Subscription', 'Incident') ORDER"), "{sql}");
        assert_eq!(values.len(), 5);
    }
}

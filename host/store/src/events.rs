//! List of a tenant's events, without payloads.
//!
//! Events are listed by id, newest first: ids begin with the time of acceptance and grow. A span is a range of ids as well, as in a
//! replay, so that no row outside of it is read.

use super::fair_queue::Owner;
use super::{Span, Store, StoreError};
use hookloom_model::event::{EventId, Module};
use hookloom_model::subscription::TenantId;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};
use uuid::Uuid;

/// Filter of a listing of events.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only events of this module.
    pub module: Option<Module>,
    /// Only events with this name.
    pub name: Option<String>,
    /// Only events of the entity with this id.
    pub entity_id: Option<String>,
    /// Only events that were accepted in this span.
    pub span: Option<Span>,
    /// Only events older than this one.
    pub before: Option<EventId>,
    /// Maximum number of events.
    pub limit: usize,
}

/// An event in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSummary {
    /// Id of the event.
    pub id: EventId,
    /// The `eventName` of the webhook.
    pub name: String,
    /// Module of the event name.
    pub module: Module,
    /// `eventData.id` as text.
    pub entity_id: Option<String>,
    /// Time of acceptance, in milliseconds since the epoch.
    pub received_at_ms: i64,
    /// Number of deliveries at acceptance.
    pub fan_out: usize,
    /// Size of the payload, in bytes.
    pub bytes: u64,
}

impl Store {
    /// Returns events, newest first.
    pub async fn events(&self, tenant: TenantId, filter: EventFilter) -> Result<Vec<EventSummary>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let (sql, values) = query(&tenant, &filter);
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(values), summary)?;
            rows.map(|row| row.map_err(StoreError::from)).collect()
        };
        self.readers.read(owner, read).await
    }
}

/// Returns the statement of a filter. Absent conditions are left out, so that SQLite can use the index of the others.
fn query(tenant: &TenantId, filter: &EventFilter) -> (String, Vec<Value>) {
    let EventFilter { module, name, entity_id, span, before, limit } = filter;
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
    values.push(Value::from(i64::try_from(*limit).unwrap_or(i64::MAX)));
    let sql = format!(
        "SELECT id, name, module, entity_id, received_at_ms, fan_out, length(payload) FROM events
         WHERE {conditions} ORDER BY id DESC LIMIT ?"
    );
    (sql, values)
}

/// Returns an id as it is stored.
pub(super) fn id_value(id: Uuid) -> Value {
    Value::from(id.as_bytes().to_vec())
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
        assert!(sql.contains("module IN ('Contact', 'Deal', 'Subscription') ORDER"), "{sql}");
        assert_eq!(values.len(), 5);
    }
}

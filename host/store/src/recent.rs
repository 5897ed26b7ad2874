//! Recent events of a tenant, for trying plugins.

use super::deliveries::event_row;
use super::fair_queue::Owner;
use super::{Store, StoreError};
use hookloom_model::delivery::DeliveryKind;
use hookloom_model::event::{Event, Module};
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, params};
use std::sync::Arc;

/// Number of the newest events that are searched, because one module may be rare.
const EVENTS_SEARCHED: u32 = 5_000;

impl Store {
    /// Returns the last events of these modules, newest first, without test events.
    pub async fn recent_events(
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
}

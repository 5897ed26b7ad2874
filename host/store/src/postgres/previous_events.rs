//! Events before new ones of the same contact or deal, for conditions `$changed`.
//!
//! # Guarantees
//! - One query finds those of all new events of a transaction, and only of those that need them.
//! - Events that the transaction accepts are seen by the later ones of it.
//!
//! # Limits
//! Events that another host accepts at the same time are not seen before its commit.

use super::connection::Connection;
use super::deliveries::BEFORE;
use super::rows::{EVENT, event_row, text};
use super::transaction::WriteTx;
use crate::StoreError;
use crate::backend::intake::{IntakeRequest, NewEvent};
use hookloom_model::event::{Event, Module};
use hookloom_model::subscription::TenantId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Contact or deal of a tenant.
type Entity = (TenantId, Module, String);

/// Last event of each contact or deal that a condition asks for.
#[derive(Clone, Default)]
pub(super) struct PreviousEvents {
    asked: HashSet<Entity>,
    latest: HashMap<Entity, Arc<Event>>,
}

impl PreviousEvents {
    /// Reads the last events of those contacts and deals of the requests whose conditions ask for them.
    pub(super) async fn read<'r>(
        tx: &WriteTx,
        requests: impl Iterator<Item = &'r IntakeRequest>,
    ) -> Result<Self, StoreError> {
        let mut asked = HashSet::new();
        for request in requests {
            for (event, receivers) in request.events.iter().zip(&request.receivers.events) {
                if receivers.needs_previous() {
                    asked.extend(entity_of(&request.tenant, event));
                }
            }
        }
        let latest = latest_of(tx, asked.iter().collect()).await?;
        Ok(PreviousEvents { asked, latest })
    }

    /// Returns the event before a new one.
    pub(super) fn of(&self, tenant: &TenantId, new: &NewEvent) -> Option<&Event> {
        if self.asked.is_empty() {
            return None;
        }
        self.latest.get(&entity_of(tenant, new)?).map(|event| &**event)
    }

    /// Adds an event that the transaction accepts.
    pub(super) fn add(&mut self, tenant: &TenantId, event: &Arc<Event>) {
        if self.asked.is_empty() {
            return;
        }
        let Some(entity_id) = event.entity_id.clone() else { return };
        let entity = (tenant.clone(), event.module, entity_id);
        if self.asked.contains(&entity) {
            self.latest.insert(entity, event.clone());
        }
    }
}

fn entity_of(tenant: &TenantId, new: &NewEvent) -> Option<Entity> {
    Some((tenant.clone(), new.module, new.entity_id.clone()?))
}

async fn latest_of(connection: &Connection, asked: Vec<&Entity>) -> Result<HashMap<Entity, Arc<Event>>, StoreError> {
    if asked.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = "SELECT found.id, found.name, found.module, found.entity_id, found.received_at_ms, found.payload, asked.number
               FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS asked (tenant, module, entity_id, number)
               CROSS JOIN LATERAL (
                   SELECT id, name, module, entity_id, received_at_ms, payload FROM events
                   WHERE events.tenant = asked.tenant AND events.entity_id = asked.entity_id AND events.module = asked.module
                   ORDER BY seq DESC LIMIT 1) AS found";
    let tenants: Vec<&str> = asked.iter().map(|(tenant, ..)| &*tenant.0).collect();
    let modules: Vec<&str> = asked.iter().map(|(_, module, _)| module.as_str()).collect();
    let entities: Vec<String> = asked.iter().map(|(.., entity)| text(entity).into_owned()).collect();
    let mut latest = HashMap::new();
    for row in connection.query(sql, &[&tenants, &modules, &entities]).await? {
        let number: i64 = row.try_get(6)?;
        let entity = usize::try_from(number - 1).ok().and_then(|at| asked.get(at));
        if let Some(entity) = entity {
            latest.insert(Entity::clone(entity), Arc::new(event_row(&row)?));
        }
    }
    Ok(latest)
}

/// Returns the last event of the contact or deal of a new event.
pub(super) async fn latest(
    connection: &Connection,
    tenant: &TenantId,
    new: &NewEvent,
) -> Result<Option<Arc<Event>>, StoreError> {
    let Some(entity) = entity_of(tenant, new) else { return Ok(None) };
    Ok(latest_of(connection, vec![&entity]).await?.remove(&entity))
}

/// Returns the event of the same contact or deal before an event.
pub(super) async fn before(
    connection: &Connection,
    tenant: &TenantId,
    event: &Event,
) -> Result<Option<Event>, StoreError> {
    let Some(entity_id) = event.entity_id.as_deref().map(|id| text(id).into_owned()) else { return Ok(None) };
    let sql = format!("SELECT {EVENT} FROM events {BEFORE}");
    let row = connection.query_opt(&sql, &[&&*tenant.0, &event.id.0, &entity_id, &event.module.as_str()]).await?;
    row.map(|row| event_row(&row)).transpose()
}

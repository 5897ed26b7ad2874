//! Row of the store: accepts without HTTP, compared with plain SQLite inserts of the same rows.

use crate::Failure;
use crate::host::event;
use bytes::Bytes;
use hookloom::event::Module;
use hookloom::store::{Actor, Caps, NewEvent, NewSubscription, Store, TenantChange};
use hookloom::subscription::TenantId;
use rusqlite::{Connection, params};
use std::sync::Arc;
use std::time::Instant;
use tempfile::TempDir;

/// Number of concurrent accepts, and of rows in a transaction of the floor.
const WAITING: u64 = 512;

/// Measures accepts per second through `Store::accept`, one event each, for one subscription.
pub(crate) async fn accepts(count: u64, subscription: NewSubscription) -> Result<f64, Failure> {
    let folder = TempDir::new_in("target")?;
    let (store, mut store_events) = Store::open(folder.path())?;
    // The events must be received, or they would accumulate.
    tokio::spawn(async move { while store_events.recv().await.is_some() {} });
    let tenant = TenantId::parse("bench")?;
    store.create_tenant(Actor::Host, tenant.clone(), TenantChange::default()).await?;
    store.create_subscription(Actor::Host, tenant.clone(), subscription).await?;
    let next = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let begun = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..WAITING {
        let store = store.clone();
        let tenant = tenant.clone();
        let next = next.clone();
        waiting.spawn(async move {
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= count {
                    return Ok::<(), hookloom::store::StoreError>(());
                }
                let new = NewEvent {
                    name: "Contact is Created".to_owned(),
                    module: Module::Contact,
                    entity_id: Some(number.to_string()),
                    payload: Bytes::from(event(number)),
                };
                store.accept(tenant.clone(), vec![new], Caps { events: u64::MAX >> 1, bytes: u64::MAX >> 1 }).await?;
            }
        });
    }
    while let Some(done) = waiting.join_next().await {
        done??;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// Measures inserts of the same rows into the same tables and indexes, in transactions of 512.
pub(crate) async fn bare_inserts(count: u64) -> Result<f64, Failure> {
    let folder = TempDir::new_in("target")?;
    drop(Store::open(folder.path())?);
    let mut connection = Connection::open(folder.path().join("hookloom.db"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let begun = Instant::now();
    let subscription = uuid::Uuid::now_v7();
    let mut number = 0;
    while number < count {
        let transaction = connection.transaction()?;
        {
            let mut into_events = transaction.prepare_cached(
                "INSERT INTO events (tenant, id, name, module, entity_id, received_at_ms, payload, fan_out) VALUES ('bench', ?1, 'Contact is Created', 'Contact', ?2, ?3, ?4, 1)",
            )?;
            let mut into_deliveries = transaction.prepare_cached(
                "INSERT INTO deliveries (tenant, id, event, subscription, state, due_at_ms, age_from_ms, created_at_ms, updated_at_ms) VALUES ('bench', ?1, ?2, ?3, 0, 0, 0, 0, 0)",
            )?;
            for _ in 0..WAITING.min(count - number) {
                let id = uuid::Uuid::now_v7();
                let payload = event(number);
                into_events.execute(params![id, number.to_string(), 1_700_000_000_000_i64, payload.as_bytes()])?;
                into_deliveries.execute(params![uuid::Uuid::now_v7(), id, subscription])?;
                number += 1;
            }
        }
        transaction.commit()?;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

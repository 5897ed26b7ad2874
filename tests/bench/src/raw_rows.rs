//! Row of the store on PostgreSQL: accepts and outcomes without HTTP, compared with plain inserts of the same rows.
//!
//! # Theory of operation
//! The floor writes the rows by one connection with one `INSERT` from arrays for each table, [`GROUP`] rows in a transaction, and without the
//! triggers that count. Both flush their commits.

use crate::database::Database;
use crate::host::event;
use crate::{Args, Failure, Goal, Row};
use bytes::Bytes;
use hookloom::delivery::{Attempt, DeliveryState};
use hookloom::event::Module;
use hookloom::retry::Next;
use hookloom::store::{
    Actor, AttemptRecord, Caps, Due, NewEvent, NewSubscription, Store, StoreEvent, StoreLimits, TenantChange,
};
use hookloom::subscription::{LoadedSettings, TenantId};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

/// Number of events in a round.
const EVENTS: usize = 32_768;

/// Number of events that are accepted at once, and whose attempts are recorded at once.
const GROUP: usize = 512;

/// Size of the report of an attempt, in bytes.
const REPORT_BYTES: usize = 945;

const EVENT_ROWS: &str = "INSERT INTO events (tenant, id, name, module, entity_id, received_at_ms, fan_out, payload)
    SELECT 'raw', id, 'Contact is Created', 'Contact', entity_id, 1700000000000, 1, payload
    FROM unnest($1::uuid[], $2::text[], $3::bytea[]) new (id, entity_id, payload)";

const PENDING_ROWS: &str = "INSERT INTO deliveries_pending
    (tenant, id, event, subscription, kind, due_at_ms, state, age_from_ms, created_at_ms, updated_at_ms)
    SELECT 'raw', id, event, $3, 0, 0, 0, 0, 0, 0 FROM unnest($1::uuid[], $2::uuid[]) new (id, event)";

const ENDED_ROWS: &str = "WITH ended AS (DELETE FROM deliveries_pending d USING unnest($1::uuid[], $2::text[]) new (id, detail)
      WHERE d.tenant = 'raw' AND d.id = new.id RETURNING d.*, new.detail)
    INSERT INTO deliveries_ended (tenant, id, event, subscription, kind, order_key, due_at_ms, state, attempts_made, budget_spent,
      age_from_ms, created_at_ms, updated_at_ms, last_attempt)
    SELECT tenant, id, event, subscription, kind, order_key, 0, 1, 1, 1, age_from_ms, created_at_ms, 0, detail FROM ended";

/// Store with a tenant and a subscription.
struct Load {
    store: Arc<Store>,
    tenant: TenantId,
    events: UnboundedReceiver<StoreEvent>,
    next: u64,
}

/// Measures the row.
pub(crate) async fn row(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let database = Database::start().await?;
    let folder = tempfile::TempDir::new_in("target")?;
    let key = folder.path().join("master.key");
    let (store, events) = Store::open_postgres(&database.url(), &key, StoreLimits::default()).await?;
    let tenant = TenantId::parse("bench")?;
    store.create_tenant(Actor::Host, tenant.clone(), TenantChange::default()).await?;
    let settings = serde_json::from_value(json!({"notify_url": "http://127.0.0.1:8000/", "modules": ["Contact"]}))?;
    let new = NewSubscription { settings: LoadedSettings::new(settings, BTreeMap::new())?, signing: Vec::new() };
    store.create_subscription(Actor::Host, tenant.clone(), new).await?;
    let mut load = Load { store, tenant, events, next: 0 };
    let raw = database.connect().await?;
    raw.batch_execute("SET session_replication_role = replica").await?;
    let mut floors = Vec::new();
    let mut figures = Vec::new();
    let mut cpu_s = [0.0; 2];
    // The first round prepares the statements and the files.
    for round in 0..=args.rounds.max(5) {
        let at_first = database.cpu_s();
        let floor = raw_round(&raw).await?;
        let between = database.cpu_s();
        let figure = load.round().await?;
        if round > 0 {
            floors.push(floor);
            figures.push(figure);
            cpu_s[0] += between - at_first;
            cpu_s[1] += database.cpu_s() - between;
        }
    }
    let [of_rows, of_store] = cpu_s.map(|s| s * 1e6 / (EVENTS * figures.len()) as f64);
    Ok(Row {
        name,
        what: "durable accept and outcome at the store on PostgreSQL, 512 waiting; floor: the same rows, 512 a transaction".to_owned(),
        unit: "/s",
        floors,
        figures,
        goal: Goal::AtLeast(0.8),
        also: format!("CPU µs of the server: rows {of_rows:.0}, store {of_store:.0}, {:.2} times", of_store / of_rows),
    })
}

impl Load {
    /// Accepts events and records their attempts, in groups. Returns the rate per second. The attempts of a group are recorded while the
    /// next one is accepted.
    async fn round(&mut self) -> Result<f64, Failure> {
        let begun = Instant::now();
        let mut recorded = JoinSet::new();
        for _ in 0..EVENTS / GROUP {
            let due = self.accept().await?;
            while let Some(done) = recorded.join_next().await {
                done??;
            }
            let store = self.store.clone();
            let success = success()?;
            recorded.spawn(async move { record(&store, due, success).await });
        }
        while let Some(done) = recorded.join_next().await {
            done??;
        }
        Ok(EVENTS as f64 / begun.elapsed().as_secs_f64())
    }

    /// Accepts a group, as requests of one event each, and returns their deliveries.
    async fn accept(&mut self) -> Result<Vec<Due>, Failure> {
        let mut accepted = JoinSet::new();
        for _ in 0..GROUP {
            self.next += 1;
            let new = NewEvent {
                name: "Contact is Created".to_owned(),
                module: Module::Contact,
                entity_id: Some(self.next.to_string()),
                payload: Bytes::from(event(self.next)),
            };
            let store = self.store.clone();
            let tenant = self.tenant.clone();
            accepted.spawn(async move { store.accept(tenant, vec![new], Caps::NONE).await });
        }
        while let Some(done) = accepted.join_next().await {
            done??;
        }
        let mut due = Vec::with_capacity(GROUP);
        while due.len() < GROUP {
            if let StoreEvent::Accepted(new) = self.events.recv().await.ok_or("the store has ended")? {
                due.extend(new.due);
            }
        }
        Ok(due)
    }
}

/// Records at once that deliveries succeeded.
async fn record(store: &Arc<Store>, due: Vec<Due>, success: Arc<AttemptRecord>) -> Result<(), Failure> {
    let mut recorded = JoinSet::new();
    for due in due {
        let store = store.clone();
        let success = success.clone();
        recorded.spawn(async move {
            store.finish(due.claim, success).await.map_err(|unfinished| format!("{unfinished:?}"))
        });
    }
    while let Some(done) = recorded.join_next().await {
        done??;
    }
    Ok(())
}

/// Returns a first attempt that succeeded.
fn success() -> Result<Arc<AttemptRecord>, Failure> {
    let mut attempt = json!({"number": 1, "started_at_ms": 0, "config_generation": 1, "outcome": "delivered", "echoed": false, "log": [""]});
    let short = serde_json::to_string(&serde_json::from_value::<Attempt>(attempt.clone())?)?.len();
    attempt["log"] = json!(["l".repeat(REPORT_BYTES - short)]);
    let attempt: Attempt = serde_json::from_value(attempt)?;
    let next = Next::End { state: DeliveryState::Delivered, reason: None };
    Ok(Arc::new(AttemptRecord { attempt, next, age_end_ms: i64::MAX, disables: None }))
}

/// Writes the rows of a round. Returns the rate per second.
async fn raw_round(connection: &Client) -> Result<f64, Failure> {
    let [events, pending, ended] = [
        connection.prepare(EVENT_ROWS).await?,
        connection.prepare(PENDING_ROWS).await?,
        connection.prepare(ENDED_ROWS).await?,
    ];
    let subscription = Uuid::now_v7();
    let details = vec![serde_json::to_string(&success()?.attempt)?; GROUP];
    let begun = Instant::now();
    for group in 0..EVENTS / GROUP {
        let ids: Vec<Uuid> = (0..GROUP).map(|_| Uuid::now_v7()).collect();
        let deliveries: Vec<Uuid> = (0..GROUP).map(|_| Uuid::now_v7()).collect();
        let entities: Vec<String> = (0..GROUP).map(|number| (group * GROUP + number).to_string()).collect();
        let payloads: Vec<Vec<u8>> = (0..GROUP).map(|number| event(number as u64).into_bytes()).collect();
        connection.batch_execute("BEGIN").await?;
        connection.execute(&events, &[&ids, &entities, &payloads]).await?;
        connection.execute(&pending, &[&deliveries, &ids, &subscription]).await?;
        connection.batch_execute("COMMIT; BEGIN").await?;
        connection.execute(&ended, &[&deliveries, &details]).await?;
        connection.batch_execute("COMMIT").await?;
    }
    Ok(EVENTS as f64 / begun.elapsed().as_secs_f64())
}

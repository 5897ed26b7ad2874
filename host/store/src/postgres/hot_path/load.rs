//! Load on a store: events of one tenant with one subscription, which are accepted and delivered at the first attempt.

use crate::postgres::test_server::TestDatabase;
use crate::{Actor, AttemptRecord, Caps, Due, NewEvent, NewSubscription, Store, StoreEvent, TenantChange};
use bytes::Bytes;
use futures_util::future::join_all;
use hookloom_model::delivery::{Attempt, DeliveryState};
use hookloom_model::event::Module;
use hookloom_model::retry::Next;
use hookloom_model::subscription::{LoadedSettings, TenantId};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// Size of the payload of an event, in bytes.
const PAYLOAD_BYTES: usize = 336;

/// Size of the report of an attempt, in bytes.
const REPORT_BYTES: usize = 945;

/// Store with a tenant and a subscription.
pub(in crate::postgres) struct Load {
    pub(in crate::postgres) store: Arc<Store>,
    pub(in crate::postgres) database: TestDatabase,
    pub(in crate::postgres) tenant: TenantId,
    store_events: UnboundedReceiver<StoreEvent>,
    next_entity: u64,
}

impl Load {
    pub(in crate::postgres) async fn new(database: TestDatabase) -> Self {
        let (store, store_events) = database.open().await;
        let tenant = TenantId("acme-corp".into());
        store.create_tenant(Actor::Host, tenant.clone(), TenantChange::default()).await.expect("a tenant");
        let settings = json!({"notify_url": "http://a.example/", "modules": ["Contact"]});
        let settings = serde_json::from_value(settings).expect("settings");
        let settings = LoadedSettings::new(settings, BTreeMap::new()).expect("a URL");
        let new = NewSubscription { settings, signing: Vec::new() };
        store.create_subscription(Actor::Host, tenant.clone(), new).await.expect("a subscription");
        Load { store, database, tenant, store_events, next_entity: 5_649_050_225_344_512 }
    }

    /// Accepts events at once, as requests of one event each, and returns their deliveries.
    pub(in crate::postgres) async fn accept(&mut self, events: usize) -> Vec<Due> {
        let requests: Vec<NewEvent> = (0..events).map(|_| self.event()).collect();
        let accepted =
            requests.into_iter().map(|event| self.store.accept(self.tenant.clone(), vec![event], Caps::NONE));
        for accepted in join_all(accepted).await {
            accepted.expect("accepted");
        }
        let mut due = Vec::with_capacity(events);
        while due.len() < events {
            if let StoreEvent::Accepted(new) = self.store_events.recv().await.expect("an event") {
                due.extend(new.due);
            }
        }
        due
    }

    fn event(&mut self) -> NewEvent {
        self.next_entity += 1;
        NewEvent {
            name: "Contact is Created".into(),
            module: Module::Contact,
            entity_id: Some(self.next_entity.to_string()),
            payload: Bytes::from(vec![b'x'; PAYLOAD_BYTES]),
        }
    }
}

/// Records at once that deliveries succeeded.
async fn record(store: &Store, due: Vec<Due>) {
    let recorded = due.into_iter().map(|due| store.finish(due.claim, Arc::new(success())));
    for recorded in join_all(recorded).await {
        recorded.expect("recorded");
    }
}

/// Accepts events and records their attempts, in groups. The attempts of a group are recorded while the next one is accepted.
pub(super) async fn accept_and_record(load: &mut Load, events: usize, group: usize) {
    let store = load.store.clone();
    let mut due = load.accept(group).await;
    for _ in 1..events / group {
        let recorded = tokio::spawn({
            let store = store.clone();
            async move { record(&store, due).await }
        });
        due = load.accept(group).await;
        recorded.await.expect("recorded");
    }
    record(&store, due).await;
}

/// Returns a first attempt that succeeded.
fn success() -> AttemptRecord {
    let mut attempt = json!({"number": 1, "started_at_ms": 0, "config_generation": 1, "outcome": "delivered", "echoed": false, "log": [""]});
    let parsed: Attempt = serde_json::from_value(attempt.clone()).expect("an attempt");
    let short = serde_json::to_string(&parsed).expect("a text").len();
    attempt["log"] = json!(["l".repeat(REPORT_BYTES - short)]);
    let attempt: Attempt = serde_json::from_value(attempt).expect("an attempt");
    let next = Next::End { state: DeliveryState::Delivered, reason: None };
    AttemptRecord { attempt, next, age_end_ms: i64::MAX, disables: None }
}

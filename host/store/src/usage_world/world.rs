//! Store with two tenants, and all operations on them.

use super::{CountedRows, SHARE};
use crate::{
    Actor, AttemptClass, AttemptRecord, DeliveryFilter, NewEvent, NewSubscription, Repeatable, Span, StateChange,
    Store, StoreError, TenantChange,
};
use bytes::Bytes;
use hookloom_model::delivery::{Attempt, DeliveryState, Reason};
use hookloom_model::event::Module;
use hookloom_model::retry::Next;
use hookloom_model::subscription::{LoadedSettings, Subscription, TenantId};
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(crate) fn contact(entity: u8, bytes: usize) -> NewEvent {
    NewEvent {
        name: "Contact is Created".into(),
        module: Module::Contact,
        entity_id: (entity > 0).then(|| entity.to_string()),
        // JSON of this size.
        payload: Bytes::from(format!("{:>bytes$}", 1)),
    }
}

/// Author of every operation. Its entries in the log of changes are counted as well.
pub(super) fn actor() -> Actor {
    Actor::Key("test (hlk_1234…)".to_owned())
}

/// Operation on one of the two tenants.
#[derive(Clone, Debug)]
pub(crate) struct WorldStep {
    pub(crate) tenant: u8,
    pub(crate) what: What,
    /// Number that selects an object, and one that is a size.
    pub(crate) pick: usize,
    pub(crate) size: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Accept,
    AcceptOnce,
    Record,
    RetryByHand,
    Cancel,
    GiveUp,
    Redrive,
    Replay,
    Test,
    Subscribe,
    Edit,
    Disable,
    Resume,
    Unsubscribe,
    MakeBin,
    ReceiveInBin,
    EditBin,
    EmptyBin,
    DeleteBin,
    Reject,
    Resubmit,
    Upload,
    AddVersion,
    Rollout,
    EndRollout,
    DeleteVersion,
    DeletePlugin,
    MakeKey,
    RevokeKey,
    MakeToken,
    SignIn,
    Link,
    /// Link to the portal: unused, opened, or ended with all others.
    Portal,
    Note,
    Figures,
    Alert,
    Prune,
}

const ALL: [What; 37] = [
    What::Accept,
    What::AcceptOnce,
    What::Record,
    What::RetryByHand,
    What::Cancel,
    What::GiveUp,
    What::Redrive,
    What::Replay,
    What::Test,
    What::Subscribe,
    What::Edit,
    What::Disable,
    What::Resume,
    What::Unsubscribe,
    What::MakeBin,
    What::ReceiveInBin,
    What::EditBin,
    What::EmptyBin,
    What::DeleteBin,
    What::Reject,
    What::Resubmit,
    What::Upload,
    What::AddVersion,
    What::Rollout,
    What::EndRollout,
    What::DeleteVersion,
    What::DeletePlugin,
    What::MakeKey,
    What::RevokeKey,
    What::MakeToken,
    What::SignIn,
    What::Link,
    What::Portal,
    What::Note,
    What::Figures,
    What::Alert,
    What::Prune,
];

pub(super) fn step() -> impl Strategy<Value = WorldStep> {
    let what = prop_oneof![
        // Frequent operations of a real host are more frequent here.
        1 => prop_oneof![Just(What::Accept), Just(What::AcceptOnce), Just(What::Subscribe)],
        1 => Just(What::Record),
        2 => proptest::sample::select(ALL.to_vec()),
    ];
    (0..2_u8, what, 0..8_usize, 0..3_000_usize).prop_map(|(tenant, what, pick, size)| WorldStep {
        tenant,
        what,
        pick,
        size,
    })
}

pub(crate) struct World {
    pub(crate) store: Arc<Store>,
    rows: Box<dyn CountedRows>,
}

/// Accepts a success or a refusal: both must leave the counters right. Panics on any other error.
pub(super) fn allow<T>(done: Result<T, StoreError>) {
    match done {
        Ok(_)
        | Err(
            StoreError::TenantFull(_)
            | StoreError::NotFound(_)
            | StoreError::Conflict(_)
            | StoreError::InUse { .. }
            | StoreError::KeyReused
            | StoreError::Edited,
        ) => {}
        Err(error) => panic!("{error}: {error:?}"),
    }
}

impl World {
    /// Creates the tenants `t0` and `t1` in a new store, whose share is [`SHARE`] and which has no dispatcher: claims of new deliveries
    /// are released at once.
    pub(crate) async fn new(store: Arc<Store>, rows: impl CountedRows + 'static) -> World {
        for name in ["t0", "t1"] {
            store.create_tenant(Actor::Host, TenantId(name.into()), TenantChange::default()).await.expect("a tenant");
        }
        World::on(store, rows)
    }

    /// Returns the world of a store that has the tenants `t0` and `t1`.
    pub(crate) fn on(store: Arc<Store>, rows: impl CountedRows + 'static) -> World {
        World { store, rows: Box::new(rows) }
    }

    pub(crate) fn subscription(&self, tenant: &TenantId, pick: usize) -> Option<Arc<Subscription>> {
        let all = self.store.catalog().subscriptions(tenant);
        (!all.is_empty()).then(|| all[pick % all.len()].clone())
    }

    /// Panics unless the counters, and the numbers of pending deliveries, equal the stored rows.
    pub(crate) async fn check(&self) {
        self.rows.check(&self.store).await;
        let tenants = self.store.catalog().tenants();
        let counted = tenants.iter().flat_map(|tenant| {
            self.store.pending(&tenant.id).into_iter().map(|(id, count)| ((tenant.id.clone(), id), count))
        });
        assert_eq!(counted.collect::<HashMap<_, _>>(), self.rows.pending(&self.store).await);
    }

    pub(crate) async fn take(&self, step: WorldStep) {
        let WorldStep { tenant, what, pick, size } = step;
        let store = &self.store;
        let tenant = TenantId(format!("t{tenant}").into());
        let events = || vec![contact(u8::try_from(pick).unwrap_or(0), size); pick % 3 + 1];
        match what {
            What::Accept => allow(store.accept(tenant, events(), SHARE).await),
            What::AcceptOnce => {
                let request =
                    Repeatable { key: format!("key {pick}"), body_sha256: [u8::try_from(pick % 2).unwrap_or(0); 32] };
                allow(store.accept_once(request, tenant, events(), SHARE).await);
            }
            What::Record
            | What::RetryByHand
            | What::Cancel
            | What::GiveUp
            | What::Redrive
            | What::Replay
            | What::Test => {
                self.deliver(tenant, what, pick, size).await;
            }
            What::Subscribe | What::Edit | What::Disable | What::Resume | What::Unsubscribe => {
                self.subscribe(tenant, what, pick, size).await;
            }
            What::MakeBin
            | What::ReceiveInBin
            | What::EditBin
            | What::EmptyBin
            | What::DeleteBin
            | What::Reject
            | What::Resubmit => {
                self.receive(tenant, what, pick, size).await;
            }
            What::Upload
            | What::AddVersion
            | What::Rollout
            | What::EndRollout
            | What::DeleteVersion
            | What::DeletePlugin => self.change_plugin(tenant, what, pick, size).await,
            What::Portal => self.visit(tenant, pick, size).await,
            What::MakeKey
            | What::RevokeKey
            | What::MakeToken
            | What::SignIn
            | What::Link
            | What::Note
            | What::Figures
            | What::Alert
            | What::Prune => {
                self.change_records(tenant, what, pick, size).await;
            }
        }
    }

    async fn deliver(&self, tenant: TenantId, what: What, pick: usize, size: usize) {
        let store = &self.store;
        let filter = DeliveryFilter { limit: 100, ..DeliveryFilter::default() };
        let all = store.deliveries(tenant.clone(), filter).await.expect("deliveries");
        let any = (!all.is_empty()).then(|| &all[pick % all.len()]);
        let Some(subscription) = self.subscription(&tenant, pick) else { return };
        let span = Span { from_ms: 0, to_ms: i64::MAX };
        match what {
            What::Record => self.record(&subscription, pick, size).await,
            What::GiveUp => {
                let mut due = store.claim_due(&subscription, AttemptClass::First, 1).await.expect("due").due;
                if let Some(due) = due.pop() {
                    store.give_up(due.claim, Reason::new("test", "x".repeat(size))).await.expect("given up");
                }
            }
            What::RetryByHand | What::Cancel => match any {
                Some(one) if matches!(what, What::Cancel) => allow(store.cancel(actor(), tenant, one.id).await),
                Some(one) => allow(store.retry(actor(), tenant, one.id).await),
                None => {}
            },
            What::Redrive => allow(store.redrive(actor(), &subscription, vec![DeliveryState::Dead], span).await),
            What::Replay => allow(store.replay(actor(), &subscription, span).await),
            _ => allow(store.test(actor(), &subscription, contact(1, size)).await),
        }
    }

    pub(crate) async fn record(&self, subscription: &Subscription, pick: usize, size: usize) {
        let class = if pick < 4 { AttemptClass::Retry } else { AttemptClass::First };
        let due = self.store.claim_due(subscription, class, 3).await.expect("due").due;
        let records = due.into_iter().enumerate().map(|(index, due)| {
            let reason = Reason::new("test", "r".repeat(size / 2));
            let next = match (pick + index) % 6 {
                0 => Next::End { state: DeliveryState::Delivered, reason: None },
                1 => Next::End { state: DeliveryState::Dead, reason: Some(reason) },
                2 => Next::End { state: DeliveryState::Dropped, reason: Some(reason) },
                3 => Next::AwaitPlugin { reason },
                other => Next::Again { at_ms: 0, counts: other == 4, reason },
            };
            let attempt = json!({"number": due.delivery().attempts_made + 1, "started_at_ms": 0, "config_generation": 1,
                "outcome": "delivered", "echoed": false, "log": ["l".repeat(size)]});
            let attempt: Attempt = serde_json::from_value(attempt).expect("an attempt");
            let disables = (pick == 7).then(|| Reason::new("gone", "wants no more"));
            (due.claim, AttemptRecord { attempt, next, age_end_ms: i64::MAX, disables })
        });
        // All at once, so that they share a transaction.
        let recorded = records.map(|(claim, record)| self.store.finish(claim, Arc::new(record)));
        for recorded in futures_util::future::join_all(recorded).await {
            recorded.expect("an outcome is never refused");
        }
    }

    async fn subscribe(&self, tenant: TenantId, what: What, pick: usize, size: usize) {
        let plugin = if pick == 6 { json!("p0") } else { json!([]) };
        let ordering = if pick.is_multiple_of(2) { json!({"on_failure": "block"}) } else { json!(null) };
        let settings = json!({"notify_url": "http://a.example/", "modules": ["Contact", "Subscription"], "plugin": plugin,
            "ordering": ordering, "description": "d".repeat(size)});
        let new = NewSubscription {
            settings: LoadedSettings::new(serde_json::from_value(settings).expect("settings"), BTreeMap::new())
                .expect("a URL"),
            signing: Vec::new(),
        };
        if let What::Subscribe = what {
            allow(self.store.create_subscription(actor(), tenant, new).await);
            return;
        }
        let Some(old) = self.subscription(&tenant, pick) else { return };
        match what {
            What::Edit => allow(self.store.update_subscription(actor(), &old, new).await),
            What::Disable => {
                self.set_state(
                    &old,
                    StateChange::Disable { reason: Reason::new("test", "s".repeat(size)), generation: None },
                )
                .await;
            }
            What::Resume => self.set_state(&old, StateChange::Resume).await,
            _ => allow(self.store.delete_subscription(actor(), &tenant, old.id).await),
        }
    }

    async fn set_state(&self, of: &Subscription, change: StateChange) {
        allow(self.store.set_subscription_state(actor(), &of.tenant, of.id, change).await);
    }
}

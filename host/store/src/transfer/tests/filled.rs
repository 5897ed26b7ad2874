//! Stores on SQLite that are moved, with what they answer before.

use super::answers::{Answers, answers, claims};
use crate::usage_world::{CountedRows, SHARE, What, World, WorldStep};
use crate::{Actor, NewSubscription, Quarantine, Store, StoreLimits};
use async_trait::async_trait;
use hookloom_model::signature::{SigningKey, SigningSecret};
use hookloom_model::subscription::{LoadedSettings, SubscriptionId, TenantId};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tempfile::TempDir;

/// Folder of a closed store.
pub(super) struct Filled {
    pub(super) folder: TempDir,
    /// Answers of the store.
    pub(super) before: Answers,
    /// Deliveries that could be claimed.
    pub(super) claimed: Vec<String>,
    /// Hash of a tenant's key.
    pub(super) key_hash: [u8; 32],
}

/// Operations that write rows of nearly every table.
pub(super) const FILLING: [(What, usize, usize); 29] = [
    (What::Upload, 0, 0),
    (What::AddVersion, 2, 0),
    (What::Rollout, 2, 20),
    (What::Subscribe, 1, 20),
    (What::Subscribe, 2, 20),
    (What::Subscribe, 6, 20),
    (What::Accept, 2, 50),
    (What::AcceptOnce, 4, 50),
    (What::Accept, 7, 50),
    (What::Record, 4, 100),
    (What::Record, 5, 100),
    (What::Record, 1, 100),
    (What::GiveUp, 0, 20),
    (What::Cancel, 3, 0),
    (What::Replay, 1, 0),
    (What::Test, 0, 30),
    (What::MakeBin, 3, 0),
    (What::ReceiveInBin, 3, 80),
    (What::Reject, 0, 60),
    (What::MakeKey, 2, 0),
    (What::MakeToken, 2, 0),
    (What::SignIn, 0, 0),
    (What::Link, 0, 0),
    (What::Portal, 0, 60),
    (What::Portal, 1, 0),
    (What::Note, 1, 10),
    (What::Figures, 2, 900),
    (What::Alert, 2, 40),
    (What::Disable, 1, 10),
];

/// A request whose deliveries are not made yet, a change whose effect is not complete, and a readiness check.
const UNDER_WAY: &str = "
    INSERT INTO events (tenant, id, name, module, entity_id, received_at_ms, fan_out, payload)
    VALUES ('t0', x'019900000000700080000000000000aa', 'Contact is Created', 'Contact', '7', 1755000000000, 2, x'7b7d');
    UPDATE ledgers SET events_kept = events_kept + 1, bytes_kept = bytes_kept + 2, bytes_of_events = bytes_of_events + 181
    WHERE tenant = 't0';
    INSERT INTO fan_outs (tenant, id, events, after, made, lacks)
    VALUES ('t0', x'019900000000700080000000000000ab', x'019900000000700080000000000000aa', x'', 0, 2);
    INSERT INTO sweeps (tenant, plugin, subscription, at_ms) VALUES ('t0', 'p0', x'', 5);";

/// Rows that are not counted here.
struct NoRows;

#[async_trait]
impl CountedRows for NoRows {
    async fn check(&self, _: &Store) {}

    async fn pending(&self, _: &Store) -> HashMap<(TenantId, SubscriptionId), u64> {
        HashMap::new()
    }
}

fn open(folder: &TempDir) -> Arc<Store> {
    let limits = StoreLimits { share: SHARE, ..StoreLimits::default() };
    Store::open_with(folder.path(), limits).expect("a store").0
}

async fn new_world(folder: &TempDir) -> World {
    World::new(open(folder), NoRows).await
}

/// Opens a filled store again.
pub(super) fn in_use(folder: &TempDir) -> World {
    World::on(open(folder), NoRows)
}

/// Returns a store with rows in every table that is copied.
pub(super) async fn filled_folder() -> Filled {
    let folder = tempfile::tempdir().expect("a folder");
    let world = new_world(&folder).await;
    let store = world.store.clone();
    for tenant in [0, 1] {
        for (what, pick, size) in FILLING {
            world.take(WorldStep { tenant, what, pick, size }).await;
        }
    }
    let tenant = TenantId("t0".into());
    let settings = json!({"notify_url": "http://a.example/", "modules": ["Contact"]});
    let secrets = BTreeMap::from([("token".to_owned(), b"s3cret".to_vec().into())]);
    let new = NewSubscription {
        settings: LoadedSettings::new(serde_json::from_value(settings).expect("settings"), secrets).expect("a URL"),
        signing: vec![SigningKey::current(SigningSecret::generate())],
    };
    store.create_subscription(Actor::Host, tenant.clone(), new).await.expect("a subscription");
    store.note_plugin_file(tenant.clone(), "p0".into(), "a".repeat(64)).await.expect("noted");
    let quarantine =
        Quarantine { tenant: tenant.clone(), sha256: "b".repeat(64), since_ms: 9, reason: "the host died".into() };
    store.quarantine(quarantine).await.expect("quarantined");
    store.create_key(Actor::Host, None, Vec::new(), "an admin".into()).await.expect("an admin key");
    let (_, key) = store.create_key(Actor::Host, Some(tenant), Vec::new(), "a key".into()).await.expect("a key");
    store.sqlite().execute_batch(UNDER_WAY).await;
    store.check().await.expect("ready");
    let key_hash = Sha256::digest(key).into();
    assert!(store.catalog().key(&key_hash).is_some());
    finished(folder, world, key_hash).await
}

/// Returns a store after these operations.
pub(super) async fn folder_after(steps: Vec<WorldStep>) -> Filled {
    let folder = tempfile::tempdir().expect("a folder");
    let world = new_world(&folder).await;
    for step in steps {
        world.take(step).await;
    }
    finished(folder, world, [0; 32]).await
}

/// Closes the store, after its answers.
pub(super) async fn finished(folder: TempDir, world: World, key_hash: [u8; 32]) -> Filled {
    let before = answers(&world.store).await;
    let claimed = claims(&world.store).await;
    Filled { folder, before, claimed, key_hash }
}

//! Tests that a deletion is bounded, that the remaining versions are out of reach, and that their components go last.

use super::*;
use crate::postgres::test_server::TestDatabase;
use crate::{PluginVersion, Store, StoreEvent, TenantChange};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// Number of versions: more than one deletion removes.
const MANY: usize = 200;

/// Store with a tenant.
struct World {
    store: Arc<Store>,
    beside: Connection,
    _store_events: UnboundedReceiver<StoreEvent>,
    /// Dropped last.
    _database: TestDatabase,
}

fn tenant() -> TenantId {
    TenantId("t".into())
}

fn version(number: usize, size: u64) -> PluginVersion {
    PluginVersion::example(format!("{number:064}"), size)
}

impl World {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let (store, _store_events) = database.open().await;
        store.create_tenant(Actor::Host, tenant(), TenantChange::default()).await.expect("a tenant");
        let beside = database.connect().await;
        World { store, beside, _store_events, _database: database }
    }

    async fn activate(&self, version: PluginVersion) -> Result<(), StoreError> {
        let component = Bytes::from_static(b"x");
        self.store.activate_plugin(Actor::Host, tenant(), "p".into(), version, component, || ()).await
    }

    async fn delete_plugin(&self) {
        self.store.delete_plugin(Actor::Key("k".into()), tenant(), "p".into(), || ()).await.expect("deleted");
    }

    /// Runs steps until no discarded version is left, and returns their number.
    async fn steps(&self) -> usize {
        let mut steps = 0;
        while !self.store.backend.delete_discarded_versions().await.expect("a step").done {
            steps += 1;
        }
        steps
    }

    async fn count(&self, sql: &str) -> usize {
        number(&self.beside.query_one(sql, &[]).await.expect("a count"), 0).expect("a number")
    }
}

#[tokio::test]
async fn versions_of_a_deleted_plugin_are_out_of_reach_and_go_in_steps() {
    let world = World::new().await;
    for number in 0..MANY {
        world.activate(version(number, 1)).await.expect("active");
    }
    world.delete_plugin().await;
    let left = "SELECT count(*) FROM plugin_versions WHERE name = 'p'";
    assert_eq!(world.count(left).await, MANY - DISCARDED);
    for number in 0..MANY {
        let sha256 = version(number, 1).sha256;
        assert!(!world.store.has_version(tenant(), "p".into(), sha256.clone()).await.expect("a look"));
        assert!(world.store.activate_version(Actor::Host, tenant(), "p".into(), sha256, || ()).await.is_err());
    }
    let again = world.activate(version(0, 1)).await;
    assert!(matches!(&again, Err(StoreError::Conflict(what)) if what.contains("try again")), "{again:?}");
    assert_eq!(world.steps().await, MANY.div_ceil(DISCARDED));
    assert_eq!(world.count("SELECT count(*) FROM plugin_versions").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM components").await, 0);
    world.activate(version(0, 1)).await.expect("the name is free");
    let entries = world.store.changes(Some(tenant()), None, 9).await.expect("changes").0;
    let before = entries[0].before.as_ref().expect("a state");
    let newest_first: Vec<String> = (0..MANY).rev().map(|number| version(number, 1).sha256).collect();
    assert_eq!(before["versions"], serde_json::json!(newest_first));
}

#[tokio::test]
async fn a_step_deletes_few_large_components() {
    let world = World::new().await;
    for number in 0..3 {
        world.activate(version(number, STEP_BYTES * 2 / 3)).await.expect("active");
    }
    world.delete_plugin().await;
    assert_eq!(world.steps().await, 3, "two of them are too large for a step");
    assert_eq!(world.count("SELECT count(*) FROM plugin_versions").await, 0);
}

#[tokio::test]
async fn a_late_step_spares_a_plugin_that_came_meanwhile() {
    let world = World::new().await;
    world.activate(version(0, 1)).await.expect("active");
    let backend: &dyn std::any::Any = &*world.store.backend;
    let postgres: &Postgres = backend.downcast_ref().expect("a store on PostgreSQL");
    let versions = vec![VersionKey { tenant: tenant(), name: "p".into(), sha256: version(0, 1).sha256 }];
    postgres
        .write(Owner::Host, move |tx| Box::pin(async move { delete_versions(tx, &versions).await }))
        .await
        .expect("a step");
    assert_eq!(world.count("SELECT count(*) FROM plugin_versions").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM components").await, 1);
}

//! Counts of several hosts. The rows of another host are written beside the store.

use super::*;
use crate::postgres::test_server::TestDatabase;
use crate::{PluginVersion, Store, StoreEvent, TenantChange};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// Store with a plugin whose canary is under way.
struct CanaryOfHosts {
    store: Arc<Store>,
    /// Connection of another host.
    elsewhere: Connection,
    _store_events: UnboundedReceiver<StoreEvent>,
    /// Dropped last.
    _database: TestDatabase,
}

fn tenant() -> TenantId {
    TenantId("t".into())
}

fn canary() -> StoredRollout {
    StoredRollout {
        tenant: tenant(),
        name: "p".into(),
        kind: RolloutKind::Canary,
        sha256: "a".repeat(64),
        percent: 10.0,
        started_at_ms: 1,
        earlier: Vec::new(),
        ended_reason: None,
        counts: "begun".into(),
        counts_elsewhere: Vec::new(),
    }
}

impl CanaryOfHosts {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let (store, _store_events) = database.open().await;
        store.create_tenant(Actor::Host, tenant(), TenantChange::default()).await.expect("a tenant");
        let version = PluginVersion::example(canary().sha256, 1);
        let component = Bytes::from_static(b"x");
        let uploaded = store.activate_plugin(Actor::Host, tenant(), "p".into(), version, component, || ());
        uploaded.await.expect("active");
        store.begin_rollout(Actor::Host, canary(), || ()).await.expect("begun");
        let elsewhere = database.connect().await;
        elsewhere.batch_execute("SET hookloom.host = '7'").await.expect("set");
        CanaryOfHosts { store, elsewhere, _store_events, _database: database }
    }

    /// Stores counts as the other host.
    async fn count_elsewhere(&self, counts: &str) {
        let sql = format!(
            "INSERT INTO rollout_counts SELECT 't', 'p', {OF_CONNECTION}, $1::text
             ON CONFLICT (tenant, name, host) DO UPDATE SET counts = EXCLUDED.counts"
        );
        self.elsewhere.execute(&sql, &[&counts]).await.expect("counted");
    }

    /// Returns the counts of this host and of the other, as this host reads them.
    async fn counts(&self) -> (String, Vec<String>) {
        let mut rollouts = self.store.rollouts().await.expect("rollouts");
        let StoredRollout { counts, counts_elsewhere, .. } = rollouts.remove(0);
        (counts, counts_elsewhere)
    }
}

fn counts(own: &str, elsewhere: &[&str]) -> (String, Vec<String>) {
    (own.into(), elsewhere.iter().map(|&counts| counts.into()).collect())
}

#[tokio::test]
async fn each_host_has_its_own_counts() {
    let hosts = CanaryOfHosts::new().await;
    hosts.count_elsewhere("elsewhere").await;
    hosts.store.note_rollout_counts(canary().id(), "here".into()).await.expect("noted");
    assert_eq!(hosts.counts().await, counts("here", &["elsewhere"]));
    let of_others = hosts.store.rollout_counts_elsewhere().await.expect("counts");
    assert_eq!(of_others, [CountsElsewhere { id: canary().id(), counts: vec!["elsewhere".into()] }]);
    let of_the_other = read_rollouts(&hosts.elsewhere, None).await.expect("rollouts").remove(0);
    assert_eq!((of_the_other.counts, of_the_other.counts_elsewhere), counts("elsewhere", &["here"]));
    let ended = hosts.store.end_rollout(Actor::Host, canary().id(), "ended".into(), Some("last".into()), || ());
    ended.await.expect("ended");
    assert_eq!(hosts.counts().await, counts("last", &["elsewhere"]), "an ended rollout has the counts of all hosts");
}

#[tokio::test]
async fn another_percentage_keeps_the_counts_of_other_hosts_and_another_rollout_does_not() {
    let hosts = CanaryOfHosts::new().await;
    hosts.count_elsewhere("elsewhere").await;
    let more = StoredRollout { started_at_ms: 2, percent: 50.0, ..canary() }.after(&canary());
    hosts.store.begin_rollout(Actor::Host, more.clone(), || ()).await.expect("begun");
    assert_eq!(hosts.counts().await, counts("begun", &["elsewhere"]));
    hosts.store.begin_rollout(Actor::Host, StoredRollout { started_at_ms: 3, ..canary() }, || ()).await.expect("begun");
    assert_eq!(hosts.counts().await, counts("begun", &[]), "the same version, from the beginning");
    hosts.count_elsewhere("elsewhere").await;
    let late = StoredRollout { started_at_ms: 4, ..canary() }.after(&more);
    hosts.store.begin_rollout(Actor::Host, late, || ()).await.expect("begun");
    assert_eq!(hosts.counts().await, counts("begun", &[]), "it continues a rollout that is over");
}

#[tokio::test]
async fn the_counts_of_all_hosts_go_with_the_plugin() {
    let hosts = CanaryOfHosts::new().await;
    hosts.count_elsewhere("elsewhere").await;
    hosts.store.delete_plugin(Actor::Host, tenant(), "p".into(), || ()).await.expect("deleted");
    assert!(!hosts.elsewhere.exists("SELECT 1 FROM rollout_counts", &[]).await.expect("a look"));
}

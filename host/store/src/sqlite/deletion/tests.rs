//! Tests that the first write of a deletion is bounded, and that the remaining rows are unreachable and deleted in steps.

use super::*;
use crate::{PluginVersion, Store, TenantChange};
use bytes::Bytes;
use hookloom_model::access::{Scope, credential_hash};
use std::path::Path;
use std::sync::Arc;

/// Number of rows: more than one step deletes.
const MANY: usize = 200;

fn tenant() -> TenantId {
    TenantId("t".into())
}

async fn with_tenant(folder: &Path) -> Arc<Store> {
    let (store, _store_events) = Store::open(folder).expect("a store");
    store.create_tenant(Actor::Host, tenant(), TenantChange::default()).await.expect("a tenant");
    store
}

async fn count(store: &Store, sql: &'static str) -> usize {
    let read = move |connection: &Connection| Ok(connection.query_row(sql, [], |row| row.get(0))?);
    store.sqlite().readers.read(Owner::Host, read).await.expect("a count")
}

#[tokio::test]
async fn keys_of_a_deleted_tenant_answer_nothing_before_and_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = with_tenant(folder.path()).await;
    let mut texts = Vec::new();
    for _ in 0..MANY {
        let (key, text) =
            store.create_key(Actor::Host, Some(tenant()), vec![Scope::Read], "k".into()).await.expect("a key");
        store.sign_in(Arc::new(key), [127, 0, 0, 1].into()).await.expect("signed in");
        store.create_token(Actor::Host, tenant(), "t".into()).await.expect("a token");
        texts.push(text);
    }
    let contents = store.tenant_contents(tenant()).await.expect("its contents");
    store.delete_tenant(Actor::Host, tenant(), contents, || ()).await.expect("deleted");
    // The first write left all of them, and no request finds them.
    assert_eq!(count(&store, "SELECT COUNT(*) FROM keys WHERE tenant = 't'").await, MANY);
    let is_known = |store: &Store| texts.iter().any(|text| store.catalog().key(&credential_hash(text)).is_some());
    assert!(!is_known(&store));
    drop(store);
    let (store, _store_events) = Store::open(folder.path()).expect("a restart");
    assert!(!is_known(&store) && store.catalog().keys(Some(&tenant())).is_empty());
    store.delete_discarded().await.expect("the rest is deleted");
    let left = "SELECT (SELECT COUNT(*) FROM keys WHERE tenant = 't') + (SELECT COUNT(*) FROM sessions)
                + (SELECT COUNT(*) FROM intake_tokens) + (SELECT COUNT(*) FROM tenants WHERE id = 't')";
    assert_eq!(count(&store, left).await, 0);
}

#[tokio::test]
async fn versions_of_a_deleted_plugin_are_out_of_reach_and_go_one_by_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = with_tenant(folder.path()).await;
    let activate = async |number: usize| {
        store.activate_plugin(Actor::Host, tenant(), "p".into(), version(number), Bytes::from_static(b"x"), || ()).await
    };
    for number in 0..MANY {
        activate(number).await.expect("active");
    }
    store.delete_plugin(Actor::Host, tenant(), "p".into(), || ()).await.expect("deleted");
    let left = "SELECT COUNT(*) FROM plugin_versions WHERE name = 'p'";
    assert_eq!(count(&store, left).await, MANY - DISCARDED);
    for number in 0..MANY {
        let sha256 = version(number).sha256;
        assert!(!store.has_version(tenant(), "p".into(), sha256.clone()).await.expect("a look"));
        assert!(store.activate_version(Actor::Host, tenant(), "p".into(), sha256, || ()).await.is_err());
    }
    let again = activate(0).await;
    assert!(matches!(&again, Err(StoreError::Conflict(what)) if what.contains("try again")), "{again:?}");
    store.delete_discarded().await.expect("deleted");
    assert_eq!(count(&store, "SELECT COUNT(*) FROM plugin_versions").await, 0);
    assert_eq!(count(&store, "SELECT COUNT(*) FROM components").await, 0);
    activate(0).await.expect("the name is free");
}

fn version(number: usize) -> PluginVersion {
    PluginVersion::example(format!("{number:064}"), 1)
}

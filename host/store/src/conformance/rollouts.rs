//! Rollouts and quarantine of plugin versions.

use super::test_store::{TestStore, tenant};
use super::test_values::{component, operator, version};
use crate::{Halt, Quarantine, RolloutId, RolloutKind, StoreError, StoredRollout, TAKEN_BACK, TenantPlugins};
use hookloom_model::subscription::TenantId;

conformance! {
    a_rollout_replaces_the_previous_one,
    a_rollout_ends_once,
    the_end_of_a_replaced_rollout_changes_nothing,
    an_activation_ends_the_rollout,
    a_version_in_a_rollout_is_not_deleted,
    a_rollout_needs_its_version,
    the_counts_of_a_host_are_its_own,
    a_version_is_quarantined_until_its_release,
    the_plugins_of_a_tenant_are_read_together,
    versions_that_were_halted_are_listed,
}

/// Uploads the versions `a`, which is active, and `b`.
async fn with_versions(store: &TestStore) {
    let uploaded = store.activate_plugin(operator(), tenant(), "p".into(), version("a"), component("a"), || ());
    uploaded.await.expect("active");
    store.add_version(operator(), tenant(), "p".into(), version("b"), component("b")).await.expect("added");
}

fn rollout(kind: RolloutKind, text: &'static str) -> StoredRollout {
    StoredRollout {
        tenant: tenant(),
        name: "p".into(),
        kind,
        sha256: version(text).sha256,
        percent: 12.5,
        started_at_ms: 7,
        earlier: vec![(3, 1.0), (5, 2.5)],
        ended_reason: None,
        counts: "counts".into(),
        counts_elsewhere: Vec::new(),
    }
}

async fn only(store: &TestStore) -> StoredRollout {
    let mut rollouts = store.rollouts().await.expect("rollouts");
    assert_eq!(rollouts.len(), 1);
    rollouts.remove(0)
}

/// Ends the rollout of the version `b`.
async fn end(store: &TestStore, reason: &str, counts: Option<&str>) {
    end_of(store, rollout(RolloutKind::Canary, "b").id(), reason, counts).await;
}

async fn end_of(store: &TestStore, id: RolloutId, reason: &str, counts: Option<&str>) {
    let ended = store.end_rollout(operator(), id, reason.into(), counts.map(str::to_owned), || ());
    ended.await.expect("ended");
}

async fn a_rollout_replaces_the_previous_one(store: &mut TestStore) {
    with_versions(store).await;
    store.begin_rollout(operator(), rollout(RolloutKind::Shadow, "b"), || ()).await.expect("begun");
    let canary = rollout(RolloutKind::Canary, "b");
    store
        .begin_rollout(operator(), StoredRollout { ended_reason: Some("x".into()), ..canary }, || ())
        .await
        .expect("begun");
    store.reopen().await;
    let found = only(store).await;
    assert_eq!((found.kind, found.percent, found.started_at_ms), (RolloutKind::Canary, 12.5, 7));
    assert_eq!((found.earlier, found.ended_reason), (vec![(3, 1.0), (5, 2.5)], None));
    assert_eq!((found.sha256, &*found.counts), (version("b").sha256, "counts"));
}

async fn a_rollout_ends_once(store: &mut TestStore) {
    with_versions(store).await;
    store.begin_rollout(operator(), rollout(RolloutKind::Canary, "b"), || ()).await.expect("begun");
    let note = async |text: &'static str, counts: &str| {
        let noted = store.note_rollout_counts(rollout(RolloutKind::Canary, text).id(), counts.into());
        noted.await.expect("noted");
    };
    note("b", "more").await;
    note("a", "of another version").await;
    assert_eq!(only(store).await.counts, "more");
    end(store, "first", None).await;
    end(store, "second", Some("late")).await;
    note("b", "later").await;
    let found = only(store).await;
    assert_eq!((found.ended_reason.as_deref(), &*found.counts), (Some("first"), "more"));
    store.begin_rollout(operator(), rollout(RolloutKind::Canary, "b"), || ()).await.expect("begun again");
    end(store, "third", Some("last")).await;
    let found = only(store).await;
    assert_eq!((found.ended_reason.as_deref(), &*found.counts), (Some("third"), "last"));
    let entries = store.changes(Some(tenant()), None, 99).await.expect("changes").0;
    let ends = entries.iter().filter(|one| one.action == "plugin.end-rollout").count();
    assert_eq!(ends, 2, "a rollout that has ended does not end again");
}

async fn the_end_of_a_replaced_rollout_changes_nothing(store: &mut TestStore) {
    with_versions(store).await;
    let first = rollout(RolloutKind::Canary, "b");
    store.begin_rollout(operator(), first.clone(), || ()).await.expect("begun");
    let replacements = [
        StoredRollout { started_at_ms: 8, ..first.clone() },
        StoredRollout { started_at_ms: 9, kind: RolloutKind::Shadow, ..first.clone() },
        rollout(RolloutKind::Canary, "a"),
    ];
    let mut ended = first;
    for replacement in replacements {
        store.begin_rollout(operator(), replacement.clone(), || ()).await.expect("begun");
        end_of(store, ended.id(), "late", Some("late")).await;
        store.note_rollout_counts(ended.id(), "late".into()).await.expect("noted");
        let found = only(store).await;
        assert_eq!((found.id(), found.ended_reason, &*found.counts), (replacement.id(), None, "counts"));
        ended = replacement;
    }
    let entries = store.changes(Some(tenant()), None, 99).await.expect("changes").0;
    assert!(entries.iter().all(|one| one.action != "plugin.end-rollout"), "no entry says that a rollout ended");
    end_of(store, ended.id(), "in time", Some("last")).await;
    let found = only(store).await;
    assert_eq!((found.ended_reason.as_deref(), &*found.counts), (Some("in time"), "last"));
}

async fn an_activation_ends_the_rollout(store: &mut TestStore) {
    with_versions(store).await;
    store.begin_rollout(operator(), rollout(RolloutKind::Canary, "b"), || ()).await.expect("begun");
    store.activate_version(operator(), tenant(), "p".into(), version("b").sha256, || ()).await.expect("active");
    assert!(only(store).await.ended_reason.is_some());
    end(store, "late", None).await;
    assert_ne!(only(store).await.ended_reason.as_deref(), Some("late"));
}

async fn the_counts_of_a_host_are_its_own(store: &mut TestStore) {
    with_versions(store).await;
    let first = rollout(RolloutKind::Canary, "b");
    let foreign = StoredRollout { counts_elsewhere: vec!["not of this host".into()], ..first.clone() };
    store.begin_rollout(operator(), foreign, || ()).await.expect("begun");
    store.note_rollout_counts(first.id(), "noted".into()).await.expect("noted");
    let next = StoredRollout { started_at_ms: 8, counts: "continued".into(), ..first.clone() }.after(&first);
    for expected in ["noted", "continued"] {
        store.reopen().await;
        let found = only(store).await;
        assert_eq!((&*found.counts, &found.counts_elsewhere), (expected, &Vec::new()), "there is no other host");
        let elsewhere = store.rollout_counts_elsewhere().await.expect("counts");
        assert!(elsewhere.iter().all(|one| one.id == found.id() && one.counts.is_empty()), "{elsewhere:?}");
        store.begin_rollout(operator(), next.clone(), || ()).await.expect("begun");
    }
    end_of(store, next.id(), "ended", None).await;
    assert_eq!(only(store).await.counts, "continued");
    assert!(store.rollout_counts_elsewhere().await.expect("counts").is_empty(), "no rollout is under way");
}

async fn a_version_in_a_rollout_is_not_deleted(store: &mut TestStore) {
    with_versions(store).await;
    let b = version("b").sha256;
    store.begin_rollout(operator(), rollout(RolloutKind::Shadow, "b"), || ()).await.expect("begun");
    let refused = store.delete_version(operator(), tenant(), "p".into(), b.clone()).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    end(store, "ended", None).await;
    store.delete_version(operator(), tenant(), "p".into(), b).await.expect("deleted");
    store.delete_plugin(operator(), tenant(), "p".into(), || ()).await.expect("deleted");
    assert!(store.rollouts().await.expect("rollouts").is_empty(), "the rollouts of a deleted plugin are deleted");
}

async fn a_rollout_needs_its_version(store: &mut TestStore) {
    with_versions(store).await;
    let refused = store.begin_rollout(operator(), rollout(RolloutKind::Canary, "c"), || ()).await;
    assert!(matches!(refused, Err(StoreError::NotFound(_))), "{refused:?}");
    assert!(store.rollouts().await.expect("rollouts").is_empty());
    end(store, "there is none", None).await;
}

async fn a_version_is_quarantined_until_its_release(store: &mut TestStore) {
    let sha256 = version("a").sha256;
    let new = Quarantine { tenant: tenant(), sha256: sha256.clone(), since_ms: 5, reason: "it traps".into() };
    store.quarantine(new.clone()).await.expect("quarantined");
    store.quarantine(Quarantine { since_ms: 9, reason: "again".into(), ..new }).await.expect("no change");
    store.reopen().await;
    let found = store.quarantined().await.expect("quarantined versions");
    assert_eq!((found.len(), &found[0].sha256, found[0].since_ms), (1, &sha256, 5));
    assert_eq!((&*found[0].reason, &found[0].tenant), ("it traps", &tenant()));
    store.release(tenant(), version("b").sha256).await.expect("nothing to release");
    assert_eq!(store.quarantined().await.expect("quarantined versions").len(), 1);
    store.release(tenant(), sha256).await.expect("released");
    assert!(store.quarantined().await.expect("quarantined versions").is_empty());
}

async fn the_plugins_of_a_tenant_are_read_together(store: &mut TestStore) {
    with_versions(store).await;
    let foreign = store.add_tenant("u").await;
    let uploaded = store.activate_plugin(operator(), foreign.clone(), "q".into(), version("a"), component("a"), || ());
    uploaded.await.expect("active");
    store.begin_rollout(operator(), rollout(RolloutKind::Canary, "b"), || ()).await.expect("begun");
    for owner in [tenant(), foreign.clone()] {
        let new = Quarantine { tenant: owner, sha256: version("b").sha256, since_ms: 5, reason: "it traps".into() };
        store.quarantine(new).await.expect("quarantined");
    }
    let counts = async |of: &TenantId| {
        let TenantPlugins { active, rollouts, quarantined } = store.tenant_plugins(of.clone()).await.expect("plugins");
        let owners = active.iter().map(|one| &one.tenant).chain(rollouts.iter().map(|one| &one.tenant));
        assert!(owners.chain(quarantined.iter().map(|one| &one.tenant)).all(|owner| owner == of));
        (active.len(), rollouts.len(), quarantined.len())
    };
    assert_eq!((counts(&tenant()).await, counts(&foreign).await), ((1, 1, 1), (1, 0, 1)));
    let found = store.tenant_plugins(tenant()).await.expect("plugins");
    assert_eq!((&found.active[0].sha256, &found.rollouts[0].sha256), (&version("a").sha256, &version("b").sha256));
    let contents = store.tenant_contents(tenant()).await.expect("contents");
    store.delete_tenant(operator(), tenant(), contents, || ()).await.expect("deleted");
    assert_eq!((counts(&tenant()).await, counts(&foreign).await), ((0, 0, 0), (1, 0, 1)));
    assert_eq!(counts(&TenantId("unknown".into())).await, (0, 0, 0));
}

/// Returns kind, version and reason of what was halted since a time.
async fn halted(store: &TestStore, of: TenantId, since_ms: i64) -> Vec<(Halt, String, String)> {
    let found = store.halted_versions(of, since_ms).await.expect("versions");
    assert!(found.iter().all(|one| one.name == "p"));
    found.into_iter().map(|one| (one.halt, one.sha256, one.reason)).collect()
}

async fn versions_that_were_halted_are_listed(store: &mut TestStore) {
    with_versions(store).await;
    let foreign = store.add_tenant("u").await;
    let canary = rollout(RolloutKind::Canary, "b");
    store.begin_rollout(operator(), canary.clone(), || ()).await.expect("begun");
    assert!(halted(store, tenant(), 0).await.is_empty(), "it is under way");
    end(store, "ended manually", None).await;
    assert!(halted(store, tenant(), 0).await.is_empty(), "somebody wanted it");
    store.begin_rollout(operator(), canary, || ()).await.expect("begun");
    let reason = format!("{TAKEN_BACK}it faults");
    end(store, &reason, None).await;
    let back = (Halt::TakenBack, version("b").sha256, reason);
    assert_eq!(halted(store, tenant(), 7).await, std::slice::from_ref(&back));
    assert!(halted(store, tenant(), 8).await.is_empty(), "it began before");
    for text in ["a", "b"] {
        let new = Quarantine { tenant: tenant(), sha256: version(text).sha256, since_ms: 5, reason: "it traps".into() };
        store.quarantine(new).await.expect("quarantined");
    }
    let active = (Halt::Quarantined, version("a").sha256, "it traps".to_owned());
    assert_eq!(halted(store, tenant(), 0).await, [active, back]);
    let activated = store.activate_version(operator(), tenant(), "p".into(), version("b").sha256, || ());
    activated.await.expect("active");
    let active = (Halt::Quarantined, version("b").sha256, "it traps".to_owned());
    assert_eq!(halted(store, tenant(), 0).await, [active], "the version that was taken back is active");
    assert!(halted(store, foreign, 0).await.is_empty());
}

//! Changes of another host: which version judges before and after they are followed.

mod component;
mod world;

use super::*;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::Arm;
use hookloom_store::Actor;
use world::{BROKEN, World, canary, sha256, tenant};

fn passed_by(text: &str) -> (Option<String>, &'static str) {
    (Some(sha256(text)), "pass")
}

fn not_called(text: &str) -> (Option<String>, &'static str) {
    (Some(sha256(text)), "fault")
}

#[tokio::test]
async fn an_activated_version_is_compiled_and_judges_at_once() {
    let world = World::new().await;
    world.activate_elsewhere(&tenant(), "a").await;
    assert_eq!(world.judged_by().await, (None, "fault"), "this host does not know the plugin");
    world.follow().await;
    assert_eq!(world.compiled(), [sha256("a")]);
    assert_eq!(world.judged_by().await, passed_by("a"));
    world.activate_elsewhere(&tenant(), "b").await;
    assert_eq!(world.judged_by().await, passed_by("a"));
    world.follow().await;
    world.follow().await;
    assert_eq!(world.compiled(), [sha256("a"), sha256("b")], "each once, and before it judges");
    assert_eq!(world.judged_by().await, passed_by("b"));
    let again = world.store.activate_version(Actor::Host, tenant(), "p".into(), sha256("a"), || ());
    again.await.expect("active");
    world.follow().await;
    assert_eq!((world.judged_by().await, world.compiled().len()), (passed_by("a"), 2));
}

#[tokio::test]
async fn a_version_that_cannot_be_compiled_is_in_force_all_the_same() {
    let world = World::new().await;
    world.activate_elsewhere(&tenant(), "a").await;
    world.follow().await;
    world.activate_elsewhere(&tenant(), BROKEN).await;
    let lagging = world.plugins.follow(&tenant()).await;
    assert!(matches!(lagging, Err(PluginError::Compile(_))), "{lagging:?}");
    assert_eq!(world.judged_by().await, not_called(BROKEN));
    world.activate_elsewhere(&tenant(), "b").await;
    world.follow().await;
    assert_eq!(world.judged_by().await, passed_by("b"));
}

#[tokio::test]
async fn deleted_plugins_and_versions_are_forgotten() {
    let world = World::new().await;
    world.activate_elsewhere(&tenant(), "a").await;
    world.add_elsewhere("b").await;
    world.follow().await;
    let b = sha256("b");
    let known = async || world.plugins.version(&tenant(), "p", &b).await.is_ok();
    assert!(known().await);
    world.store.delete_version(Actor::Host, tenant(), "p".into(), b.clone()).await.expect("deleted");
    assert!(known().await, "it was used lately");
    world.follow().await;
    assert!(!known().await);
    world.store.delete_plugin(Actor::Host, tenant(), "p".into(), || ()).await.expect("deleted");
    assert_eq!(world.judged_by().await, passed_by("a"));
    world.follow().await;
    assert_eq!(world.judged_by().await, (None, "fault"));
    assert!(!world.plugins.exists(&tenant(), "p"));
}

#[tokio::test]
async fn a_canary_of_another_host_judges_and_keeps_its_counts_at_another_percentage() {
    let world = World::new().await;
    world.activate_elsewhere(&tenant(), "a").await;
    world.add_elsewhere("b").await;
    world.follow().await;
    let all = canary(100.0);
    world.begin_elsewhere(&all).await;
    assert_eq!(world.judged_by().await, passed_by("a"));
    world.follow().await;
    assert_eq!(world.compiled(), [sha256("a"), sha256("b")]);
    for _ in 0..3 {
        let judged = world.judge(&tenant()).await;
        assert_eq!((&judged.steps[0].sha256, judged.steps[0].arm), (&Some(sha256("b")), Arm::Canary));
    }
    let calls = async || {
        let (_, figures) = world.plugins.rollout_figures(&tenant(), "p").await.expect("a read").expect("a rollout");
        figures.expect("figures").canary.calls
    };
    world.follow().await;
    assert_eq!(calls().await, 3, "nothing has changed");
    let few = StoredRollout { started_at_ms: now_ms() - 1, ..canary(1e-9) }.after(&all);
    world.begin_elsewhere(&few).await;
    world.follow().await;
    assert_eq!((world.judged_by().await, calls().await), (passed_by("a"), 3));
    world.plugins.store_rollout_counts().await;
    let stored = world.store.rollouts().await.expect("rollouts").remove(0);
    assert!(stored.counts.contains("\"calls\":3"), "the counts are stored for the new percentage");
    let again = StoredRollout { started_at_ms: now_ms(), ..canary(100.0) };
    world.begin_elsewhere(&again).await;
    world.follow().await;
    assert_eq!(calls().await, 0, "another rollout of the same version");
    assert_eq!(world.judged_by().await, passed_by("b"));
    let ended = world.store.end_rollout(Actor::Host, again.id(), "ended".into(), None, || ());
    ended.await.expect("ended");
    assert_eq!(world.judged_by().await, passed_by("b"));
    world.follow().await;
    assert_eq!(world.judged_by().await, passed_by("a"));
    assert!(world.plugins.rollout(&tenant(), "p").is_none());
}

#[tokio::test]
async fn an_activation_elsewhere_ends_the_rollout_here() {
    let world = World::new().await;
    world.activate_elsewhere(&tenant(), "a").await;
    world.add_elsewhere("b").await;
    world.begin_elsewhere(&canary(100.0)).await;
    world.follow().await;
    assert_eq!(world.judged_by().await, passed_by("b"));
    world.activate_elsewhere(&tenant(), "b").await;
    world.follow().await;
    let judged = world.judge(&tenant()).await;
    assert_eq!((&judged.steps[0].sha256, judged.steps[0].arm), (&Some(sha256("b")), Arm::Active));
}

#[tokio::test]
async fn a_version_is_quarantined_and_released_by_another_host() {
    let world = World::new().await;
    world.activate_elsewhere(&tenant(), "a").await;
    world.follow().await;
    for owner in [tenant(), TenantId("u".into())] {
        let new = Quarantine { tenant: owner, sha256: sha256("a"), since_ms: 1, reason: "it kills".into() };
        world.store.quarantine(new).await.expect("quarantined");
    }
    assert_eq!(world.judged_by().await, passed_by("a"));
    world.follow().await;
    assert_eq!(world.judged_by().await, not_called("a"));
    assert!(world.plugins.quarantine(&TenantId("u".into()), &sha256("a")).is_none(), "another tenant's");
    world.activate_elsewhere(&tenant(), "b").await;
    world.follow().await;
    assert_eq!(world.judged_by().await, passed_by("b"));
    world.activate_elsewhere(&tenant(), "a").await;
    world.store.release(tenant(), sha256("a")).await.expect("released");
    world.follow().await;
    assert_eq!(world.judged_by().await, passed_by("a"));
}

#[tokio::test]
async fn the_plugins_of_a_deleted_tenant_are_forgotten() {
    let world = World::new().await;
    let other = TenantId("u".into());
    for owner in [tenant(), other.clone()] {
        world.activate_elsewhere(&owner, "a").await;
        world.plugins.follow(&owner).await.expect("in force");
    }
    world.add_elsewhere("b").await;
    world.begin_elsewhere(&canary(100.0)).await;
    let new = Quarantine { tenant: tenant(), sha256: sha256("b"), since_ms: 1, reason: "it kills".into() };
    world.store.quarantine(new).await.expect("quarantined");
    world.follow().await;
    let contents = world.store.tenant_contents(tenant()).await.expect("contents");
    world.store.delete_tenant(Actor::Host, tenant(), contents, || ()).await.expect("deleted");
    assert!(world.plugins.exists(&tenant(), "p"));
    world.follow().await;
    assert_eq!((world.plugins.count(&tenant()), world.plugins.count(&other)), (0, 1));
    assert!(world.plugins.rollout(&tenant(), "p").is_none());
    assert!(world.plugins.quarantine(&tenant(), &sha256("b")).is_none());
    let judged = world.judge(&other).await;
    assert_eq!(judged.steps[0].sha256, Some(sha256("a")));
}

#[tokio::test]
async fn a_change_is_followed_in_the_order_of_the_tenants_own() {
    let world = World::new().await;
    world.activate_elsewhere(&tenant(), "a").await;
    world.follow().await;
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let held = world.store.in_plugin_order(tenant(), |_| async move {
        let _ = left.await;
        Ok::<_, PluginError>(())
    });
    let plugins = world.plugins.clone();
    let following = async {
        tokio::task::yield_now().await;
        world.plugins.active.write().clear();
        let owner = tenant();
        let follow = plugins.follow(&owner);
        tokio::pin!(follow);
        let early = tokio::time::timeout(Duration::from_millis(200), &mut follow).await;
        assert!(early.is_err() && !plugins.exists(&owner, "p"), "a change of this host is under way");
        leave.send(()).expect("sent");
        follow.await.expect("in force");
    };
    let (order, ()) = tokio::join!(held, following);
    order.expect("left");
    assert_eq!(world.judged_by().await, passed_by("a"));
}

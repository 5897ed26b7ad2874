//! Actions of a plan: what senders and operators do with the store of the host under simulation.

use crate::plan::{Action, NewSubscriber};
use crate::world::{Post, Promise, World, short};
use bytes::Bytes;
use hookloom_model::chain::{Chain, Step};
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{DeliveryState, Reason};
use hookloom_model::event::{EventId, Module};
use hookloom_model::ids::PluginName;
use hookloom_model::settle::{Settle, SettleKeep};
use hookloom_model::signature::{SigningKey, SigningSecret};
use hookloom_model::subscription::{
    LoadedSettings, Ordering, Settings, Subscription, SubscriptionId, SubscriptionState, TenantId,
};
use hookloom_store::{
    Accepted, Actor, Caps, DeliveryFilter, NewEvent, NewSubscription, PluginVersion, Repeatable, RolloutKind, Span,
    StateChange, Store, StoreError, StoredRollout,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Pause of a sender before it repeats a request.
const REPEAT_AFTER: Duration = Duration::from_secs(2);

/// Returns the tenant with a number.
pub(crate) fn tenant(number: usize) -> TenantId {
    TenantId(format!("t{number}").into())
}

fn actor() -> Actor {
    Actor::Key("simulation".to_owned())
}

/// Returns the settings of a subscription of a plan.
pub(crate) fn settings(of: &NewSubscriber) -> NewSubscription {
    let mut settings = Settings::new(format!("http://r{}.example/", of.receiver), of.modules.clone());
    if of.has_plugin {
        settings.plugin = Chain(vec![Step { plugin: PluginName::parse("p").expect("a name"), pin: None }]);
    }
    settings.concurrency = of.concurrency;
    settings.rate_per_s = of.rate_per_s;
    settings.ordering = of.order.map(|attempts| match attempts {
        0 => Ordering::Block,
        attempts => Ordering::SkipAfter { attempts },
    });
    settings.retry.schedule_s.clone_from(&of.schedule_s);
    settings.settle = of.settle_s.map(|[quiet_s, max_wait_s]| Settle { quiet_s, max_wait_s, keep: SettleKeep::Last });
    settings.retry.age_max_s = 3_600;
    settings.timeout_ms = 2_000;
    let settings = LoadedSettings::new(settings, BTreeMap::new()).expect("a URL");
    NewSubscription { settings, signing: vec![SigningKey { secret: SigningSecret::generate(), until_ms: None }] }
}

/// Host that does an action.
#[derive(Clone)]
pub(crate) struct At {
    pub(crate) world: World,
    pub(crate) store: Arc<Store>,
    pub(crate) host: u64,
}

/// Does an action, and notes its answer.
pub(crate) async fn act(at: At, action: Action, number: usize) {
    let At { world, store, host } = at;
    let answer = match &action {
        Action::Accept { tenant: of, module, entity, events, has_key } => {
            let post = Post { tenant: tenant(*of), module: *module, entity: *entity, events: *events };
            if *has_key {
                let key = format!("k{number}");
                world.with(|state| state.unanswered.insert(key.clone(), post.clone()));
                repeat(world, store, key, post).await;
            } else {
                post_once(&world, &store, post).await;
            }
            return;
        }
        Action::Subscribe(of) => subscribe(&world, &store, of).await,
        Action::Activate { tenant: of } => activate(&world, &store, host, tenant(*of)).await,
        Action::Rollout { tenant: of, begins } => rollout(&world, &store, host, tenant(*of), *begins).await,
        Action::Edit { pick, to } => edit(&world, &store, *pick, to).await,
        Action::Pause { pick } => {
            let change = StateChange::Pause { reason: "by hand".to_owned(), by_host: false };
            stop(&world, &store, *pick, change).await
        }
        Action::Disable { pick } => {
            let reason = Reason::new("by-hand", "by hand");
            stop(&world, &store, *pick, StateChange::Disable { reason, generation: None }).await
        }
        Action::Delete { pick } => delete(&world, &store, *pick).await,
        Action::Resume { pick } => resume(&world, &store, *pick).await,
        Action::Retry { pick } | Action::Cancel { pick } => by_hand(&world, &store, *pick, &action).await,
        Action::MoveShard { pick, to } => move_shard(&store, *pick, *to).await,
        Action::Redrive { pick } | Action::Replay { pick } | Action::Test { pick } => {
            in_bulk(&world, &store, *pick, &action).await
        }
        Action::Receiver { .. }
        | Action::Judge { .. }
        | Action::SetClock { .. }
        | Action::Crash
        | Action::Restart
        | Action::OfHost { .. } => return,
    };
    world.note(format!("{action:?}: {}", said(&answer)));
}

fn said(answer: &Result<String, StoreError>) -> String {
    match answer {
        Ok(text) => text.clone(),
        Err(error) => format!("error: {error}"),
    }
}

fn events(post: &Post) -> Vec<NewEvent> {
    let name = if post.module == Module::Deal { "Deal is Created" } else { "Contact is Created" };
    let event = |number: usize| NewEvent {
        name: name.to_owned(),
        module: post.module,
        entity_id: (post.entity > 0).then(|| post.entity.to_string()),
        payload: Bytes::from(vec![b'a' + u8::try_from(number % 26).unwrap_or(0); 40]),
    };
    (0..post.events).map(event).collect()
}

/// Repeats a request with a key until it is answered.
pub(crate) async fn repeat(world: World, store: Arc<Store>, key: String, post: Post) {
    loop {
        let request = Repeatable { key: key.clone(), body_sha256: [1; 32] };
        match store.accept_once(request, post.tenant.clone(), events(&post), Caps::NONE).await {
            Ok(answer) => {
                world.note(format!("{post:?} with {key} is accepted, repeated: {}", answer.is_repetition));
                let events: Vec<EventId> = answer.events.iter().map(|one| one.event).collect();
                let earlier = world.with(|state| {
                    state.unanswered.remove(&key);
                    state.answers.insert(key.clone(), events.clone())
                });
                if earlier.as_ref().is_some_and(|earlier| *earlier != events) {
                    world.violate(format!("the request with {key} was answered twice with other events"));
                }
                if earlier.is_none() {
                    promised(&world, &post.tenant, &answer.events);
                }
                return;
            }
            Err(error) => world.note(format!("{post:?} with {key}: error: {error}")),
        }
        tokio::time::sleep(REPEAT_AFTER).await;
        // Another host may have answered.
        if !world.with(|state| state.unanswered.contains_key(&key)) {
            return;
        }
    }
}

/// Posts a request without a key, which is not repeated.
async fn post_once(world: &World, store: &Store, post: Post) {
    world.with(|state| state.unknown += 1);
    match store.accept(post.tenant.clone(), events(&post), Caps::NONE).await {
        Ok(accepted) => {
            world.note(format!("{post:?} is accepted"));
            world.with(|state| state.unknown -= 1);
            promised(world, &post.tenant, &accepted);
        }
        Err(error) => {
            world.note(format!("{post:?}: error: {error}"));
            if !matches!(error, StoreError::Unknown) {
                world.with(|state| state.unknown -= 1);
            }
        }
    }
}

fn promised(world: &World, tenant: &TenantId, accepted: &[Accepted]) {
    let promise = |one: &Accepted| Promise { tenant: tenant.clone(), event: one.event, deliveries: one.deliveries };
    world.with(|state| state.promises.extend(accepted.iter().map(promise)));
}

/// Selects one of all subscriptions.
fn picked(store: &Store, pick: usize) -> Option<Arc<Subscription>> {
    let all = store.catalog().all_subscriptions();
    (!all.is_empty()).then(|| all[pick % all.len()].clone())
}

fn none() -> StoreError {
    StoreError::NotFound("subscription")
}

/// Notes that an operator changes a subscription, before and after the change.
fn touch(world: &World, subscription: &Subscription) {
    let now = world.clock.passed();
    world.with(|state| state.touched.insert(subscription.id, now));
}

async fn subscribe(world: &World, store: &Store, of: &NewSubscriber) -> Result<String, StoreError> {
    let created = store.create_subscription(actor(), tenant(of.tenant), settings(of)).await?;
    world.with(|state| state.concurrency.insert(created.id, of.concurrency));
    Ok(format!("{} is created", short(created.id)))
}

async fn edit(world: &World, store: &Store, pick: usize, to: &NewSubscriber) -> Result<String, StoreError> {
    let old = picked(store, pick).ok_or_else(none)?;
    touch(world, &old);
    world.with(|state| {
        let most = state.concurrency.entry(old.id).or_insert(old.settings.concurrency);
        *most = (*most).max(to.concurrency);
        state.failures.remove(&old.id);
        state.rests.remove(&old.id);
        state.began.remove(&old.id);
        // Deliveries that were accepted before have no place in a new order, and those after may have one in an old order.
        state.disordered.insert(old.id);
    });
    let changed = store.update_subscription(actor(), &old, settings(to)).await;
    touch(world, &old);
    Ok(format!("{} has generation {}", short(old.id), changed?.generation))
}

/// Waits, before an operator reads the answer to a change, until the change is in force at every host. Returns false if a host may lag
/// behind.
async fn is_in_force(store: &Store) -> bool {
    store.in_force().await.is_ok_and(|lagging| lagging.is_empty())
}

/// Pauses or disables a subscription. Once that is answered, no request of it may begin.
async fn stop(world: &World, store: &Store, pick: usize, change: StateChange) -> Result<String, StoreError> {
    let old = picked(store, pick).ok_or_else(none)?;
    touch(world, &old);
    let changed = store.set_subscription_state(actor(), &old.tenant, old.id, change).await;
    let is_in_force = is_in_force(store).await;
    touch(world, &old);
    // Another action may have resumed it meanwhile.
    let current = world.disk.subscription_state(old.id);
    if changed.is_ok() && is_in_force && current != Some(SubscriptionState::Active) {
        world.with(|state| {
            state.stopped.insert(old.id);
            if current != Some(SubscriptionState::Paused) {
                state.ended_at_ms.insert(old.id, now_ms());
            }
        });
    }
    Ok(format!("{} is {:?}", short(old.id), changed?.state))
}

async fn resume(world: &World, store: &Store, pick: usize) -> Result<String, StoreError> {
    let old = picked(store, pick).ok_or_else(none)?;
    touch(world, &old);
    goes_on(world, old.id);
    let changed = store.set_subscription_state(actor(), &old.tenant, old.id, StateChange::Resume).await;
    touch(world, &old);
    // A stop may have been answered before the resumption was committed.
    if changed.as_ref().is_ok_and(|changed| changed.state == SubscriptionState::Active) {
        goes_on(world, old.id);
    }
    Ok(format!("{} is {:?}", short(old.id), changed?.state))
}

/// Notes that requests of a subscription may begin again.
pub(crate) fn goes_on(world: &World, id: SubscriptionId) {
    world.with(|state| {
        state.stopped.remove(&id);
        state.ended_at_ms.remove(&id);
    });
}

async fn delete(world: &World, store: &Store, pick: usize) -> Result<String, StoreError> {
    let old = picked(store, pick).ok_or_else(none)?;
    let deleted = store.delete_subscription(actor(), &old.tenant, old.id).await;
    if is_in_force(store).await && deleted.is_ok() {
        world.with(|state| {
            state.stopped.insert(old.id);
            state.ended_at_ms.insert(old.id, now_ms());
        });
    }
    deleted.map(|()| format!("{} is deleted", short(old.id)))
}

/// Activates a new version, which the host installs after the commit.
async fn activate(world: &World, store: &Arc<Store>, host: u64, tenant: TenantId) -> Result<String, StoreError> {
    let number = world.with(|state| {
        state.versions += 1;
        state.versions
    });
    let sha256 = format!("{number:064}");
    let version = PluginVersion {
        sha256: sha256.clone(),
        size: 1,
        report: String::new(),
        created_at_ms: now_ms(),
        created_by: String::new(),
        active: false,
    };
    let world_too = world.clone();
    let tenant_too = tenant.clone();
    let installed = sha256.clone();
    let install = move || {
        world_too.with(|state| state.installed.insert((host, tenant_too), installed));
    };
    for subscription in store.catalog().subscriptions(&tenant).iter() {
        touch(world, subscription);
    }
    store.activate_plugin(actor(), tenant, "p".to_owned(), version, Bytes::from_static(b"x"), install).await?;
    Ok(format!("version {number} is active"))
}

async fn rollout(
    world: &World,
    store: &Arc<Store>,
    host: u64,
    tenant: TenantId,
    begins: bool,
) -> Result<String, StoreError> {
    if !begins {
        let rollouts = store.rollouts().await?;
        if let Some(latest) = rollouts.into_iter().find(|rollout| rollout.tenant == tenant) {
            store.end_rollout(actor(), latest.id(), "by hand".to_owned(), None, || ()).await?;
        }
        return Ok("ended".to_owned());
    }
    let sha256 = world.with(|state| state.installed.get(&(host, tenant.clone())).cloned()).unwrap_or_default();
    let rollout = StoredRollout {
        tenant,
        name: "p".to_owned(),
        kind: RolloutKind::Canary,
        sha256,
        percent: 10.0,
        started_at_ms: now_ms(),
        earlier: Vec::new(),
        ended_reason: None,
        counts: String::new(),
        counts_elsewhere: Vec::new(),
    };
    store.begin_rollout(actor(), rollout, || ()).await?;
    Ok("begun".to_owned())
}

/// Retries or cancels one delivery.
async fn by_hand(world: &World, store: &Store, pick: usize, action: &Action) -> Result<String, StoreError> {
    let of = tenant(pick % 2);
    let filter = DeliveryFilter { limit: 100, ..DeliveryFilter::default() };
    let all = store.deliveries(of.clone(), filter).await?;
    let Some(one) = all.get(pick % all.len().max(1)) else { return Ok("there is none".to_owned()) };
    if let Some(subscription) = store.catalog().subscription_by_id(one.subscription) {
        touch(world, &subscription);
        world.with(|state| state.disordered.insert(subscription.id));
    }
    match action {
        Action::Cancel { .. } => store.cancel(actor(), of, one.id).await?,
        _ => {
            world.with(|state| state.ended.remove(&one.id));
            store.retry(actor(), of, one.id).await?;
        }
    }
    Ok(short(one.id))
}

/// Moves a shard that has subscriptions to a host. None: to any.
async fn move_shard(store: &Store, pick: usize, to: Option<usize>) -> Result<String, StoreError> {
    let fleet = store.fleet().await?;
    let used = fleet.shards.iter().enumerate().filter(|(_, one)| one.subscriptions > 0).map(|(shard, _)| shard);
    let used: Vec<u8> = used.filter_map(|shard| u8::try_from(shard).ok()).collect();
    let shard = *used.get(pick % used.len().max(1)).ok_or_else(none)?;
    let host = match to {
        Some(to) => Some(fleet.hosts.get(to % fleet.hosts.len().max(1)).ok_or_else(none)?.host.number),
        None => None,
    };
    store.pin_shard(actor(), shard, host).await?;
    Ok(format!("shard {shard} is to be at {host:?}"))
}

/// Redrives or replays deliveries of a subscription, or sends a test event.
async fn in_bulk(world: &World, store: &Store, pick: usize, action: &Action) -> Result<String, StoreError> {
    let of = picked(store, pick).ok_or_else(none)?;
    let span = Span { from_ms: 0, to_ms: i64::MAX };
    touch(world, &of);
    let answer = match action {
        Action::Redrive { .. } => {
            world.with(|state| state.disordered.insert(of.id));
            let states = vec![DeliveryState::Dead, DeliveryState::Cancelled, DeliveryState::Superseded];
            store.redrive(actor(), &of, states, span).await.map(|count| format!("{count} deliveries"))
        }
        Action::Replay { .. } => store.replay(actor(), &of, span).await.map(|count| format!("{count} deliveries")),
        _ => {
            let post = Post { tenant: of.tenant.clone(), module: of.settings.modules[0], entity: 0, events: 1 };
            store.test(actor(), &of, events(&post).remove(0)).await.map(short)
        }
    };
    touch(world, &of);
    answer
}

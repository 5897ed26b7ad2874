//! One life of the host: from its start to a crash, a stop, or the end of the plan.

use crate::actions::{At, act, goes_on, repeat, tenant};
use crate::checks;
use crate::judge::SimJudge;
use crate::plan::{Action, JudgeMode, Plan, PlannedStep, ReceiverMode, TENANTS};
use crate::receivers::SimNetwork;
use crate::world::World;
use hookloom_deliver::traces::Traces;
use hookloom_deliver::{AttemptLimits, DeliveryLimits, Dispatcher, LaneBoard};
use hookloom_model::delivery::DeliveryState;
use hookloom_model::subscription::{SubscriptionState, TenantId};
use hookloom_store::memory::{FaultRates, Faults};
use hookloom_store::{Actor, StateChange, Store, StoreEvent, StoreLimits, TenantChange};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Time that a stop waits for attempts under way.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Longest time in which everything must have ended after the last action: the age limit, and twice the longest pause of a breaker.
pub(crate) const QUIET_MAX: Duration = Duration::from_secs(3_600 + 600);

/// End of a host's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LifeEnd {
    /// The process was killed, or stopped in order; the next life continues with this step.
    Continues(usize),
    /// The plan is over.
    Over,
}

/// Host under simulation.
struct Host {
    world: World,
    store: Arc<Store>,
    faults: Arc<Faults>,
    dispatcher: Dispatcher,
}

/// Starts the dispatcher of a host. `life`: number of the life of a member of a fleet.
pub(crate) fn dispatch(
    at: &At,
    plan: &Plan,
    store_events: mpsc::UnboundedReceiver<StoreEvent>,
    life: Option<u64>,
) -> Dispatcher {
    let [of_host, of_tenant] = plan.attempts_max;
    let limits = DeliveryLimits {
        attempts: AttemptLimits { host: of_host, tenant: of_tenant },
        retry_after_max: Duration::from_secs(60),
        queue_bytes: plan.queue_bytes,
    };
    let At { world, store, host } = at.clone();
    let judge = Arc::new(SimJudge { world: world.clone(), host });
    let is_member = life.is_some();
    let life = life.unwrap_or_default();
    let network = Arc::new(SimNetwork { world, store: store.clone(), host, life, is_member });
    Dispatcher::start(store, judge, network, store_events, LaneBoard::default(), Traces::default(), limits)
}

/// Starts the background work of a host.
pub(crate) fn run_background(store: &Arc<Store>, plan: &Plan, mut spawn: impl FnMut(BoxFuture)) {
    let retention = Duration::from_secs(plan.retention_s);
    let [fan_outs, sweeps, pruning, clock] = std::array::from_fn(|_| store.clone());
    spawn(Box::pin(async move { fan_outs.run_fan_outs().await }));
    spawn(Box::pin(async move { sweeps.run_sweeps().await }));
    spawn(Box::pin(async move { pruning.run_retention(retention).await }));
    spawn(Box::pin(async move { clock.watch_clock().await }));
}

/// Lets an action happen to the world, if it is one of the world.
pub(crate) fn meets_world(world: &World, action: &Action) -> bool {
    match action {
        Action::Receiver { receiver, mode } => {
            world.note(format!("r{receiver}: {mode:?}"));
            world.with(|state| state.receivers[*receiver] = *mode);
        }
        Action::Judge { mode } => {
            world.note(format!("plugins: {mode:?}"));
            world.with(|state| state.judge = *mode);
        }
        Action::SetClock { by_ms } => {
            world.note(format!("the clock is set by {by_ms} ms"));
            let now = world.clock.passed();
            world.with(|state| state.clock_set = Some(now));
            world.clock.set(*by_ms);
        }
        _ => return false,
    }
    true
}

/// Lets receivers and plugins work from now on.
pub(crate) fn mend(world: &World) {
    world.note("receivers, plugins and the database work from now on");
    world.with(|state| {
        state.receivers = [ReceiverMode::Takes; _];
        state.judge = JudgeMode::Passes;
        state.trapping.clear();
    });
}

/// Returns true if a delivery or a sender waits.
pub(crate) fn is_busy(world: &World, tenants: &[TenantId]) -> bool {
    let pending = tenants.iter().flat_map(|tenant| world.disk.deliveries(tenant));
    let waits = pending.filter(|one| one.state == DeliveryState::Pending).count() > 0;
    waits || world.with(|state| !state.unanswered.is_empty())
}

/// Checks that the queue of a dispatcher keeps to its budget.
pub(crate) fn check_queue(world: &World, dispatcher: &Dispatcher) {
    let queued = dispatcher.queued_bytes();
    let most = dispatcher.queue_bytes_max();
    if queued > most {
        world.violate(format!("{queued} bytes of deliveries are queued, and the budget is {most}"));
    }
}

/// Creates tenants, plugins and the first subscriptions, before any fault.
pub(crate) async fn set_up(at: &At, plan: &Plan) {
    for number in 0..TENANTS {
        let created = at.store.create_tenant(Actor::Host, tenant(number), TenantChange::default()).await;
        if created.is_err() {
            at.world.violate("a tenant cannot be created");
        }
        act(at.clone(), Action::Activate { tenant: number }, 0).await;
    }
    for of in &plan.subscriptions {
        act(at.clone(), Action::Subscribe(of.clone()), 0).await;
    }
}

/// Resumes the subscriptions that are paused.
pub(crate) async fn resume_all(at: &At) {
    for subscription in at.store.catalog().all_subscriptions() {
        if subscription.state == SubscriptionState::Paused {
            goes_on(&at.world, subscription.id);
            let resumed = StateChange::Resume;
            let _ = at.store.set_subscription_state(Actor::Host, &subscription.tenant, subscription.id, resumed).await;
        }
    }
}

/// Work of a task.
pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Lives from a step of the plan on.
pub(crate) async fn live(world: &World, plan: &Plan, from: usize) -> LifeEnd {
    world.clock.follow_runtime();
    world.host_ended();
    let end = match Host::start(world, plan, from) {
        Some(host) => host.live(plan, from).await,
        None => LifeEnd::Over,
    };
    world.clock.leave_runtime();
    end
}

impl Host {
    /// Starts the host on what the disk has.
    fn start(world: &World, plan: &Plan, life: usize) -> Option<Host> {
        world.note("the host starts");
        let faults = Arc::new(Faults::new(plan.seed ^ life as u64, FaultRates::default()));
        let opened = Store::open_in_memory(world.disk.clone(), StoreLimits::default(), Some(faults.clone()));
        let Ok((store, store_events)) = opened else {
            world.violate("the store does not open");
            return None;
        };
        let at = At { world: world.clone(), store, host: 0 };
        let dispatcher = dispatch(&at, plan, store_events, None);
        run_background(&at.store, plan, |work| drop(tokio::spawn(work)));
        Some(Host { world: world.clone(), store: at.store, faults, dispatcher })
    }

    fn at(&self) -> At {
        At { world: self.world.clone(), store: self.store.clone(), host: 0 }
    }

    async fn live(self, plan: &Plan, from: usize) -> LifeEnd {
        if from == 0 {
            set_up(&self.at(), plan).await;
        } else {
            self.restore().await;
        }
        let faults = plan.faults;
        self.faults.set(faults.rates(0.0));
        for (key, post) in self.world.with(|state| state.unanswered.clone()) {
            tokio::spawn(repeat(self.world.clone(), self.store.clone(), key, post));
        }
        for (number, step) in plan.steps.iter().enumerate().skip(from) {
            self.wait_for(step).await;
            if !self.world.is_sound() {
                return LifeEnd::Over;
            }
            match &step.action {
                Action::Crash => {
                    self.world.note("the host is killed");
                    return LifeEnd::Continues(number + 1);
                }
                Action::Restart => {
                    self.world.note("the host stops");
                    self.dispatcher.stop(GRACE).await;
                    return LifeEnd::Continues(number + 1);
                }
                action => self.begin(action, number),
            }
        }
        self.end().await;
        LifeEnd::Over
    }

    async fn wait_for(&self, step: &PlannedStep) {
        let at = Duration::from_millis(step.at_ms);
        tokio::time::sleep(at.saturating_sub(self.world.clock.passed())).await;
        self.check();
    }

    /// Checks what must be true between any two steps.
    fn check(&self) {
        (0..TENANTS).for_each(|number| checks::law(&self.world, &tenant(number)));
        check_queue(&self.world, &self.dispatcher);
    }

    /// Installs the stored versions, as the runtime of plugins does at a start.
    async fn restore(&self) {
        for version in self.store.active_versions().await.unwrap_or_default() {
            self.world.with(|state| state.installed.insert((0, version.tenant), version.sha256));
        }
    }

    /// Begins an action, beside those under way.
    fn begin(&self, action: &Action, number: usize) {
        if !meets_world(&self.world, action) {
            tokio::spawn(act(self.at(), action.clone(), number));
        }
    }

    /// Mends everything, and waits until every delivery has ended.
    async fn end(&self) {
        mend(&self.world);
        self.faults.set(FaultRates::default());
        // Actions and requests under way end first.
        tokio::time::sleep(Duration::from_secs(30)).await;
        for number in 0..TENANTS {
            act(self.at(), Action::Activate { tenant: number }, 0).await;
        }
        resume_all(&self.at()).await;
        let tenants: Vec<TenantId> = (0..TENANTS).map(tenant).collect();
        let begun = self.world.clock.passed();
        while is_busy(&self.world, &tenants) && self.world.is_sound() && self.world.clock.passed() - begun < QUIET_MAX {
            tokio::time::sleep(Duration::from_secs(5)).await;
            self.check();
        }
        if self.world.is_sound() {
            checks::at_the_end(&self.world, &tenants);
        }
    }
}

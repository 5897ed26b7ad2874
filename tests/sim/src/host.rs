//! One life of the host: from its start to a crash, a stop, or the end of the plan.

use crate::actions::{act, goes_on, repeat, tenant};
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
use hookloom_store::{Actor, StateChange, Store, StoreLimits, TenantChange};
use std::sync::Arc;
use std::time::Duration;

/// Time that a stop waits for attempts under way.
const GRACE: Duration = Duration::from_secs(5);

/// Longest time in which everything must have ended after the last action: the age limit, and twice the longest pause of a breaker.
const QUIET_MAX: Duration = Duration::from_secs(3_600 + 600);

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
        let [host, tenant] = plan.attempts_max;
        let limits = DeliveryLimits {
            attempts: AttemptLimits { host, tenant },
            retry_after_max: Duration::from_secs(60),
            queue_bytes: plan.queue_bytes,
        };
        let judge = Arc::new(SimJudge(world.clone()));
        let network = Arc::new(SimNetwork(world.clone()));
        let board = LaneBoard::default();
        let dispatcher =
            Dispatcher::start(store.clone(), judge, network, store_events, board, Traces::default(), limits);
        let retention = Duration::from_secs(plan.retention_s);
        let [fan_outs, sweeps, pruning, clock] = std::array::from_fn(|_| store.clone());
        tokio::spawn(async move { fan_outs.run_fan_outs().await });
        tokio::spawn(async move { sweeps.run_sweeps().await });
        tokio::spawn(async move { pruning.run_retention(retention).await });
        tokio::spawn(async move { clock.watch_clock().await });
        Some(Host { world: world.clone(), store, faults, dispatcher })
    }

    async fn live(self, plan: &Plan, from: usize) -> LifeEnd {
        if from == 0 {
            self.set_up(plan).await;
        } else {
            self.restore().await;
        }
        let faults = plan.faults;
        let rates =
            FaultRates { refused: faults.refused, lost: faults.lost, unread: faults.unread, delay_max: faults.delay };
        self.faults.set(rates);
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
        let queued = self.dispatcher.queued_bytes();
        let most = self.dispatcher.queue_bytes_max();
        if queued > most {
            self.world.violate(format!("{queued} bytes of deliveries are queued, and the budget is {most}"));
        }
    }

    /// Creates tenants, plugins and the first subscriptions, before any fault.
    async fn set_up(&self, plan: &Plan) {
        for number in 0..TENANTS {
            let created = self.store.create_tenant(Actor::Host, tenant(number), TenantChange::default()).await;
            if created.is_err() {
                self.world.violate("a tenant cannot be created");
            }
            act(self.world.clone(), self.store.clone(), Action::Activate { tenant: number }, 0).await;
        }
        for of in &plan.subscriptions {
            act(self.world.clone(), self.store.clone(), Action::Subscribe(of.clone()), 0).await;
        }
    }

    /// Installs the stored versions, as the runtime of plugins does at a start.
    async fn restore(&self) {
        for version in self.store.active_versions().await.unwrap_or_default() {
            self.world.with(|state| state.installed.insert(version.tenant, version.sha256));
        }
    }

    /// Begins an action, beside those under way.
    fn begin(&self, action: &Action, number: usize) {
        let now = self.world.clock.passed();
        match action {
            Action::Receiver { receiver, mode } => {
                self.world.note(format!("r{receiver}: {mode:?}"));
                self.world.with(|state| state.receivers[*receiver] = *mode);
            }
            Action::Judge { mode } => {
                self.world.note(format!("plugins: {mode:?}"));
                self.world.with(|state| state.judge = *mode);
            }
            Action::SetClock { by_ms } => {
                self.world.note(format!("the clock is set by {by_ms} ms"));
                self.world.with(|state| state.clock_set = Some(now));
                self.world.clock.set(*by_ms);
            }
            action => {
                tokio::spawn(act(self.world.clone(), self.store.clone(), action.clone(), number));
            }
        }
    }

    /// Mends everything, and waits until every delivery has ended.
    async fn end(&self) {
        self.world.note("receivers, plugins and the database work from now on");
        self.faults.set(FaultRates::default());
        self.world.with(|state| {
            state.receivers = [ReceiverMode::Takes; _];
            state.judge = JudgeMode::Passes;
            state.trapping.clear();
        });
        // Actions and requests under way end first.
        tokio::time::sleep(Duration::from_secs(30)).await;
        for number in 0..TENANTS {
            act(self.world.clone(), self.store.clone(), Action::Activate { tenant: number }, 0).await;
        }
        for subscription in self.store.catalog().all_subscriptions() {
            if subscription.state == SubscriptionState::Paused {
                goes_on(&self.world, subscription.id);
                let resumed = StateChange::Resume;
                let _ = self
                    .store
                    .set_subscription_state(Actor::Host, &subscription.tenant, subscription.id, resumed)
                    .await;
            }
        }
        let tenants: Vec<TenantId> = (0..TENANTS).map(tenant).collect();
        let begun = self.world.clock.passed();
        while self.is_busy(&tenants) && self.world.is_sound() && self.world.clock.passed() - begun < QUIET_MAX {
            tokio::time::sleep(Duration::from_secs(5)).await;
            self.check();
        }
        if self.world.is_sound() {
            checks::at_the_end(&self.world, &tenants);
        }
    }

    fn is_busy(&self, tenants: &[TenantId]) -> bool {
        let pending = tenants.iter().flat_map(|tenant| self.world.disk.deliveries(tenant));
        let waits = pending.filter(|one| one.state == DeliveryState::Pending).count() > 0;
        waits || self.world.with(|state| !state.unanswered.is_empty())
    }
}

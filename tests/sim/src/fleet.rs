//! Several hosts that share a database: their machines run in turns, each for a short step of the simulated time.
//!
//! # Guarantees
//! - The steps and their order are drawn from the seed, so the same seed gives the same history.
//! - What a host does in a step is seen by those that run after it. The clocks of two hosts differ by a step at most.
//!
//! # Limits
//! All clocks go equally fast. A process that is frozen stands still between two steps of its tasks, and never within one.

use crate::actions::{At, act, repeat, tenant};
use crate::checks;
use crate::host::{self, QUIET_MAX};
use crate::machine::Machine;
use crate::plan::{Action, HostTrouble, Plan, PlannedFleet, PlannedStep, TENANTS};
use crate::world::World;
use hookloom_model::subscription::TenantId;
use hookloom_store::memory::FaultRates;
use rand::rngs::ChaCha12Rng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use std::time::Duration;

/// Longest step, in milliseconds.
pub(crate) const STEP_MAX_MS: i64 = 10;

/// Time after which all leases have ended, and time for which nobody takes over after an outage of this length.
const LEASES_END: Duration = Duration::from_millis(5_100);
const CALM_MIN: Duration = Duration::from_millis(4_900);

/// Longest time that the beginning takes, and the actions of the end.
const ACTIONS_MAX: Duration = Duration::from_secs(120);

/// Rates of a host that does not reach the database. What it has sent is committed, and the answer is lost.
const CUT_OFF: FaultRates =
    FaultRates { refused: 1.0, lost: 1.0, unread: 1.0, unheard: 1.0, delay_max: Duration::from_millis(40) };

/// Hosts of a simulation.
struct Fleet<'p> {
    world: &'p World,
    plan: &'p Plan,
    planned: PlannedFleet,
    machines: Vec<Machine>,
    now: Duration,
    random: ChaCha12Rng,
    /// End of the last outage, and the number of takeovers before it.
    outage: Option<(Duration, u64)>,
    /// Number of shards of each host, as the history has it.
    shards: Vec<usize>,
    /// Rates of the faults of hosts that reach the database.
    rates: FaultRates,
}

/// Runs a plan of several hosts. Returns the number of processes.
pub(crate) fn run(world: &World, plan: &Plan) -> u64 {
    let Some(planned) = plan.fleet else { return 0 };
    let machines = (0..planned.hosts as u64).map(Machine::new).collect();
    let random = ChaCha12Rng::seed_from_u64(plan.seed ^ 0x57e9);
    let rates = FaultRates::default();
    let shards = vec![0; planned.hosts];
    let mut fleet = Fleet { world, plan, planned, machines, now: Duration::ZERO, random, outage: None, shards, rates };
    world.clock.stand_at(Duration::ZERO);
    fleet.live();
    let lives = fleet.machines.iter().map(|machine| machine.lives).sum();
    for machine in &mut fleet.machines {
        machine.process = None;
    }
    lives
}

impl Fleet<'_> {
    fn live(&mut self) {
        self.machines[0].start(self.world, self.plan);
        let plan = self.plan.clone();
        self.run_at_one(move |at| async move { host::set_up(&at, &plan).await });
        let began = self.now;
        for machine in &mut self.machines[1..self.planned.first] {
            machine.start(self.world, self.plan);
        }
        self.rates = self.plan.faults.rates(self.planned.unheard);
        for (number, step) in self.plan.steps.iter().enumerate() {
            self.run_until(began + Duration::from_millis(step.at_ms));
            self.check();
            if !self.world.is_sound() {
                return;
            }
            self.begin(step, number);
        }
        self.end();
    }

    /// Lets all hosts run until a time.
    fn run_until(&mut self, time: Duration) {
        while self.now < time && self.world.is_sound() {
            let step_ms = self.random.random_range(1..=STEP_MAX_MS).unsigned_abs();
            let until = self.now + Duration::from_millis(step_ms);
            self.run_step(until);
        }
    }

    fn run_step(&mut self, until: Duration) {
        let now = self.now;
        let mut order: Vec<usize> = (0..self.machines.len()).collect();
        order.shuffle(&mut self.random);
        for number in order {
            let machine = &mut self.machines[number];
            if machine.starts_at.is_some_and(|at| at <= now) && machine.process.is_none() {
                machine.start(self.world, self.plan);
            }
            if machine.process.is_some() && machine.frozen_until <= now {
                machine.set_faults(if machine.cut_until > now { CUT_OFF } else { self.rates });
                machine.run(self.world, (now, until));
            }
            self.world.clock.stand_at(now);
        }
        self.now = until;
        self.world.clock.stand_at(until);
        if let Some((end, takeovers)) = self.outage.filter(|(end, _)| until < *end + CALM_MIN) {
            let found = self.world.disk.takeovers();
            if now <= end {
                self.outage = Some((end, found));
            } else if found != takeovers {
                self.world.violate("a host takes over from another one right after an outage");
            }
        }
    }

    /// Checks what must be true between any two steps.
    fn check(&mut self) {
        (0..TENANTS).for_each(|number| checks::law(self.world, &tenant(number)));
        self.machines.iter().for_each(|machine| machine.check(self.world));
        if self.world.disk.has_two_owners() {
            self.world.violate("two hosts own a shard");
        }
        if self.world.disk.fenced_writes() > 0 {
            self.world.violate("a host that was taken over has written");
        }
        for (machine, noted) in self.machines.iter().zip(&mut self.shards) {
            let owned = self.world.disk.shards_of(machine.number);
            if std::mem::replace(noted, owned) != owned {
                self.world.note(format!("host {} owns {owned} shards", machine.number));
            }
        }
    }

    /// Returns a host that serves: the one with a number, or else the first one after it.
    fn serving(&self, from: usize) -> Option<(&Machine, At)> {
        let all = self.machines.iter().cycle().skip(from).take(self.machines.len());
        all.filter(|machine| machine.is_running(self.now)).find_map(|machine| Some((machine, machine.at()?)))
    }

    /// Begins an action, beside those under way.
    fn begin(&mut self, step: &PlannedStep, number: usize) {
        let host = step.host % self.machines.len();
        if let Action::OfHost { what, for_ms } = step.action {
            return self.trouble(host, what, Duration::from_millis(for_ms));
        }
        let machine = &mut self.machines[host];
        if machine.process.is_none() && machine.starts_at.is_none() {
            machine.starts_at = Some(self.now);
        }
        if !host::meets_world(self.world, &step.action)
            && let Some((machine, at)) = self.serving(host)
        {
            machine.spawn(act(at, step.action.clone(), number));
        }
    }

    fn trouble(&mut self, host: usize, what: HostTrouble, time: Duration) {
        let until = self.now + time;
        let machine = &mut self.machines[host];
        match what {
            HostTrouble::Killed => {
                machine.kill(self.world);
                machine.starts_at = Some(until);
            }
            HostTrouble::Stopped => {
                machine.stop(self.world);
                machine.starts_at = Some(until);
            }
            HostTrouble::Frozen => {
                self.world.note(format!("host {host} is frozen for {} ms", time.as_millis()));
                machine.frozen_until = machine.frozen_until.max(until);
            }
            HostTrouble::CutOff => {
                self.world.note(format!("host {host} is cut off for {} ms", time.as_millis()));
                machine.cut_until = machine.cut_until.max(until);
            }
            HostTrouble::Outage => {
                self.world.note(format!("no host reaches the database for {} ms", time.as_millis()));
                self.machines.iter_mut().for_each(|machine| machine.cut_until = machine.cut_until.max(until));
                if time > LEASES_END {
                    let takeovers = self.world.disk.takeovers();
                    let ends = self.machines.iter().map(|machine| machine.cut_until);
                    self.outage = ends.min().map(|end| (end, takeovers));
                }
            }
        }
        self.repeat_elsewhere(host);
    }

    /// Lets senders repeat at another host what a host in trouble has not answered.
    fn repeat_elsewhere(&self, than: usize) {
        let Some((machine, at)) = self.serving(than + 1) else { return };
        for (key, post) in self.world.with(|state| state.unanswered.clone()) {
            machine.spawn(repeat(at.world.clone(), at.store.clone(), key, post));
        }
    }

    /// Does work at a host, while all of them run.
    fn run_at_one<F: Future<Output = ()> + Send + 'static>(&mut self, work: impl FnOnce(At) -> F) {
        let end = self.now + ACTIONS_MAX;
        while self.serving(0).is_none() && self.now < end {
            self.run_until(self.now + Duration::from_millis(1));
        }
        let Some((machine, at)) = self.serving(0) else { return self.world.violate("no host serves") };
        let Some(task) = machine.spawn(work(at)) else { return };
        while !task.is_finished() && self.now < end && self.world.is_sound() {
            self.run_until(self.now + Duration::from_millis(1));
        }
    }

    /// Mends everything, and waits until every delivery has ended.
    fn end(&mut self) {
        host::mend(self.world);
        self.rates = FaultRates::default();
        for machine in &mut self.machines {
            machine.frozen_until = self.now;
            machine.cut_until = self.now;
            machine.starts_at = Some(self.now);
        }
        // Actions and requests under way end first.
        self.run_until(self.now + Duration::from_secs(30));
        (0..self.machines.len()).for_each(|host| self.repeat_elsewhere(host));
        self.run_at_one(|at| async move {
            for number in 0..TENANTS {
                act(at.clone(), Action::Activate { tenant: number }, 0).await;
            }
            host::resume_all(&at).await;
        });
        let tenants: Vec<TenantId> = (0..TENANTS).map(tenant).collect();
        let begun = self.now;
        while host::is_busy(self.world, &tenants) && self.world.is_sound() && self.now - begun < QUIET_MAX {
            self.run_until(self.now + Duration::from_secs(5));
            self.check();
        }
        if self.world.disk.has_misplaced_shards() {
            self.world.violate("a shard is not at the host that it was moved to");
        }
        if self.world.is_sound() {
            checks::at_the_end(self.world, &tenants);
        }
    }
}

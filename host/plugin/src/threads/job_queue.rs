//! Jobs for a fixed number of threads, scheduled fairly between tenants.
//!
//! # Guarantees
//! - The next job belongs to the tenant whose jobs will have taken the least thread time after it, by its expected duration. So a
//!   tenant with short jobs precedes all tenants with long ones, and in the long run tenants that want everything get equal time.
//! - A tenant that was idle continues with the time of the others, so that idleness is no advantage.
//! - Tenants whose jobs take [`LONG`], and those without an ended job, leave one thread to tenants with short jobs.
//!
//! # Limits
//! A running job is not interrupted. So the first job of a new tenant may wait for the end of a long one, once. It precedes waiting
//! long jobs.

use hookloom_model::subscription::TenantId;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// Work of a plugin thread.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Minimum expected CPU time of a long call.
const LONG: Duration = Duration::from_millis(20);

/// Fraction by which a tenant's expected duration decreases with each shorter call.
const EXPECTED_FALLS_BY: u32 = 8;

/// Position of a tenant in the order: the time of its calls after the next one, and a ticket among equals.
type Turn = (Duration, u64);

/// Jobs of one tenant, and their cost.
#[derive(Default)]
struct TenantQueue {
    waiting: VecDeque<Job>,
    running: usize,
    /// CPU time that the tenant's jobs took, on a scale that all tenants share (see [`JobQueue::floor`]).
    spent: Duration,
    /// Expected CPU time of the next job: the longest of recent ones. None until the first job has ended.
    expected: Option<Duration>,
    /// Position of the tenant while it may begin a job, and whether it is in [`JobQueue::long`].
    turn: Option<(Turn, bool)>,
}

impl TenantQueue {
    /// Returns true if the tenant's jobs count as long, and must leave a thread to the short ones of other tenants.
    fn is_long(&self) -> bool {
        self.expected.is_none_or(|expected| expected >= LONG)
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running == 0
    }
}

/// Begun job, and the data for its end.
pub(super) struct Begun {
    pub(super) tenant: TenantId,
    pub(super) job: Job,
    /// True if the job counted as long when it began.
    pub(super) long: bool,
}

/// Ended job.
pub(super) struct Done {
    pub(super) tenant: TenantId,
    pub(super) long: bool,
    /// CPU time of the job's thread.
    pub(super) took: Duration,
}

/// Waiting jobs, by tenant. Fair queueing by finish times (Demers, Keshav and Shenker, 1989) on the virtual time of start-time fair
/// queueing (Goyal, Vin and Cheng, 1996), with the expected duration of a job in place of its length.
pub(super) struct JobQueue {
    by_tenant: HashMap<TenantId, TenantQueue>,
    /// Tenants with jobs that may begin one and whose jobs are short.
    short: BTreeMap<Turn, TenantId>,
    /// Tenants with jobs that may begin one and whose jobs are long or unknown.
    long: BTreeMap<Turn, TenantId>,
    long_running: usize,
    /// Maximum number of concurrent long jobs: one fewer than the number of threads.
    long_max: usize,
    tickets: u64,
    /// Time of the tenant that was served last, with which a tenant that was idle continues.
    floor: Duration,
    /// Number of tenants at which idle ones without an advantage over a new tenant are removed.
    forget_at: usize,
    /// Maximum number of concurrent jobs of one tenant.
    per_tenant: usize,
}

/// Lower bound of [`JobQueue::forget_at`]. An entry costs about 200 bytes. A removed tenant waits among the long jobs.
const FORGET_AT_LEAST: usize = 10_000;

impl JobQueue {
    /// Creates the queue for a number of threads, of which one tenant may use `per_tenant` at once.
    pub(super) fn new(threads: usize, per_tenant: usize) -> Self {
        JobQueue {
            by_tenant: HashMap::new(),
            short: BTreeMap::new(),
            long: BTreeMap::new(),
            long_running: 0,
            long_max: threads.saturating_sub(1).max(1),
            tickets: 0,
            floor: Duration::ZERO,
            forget_at: FORGET_AT_LEAST,
            per_tenant,
        }
    }

    /// Adds a job after the others of its tenant.
    pub(super) fn push(&mut self, tenant: &TenantId, job: Job) {
        self.by_tenant.entry(tenant.clone()).or_default().waiting.push_back(job);
        self.place(tenant);
    }

    /// Removes and returns the next job that may begin.
    pub(super) fn pop(&mut self) -> Option<Begun> {
        let short = self.short.first_key_value().map(|(turn, _)| *turn);
        let long = self.long.first_key_value().map(|(turn, _)| *turn).filter(|_| self.may_begin_long());
        let is_long = match (short, long) {
            (None, None) => return None,
            (Some(short), Some(long)) => long < short,
            (None, Some(_)) => true,
            (Some(_), None) => false,
        };
        let turns = if is_long { &mut self.long } else { &mut self.short };
        let (_, tenant) = turns.pop_first()?;
        let queue = self.by_tenant.get_mut(&tenant)?;
        queue.turn = None;
        self.floor = self.floor.max(queue.spent);
        let job = queue.waiting.pop_front()?;
        queue.running += 1;
        self.long_running += usize::from(is_long);
        self.place(&tenant);
        Some(Begun { tenant, job, long: is_long })
    }

    /// Charges a tenant for an ended job.
    pub(super) fn done(&mut self, Done { tenant, long, took }: &Done) {
        let floor = self.floor;
        self.long_running -= usize::from(*long);
        let Some(queue) = self.by_tenant.get_mut(tenant) else { return };
        queue.running -= 1;
        queue.spent += *took;
        let before = queue.expected.unwrap_or_default();
        queue.expected = Some((*took).max(before - before / EXPECTED_FALLS_BY));
        self.place(tenant);
        if self.by_tenant.len() >= self.forget_at {
            self.by_tenant.retain(|_, queue| !queue.is_idle() || queue.spent > floor);
            self.forget_at = FORGET_AT_LEAST.max(2 * self.by_tenant.len());
        }
    }

    /// Returns true if a job may begin now.
    pub(super) fn may_begin(&self) -> bool {
        !self.short.is_empty() || (!self.long.is_empty() && self.may_begin_long())
    }

    fn may_begin_long(&self) -> bool {
        self.long_running < self.long_max
    }

    /// Updates the position of a tenant after its jobs or their cost have changed.
    fn place(&mut self, tenant: &TenantId) {
        let Some(queue) = self.by_tenant.get_mut(tenant) else { return };
        let wants = !queue.waiting.is_empty() && queue.running < self.per_tenant;
        if wants {
            queue.spent = queue.spent.max(self.floor);
        }
        let finish = queue.spent + queue.expected.unwrap_or_default();
        let is_long = queue.is_long();
        if wants && queue.turn.is_some_and(|((at, _), was_long)| (at, was_long) == (finish, is_long)) {
            return;
        }
        if let Some((turn, was_long)) = queue.turn.take() {
            if was_long { &mut self.long } else { &mut self.short }.remove(&turn);
        }
        if wants {
            let turn = (finish, self.tickets);
            self.tickets += 1;
            queue.turn = Some((turn, is_long));
            if is_long { &mut self.long } else { &mut self.short }.insert(turn, tenant.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).expect(name)
    }

    /// Begins the next job and returns its tenant.
    fn begin(waiting: &mut JobQueue) -> Option<(TenantId, bool)> {
        waiting.pop().map(|begun| (begun.tenant, begun.long))
    }

    fn end(waiting: &mut JobQueue, (tenant, long): (TenantId, bool), took_ms: u64) {
        waiting.done(&Done { tenant, long, took: Duration::from_millis(took_ms) });
    }

    #[test]
    fn tenants_take_turns() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = JobQueue::new(9, 9);
        for (name, number) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("c", 6)] {
            let order = order.clone();
            waiting.push(&tenant(name), Box::new(move || order.lock().push(number)));
        }
        while let Some(Begun { tenant, job, long }) = waiting.pop() {
            job();
            end(&mut waiting, (tenant, long), 0);
        }
        assert_eq!(*order.lock(), [1, 4, 6, 2, 5, 3]);
        assert!(waiting.short.is_empty() && waiting.long.is_empty() && waiting.long_running == 0);
    }

    #[test]
    fn a_tenant_has_so_many_at_once() {
        let mut waiting = JobQueue::new(9, 2);
        for name in ["a", "a", "a", "b"] {
            waiting.push(&tenant(name), Box::new(|| {}));
        }
        let mut begun = || begin(&mut waiting).map(|(tenant, _)| tenant.to_string());
        assert_eq!([begun(), begun(), begun(), begun()], [Some("a".into()), Some("b".into()), Some("a".into()), None]);
        end(&mut waiting, (tenant("b"), true), 0);
        assert!(waiting.pop().is_none(), "b had one only, and a has two");
        end(&mut waiting, (tenant("a"), true), 0);
        assert_eq!(begin(&mut waiting), Some((tenant("a"), false)));
        end(&mut waiting, (tenant("a"), true), 0);
        end(&mut waiting, (tenant("a"), false), 0);
        assert!(waiting.short.is_empty() && waiting.long.is_empty() && waiting.long_running == 0);
    }

    const SPINNING: [&str; 6] = ["s1", "s2", "s3", "s4", "s5", "s6"];

    /// Returns a queue for three threads, with six tenants whose calls take a second, and one whose calls take a millisecond.
    fn spinning() -> JobQueue {
        let mut waiting = JobQueue::new(3, 2);
        waiting.push(&tenant("short"), Box::new(|| {}));
        let begun = begin(&mut waiting).expect("a job");
        end(&mut waiting, begun, 1);
        for name in SPINNING.iter().cycle().take(600) {
            waiting.push(&tenant(name), Box::new(|| {}));
        }
        for _ in SPINNING {
            let begun = begin(&mut waiting).expect("a job");
            end(&mut waiting, begun, 1_000);
        }
        waiting
    }

    #[test]
    fn long_calls_leave_a_thread_to_short_ones() {
        let mut waiting = spinning();
        let running = [begin(&mut waiting), begin(&mut waiting)].map(|begun| begun.expect("a job"));
        assert!(running.iter().all(|(_, long)| *long));
        assert_eq!(begin(&mut waiting), None, "the third thread is for short calls");
        for _ in 0..5 {
            waiting.push(&tenant("short"), Box::new(|| {}));
            let begun = begin(&mut waiting).expect("a job");
            assert_eq!(begun, (tenant("short"), false));
            end(&mut waiting, begun, 1);
        }
        for begun in running {
            end(&mut waiting, begun, 1_000);
        }
        assert_eq!([begin(&mut waiting), begin(&mut waiting)].map(|begun| begun.expect("a job").1), [true, true]);
        assert_eq!(begin(&mut waiting), None);
    }

    #[test]
    fn first_calls_leave_a_thread_to_short_ones_and_go_before_long_ones() {
        let mut waiting = spinning();
        for name in ["new", "new", "newer"] {
            waiting.push(&tenant(name), Box::new(|| {}));
        }
        let running = [begin(&mut waiting), begin(&mut waiting)].map(|begun| begun.expect("a job"));
        assert_eq!(running, [(tenant("new"), true), (tenant("newer"), true)]);
        assert_eq!(begin(&mut waiting), None, "nothing is known of them");
        waiting.push(&tenant("short"), Box::new(|| {}));
        assert_eq!(begin(&mut waiting), Some((tenant("short"), false)));
        for begun in running {
            end(&mut waiting, begun, 1);
        }
        assert_eq!(begin(&mut waiting), Some((tenant("new"), false)), "now it is known");
    }

    #[test]
    fn a_late_tenant_with_short_calls_goes_before_all_that_spin() {
        let mut waiting = spinning();
        for round in 0..50 {
            let long = begin(&mut waiting).expect("a job");
            assert!(long.1, "round {round}");
            // Its earlier position is long past, and all the others wait.
            waiting.push(&tenant("short"), Box::new(|| {}));
            let short = begin(&mut waiting).expect("a job");
            assert_eq!(short, (tenant("short"), false), "round {round}");
            end(&mut waiting, short, 1);
            end(&mut waiting, long, 1_000);
        }
    }

    #[test]
    fn a_spinning_tenant_counts_as_long_until_many_of_its_calls_were_short() {
        let mut waiting = JobQueue::new(3, 3);
        let spins = tenant("spins");
        waiting.push(&spins, Box::new(|| {}));
        let first = begin(&mut waiting).expect("a job");
        assert!(first.1, "nothing is known of it");
        end(&mut waiting, first, 1_000);
        let mut calls = 0;
        loop {
            waiting.push(&spins, Box::new(|| {}));
            let begun = begin(&mut waiting).expect("a job");
            if !begun.1 {
                break;
            }
            calls += 1;
            end(&mut waiting, begun, 0);
        }
        assert_eq!(calls, 30, "1,000 ms × (7/8)^30 are less than 20 ms");
    }

    #[test]
    fn idleness_earns_nothing() {
        let mut waiting = spinning();
        for _ in 0..12 {
            let begun = begin(&mut waiting).expect("a job");
            end(&mut waiting, begun, 1_000);
        }
        // A tenant that was idle does not make up for it: it gets as much as each of the others from now on.
        let late = tenant("late");
        let mut turns = 0;
        for _ in 0..70 {
            waiting.push(&late, Box::new(|| {}));
            let begun = begin(&mut waiting).expect("a job");
            turns += usize::from(begun.0 == late);
            end(&mut waiting, begun, 1_000);
        }
        assert!((8..=13).contains(&turns), "{turns} of 70 turns among seven");
    }
}

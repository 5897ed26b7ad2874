//! The plugin threads: as many as may judge at once, apart from tokio's, so that a busy guest holds up no socket.
//!
//! Each tenant has a queue of its own, and the threads take from the tenant whose calls took the least time. One tenant has fewer
//! calls at once than there are threads, so one whose plugins are slow does not delay another at all, and several delay it by
//! one call. What waits is bounded by those who ask: attempts under way and dry runs. A panic of the host's own code inside a
//! call ends that call, not the thread.
//!
//! To the kernel they are batch threads (`SCHED_BATCH`, sched(7)): where all cores are busy, one that gets a job does not
//! interrupt the thread that gave it, and so finds more jobs when its turn comes. An idle core takes it at once, as ever.

use super::call_record::CallRecords;
use crate::subscription::TenantId;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
    thread_schedule_policy,
};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// One tenant's jobs, and what they cost.
#[derive(Default)]
struct TenantQueue {
    waiting: VecDeque<Job>,
    running: usize,
    /// Thread time that the tenant's jobs took, on a scale that all tenants share (see [`Waiting::floor`]).
    spent: Duration,
    /// The tenant's place among those whose turn it may be.
    turn: Option<(Duration, u64)>,
}

/// Jobs that wait, by tenant. Whose jobs took the least time is next: start-time fair queueing (Goyal, Vin and Cheng, 1996), so
/// that a tenant with short calls waits for one call of another's to end, however many others spin.
struct Waiting {
    by_tenant: HashMap<TenantId, TenantQueue>,
    /// Tenants that have jobs and may begin one, by the time spent and then by ticket.
    turns: BTreeMap<(Duration, u64), TenantId>,
    tickets: u64,
    /// Time spent of the tenant whose turn came last. A tenant that was idle begins here: idleness earns nothing.
    floor: Duration,
    /// Number of tenants at which those without a claim are forgotten.
    forget_at: usize,
    /// How many jobs of one tenant may run at once.
    per_tenant: usize,
    /// How many threads wait for a job: nobody is woken in vain, which would be a system call for each job.
    idle: usize,
    stopped: bool,
}

const FORGET_AT_LEAST: usize = 64;

impl Waiting {
    fn new(per_tenant: usize) -> Self {
        Waiting {
            by_tenant: HashMap::new(),
            turns: BTreeMap::new(),
            tickets: 0,
            floor: Duration::ZERO,
            forget_at: FORGET_AT_LEAST,
            per_tenant,
            idle: 0,
            stopped: false,
        }
    }

    fn push(&mut self, tenant: &TenantId, job: Job) {
        self.by_tenant.entry(tenant.clone()).or_default().waiting.push_back(job);
        self.place(tenant);
    }

    fn pop(&mut self) -> Option<(TenantId, Job)> {
        let ((spent, _), tenant) = self.turns.pop_first()?;
        self.floor = self.floor.max(spent);
        let queue = self.by_tenant.get_mut(&tenant)?;
        queue.turn = None;
        let job = queue.waiting.pop_front()?;
        queue.running += 1;
        self.place(&tenant);
        Some((tenant, job))
    }

    fn done(&mut self, tenant: &TenantId, took: Duration) {
        let floor = self.floor;
        let Some(queue) = self.by_tenant.get_mut(tenant) else { return };
        queue.running -= 1;
        queue.spent += took;
        if queue.waiting.is_empty() && queue.running == 0 && queue.spent <= floor {
            self.by_tenant.remove(tenant);
            return;
        }
        self.place(tenant);
        if self.by_tenant.len() >= self.forget_at {
            self.by_tenant.retain(|_, queue| !queue.waiting.is_empty() || queue.running > 0 || queue.spent > floor);
            self.forget_at = FORGET_AT_LEAST.max(2 * self.by_tenant.len());
        }
    }

    /// Puts a tenant where it belongs among the turns, after its jobs or their cost have changed.
    fn place(&mut self, tenant: &TenantId) {
        let Some(queue) = self.by_tenant.get_mut(tenant) else { return };
        if queue.waiting.is_empty() || queue.running >= self.per_tenant {
            if let Some(turn) = queue.turn.take() {
                self.turns.remove(&turn);
            }
            return;
        }
        queue.spent = queue.spent.max(self.floor);
        if queue.turn.is_some_and(|(spent, _)| spent == queue.spent) {
            return;
        }
        if let Some(turn) = queue.turn.take() {
            self.turns.remove(&turn);
        }
        let turn = (queue.spent, self.tickets);
        self.tickets += 1;
        queue.turn = Some(turn);
        self.turns.insert(turn, tenant.clone());
    }
}

struct Queue {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job, after the one of the tenant `done`, which took so long; none once the threads shall stop.
    fn next(&self, done: Option<(TenantId, Duration)>) -> Option<(TenantId, Job)> {
        let mut waiting = self.lock();
        if let Some((tenant, took)) = done {
            waiting.done(&tenant, took);
        }
        loop {
            if waiting.stopped {
                return None;
            }
            if let Some(job) = waiting.pop() {
                return Some(job);
            }
            waiting.idle += 1;
            waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.idle -= 1;
        }
    }
}

/// The host's share of a plugin thread's stack, above the guest's.
pub(super) const HOST_STACK_BYTES: usize = 2 << 20;

/// A fixed number of threads. When this is dropped, each ends after the call that it is in, and nobody waits for that.
pub(super) struct Threads {
    queue: Arc<Queue>,
}

impl Threads {
    /// Starts them. Each can use tokio's clock types, as WASI's implementation wants, but runs no task.
    pub(super) fn start(
        count: usize,
        per_tenant: usize,
        guest_stack_bytes: usize,
        records: Option<CallRecords>,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue { waiting: Mutex::new(Waiting::new(per_tenant)), news: Condvar::new() });
        let runtime = tokio::runtime::Handle::current();
        let start_one = |index: usize| {
            let (queue, runtime) = (queue.clone(), runtime.clone());
            let thread = std::thread::Builder::new().name(format!("plugin-{index}"));
            thread.stack_size(guest_stack_bytes + HOST_STACK_BYTES).spawn(move || {
                work_in_batches();
                if let Some(records) = records {
                    records.attach(index);
                }
                let _context = runtime.enter();
                let mut done = None;
                while let Some((tenant, job)) = queue.next(done.take()) {
                    let begun = Instant::now();
                    let _ = catch_unwind(AssertUnwindSafe(job));
                    done = Some((tenant, begun.elapsed()));
                }
            })
        };
        // They are not waited for: one may be in a call that does not end.
        (0..count).try_for_each(|index| start_one(index).map(drop))?;
        Ok(Threads { queue })
    }

    /// Runs `work` on one of them, in its tenant's turn. None: the work panicked, or the threads have stopped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move || drop(answer.send(work())));
        let somebody_waits = {
            let mut waiting = self.queue.lock();
            waiting.push(tenant, job);
            waiting.idle > 0
        };
        if somebody_waits {
            self.queue.news.notify_one();
        }
        answered.await.ok()
    }
}

/// Niceness 0, which the library counts from 0 (nice 19) to 99 (nice -20).
const USUAL_PRIORITY: u8 = 47;

/// Makes the calling thread a batch thread. Where the system refuses, it stays what it is, which is only slower; and so it
/// does where the process has another policy or niceness than the usual: somebody chose that.
fn work_in_batches() {
    let other = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
    let is_usual = rustix::process::getpriority_process(None).is_ok_and(|niceness| niceness == 0)
        && thread_schedule_policy().is_ok_and(|policy| policy == other);
    let Some(priority) = USUAL_PRIORITY.try_into().ok().filter(|_| is_usual) else { return };
    let batch = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
    let set = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(priority), batch);
    if let Err(error) = set {
        tracing::debug!(?error, "a plugin thread is no batch thread");
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.queue.lock().stopped = true;
        self.queue.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_threads_are_batch_threads_as_nice_as_the_process() {
        let niceness = || rustix::process::getpriority_process(None).expect("a niceness");
        let threads = Threads::start(1, 1, 1 << 20, None).expect("a thread");
        let tenant = TenantId::parse("a").expect("a tenant");
        let found = threads.run(&tenant, move || (thread_schedule_policy(), niceness())).await;
        let (policy, its_niceness) = found.expect("it runs");
        assert_eq!(its_niceness, niceness());
        if niceness() == 0 {
            assert_eq!(policy, Ok(ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch)));
        }
    }

    #[test]
    fn tenants_take_turns() {
        let tenant = |name: &str| TenantId::parse(name).expect(name);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Waiting::new(9);
        for (name, number) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("c", 6)] {
            let order = order.clone();
            waiting.push(&tenant(name), Box::new(move || order.lock().expect("a lock").push(number)));
        }
        while let Some((tenant, job)) = waiting.pop() {
            job();
            waiting.done(&tenant, Duration::ZERO);
        }
        assert_eq!(*order.lock().expect("a lock"), [1, 4, 6, 2, 5, 3]);
        assert!(waiting.by_tenant.is_empty() && waiting.turns.is_empty());
    }

    #[test]
    fn a_tenant_has_so_many_at_once() {
        let tenant = |name: &str| TenantId::parse(name).expect(name);
        let mut waiting = Waiting::new(2);
        for name in ["a", "a", "a", "b"] {
            waiting.push(&tenant(name), Box::new(|| {}));
        }
        let mut begun = || waiting.pop().map(|(tenant, _)| tenant.to_string());
        assert_eq!([begun(), begun(), begun(), begun()], [Some("a".into()), Some("b".into()), Some("a".into()), None]);
        waiting.done(&tenant("b"), Duration::ZERO);
        assert!(waiting.pop().is_none(), "b had one only, and a has two");
        waiting.done(&tenant("a"), Duration::ZERO);
        assert_eq!(waiting.pop().map(|(tenant, _)| tenant.to_string()), Some("a".into()));
        waiting.done(&tenant("a"), Duration::ZERO);
        waiting.done(&tenant("a"), Duration::ZERO);
        assert!(waiting.by_tenant.is_empty() && waiting.turns.is_empty());
    }

    #[test]
    fn a_tenant_with_short_calls_does_not_wait_for_many_that_spin() {
        let tenant = |name: &str| TenantId::parse(name).expect(name);
        let mut waiting = Waiting::new(2);
        let spinning = ["s1", "s2", "s3", "s4", "s5", "s6"];
        for name in spinning.iter().cycle().take(30) {
            waiting.push(&tenant(name), Box::new(|| {}));
        }
        for _ in spinning {
            let (name, _) = waiting.pop().expect("a job");
            waiting.done(&name, Duration::from_secs(1));
        }
        for _ in 0..5 {
            waiting.push(&tenant("short"), Box::new(|| {}));
        }
        for _ in 0..5 {
            let (name, _) = waiting.pop().expect("a job");
            assert_eq!(name, tenant("short"));
            waiting.done(&name, Duration::from_millis(1));
        }
        // Idleness earns nothing: a tenant that comes now is the last among those that have spent as little as is usual.
        let (first, _) = waiting.pop().expect("a job");
        waiting.push(&tenant("new"), Box::new(|| {}));
        let (second, _) = waiting.pop().expect("a job");
        assert!([&first, &second].iter().all(|name| spinning.contains(&name.0.as_ref())), "{first} {second}");
    }
}

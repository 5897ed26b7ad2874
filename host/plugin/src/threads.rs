//! Plugin threads: separate from tokio's threads, so that a busy guest delays no socket.
//!
//! Each tenant has a queue. A thread takes the next job from the tenant whose calls, including the expected next one, took the
//! least time. Tenants with long calls leave one thread to the others, so that a tenant with short calls waits only for short
//! calls. The number of waiting jobs is bounded by the callers: attempts under way and dry runs. A panic of host code inside a call
//! ends that call, not the thread.
//!
//! The threads have the kernel's batch policy (`SCHED_BATCH`, sched(7)). If all cores are busy, a thread that gets a job does not
//! interrupt the thread that gave it, and so finds more jobs when it runs. An idle core runs it at once.
//!
//! # Cost and gain of the batch policy
//! Cost: one function and the crate `thread-priority`. Gain: the row *batch* of the bench takes 0.93 of the time. Remove it when a
//! kernel's scheduler makes no difference between the policies (`SCHED_BATCH` under EEVDF still does).

mod job_queue;

use super::call_record::CallRecords;
use hookloom_model::subscription::TenantId;
use job_queue::{Begun, Done, JobQueue};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
    thread_schedule_policy,
};
use tokio::sync::oneshot;

struct Waiting {
    jobs: JobQueue,
    /// Number of threads that wait for a job. If there is none, no thread is woken, which would cost a system call for each job.
    idle: usize,
    stopped: bool,
}

struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock()
    }

    /// Returns the next job after the one that is `done`. None: the threads stop.
    fn next(&self, done: Option<Done>) -> Option<Begun> {
        let mut waiting = self.lock();
        if let Some(done) = done {
            waiting.jobs.done(&done);
        }
        loop {
            if waiting.stopped {
                return None;
            }
            if let Some(begun) = waiting.jobs.pop() {
                // The ended job may have blocked another job of its tenant, or a long one, for which there is an idle thread.
                if waiting.idle > 0 && waiting.jobs.may_begin() {
                    self.changed.notify_one();
                }
                return Some(begun);
            }
            waiting.idle += 1;
            self.changed.wait(&mut waiting);
            waiting.idle -= 1;
        }
    }
}

/// Part of a plugin thread's stack for the host, above the guest's, in bytes.
pub(super) const HOST_STACK_BYTES: usize = 2 << 20;

/// Fixed number of threads. When dropped, each thread ends after its current call, without a wait for it.
pub(super) struct Threads {
    queue: Arc<Queue>,
}

impl Threads {
    /// Starts the threads. Each can use tokio's clock types, which WASI's implementation needs, but runs no task.
    pub(super) fn start(
        count: usize,
        per_tenant: usize,
        guest_stack_bytes: usize,
        records: Option<CallRecords>,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue {
            waiting: Mutex::new(Waiting { jobs: JobQueue::new(count, per_tenant), idle: 0, stopped: false }),
            changed: Condvar::new(),
        });
        let runtime = tokio::runtime::Handle::current();
        let start_one = |index: usize| {
            let queue = queue.clone();
            let runtime = runtime.clone();
            let thread = std::thread::Builder::new().name(format!("plugin-{index}"));
            thread.stack_size(guest_stack_bytes + HOST_STACK_BYTES).spawn(move || {
                work_in_batches();
                if let Some(records) = records {
                    records.attach(index);
                }
                let _context = runtime.enter();
                let mut done = None;
                while let Some(Begun { tenant, job, long }) = queue.next(done.take()) {
                    let begun = thread_cpu_time();
                    let _ = catch_unwind(AssertUnwindSafe(job));
                    done = Some(Done { tenant, long, took: thread_cpu_time().saturating_sub(begun) });
                }
            })
        };
        // Not joined, because a thread may be in a call that does not end.
        (0..count).try_for_each(|index| start_one(index).map(drop))?;
        Ok(Threads { queue })
    }

    /// Runs `work` on a thread, when its tenant's turn comes. None: the work panicked, or the threads have stopped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move || drop(answer.send(work())));
        let somebody_waits = {
            let mut waiting = self.queue.lock();
            waiting.jobs.push(tenant, job);
            waiting.idle > 0
        };
        if somebody_waits {
            self.queue.changed.notify_one();
        }
        answered.await.ok()
    }
}

/// Niceness 0. The library counts from 0 (nice 19) to 99 (nice -20).
const USUAL_PRIORITY: u8 = 47;

/// Gives the calling thread the batch policy, if the process has the default policy and niceness. Errors are ignored, because the
/// thread is only slower without it.
fn work_in_batches() {
    let other = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
    let is_usual = rustix::process::getpriority_process(None).is_ok_and(|niceness| niceness == 0)
        && thread_schedule_policy().is_ok_and(|policy| policy == other);
    let Some(priority) = USUAL_PRIORITY.try_into().ok().filter(|_| is_usual) else { return };
    let batch = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
    let set = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(priority), batch);
    if let Err(error) = set {
        tracing::debug!(?error, "a plugin thread could not become a batch thread");
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.queue.lock().stopped = true;
        self.queue.changed.notify_all();
    }
}

/// Returns the CPU time of the calling thread, which excludes preemption.
pub(super) fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
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
}

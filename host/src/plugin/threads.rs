//! The plugin threads: as many as may judge at once, apart from tokio's, so that a busy guest holds up no socket.
//!
//! Each tenant has a queue of its own and the threads take from them in turn, so that a tenant whose plugins are slow
//! delays another by one call at the most. What waits is bounded by those who ask: attempts under way and dry runs. A
//! panic of the host's own code inside a call ends that call, not the thread.

use crate::subscription::TenantId;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Waiting {
    by_tenant: HashMap<TenantId, VecDeque<Job>>,
    /// The tenants that have jobs, in the order of their turns.
    turns: VecDeque<TenantId>,
    stopped: bool,
}

impl Waiting {
    fn push(&mut self, tenant: &TenantId, job: Job) {
        let queue = self.by_tenant.entry(tenant.clone()).or_default();
        if queue.is_empty() {
            self.turns.push_back(tenant.clone());
        }
        queue.push_back(job);
    }

    fn pop(&mut self) -> Option<Job> {
        let tenant = self.turns.pop_front()?;
        let queue = self.by_tenant.get_mut(&tenant)?;
        let job = queue.pop_front();
        match queue.is_empty() {
            true => drop(self.by_tenant.remove(&tenant)),
            false => self.turns.push_back(tenant),
        }
        job
    }
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; none once the threads shall stop.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            if waiting.stopped {
                return None;
            }
            if let Some(job) = waiting.pop() {
                return Some(job);
            }
            waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A fixed number of threads.
pub(super) struct Threads {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts them. Each can use tokio's clock types, as WASI's implementation wants, but runs no task.
    pub(super) fn start(count: usize) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let runtime = tokio::runtime::Handle::current();
        let start_one = |index: usize| {
            let (queue, runtime) = (queue.clone(), runtime.clone());
            std::thread::Builder::new().name(format!("plugin-{index}")).spawn(move || {
                let _context = runtime.enter();
                while let Some(job) = queue.next() {
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            })
        };
        let threads = (0..count).map(start_one).collect::<std::io::Result<_>>()?;
        Ok(Threads { queue, threads })
    }

    /// Runs `work` on one of them, in its tenant's turn. None: the work panicked, or the threads have stopped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.queue.lock().push(tenant, Box::new(move || drop(answer.send(work()))));
        self.queue.news.notify_one();
        answered.await.ok()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.queue.lock().stopped = true;
        self.queue.news.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_take_turns() {
        let tenant = |name: &str| TenantId::parse(name).expect(name);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Waiting::default();
        for (name, number) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("c", 6)] {
            let order = order.clone();
            waiting.push(&tenant(name), Box::new(move || order.lock().expect("a lock").push(number)));
        }
        while let Some(job) = waiting.pop() {
            job();
        }
        assert_eq!(*order.lock().expect("a lock"), [1, 4, 6, 2, 5, 3]);
        assert!(waiting.by_tenant.is_empty() && waiting.turns.is_empty());
    }
}

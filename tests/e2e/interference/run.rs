//! Run of one scenario: a fresh host, B alone, B during the attack, and the time until everything of B has arrived.
//!
//! The attackers run on threads of lower priority. In reality they would be on other machines; here, they should use idle time and
//! not the host's, so that the table does not show the cost of the attackers themselves.

use super::arena::{Arena, Attack, HONEST, Scale};
use super::figures::Outcome;
use super::probe::Probe;
use crate::harness::{Host, target};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Kind of attack.
pub(super) struct Scenario {
    /// Name for `--row`.
    pub(super) name: &'static str,
    /// First column of the table.
    pub(super) what: &'static str,
    /// Prepares the attackers, which later begin all at once.
    pub(super) prepare: fn(Arena) -> BoxFuture<'static, Vec<Attack>>,
    /// True to restart the host without its compiled code when the attack begins.
    pub(super) restarts: bool,
}

impl Scenario {
    pub(super) const fn new(
        name: &'static str,
        what: &'static str,
        prepare: fn(Arena) -> BoxFuture<'static, Vec<Attack>>,
    ) -> Self {
        Scenario { name, what, prepare, restarts: false }
    }
}

/// Durations of a run.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) scale: Scale,
    /// Time between two events of B.
    pub(super) pace: Duration,
    pub(super) alone: Duration,
    pub(super) during: Duration,
    /// Time after the attack within which B's last delivery must arrive.
    pub(super) patience: Duration,
}

/// Time for the host to become quiet before B is measured alone.
const QUIET: Duration = Duration::from_secs(1);

/// Increment of the attackers' niceness, `nice(2)`.
const NICE: i32 = 10;

/// Threads of the attackers.
struct AttackerThreads(Option<Runtime>);

impl AttackerThreads {
    fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().on_thread_start(|| {
            // On Linux, niceness belongs to the thread.
            let _ = rustix::process::nice(NICE);
        });
        AttackerThreads(Some(builder.build().unwrap()))
    }

    fn spawn<F: Future<Output: Send> + Send + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        self.0.as_ref().unwrap().spawn(future)
    }
}

impl Drop for AttackerThreads {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// Peak of a host's resident memory since `reset`, in MiB (proc(5): VmHWM and clear_refs). The last figure of a host that died is
/// kept.
#[derive(Default)]
struct Peak(u64);

impl Peak {
    fn look(&mut self, host: &Host) {
        let Some(pid) = host.process.id() else { return };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        self.0 = self.0.max(kib.unwrap_or(0) / 1_024);
    }

    fn reset(&mut self, host: &Host) {
        self.0 = 0;
        if let Some(pid) = host.process.id() {
            let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }

    /// Reads the peak repeatedly for this time.
    async fn watch(&mut self, host: &Host, lasts: Duration) {
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            self.look(host);
            tokio::time::sleep(Duration::from_millis(100).min(lasts)).await;
        }
    }
}

/// Runs a scenario and returns its figures.
pub(super) async fn run(scenario: &Scenario, plan: Plan) -> Outcome {
    let threads = AttackerThreads::new();
    let probe = Probe::start().await;
    // On a disk instead of a folder in memory, so that a flush has its real cost.
    let folder = Arc::new(tempfile::TempDir::new_in(target()).unwrap());
    let mut host = Host::with().within_memory().on(folder).start().await;
    let arena = Arena::new(&host, plan.scale);
    let mut honest = arena.honest(&probe.receiver_url, plan.pace).await;
    let attacks = threads.spawn((scenario.prepare)(arena.clone())).await.unwrap();

    let mut peak = Peak::default();
    probe.aim(Some(honest.clone()));
    peak.watch(&host, QUIET).await;
    let alone = Instant::now();
    peak.watch(&host, plan.alone).await;
    let alone = alone..Instant::now();
    let memory_alone = peak.0;

    if scenario.restarts {
        probe.aim(None);
        probe.settle(Instant::now() + plan.patience).await;
        let begun;
        (host, begun) = restart_without_compiled_code(host).await;
        honest.url.clone_from(&host.url);
        probe.aim(Some(honest));
        arena.note(format!(
            "first 202 {:.1} s after the start",
            first_accepted(&probe, begun, plan).await.as_secs_f64()
        ));
    }
    peak.reset(&host);
    let during = Instant::now();
    let attackers: Vec<_> = attacks.into_iter().map(|attack| threads.spawn(attack)).collect();
    peak.watch(&host, plan.during).await;
    let during = during..Instant::now();
    attackers.iter().for_each(JoinHandle::abort);
    probe.aim(None);
    tokio::select! {
        () = probe.settle(Instant::now() + plan.patience) => {}
        () = peak.watch(&host, 2 * plan.patience) => {}
    }
    peak.look(&host);
    let figures = probe.figures(&during);
    let host_alive = is_alive(&mut host).await;
    Outcome {
        alone: probe.figures(&alone),
        memory_mib: [memory_alone, peak.0],
        lost: if host_alive { figures.late.saturating_sub(pending(&host).await) } else { 0 },
        during: figures,
        host_alive,
        notes: arena.notes(),
    }
}

/// Returns the number of B's pending deliveries.
async fn pending(host: &Host) -> usize {
    let ledger = host.get(&format!("/v1/tenants/{HONEST}/ledger")).await;
    ledger["pending"].as_u64().unwrap() as usize
}

/// Stops a host, removes its compiled code, and starts it again. Returns the beginning of the start as well.
async fn restart_without_compiled_code(host: Host) -> (Host, Instant) {
    let data = host.data();
    let (_, folder) = host.stop().await;
    std::fs::remove_dir_all(data.join("compiled")).unwrap();
    let begun = Instant::now();
    (Host::with().within_memory().on(folder).start().await, begun)
}

async fn first_accepted(probe: &Probe, begun: Instant, plan: Plan) -> Duration {
    let give_up = Instant::now() + plan.patience;
    loop {
        if let Some(at) = probe.first_accepted_after(begun) {
            return at - begun;
        }
        assert!(Instant::now() < give_up, "no event was accepted after the restart");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns true if the process runs and answers.
async fn is_alive(host: &mut Host) -> bool {
    if host.process.try_wait().unwrap().is_some() {
        return false;
    }
    let health = host.try_ask("", reqwest::Method::GET, "/healthz", "");
    tokio::time::timeout(Duration::from_secs(30), health).await.is_ok_and(|answer| answer.is_ok())
}

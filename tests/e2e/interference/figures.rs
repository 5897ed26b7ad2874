//! Figures of one scenario: latencies, counts and memory, compared with goals.

use std::fmt;
use std::time::Duration;

/// Sorted latencies of one kind of request.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(super) fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Latencies(all)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the nearest-rank percentile. The longest possible time if there are no latencies.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(Duration::MAX)
    }

    fn p99(&self) -> Duration {
        self.percentile(99)
    }
}

/// Formats p50 and p99 in milliseconds.
impl fmt::Display for Latencies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_str("none");
        }
        let ms = |percent| self.percentile(percent).as_secs_f64() * 1e3;
        fn shown(ms: f64) -> String {
            if ms < 9.95 { format!("{ms:.1}") } else { format!("{ms:.0}") }
        }
        write!(out, "{} / {}", shown(ms(50)), shown(ms(99)))
    }
}

/// Figures of B's requests within a window.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) post: Latencies,
    pub(super) health: Latencies,
    pub(super) read: Latencies,
    /// Time from the sending of an event to its arrival, for each of B's two subscriptions: without and with a plugin.
    pub(super) delivery: [Latencies; 2],
    pub(super) sent: usize,
    /// Number of events that were not answered with 202, and of requests of `/healthz` and reads that were not answered with 200.
    pub(super) not_accepted: usize,
    pub(super) no_health: usize,
    pub(super) not_read: usize,
    /// Number of deliveries of accepted events that had not arrived after the patience.
    pub(super) late: usize,
}

/// Figures of one scenario.
pub(super) struct Outcome {
    pub(super) alone: Figures,
    pub(super) during: Figures,
    /// Peak resident memory of the host in MiB, alone and during the attack (until B's last delivery).
    pub(super) memory_mib: [u64; 2],
    pub(super) host_alive: bool,
    /// Number of B's late deliveries that the host does not know as pending.
    pub(super) lost: usize,
    /// Figures of this scenario only.
    pub(super) notes: Vec<String>,
}

/// Goals of a scenario.
#[derive(Clone, Copy)]
pub(super) struct Goals {
    pub(super) post: Duration,
    pub(super) health: Duration,
    /// Goal for B's reads.
    pub(super) read: Duration,
    pub(super) delivery: Duration,
    pub(super) memory_mib: u64,
}

impl Outcome {
    /// Returns the missed goals, as short texts.
    pub(super) fn missed(&self, goals: &Goals) -> Vec<String> {
        let Figures { post, health, read, delivery, .. } = &self.during;
        let checks = [
            ("host died", !self.host_alive),
            ("deliveries lost", self.lost > 0),
            ("events not accepted", self.during.not_accepted > 0),
            ("deliveries late", self.during.late > 0),
            ("POST", post.p99() > goals.post),
            ("healthz", health.p99() > goals.health || self.during.no_health > 0),
            ("GET", read.p99() > goals.read || self.during.not_read > 0),
            ("delivery", delivery[0].p99() > goals.delivery),
            ("delivery with plugin", delivery[1].p99() > goals.delivery),
            ("memory", self.memory_mib[1] > goals.memory_mib),
        ];
        checks.into_iter().filter(|(_, missed)| *missed).map(|(name, _)| name.to_owned()).collect()
    }

    /// Returns true if the host ended or lost events, which breaks a guarantee.
    pub(super) fn is_broken(&self) -> bool {
        !self.host_alive || self.lost > 0
    }

    /// Line of the table.
    pub(super) fn line(&self, what: &str, goals: &Goals) -> String {
        let alone = &self.alone;
        let during = &self.during;
        let missed = self.missed(goals);
        let verdict = if missed.is_empty() { "met".to_owned() } else { format!("missed: {}", missed.join(", ")) };
        let notes: String = self.notes.iter().map(|note| format!("; {note}")).collect();
        format!(
            "| {what} | {} → {} | {} → {} | {} → {} | {} → {} | {} → {} | {} → {} | {} / {} | {} / {} | {verdict}{notes} |",
            alone.post,
            during.post,
            alone.health,
            during.health,
            alone.read,
            during.read,
            alone.delivery[0],
            during.delivery[0],
            alone.delivery[1],
            during.delivery[1],
            self.memory_mib[0],
            self.memory_mib[1],
            during.sent,
            during.not_accepted,
            during.late,
            self.lost,
        )
    }
}

/// Head of the table.
pub(super) const HEAD: &str = "\
| scenario | POST, ms | /healthz, ms | GET, ms | delivery, ms | with a plugin, ms | memory, MiB | events sent / not accepted | deliveries late / lost | goals |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

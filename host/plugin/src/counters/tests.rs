//! Percentiles, and figures of several hosts.

use super::*;

impl StoredCounters {
    /// Returns the number of calls of the canary on this host.
    pub(crate) fn canary_calls(&self) -> u64 {
        self.canary.calls
    }
}

#[test]
fn percentiles_are_by_nearest_rank() {
    assert_eq!(p95(Vec::new()), 0);
    assert_eq!(p95(vec![7]), 7);
    assert_eq!(p95((1..=100).collect()), 95);
}

/// Returns the counters of a host whose canary made calls of this CPU time.
fn host(calls: u64, cpu_us: u64) -> StoredCounters {
    let mut counters = StoredCounters { same: 1, different: 2, skipped: 3, ..StoredCounters::default() };
    (0..calls).for_each(|number| counters.canary.note(CountedCall { cpu_us, failed: number < 5 }));
    counters
}

#[test]
fn the_figures_of_hosts_are_added_and_their_calls_share_the_percentile() {
    let here = host(2_500, 100);
    let elsewhere = [host(300, 900), host(10, 500)];
    let alone = here.figures(RolloutKind::Shadow, &[], Vec::new());
    assert_eq!((alone.canary.calls, alone.canary.faults, alone.canary.cpu_us_p95), (2_500, 5, 100));
    let all = here.figures(RolloutKind::Shadow, &elsewhere, Vec::new());
    assert_eq!((all.canary.calls, all.canary.faults, all.canary.cpu_us_p95), (2_810, 15, 900));
    assert_eq!((all.same, all.different, all.skipped), (3, 6, 9));
}

#[test]
fn another_host_reads_the_same_percentile() {
    let here = host(2_500, 100);
    let there = host(2_500, 900);
    let stored = StoredCounters::of_all(&[there.clone().into_stored()]);
    let [read, known] = [stored, vec![there]]
        .map(|elsewhere| serde_json::json!(here.figures(RolloutKind::Canary, &elsewhere, Vec::new())));
    assert_eq!(read, known);
}

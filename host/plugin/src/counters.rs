//! Counters of a rollout, and the figures that are computed from those of all hosts.
//!
//! # Guarantees
//! - Each host counts its own calls. The figures of a rollout are those of all hosts together.
//!
//! # Limits
//! Percentiles of several hosts cannot be added: they are computed from the last [`TIMES_STORED`] calls of each host, so every host has
//! the same weight.

use super::canary_test::{CanaryTest, CanaryTestFigures, CpuBaseline};
use super::difference::Difference;
use hookloom_store::{RolloutKind, StoredRollout};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use utoipa::ToSchema;

/// Number of CPU times that are kept of each arm, and number of these that are stored.
const TIMES_MAX: usize = 2_000;
const TIMES_STORED: usize = 200;

/// Counters of one host, which are stored as JSON and survive a restart.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StoredCounters {
    pub(super) canary: ArmCounts,
    pub(super) active: ArmCounts,
    pub(super) test: CanaryTest,
    pub(super) same: u64,
    pub(super) different: u64,
    pub(super) skipped: u64,
}

/// Counters of the calls of one arm.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ArmCounts {
    calls: u64,
    faults: u64,
    cpu_us: VecDeque<u64>,
    /// 95th percentile of the CPU times, and number of calls when it was computed.
    #[serde(skip)]
    p95: (u64, u64),
}

/// Call of a version, as the test of a canary counts it.
#[derive(Clone, Copy)]
pub(super) struct CountedCall {
    pub(super) cpu_us: u64,
    /// Set when the call ended in a fault or failure of the plugin.
    pub(super) failed: bool,
}

/// Figures of one arm of a rollout.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct ArmFigures {
    /// Number of calls.
    pub calls: u64,
    /// Number of calls that ended in a fault or failure of the plugin.
    pub faults: u64,
    /// 95th percentile of the CPU time of the last 2,000 calls, in microseconds. With several hosts, of the last 200 calls of each.
    pub cpu_us_p95: u64,
}

/// Figures of a rollout.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RolloutFigures {
    /// Figures of the canary.
    pub canary: ArmFigures,
    /// Figures of the active version since the rollout began.
    pub active: ArmFigures,
    /// Test that ends a canary automatically. Absent for a shadow.
    pub test: Option<CanaryTestFigures>,
    /// Number of events that a shadow judged like the active version.
    pub same: u64,
    /// Number of events that a shadow judged differently.
    pub different: u64,
    /// Number of events that a shadow did not judge, because the host had no capacity.
    pub skipped: u64,
    /// Latest differences on this host since it started, the newest first.
    pub differences: Vec<Difference>,
}

impl RolloutFigures {
    /// Returns the figures of a rollout that has ended. None: its counters were not stored.
    pub(super) fn of_ended(stored: &StoredRollout) -> Option<Self> {
        let elsewhere = StoredCounters::of_all(&stored.counts_elsewhere);
        let own = StoredCounters::of(&stored.counts);
        if own.is_none() && elsewhere.is_empty() {
            return None;
        }
        Some(own.unwrap_or_default().figures(stored.kind, &elsewhere, Vec::new()))
    }
}

impl StoredCounters {
    /// Reads stored counters. None: nothing was counted, or an earlier version of the host wrote them in another form.
    pub(super) fn of(stored: &str) -> Option<Self> {
        serde_json::from_str(stored).ok()
    }

    /// Reads the stored counters of several hosts.
    pub(super) fn of_all(stored: &[String]) -> Vec<Self> {
        stored.iter().filter_map(|stored| StoredCounters::of(stored)).collect()
    }

    /// Returns the counters to store, as JSON.
    pub(super) fn into_stored(mut self) -> String {
        for arm in [&mut self.canary, &mut self.active] {
            let over = arm.cpu_us.len().saturating_sub(TIMES_STORED);
            arm.cpu_us.drain(..over);
        }
        serde_json::to_string(&self).unwrap_or_default()
    }

    /// Returns the figures of this host and of others together.
    pub(super) fn figures(
        &self,
        kind: RolloutKind,
        elsewhere: &[StoredCounters],
        differences: Vec<Difference>,
    ) -> RolloutFigures {
        let all = || std::iter::once(self).chain(elsewhere);
        let canaries: Vec<&ArmCounts> = all().map(|host| &host.canary).collect();
        let actives: Vec<&ArmCounts> = all().map(|host| &host.active).collect();
        let tests: Vec<&CanaryTest> = elsewhere.iter().map(|host| &host.test).collect();
        RolloutFigures {
            canary: ArmCounts::figures(&canaries),
            active: ArmCounts::figures(&actives),
            test: (kind == RolloutKind::Canary).then(|| self.test.figures(&tests)),
            same: all().map(|host| host.same).sum(),
            different: all().map(|host| host.different).sum(),
            skipped: all().map(|host| host.skipped).sum(),
            differences,
        }
    }
}

impl ArmCounts {
    /// Counts a call without its CPU time. A call right after another version's call of the same event takes half as long, because the
    /// processor's caches are warm.
    pub(super) fn count(&mut self, call: CountedCall) {
        self.calls += 1;
        self.faults += u64::from(call.failed);
    }

    pub(super) fn note(&mut self, call: CountedCall) {
        self.count(call);
        if self.cpu_us.len() == TIMES_MAX {
            self.cpu_us.pop_front();
        }
        self.cpu_us.push_back(call.cpu_us);
    }

    /// Returns the 95th percentile for the test. Computed again after 2 % more calls, because sorting costs more than a call.
    pub(super) fn cpu_baseline(&mut self) -> CpuBaseline {
        let (mut p95_us, at_calls) = self.p95;
        if self.calls > at_calls + at_calls.min(TIMES_MAX as u64) / 50 {
            p95_us = p95(self.cpu_us.iter().copied().collect());
            self.p95 = (p95_us, self.calls);
        }
        CpuBaseline { p95_us, calls: self.cpu_us.len() }
    }

    /// Returns the figures of the hosts together.
    fn figures(hosts: &[&ArmCounts]) -> ArmFigures {
        // Only this many times of another host are stored.
        let times_max = if hosts.len() > 1 { TIMES_STORED } else { TIMES_MAX };
        let times = hosts.iter().flat_map(|host| host.cpu_us.iter().rev().take(times_max).copied());
        ArmFigures {
            calls: hosts.iter().map(|host| host.calls).sum(),
            faults: hosts.iter().map(|host| host.faults).sum(),
            cpu_us_p95: p95(times.collect()),
        }
    }
}

/// Returns the 95th percentile by nearest rank; 0 without values.
pub(super) fn p95(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    let rank = (values.len() * 95).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;

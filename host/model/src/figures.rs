//! Counts, latencies and costs of a span of time, which can be merged.
//!
//! Latencies are counted in buckets, four of them to an octave, so that a percentile is accurate to a tenth. Pure.

use crate::delivery::AttemptOutcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Histogram of latencies: the number in each bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Latencies(BTreeMap<u8, u64>);

/// Number of buckets to an octave.
const BUCKETS_PER_OCTAVE: f64 = 4.0;

impl Latencies {
    /// Counts a latency, in microseconds.
    pub fn add(&mut self, us: u64) {
        let bucket = ((us.max(1) as f64).log2() * BUCKETS_PER_OCTAVE).floor().min(255.0) as u8;
        *self.0.entry(bucket).or_default() += 1;
    }

    fn merge(&mut self, other: &Latencies) {
        for (bucket, count) in &other.0 {
            *self.0.entry(*bucket).or_default() += count;
        }
    }

    /// Returns the number of latencies.
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns the latency that this percentage does not exceed, in microseconds: the middle of its bucket. None: there are no
    /// latencies.
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        let rank = (self.count() as f64 * percent / 100.0).ceil().max(1.0);
        let mut seen = 0.0;
        let bucket = self.0.iter().find(|(_, count)| {
            seen += **count as f64;
            seen >= rank
        })?;
        Some(((f64::from(*bucket.0) + 0.5) / BUCKETS_PER_OCTAVE).exp2().round() as u64)
    }

    /// Returns the sum of all latencies, in microseconds, by the middles of their buckets.
    pub fn sum_us(&self) -> u64 {
        fn middle(bucket: u8) -> f64 {
            ((f64::from(bucket) + 0.5) / BUCKETS_PER_OCTAVE).exp2()
        }
        self.0.iter().map(|(bucket, count)| middle(*bucket) * *count as f64).sum::<f64>() as u64
    }
}

/// CPU time of the calls of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginCpu {
    /// CPU time of all calls, in microseconds.
    pub total_us: u64,
    /// CPU times of the calls.
    pub calls: Latencies,
}

impl PluginCpu {
    fn add(&mut self, us: u64) {
        self.total_us = self.total_us.saturating_add(us);
        self.calls.add(us);
    }

    /// Adds the calls of another one.
    pub fn merge(&mut self, other: &PluginCpu) {
        self.total_us = self.total_us.saturating_add(other.total_us);
        self.calls.merge(&other.calls);
    }

    /// Returns the mean of a call, in microseconds. None: there are no calls.
    pub fn mean_us(&self) -> Option<u64> {
        self.total_us.checked_div(self.calls.count())
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Counters of accepted events and of attempts, with latencies of POSTs and plugin calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Events that were accepted. They are counted for the tenant, not for a subscription.
    #[serde(skip_serializing_if = "is_zero")]
    pub accepted: u64,
    /// Attempts that delivered.
    pub delivered: u64,
    /// Attempts that failed, at the receiver or in the plugin.
    pub failed: u64,
    /// Attempts that the plugin dropped.
    pub dropped: u64,
    /// Durations of POSTs.
    pub post: Latencies,
    /// Durations of plugin calls.
    pub plugin: Latencies,
    /// Faults of plugins, by `NAME@SHA256` of the version.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<String, u64>,
    /// CPU times of plugins, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cpu: BTreeMap<String, PluginCpu>,
}

impl Figures {
    /// Counts an attempt.
    pub fn add(&mut self, outcome: AttemptOutcome, post_us: Option<u64>, plugin_us: Option<u64>) {
        match outcome {
            AttemptOutcome::Delivered => self.delivered += 1,
            AttemptOutcome::Dropped => self.dropped += 1,
            AttemptOutcome::Later => {}
            AttemptOutcome::Failed
            | AttemptOutcome::PluginFailure
            | AttemptOutcome::PluginFault
            | AttemptOutcome::HostFault => self.failed += 1,
        }
        post_us.into_iter().for_each(|us| self.post.add(us));
        plugin_us.into_iter().for_each(|us| self.plugin.add(us));
    }

    /// Counts a call of a plugin.
    pub fn add_call(&mut self, plugin: &str, cpu_us: u64) {
        match self.cpu.get_mut(plugin) {
            Some(known) => known.add(cpu_us),
            None => self.cpu.entry(plugin.to_owned()).or_default().add(cpu_us),
        }
    }

    /// Counts the fault of a plugin version.
    pub fn add_fault(&mut self, plugin: &str, sha256: &str) {
        *self.faults.entry(format!("{plugin}@{sha256}")).or_default() += 1;
    }

    /// Adds other figures.
    pub fn merge(&mut self, other: &Figures) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.dropped += other.dropped;
        self.post.merge(&other.post);
        self.plugin.merge(&other.plugin);
        for (version, count) in &other.faults {
            *self.faults.entry(version.clone()).or_default() += count;
        }
        for (plugin, cpu) in &other.cpu {
            self.cpu.entry(plugin.clone()).or_default().merge(cpu);
        }
    }

    /// Returns the number of attempts.
    pub fn attempts(&self) -> u64 {
        self.delivered + self.failed + self.dropped
    }

    /// Returns the success rate of sent requests, in percent. None: nothing was sent.
    pub fn success(&self) -> Option<f64> {
        let sent = self.delivered + self.failed;
        (sent > 0).then(|| 100.0 * self.delivered as f64 / sent as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_of_nothing_and_of_one() {
        let mut latencies = Latencies::default();
        assert_eq!((latencies.percentile(50.0), latencies.count()), (None, 0));
        latencies.add(1_000);
        let p99 = latencies.percentile(99.0).expect("one");
        assert!((900..=1_100).contains(&p99), "{p99}");
    }

    #[test]
    fn the_cpu_time_of_a_plugin_is_exact_in_sum() {
        let mut figures = Figures::default();
        assert_eq!(PluginCpu::default().mean_us(), None);
        figures.add_call("flatten", 100);
        let mut other = Figures { accepted: 3, ..Figures::default() };
        other.add_call("flatten", 201);
        other.add_call("redact", 7);
        figures.merge(&other);
        let cpu = &figures.cpu["flatten"];
        assert_eq!((figures.accepted, cpu.total_us, cpu.calls.count(), cpu.mean_us()), (3, 301, 2, Some(150)));
        assert_eq!(figures.cpu["redact"].total_us, 7);
        // Figures of earlier programs have neither, and those without plugins are stored as before.
        let earlier = r#"{"delivered":1,"failed":0,"dropped":0,"post":{},"plugin":{}}"#;
        let read: Figures = serde_json::from_str(earlier).expect("figures");
        assert_eq!((read.accepted, read.cpu.len()), (0, 0));
        assert_eq!(serde_json::to_string(&read).expect("a text"), earlier);
    }

    proptest! {
        #[test]
        fn a_percentile_is_right_to_a_tenth(mut all in proptest::collection::vec(1u64..100_000_000, 1..200), percent in 1.0f64..100.0) {
            let mut latencies = Latencies::default();
            all.iter().for_each(|us| latencies.add(*us));
            all.sort_unstable();
            let exact = all[((all.len() as f64 * percent / 100.0).ceil() as usize).max(1) - 1] as f64;
            let found = latencies.percentile(percent).expect("there is one") as f64;
            prop_assert!((found - exact).abs() <= exact * 0.12 + 1.0, "{found} for {exact}");
        }

        #[test]
        fn merged_figures_are_the_sum(one in proptest::collection::vec(1u64..1_000_000, 0..50), other in proptest::collection::vec(1u64..1_000_000, 0..50)) {
            let figures = |all: &[u64]| {
                let mut figures = Figures::default();
                all.iter().for_each(|us| figures.add(if us % 3 == 0 { AttemptOutcome::Failed } else { AttemptOutcome::Delivered }, Some(*us), None));
                figures
            };
            let mut merged = figures(&one);
            merged.merge(&figures(&other));
            prop_assert_eq!(merged, figures(&[one, other].concat()));
        }
    }
}

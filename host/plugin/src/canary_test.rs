//! Sequential test that ends a canary when it does worse than the active version.
//!
//! # Guarantees
//! - A canary that is no worse than the active version is ended for its faults with a probability of at most 0.2 % over its whole
//!   life, however long that is and however often the test looks. For its CPU time the same was found by simulation only.
//! - No canary is ended before it judged [`EVENTS_MIN`] events. One that fails on all of them, or on nine of ten, is ended then or a
//!   few events later, at any percentage.
//! - A canary that becomes worse after thousands of good events is ended nearly as soon.
//! - Each event counts once: its retries, and its deliveries to other subscriptions, are no further evidence.
//!
//! # Theory of operation
//! Two yes-or-no questions are asked of each event that the canary judges. *Is it a regression?* The canary failed on it, and the active
//! version, which then judges the same event, did not. *Was the call slow?* The canary judged the event, and took more than 1.5 times the
//! 95th percentile of the active version's CPU time.
//!
//! Each question has a rate of yes that is tolerated. If the canary were the active version, an event on which that version
//! fails with probability f would be a regression with probability f (1 − f). Over all events that is at most u (1 − u), where u
//! bounds the active version's fault rate (Jensen's inequality), and never more than 1/4. So [`tolerated_regressions`] is that and one
//! point more. The bound u is a confidence sequence from the active version's calls: it holds at all times at once, except with a
//! probability of 0.1 %. Without any such call it is 1, so that 1/4 is tolerated: seven regressions in a row are still enough.
//!
//! [`Evidence`] is a sequential probability ratio test (Wald, 1945) of the tolerated rate against higher ones, several at once
//! because it is not known how bad a bad canary is. It is also several tests in time: one begins at every event, the t-th with the weight
//! 1 / (t (t + 1)), because it is not known when a canary becomes bad. Weights add up to 1, so the evidence is a non-negative
//! supermartingale that begins below 1 as long as the tolerated rate is not exceeded, and it ever reaches
//! [`EVIDENCE_MAX`] with a probability of at most 1 / `EVIDENCE_MAX` (Ville's inequality). No lower boundary ends the test: a good
//! canary goes on until somebody activates it.
//!
//! With several hosts, each host tests the events that it judged, with its own bound u and its own CPU times. The events of different hosts
//! are different, so the likelihood ratios of an alternative are multiplied ([`Evidence::with`]): each factor is the host's sum of weighted
//! ratios and the weights of its tests that have not begun, which is a non-negative supermartingale that begins at 1. The product of all
//! weights that have not begun is no evidence, and is left out. The evidence of a host alone counts as well. With one host, both are the
//! same.
//!
//! # Limits
//! - Computes only; [`rollout`](super::rollout) decides which calls count.
//! - An event whose deliveries are made by several hosts counts once on each of them.
//! - With n hosts, n more than one, a good canary is ended for its faults with a probability of at most 0.1 % × (2 n + 1): the bound u of
//!   each host may be too low, the evidence of each host may be wrong, and so may that of all together.

use hookloom_model::plural::counted;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Evidence that ends a canary: a likelihood ratio.
pub(super) const EVIDENCE_MAX: f64 = 1_000.0;

/// Limit of a likelihood ratio, far beyond [`EVIDENCE_MAX`], so that it stays finite.
const RATIO_MAX: f64 = 1e12;

/// Minimum number of events that a canary judges before it can be ended.
pub(super) const EVENTS_MIN: u64 = 10;

/// Rate of regressions that is tolerated beyond what chance explains.
const REGRESSIONS_SLACK: f64 = 0.01;

/// Probability that the bound of the active version's fault rate is ever too low.
const BOUND_ERROR: f64 = 0.001;

/// Alternatives to a tolerated rate q: q + (1 − q) × each of these.
const ALTERNATIVES: [f64; 5] = [0.01, 0.03, 0.1, 0.4, 0.9];

/// Minimum number of the active version's calls before CPU times are compared.
const CPU_CALLS_MIN: usize = 50;

/// A call is slow when it takes more than this multiple of the active version's 95th percentile.
const SLOW_FACTOR: f64 = 1.5;

/// Result of a canary's call, with that of the active version where the canary failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CanaryOutcome {
    /// The canary judged the event.
    Judged,
    /// The canary failed, and the active version judged the event.
    Regression,
    /// Both failed, or the active version could not be called.
    BothFailed,
}

/// CPU times of the active version.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CpuBaseline {
    /// The 95th percentile, in microseconds.
    pub(super) p95_us: u64,
    /// Number of calls of which it is the percentile.
    pub(super) calls: usize,
}

/// Reason to end a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// Too many regressions.
    Faults,
    /// Too many slow calls.
    CpuTime,
}

/// State of the test of one canary. Survives a restart as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct CanaryTest {
    events: u64,
    regressions: u64,
    slow_calls: u64,
    active_events: u64,
    active_failures: u64,
    bound: Bound,
    faults: Evidence,
    cpu: Evidence,
}

/// State of the test that ends a canary automatically.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct CanaryTestFigures {
    /// Number of different events that the canary judged.
    pub events: u64,
    /// Number of events before which a canary is not ended.
    pub events_min: u64,
    /// Number of events on which the canary failed and the active version did not.
    pub regressions: u64,
    /// Tolerated percentage of regressions: what chance explains, and one percentage point more.
    pub tolerated_percent: f64,
    /// Evidence that the regressions exceed the tolerated percentage, as a likelihood ratio.
    pub evidence: f64,
    /// Number of events for which the canary used more than 1.5 times the 95th percentile of the active version's CPU time.
    pub slow_calls: u64,
    /// Evidence that more calls are slow than expected, as a likelihood ratio.
    pub cpu_evidence: f64,
    /// Evidence at which the canary is ended.
    pub evidence_max: f64,
    /// Number of further regressions in a row that ends the canary.
    pub regressions_to_end: u64,
}

impl CanaryTest {
    /// Counts an event that the active version judged.
    pub(super) fn observe_active(&mut self, failed: bool) {
        self.active_events += 1;
        self.active_failures += u64::from(failed);
    }

    /// Counts an event that the canary judged.
    pub(super) fn observe_canary(&mut self, outcome: CanaryOutcome, cpu_us: u64, baseline: CpuBaseline) {
        let is_regression = outcome == CanaryOutcome::Regression;
        self.events += 1;
        self.regressions += u64::from(is_regression);
        self.bound.follow(self.active_failures, self.active_events);
        self.faults.observe(is_regression, tolerated_regressions(self.bound.rate));
        // A failed call may be shorter than a complete one, so its time does not count.
        if outcome == CanaryOutcome::Judged && baseline.calls >= CPU_CALLS_MIN {
            let is_slow = cpu_us as f64 > SLOW_FACTOR * baseline.p95_us as f64;
            self.slow_calls += u64::from(is_slow);
            self.cpu.observe(is_slow, tolerated_slow_calls(baseline.calls));
        }
    }

    /// Returns the reason to end the canary, if there is one. `elsewhere` has the tests of the other hosts.
    pub(super) fn breach(&self, elsewhere: &[&CanaryTest]) -> Option<Breach> {
        if self.sum(elsewhere, |test| test.events) < EVENTS_MIN {
            return None;
        }
        if self.evidence(elsewhere, |test| &test.faults) >= EVIDENCE_MAX {
            return Some(Breach::Faults);
        }
        (self.evidence(elsewhere, |test| &test.cpu) >= EVIDENCE_MAX).then_some(Breach::CpuTime)
    }

    /// Returns the figures of this host and the others together.
    pub(super) fn figures(&self, elsewhere: &[&CanaryTest]) -> CanaryTestFigures {
        let active_events = self.sum(elsewhere, |test| test.active_events);
        let active_failures = self.sum(elsewhere, |test| test.active_failures);
        let bound = if elsewhere.is_empty() { self.bound.rate } else { upper_bound(active_failures, active_events) };
        CanaryTestFigures {
            events: self.sum(elsewhere, |test| test.events),
            events_min: EVENTS_MIN,
            regressions: self.sum(elsewhere, |test| test.regressions),
            tolerated_percent: 100.0 * tolerated_regressions(bound),
            evidence: self.evidence(elsewhere, |test| &test.faults),
            slow_calls: self.sum(elsewhere, |test| test.slow_calls),
            cpu_evidence: self.evidence(elsewhere, |test| &test.cpu),
            evidence_max: EVIDENCE_MAX,
            regressions_to_end: self.regressions_to_end(elsewhere),
        }
    }

    fn sum(&self, elsewhere: &[&CanaryTest], count: impl Fn(&CanaryTest) -> u64) -> u64 {
        count(self) + elsewhere.iter().map(|test| count(test)).sum::<u64>()
    }

    fn evidence(&self, elsewhere: &[&CanaryTest], of: impl Fn(&CanaryTest) -> &Evidence) -> f64 {
        let all = || elsewhere.iter().map(|test| of(test));
        // The good events of a host must not hide that the canary is bad on another one.
        all().map(Evidence::value).fold(of(self).value(), f64::max).max(of(self).with(all()))
    }

    fn regressions_to_end(&self, elsewhere: &[&CanaryTest]) -> u64 {
        let mut next = self.clone();
        let mut count = 0;
        while next.breach(elsewhere) != Some(Breach::Faults) && count < 1_000 {
            next.observe_canary(CanaryOutcome::Regression, 0, CpuBaseline::default());
            count += 1;
        }
        count
    }
}

/// Summary of the test for pages and the command line.
impl fmt::Display for CanaryTestFigures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CanaryTestFigures { events, regressions, tolerated_percent, evidence, slow_calls, cpu_evidence, .. } = self;
        let events = counted(*events, "event", "events");
        write!(
            out,
            "{regressions} of {events} failed on the canary alone, and {tolerated_percent:.1} % is tolerated: evidence {evidence:.2}. \
             {slow_calls} of them took much more CPU time: evidence {cpu_evidence:.2}. The canary ends when one of the two reaches \
             {:.0}, but not before {EVENTS_MIN} events; {} more in a row that fail on the canary alone would end it.",
            self.evidence_max, self.regressions_to_end
        )
    }
}

/// Sequential probability ratio test of a rate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Evidence {
    events: u64,
    /// For each alternative, the weighted sum of the likelihood ratios of the tests that began so far.
    ratios: [f64; ALTERNATIVES.len()],
}

impl Evidence {
    fn observe(&mut self, is_hit: bool, tolerated: f64) {
        self.events += 1;
        let number = self.events as f64;
        let weight = 1.0 / (number * (number + 1.0));
        for (ratio, share) in self.ratios.iter_mut().zip(ALTERNATIVES) {
            let alternative = tolerated + (1.0 - tolerated) * share;
            let factor = if is_hit { alternative / tolerated } else { (1.0 - alternative) / (1.0 - tolerated) };
            *ratio = ((*ratio + weight) * factor).min(RATIO_MAX);
        }
    }

    fn value(&self) -> f64 {
        average(&self.ratios)
    }

    /// Returns the evidence of this host and the others together.
    fn with<'e>(&self, elsewhere: impl Iterator<Item = &'e Evidence>) -> f64 {
        let mut ratios = self.ratios;
        // Product of the weights of the tests that have not begun, which is the part of the products without evidence.
        let mut unbegun = self.unbegun();
        for other in elsewhere {
            let product = unbegun * other.unbegun();
            for (ratio, of_other) in ratios.iter_mut().zip(other.ratios) {
                *ratio = ((*ratio + unbegun) * (of_other + other.unbegun()) - product).clamp(0.0, RATIO_MAX);
            }
            unbegun = product;
        }
        average(&ratios)
    }

    /// Returns the weight of the tests that have not begun.
    fn unbegun(&self) -> f64 {
        1.0 / (self.events as f64 + 1.0)
    }
}

/// Returns the evidence that the likelihood ratios of the alternatives are together.
fn average(ratios: &[f64; ALTERNATIVES.len()]) -> f64 {
    ratios.iter().sum::<f64>() / ratios.len() as f64
}

/// Upper bound of the active version's fault rate.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Bound {
    rate: f64,
    /// Number of calls from which it was computed.
    calls: u64,
}

impl Default for Bound {
    fn default() -> Self {
        Bound { rate: 1.0, calls: 0 }
    }
}

impl Bound {
    /// Computes the bound again after 2 % more calls. Until then the previous bound stays valid.
    fn follow(&mut self, failures: u64, calls: u64) {
        if calls > self.calls + self.calls / 50 {
            *self = Bound { rate: upper_bound(failures, calls), calls };
        }
    }
}

/// Returns the rate of regressions that is tolerated where the active version's fault rate is at most this.
fn tolerated_regressions(active_rate_max: f64) -> f64 {
    let by_chance = if active_rate_max < 0.5 { active_rate_max * (1.0 - active_rate_max) } else { 0.25 };
    by_chance + REGRESSIONS_SLACK
}

/// Returns the rate of slow calls that is tolerated where the 95th percentile was taken from this many calls: 5 %, and five standard
/// deviations for the error of the percentile.
fn tolerated_slow_calls(calls: usize) -> f64 {
    0.05 + 5.0 * (0.05 * 0.95 / calls as f64).sqrt()
}

/// Returns the upper end of a confidence sequence for a rate.
///
/// A rate p is in it as long as the likelihood ratio of the uniform mixture of all rates to p is below 1 / [`BOUND_ERROR`] (Robbins,
/// 1970). The ratio of f failures and s successes is B(f + 1, s + 1) / (pᶠ (1 − p)ˢ).
fn upper_bound(failures: u64, calls: u64) -> f64 {
    let successes = calls.saturating_sub(failures);
    if successes == 0 {
        return 1.0;
    }
    let f = failures as f64;
    let s = successes as f64;
    let mixture = ln_factorial(failures) + ln_factorial(successes) - ln_factorial(calls + 1);
    let is_within = |p: f64| {
        let failures = if failures == 0 { 0.0 } else { f * p.ln() };
        mixture - failures - s * (1.0 - p).ln() < -BOUND_ERROR.ln()
    };
    // From the observed rate on, the ratio only grows.
    let mut low = f / (f + s);
    let mut high = 1.0;
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if is_within(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Returns ln n!, by Stirling's series where it is exact to ten digits.
fn ln_factorial(n: u64) -> f64 {
    if n < 20 {
        return (1..=n).map(|factor| (factor as f64).ln()).sum();
    }
    let n = n as f64;
    n * n.ln() - n + 0.5 * (std::f64::consts::TAU * n).ln() + 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3))
}

#[cfg(test)]
mod tests;

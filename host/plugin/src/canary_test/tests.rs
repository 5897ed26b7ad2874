//! Error rates of the test, found by simulation over many seeds.

use super::*;
use rand::rngs::ChaCha12Rng;
use rand::{Rng as _, SeedableRng as _};

/// Simulated rollout: rates of failures by chance and by event.
#[derive(Clone, Copy)]
struct Scenario {
    /// Part of the events that the canary judges.
    canary_part: f64,
    /// Rate at which any call fails by chance.
    chance: f64,
    /// Rate of events on which both versions fail.
    both_fail: f64,
    /// Rate of events on which only the canary fails.
    worse: f64,
    /// CPU time of the canary's calls as a multiple of the active version's.
    slower: f64,
}

const GOOD: Scenario = Scenario { canary_part: 0.5, chance: 0.0, both_fail: 0.0, worse: 0.0, slower: 1.0 };

struct Dice(ChaCha12Rng);

impl Dice {
    /// Uniformly distributed number between 0 and 1.
    fn roll(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn falls(&mut self, rate: f64) -> bool {
        self.roll() < rate
    }

    /// CPU time with the long tail that busy machines give it, in microseconds.
    fn cpu_us(&mut self) -> f64 {
        let tail = if self.falls(0.03) { 5.0 * self.roll() } else { 0.0 };
        200.0 * (1.0 + 0.3 * self.roll() + tail)
    }
}

/// Runs a canary. Returns the number of events that it had judged when it was ended, and the reason.
fn end(scenario: Scenario, events_max: u64, seed: u64) -> Option<(u64, Breach)> {
    let mut dice = Dice(ChaCha12Rng::seed_from_u64(seed));
    let mut test = CanaryTest::default();
    let mut times = Vec::new();
    let mut baseline = CpuBaseline::default();
    while test.events < events_max {
        let both_fail = dice.falls(scenario.both_fail);
        if !dice.falls(scenario.canary_part) {
            test.observe_active(both_fail || dice.falls(scenario.chance));
            times.push(dice.cpu_us() as u64);
            if times.len() % 50 == 0 && times.len() <= 2_000 {
                baseline = CpuBaseline { p95_us: super::super::counters::p95(times.clone()), calls: times.len() };
            }
            continue;
        }
        let failed = both_fail || dice.falls(scenario.worse) || dice.falls(scenario.chance);
        let outcome = if !failed {
            CanaryOutcome::Judged
        } else {
            let active_failed = both_fail || dice.falls(scenario.chance);
            test.observe_active(active_failed);
            if active_failed { CanaryOutcome::BothFailed } else { CanaryOutcome::Regression }
        };
        test.observe_canary(outcome, (dice.cpu_us() * scenario.slower) as u64, baseline);
        if let Some(breach) = test.breach(&[]) {
            return Some((test.events, breach));
        }
    }
    None
}

#[test]
fn a_good_canary_is_not_ended_by_chance() {
    let mut runs = 0;
    let mut ended = Vec::new();
    for canary_part in [0.05, 0.5, 1.0] {
        for (chance, both_fail) in
            [(0.0, 0.0), (0.01, 0.0), (0.05, 0.0), (0.3, 0.0), (0.5, 0.0), (0.0, 0.5), (0.05, 0.2)]
        {
            let scenario = Scenario { canary_part, chance, both_fail, ..GOOD };
            for seed in 0..150 {
                runs += 1;
                ended.extend(end(scenario, 1_500, seed).map(|end| (canary_part, chance, both_fail, seed, end)));
            }
        }
    }
    // 0.2 % for faults and as much for CPU time are promised.
    assert!(ended.len() * 1_000 <= runs * 4, "{} of {runs}: {ended:?}", ended.len());
}

#[test]
fn a_bad_canary_is_ended_after_about_ten_events() {
    #[track_caller]
    fn check(scenario: Scenario, at_most: u64, breach: Breach) {
        let ends: Vec<_> = (0..200).map(|seed| end(scenario, 20_000, seed).expect("it is ended")).collect();
        assert!(ends.iter().all(|(events, _)| *events >= EVENTS_MIN));
        let late = ends.iter().filter(|(events, why)| *events > at_most || *why != breach).count();
        assert!(late <= 4, "{late} of 200 later than {at_most} events or for something else");
    }
    for canary_part in [0.05, 0.5, 1.0] {
        check(Scenario { worse: 1.0, canary_part, ..GOOD }, 10, Breach::Faults);
        check(Scenario { worse: 97.0 / 98.0, canary_part, ..GOOD }, 13, Breach::Faults);
        check(Scenario { worse: 0.9, canary_part, ..GOOD }, 24, Breach::Faults);
        check(Scenario { worse: 0.97, chance: 0.05, canary_part, ..GOOD }, 20, Breach::Faults);
    }
    check(Scenario { worse: 0.5, ..GOOD }, 90, Breach::Faults);
    check(Scenario { worse: 0.1, canary_part: 0.05, ..GOOD }, 350, Breach::Faults);
    check(Scenario { worse: 0.1, ..GOOD }, 950, Breach::Faults);
    check(Scenario { worse: 0.05, canary_part: 0.05, ..GOOD }, 700, Breach::Faults);
    check(Scenario { worse: 1.0, both_fail: 0.5, ..GOOD }, 200, Breach::Faults);
    check(Scenario { slower: 4.0, canary_part: 0.05, ..GOOD }, 25, Breach::CpuTime);
    check(Scenario { slower: 4.0, ..GOOD }, 250, Breach::CpuTime);
}

#[test]
fn a_canary_that_becomes_bad_late_is_ended_nearly_as_soon() {
    let mut test = CanaryTest::default();
    for _ in 0..50_000 {
        test.observe_active(false);
        test.observe_canary(CanaryOutcome::Judged, 0, CpuBaseline::default());
    }
    assert_eq!(test.breach(&[]), None);
    let promised = test.figures(&[]).regressions_to_end;
    let taken = (1..).find(|_| {
        test.observe_canary(CanaryOutcome::Regression, 0, CpuBaseline::default());
        test.breach(&[]).is_some()
    });
    assert_eq!(taken, Some(promised));
    assert!(promised <= 12, "{promised}");
}

#[test]
fn a_restart_changes_nothing() {
    let mut test = CanaryTest::default();
    for number in 0..7 {
        test.observe_active(number == 3);
        test.observe_canary(CanaryOutcome::Regression, 10, CpuBaseline { p95_us: 100, calls: 60 });
    }
    let text = serde_json::to_string(&test).expect("written");
    let again: CanaryTest = serde_json::from_str(&text).expect("read");
    assert_eq!(again.figures(&[]), test.figures(&[]));
    assert_eq!(
        serde_json::from_str::<CanaryTest>("{}").expect("read").figures(&[]),
        CanaryTest::default().figures(&[])
    );
}

#[test]
fn the_bound_of_a_rate_narrows() {
    #[track_caller]
    fn check(failures: u64, calls: u64, expected: std::ops::Range<f64>) {
        let bound = upper_bound(failures, calls);
        assert!(expected.contains(&bound), "{failures} of {calls}: {bound}");
    }
    check(0, 0, 1.0..1.001);
    check(10, 10, 1.0..1.001);
    check(0, 10, 0.58..0.63);
    check(0, 1_000, 0.013..0.015);
    check(500, 1_000, 0.55..0.58);
    check(50, 1_000_000, 0.000_05..0.000_12);
    assert!((ln_factorial(25) - (1..=25).map(|n| f64::from(n).ln()).sum::<f64>()).abs() < 1e-9);
}

#[test]
fn no_state_overflows() {
    let mut evidence = Evidence::default();
    (0..100_000).for_each(|_| evidence.observe(true, 0.01));
    assert!(evidence.value().is_finite());
    (0..100_000).for_each(|_| evidence.observe(false, 0.01));
    assert!(evidence.value() < 1.0);
}

/// Returns the test of a host that judged some events well, and then some badly.
fn host(regressions: usize, judged: usize) -> CanaryTest {
    let mut test = CanaryTest::default();
    for number in 0..regressions + judged {
        test.observe_active(false);
        let outcome = if number < judged { CanaryOutcome::Judged } else { CanaryOutcome::Regression };
        test.observe_canary(outcome, 0, CpuBaseline::default());
    }
    test
}

#[test]
fn the_evidence_of_hosts_is_multiplied_and_that_of_an_idle_host_changes_nothing() {
    let idle = CanaryTest::default();
    let bad = host(5, 1);
    let alone = bad.figures(&[]).evidence;
    for together in [bad.figures(&[&idle, &idle]).evidence, idle.figures(&[&bad]).evidence] {
        assert!((together / alone - 1.0).abs() < 1e-9, "{together} and {alone}");
    }
    assert_eq!(bad.breach(&[]), None);
    assert_eq!(bad.breach(&[&bad, &bad]), Some(Breach::Faults));
    let one = host(3, 5);
    let other = host(2, 9);
    let order = [one.figures(&[&other, &bad]).evidence, bad.figures(&[&one, &other]).evidence];
    assert!((order[0] / order[1] - 1.0).abs() < 1e-9, "{order:?}");
    let good = host(0, 500);
    let beside_good = [bad.figures(&[&good]).evidence, good.figures(&[&bad]).evidence];
    assert_eq!(beside_good, [alone; 2], "the good events of a host do not hide a bad one");
}

#[test]
fn hosts_together_seldom_end_a_good_canary() {
    let ended = (0..200).filter(|seed| {
        let mut dice = Dice(ChaCha12Rng::seed_from_u64(*seed));
        let mut tests = [CanaryTest::default(), CanaryTest::default(), CanaryTest::default()];
        (0..2_000).any(|number| {
            let [first, second, third] = &mut tests;
            let test = match number % 3 {
                0 => &mut *first,
                1 => &mut *second,
                _ => &mut *third,
            };
            if dice.falls(0.5) {
                test.observe_active(dice.falls(0.05));
                return false;
            }
            let outcome = match (dice.falls(0.05), dice.falls(0.05)) {
                (false, _) => CanaryOutcome::Judged,
                (true, false) => CanaryOutcome::Regression,
                (true, true) => CanaryOutcome::BothFailed,
            };
            test.observe_canary(outcome, 0, CpuBaseline::default());
            first.breach(&[second, third]).is_some()
        })
    });
    assert!(ended.count() <= 2, "a good canary is ended with a probability of at most 0.7 %");
}

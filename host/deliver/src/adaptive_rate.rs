//! Request rate for a receiver that throttles, learned from accepted and refused requests.
//!
//! # Guarantees
//! - Requests are spaced evenly, without bursts: strict limiters (nginx's `limit_req` without `burst`) refuse every request that
//!   comes earlier than its interval.
//! - In the long run few requests are refused ([`REFUSED_SHARE`]; fewer if each refusal asks for a pause), and most of the rate that
//!   the receiver allows is used. The tests state both for several kinds of limiters.
//!
//! # Rules
//! - The rate begins at [`START_PER_S`], and grows by half whenever the receiver has taken a few requests, until it refuses one.
//! - From then on each accepted request raises the rate a little and each refusal lowers it, so that the two balance at that share
//!   of refusals. A long run without a refusal raises it faster, because the limit may have changed.
//! - Refusals shortly after each other mean that the rate is far too high: it is halved. It then returns towards the rate that
//!   was refused last, because limiters with fixed windows refuse everything until the window ends.
//! - Refusals of requests that began before the rate was last lowered are ignored.
//!
//! Does not look at the clock: callers pass the time.

use std::time::{Duration, Instant};

/// Rate of the first requests, per second.
const START_PER_S: f64 = 10.0;

/// Limits of the rate, per second. Above the upper limit, spacing is finer than timers and limiters.
const RATE_MIN: f64 = 0.2;
const RATE_MAX: f64 = 5_000.0;

/// Growth of the rate while the limit is searched.
const SEARCH_GROWTH: f64 = 1.5;

/// Share of requests that may be refused in the long run, and share of the time that may be spent in pauses that the receiver
/// asks for.
const REFUSED_SHARE: f64 = 0.02;
const PAUSED_SHARE: f64 = 0.05;

/// Part of the rate by which one refusal lowers it, without and with a pause that the receiver asks for.
const DECREASE: f64 = 0.05;
const DECREASE_WITH_PAUSE: f64 = 0.1;

/// Number of accepted requests between two refusals below which the rate counts as far too high.
const ACCEPTED_MIN: u32 = 8;

/// Part of the last refused rate up to which the rate returns quickly.
const QUICK_UP_TO: f64 = 0.92;

/// Number of accepted requests in which a quick return covers most of the difference.
const QUICK_STEPS: f64 = 40.0;

/// Shortest lateness of a request that the next request makes up for: the precision of timers.
const SLACK_MIN: Duration = Duration::from_millis(1);

/// The learned rate of one receiver.
#[derive(Clone, Debug)]
pub(super) struct AdaptiveRate {
    rate_per_s: f64,
    /// The rate that was refused last, or a little less. None while the limit is searched.
    refused_per_s: Option<f64>,
    /// Set when the search has found a rate that the receiver accepts.
    grown: bool,
    /// Share of refusals at which the rate stays constant.
    share: f64,
    /// Requests that were accepted since the rate was last lowered, or grew in the search.
    accepted: u32,
    lowered_at: Instant,
    next_at: Instant,
}

impl AdaptiveRate {
    /// Starts after a first refusal.
    pub(super) fn new(now: Instant) -> Self {
        let mut adaptive_rate = AdaptiveRate {
            rate_per_s: START_PER_S,
            refused_per_s: None,
            grown: false,
            share: REFUSED_SHARE,
            accepted: 0,
            lowered_at: now,
            next_at: now,
        };
        adaptive_rate.next_at = now + adaptive_rate.interval();
        adaptive_rate
    }

    /// Earliest time of the next request.
    pub(super) fn next_at(&self) -> Instant {
        self.next_at
    }

    /// Returns whether the receiver accepts so many requests that spacing them is without effect.
    pub(super) fn is_lifted(&self) -> bool {
        self.rate_per_s >= RATE_MAX
    }

    fn interval(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.rate_per_s)
    }

    /// Schedules the request after one that begins now.
    pub(super) fn begin(&mut self, now: Instant) {
        let interval = self.interval();
        let slack = (interval / 50).max(SLACK_MIN).min(interval);
        self.next_at = (self.next_at + interval).max(now + (interval - slack));
    }

    /// Raises the rate after an accepted request.
    pub(super) fn accepted(&mut self) {
        self.accepted = self.accepted.saturating_add(1);
        match self.refused_per_s {
            None => {
                if f64::from(self.accepted) >= (self.rate_per_s / 10.0).max(4.0) {
                    self.rate_per_s *= SEARCH_GROWTH;
                    self.accepted = 0;
                    self.grown = true;
                }
            }
            Some(refused) if self.rate_per_s < QUICK_UP_TO * refused => {
                let caution = (REFUSED_SHARE / self.share).sqrt();
                self.rate_per_s += (refused - self.rate_per_s) / (QUICK_STEPS * (1.0 + caution) / 2.0);
            }
            Some(_) => {
                let run = (f64::from(self.accepted) * self.share).powi(2).max(1.0);
                self.rate_per_s *= 1.0 + DECREASE * self.share * run;
            }
        }
        self.rate_per_s = self.rate_per_s.min(RATE_MAX);
    }

    /// Lowers the rate after the refusal of a request that began at `began`. `pause`: the receiver's `Retry-After`, or zero. Returns
    /// whether the rate was lowered.
    pub(super) fn refused(&mut self, began: Instant, pause: Duration, now: Instant) -> bool {
        if began < self.lowered_at {
            return false;
        }
        let paused = !pause.is_zero();
        let factor = match (self.refused_per_s, self.accepted) {
            (None, _) if self.grown => 1.0 / SEARCH_GROWTH,
            (None, _) | (_, 0) => 0.5,
            (_, ..ACCEPTED_MIN) if paused => 0.5,
            (_, ..ACCEPTED_MIN) => 0.7,
            _ if paused => 1.0 - DECREASE_WITH_PAUSE,
            _ => 1.0 - DECREASE,
        };
        self.refused_per_s = match self.refused_per_s {
            None if self.grown => Some(self.rate_per_s),
            None => None,
            Some(_) if self.accepted >= ACCEPTED_MIN => Some(self.rate_per_s),
            Some(refused) => Some(self.rate_per_s.max(refused * 0.7)),
        };
        self.share = if paused {
            REFUSED_SHARE.min(PAUSED_SHARE / (self.rate_per_s * pause.as_secs_f64()))
        } else {
            REFUSED_SHARE
        };
        self.rate_per_s = (self.rate_per_s * factor).max(RATE_MIN);
        self.accepted = 0;
        self.lowered_at = now;
        self.next_at = now + self.interval();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_model::clock;

    /// Limiter of a receiver. Times are in seconds.
    trait Limiter {
        fn takes(&mut self, at_s: f64) -> bool;
    }

    /// Accepts a request if the last accepted one is long enough ago, as `limit_req` without `burst` does.
    struct Spaced {
        interval_s: f64,
        last_s: f64,
    }

    impl Limiter for Spaced {
        fn takes(&mut self, at_s: f64) -> bool {
            let takes = at_s - self.last_s >= self.interval_s;
            if takes {
                self.last_s = at_s;
            }
            takes
        }
    }

    struct LimitedBucket {
        rate_per_s: f64,
        size: f64,
        tokens: f64,
        last_s: f64,
    }

    impl Limiter for LimitedBucket {
        fn takes(&mut self, at_s: f64) -> bool {
            self.tokens = (self.tokens + (at_s - self.last_s) * self.rate_per_s).min(self.size);
            self.last_s = at_s;
            let takes = self.tokens >= 1.0;
            if takes {
                self.tokens -= 1.0;
            }
            takes
        }
    }

    /// Simulates a minute. Returns accepted per allowed and refused per sent requests.
    fn minute(limiter: &mut impl Limiter, rate_per_s: f64, pause_s: f64) -> (f64, f64) {
        const LATENCY: Duration = Duration::from_millis(2);
        let start = clock::instant();
        let since = |at: Instant| at.duration_since(start).as_secs_f64();
        let mut now = start + LATENCY;
        let mut pause_until = start;
        let mut accepted = 0.0;
        let mut refused = 0.0;
        let mut jitter = 1u64;
        let mut adaptive_rate = AdaptiveRate::new(now);
        while since(now) < 60.0 {
            // A timer is up to a millisecond late.
            jitter = jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let late = Duration::from_micros((jitter >> 33) % 1_000);
            now = now.max(adaptive_rate.next_at()).max(pause_until) + late;
            adaptive_rate.begin(now);
            let began = now;
            now += LATENCY;
            if limiter.takes(since(began)) {
                accepted += 1.0;
                adaptive_rate.accepted();
            } else {
                refused += 1.0;
                adaptive_rate.refused(began, Duration::from_secs_f64(pause_s), now);
                pause_until = now + Duration::from_secs_f64(pause_s);
            }
        }
        (accepted / (60.0 * rate_per_s), refused / (accepted + refused))
    }

    #[track_caller]
    fn check((used, refused): (f64, f64)) {
        assert!(used >= 0.8, "{:.1} % of what is allowed is used", used * 100.0);
        assert!(refused <= 0.05, "{:.1} % are refused", refused * 100.0);
    }

    #[test]
    fn a_limiter_that_wants_requests_spaced() {
        for rate_per_s in [5.0, 10.0, 20.0, 50.0] {
            for pause_s in [0.0, 1.0] {
                check(minute(&mut Spaced { interval_s: 1.0 / rate_per_s, last_s: -1.0 }, rate_per_s, pause_s));
            }
        }
    }

    #[test]
    fn a_bucket_of_tokens() {
        for rate_per_s in [10.0, 20.0, 100.0] {
            for pause_s in [0.0, 1.0] {
                for size in [1.0, 5.0, rate_per_s] {
                    let mut bucket = LimitedBucket { rate_per_s, size, tokens: 0.0, last_s: 0.0 };
                    check(minute(&mut bucket, rate_per_s, pause_s));
                }
            }
        }
    }

    #[test]
    fn a_limit_that_is_lifted_is_noticed() {
        let now = clock::instant();
        let mut adaptive_rate = AdaptiveRate::new(now);
        for _ in 0..100 {
            adaptive_rate.accepted();
            adaptive_rate.refused(now, Duration::ZERO, now);
        }
        assert!(adaptive_rate.rate_per_s < START_PER_S);
        (0..10_000).for_each(|_| adaptive_rate.accepted());
        assert!(adaptive_rate.is_lifted());
    }

    #[test]
    fn requests_that_were_under_way_together_lower_the_rate_once() {
        let now = clock::instant();
        let mut adaptive_rate = AdaptiveRate::new(now);
        let later = now + Duration::from_secs(1);
        assert!(adaptive_rate.refused(now, Duration::ZERO, later));
        assert!(!adaptive_rate.refused(now, Duration::ZERO, later));
        assert_eq!(adaptive_rate.rate_per_s, START_PER_S / 2.0);
        assert_eq!(adaptive_rate.next_at(), later + Duration::from_millis(200));
    }
}

//! How fast a lane may go: how many requests at once, how many a second, and whether it rests.
//!
//! # Rules
//! - The window, how many may be under way, begins at the subscription's `concurrency`. A receiver that throttles (429,
//!   502, 504) or does not answer in time halves it, once for all that were under way together; every ten deliveries add one.
//! - After [`FAILURES_MAX`] failures in a row, in which the receiver did not answer, answered 5xx or throttled, the breaker
//!   opens: the lane rests for [`REST_MIN`], twice as long each time, up to [`REST_MAX`]. Then one request tries: a success
//!   closes the breaker, a failure opens it again. An answer such as 404 or 422 is about the request, and opens nothing.
//! - A receiver that answers 429 or 503 with `Retry-After` is left alone for as long as it says, up to [`WISH_MAX`].
//! - `rate_per_s` is a bucket that holds one second's worth.
//!
//! Pure: time is passed in.

use crate::delivery::{NoAnswer, Outcome};
use std::time::{Duration, Instant};

/// So many failures in a row open the breaker.
const FAILURES_MAX: u32 = 10;

/// How long the breaker stays open the first time, and at the most.
const REST_MIN: Duration = Duration::from_secs(5);
const REST_MAX: Duration = Duration::from_secs(300);

/// The longest wish of a receiver that holds for its whole lane; the delivery that was answered waits as long as it says.
const WISH_MAX: Duration = Duration::from_secs(3_600);

/// So many deliveries widen the window by one.
const SUCCESSES_PER_STEP: u32 = 10;

/// What an attempt says about its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It takes what it gets.
    Well,
    /// It wants fewer requests, or cannot keep up.
    Throttled,
    /// It is ill.
    Ill,
    /// It refuses this request, which says little about the next one.
    Refused,
    /// Nothing: it was not asked.
    Nothing,
}

impl Sign {
    pub(super) fn of(outcome: &Outcome) -> Self {
        match outcome {
            // What a plugin sends elsewhere says nothing about the Notify URL.
            Outcome::Answered { elsewhere: true, .. } => Sign::Nothing,
            Outcome::Answered { status: 200..=299, .. } => Sign::Well,
            Outcome::Answered { status: 429 | 502 | 504, .. } | Outcome::NoAnswer { kind: NoAnswer::Timeout, .. } => {
                Sign::Throttled
            }
            Outcome::Answered { status: 500..=599, .. } => Sign::Ill,
            Outcome::Answered { .. } => Sign::Refused,
            Outcome::NoAnswer { kind: NoAnswer::AddressRefused, .. } => Sign::Nothing,
            Outcome::NoAnswer { .. } => Sign::Ill,
            _ => Sign::Nothing,
        }
    }
}

/// Whether the lane may begin an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Yes.
    Go,
    /// Once another attempt has ended.
    Full,
    /// Not before this moment.
    NotBefore(Instant, Rest),
}

/// What a lane rests for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// The receiver is ill.
    Breaker,
    /// The receiver said when to come back.
    RetryAfter,
    /// The owner's `rate_per_s`.
    Rate,
}

impl Rest {
    /// The word for it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Rest::Breaker => "breaker",
            Rest::RetryAfter => "retry-after",
            Rest::Rate => "rate",
        }
    }
}

/// How long a receiver wants to be left alone, if it says so.
pub(super) fn wish(outcome: &Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Answered { status: 429 | 503, retry_after_ms: Some(ms), elsewhere: false } => {
            Some(Duration::from_millis(*ms).min(WISH_MAX))
        }
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Breaker {
    Closed { failures: u32 },
    Open { until: Instant, rest: Duration },
    HalfOpen { rest: Duration },
}

/// What a lane keeps of its receiver's behaviour. It outlives edits of the subscription.
pub(super) struct Pace {
    /// None: as wide as the subscription allows.
    window: Option<u32>,
    successes: u32,
    narrowed_at: Option<Instant>,
    breaker: Breaker,
    /// Until when the receiver wants to be left alone.
    wished_until: Option<Instant>,
    tokens: f64,
    filled_at: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        let breaker = Breaker::Closed { failures: 0 };
        Pace {
            window: None,
            successes: 0,
            narrowed_at: None,
            breaker,
            wished_until: None,
            tokens: 0.0,
            filled_at: None,
        }
    }

    /// Another receiver: what is known of the former one says nothing of it. The owner's rate goes on.
    pub(super) fn forget_receiver(&mut self) {
        *self = Pace { tokens: self.tokens, filled_at: self.filled_at, ..Pace::new() };
    }

    /// How many attempts may be under way.
    pub(super) fn window(&self, concurrency: u32) -> u32 {
        match self.breaker {
            Breaker::Closed { .. } => self.window.unwrap_or(concurrency).min(concurrency),
            _ => 1,
        }
    }

    /// In words, for those who ask why nothing moves.
    pub(super) fn breaker_word(&self) -> &'static str {
        match self.breaker {
            Breaker::Closed { .. } => "closed",
            Breaker::Open { .. } => "open",
            Breaker::HalfOpen { .. } => "half-open",
        }
    }

    /// Asks for leave to begin an attempt; [`Pace::begin`] takes it.
    pub(super) fn leave(&mut self, concurrency: u32, rate_per_s: Option<u32>, in_flight: u32, now: Instant) -> Leave {
        if let Breaker::Open { until, rest } = self.breaker {
            if now < until {
                return Leave::NotBefore(until, Rest::Breaker);
            }
            self.breaker = Breaker::HalfOpen { rest };
        }
        if let Some(until) = self.wished_until.filter(|until| now < *until) {
            return Leave::NotBefore(until, Rest::RetryAfter);
        }
        if in_flight >= self.window(concurrency) {
            return Leave::Full;
        }
        let Some(rate) = rate_per_s else { return Leave::Go };
        let rate = f64::from(rate);
        let since = self.filled_at.map_or(1.0, |filled_at| now.duration_since(filled_at).as_secs_f64());
        self.tokens = (self.tokens + since * rate).min(rate);
        self.filled_at = Some(now);
        match self.tokens >= 1.0 {
            true => Leave::Go,
            false => Leave::NotBefore(now + Duration::from_secs_f64((1.0 - self.tokens) / rate), Rest::Rate),
        }
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self) {
        self.tokens = (self.tokens - 1.0).max(0.0);
    }

    /// The receiver wants to be left alone for so long. A later wish never shortens an earlier one.
    pub(super) fn heed(&mut self, wish: Duration, now: Instant) {
        self.wished_until = self.wished_until.max(Some(now + wish));
    }

    /// An attempt ended that began at `began`.
    pub(super) fn end(&mut self, sign: Sign, concurrency: u32, began: Instant, now: Instant) {
        match sign {
            Sign::Nothing | Sign::Refused => {}
            Sign::Well => self.well(concurrency),
            Sign::Throttled => {
                self.narrow(concurrency, began, now);
                self.failed(now);
            }
            Sign::Ill => self.failed(now),
        }
    }

    fn well(&mut self, concurrency: u32) {
        if !matches!(self.breaker, Breaker::Closed { .. }) {
            // It was ill a moment ago: begin gently.
            self.window = Some(1);
            self.successes = 0;
        }
        self.breaker = Breaker::Closed { failures: 0 };
        let Some(window) = self.window else { return };
        self.successes += 1;
        if self.successes >= SUCCESSES_PER_STEP {
            self.successes = 0;
            self.window = Some(window + 1).filter(|window| *window < concurrency);
        }
    }

    fn narrow(&mut self, concurrency: u32, began: Instant, now: Instant) {
        // What began before the last narrowing says nothing about the window since.
        if self.narrowed_at.is_some_and(|narrowed_at| began < narrowed_at) {
            return;
        }
        self.window = Some((self.window.unwrap_or(concurrency).min(concurrency) / 2).max(1));
        self.narrowed_at = Some(now);
        self.successes = 0;
    }

    fn failed(&mut self, now: Instant) {
        self.breaker = match self.breaker {
            Breaker::Closed { failures } if failures + 1 < FAILURES_MAX => Breaker::Closed { failures: failures + 1 },
            Breaker::Closed { .. } => Breaker::Open { until: now + REST_MIN, rest: REST_MIN },
            Breaker::HalfOpen { rest } => {
                let rest = (rest * 2).min(REST_MAX);
                Breaker::Open { until: now + rest, rest }
            }
            // The last of those that were under way when it opened.
            open @ Breaker::Open { .. } => open,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn status(status: u16) -> Outcome {
        Outcome::Answered { status, retry_after_ms: None, elsewhere: false }
    }

    #[test]
    fn signs() {
        #[track_caller]
        fn check(outcome: Outcome, expected: Sign) {
            assert_eq!(Sign::of(&outcome), expected, "{outcome:?}");
        }
        check(status(204), Sign::Well);
        check(status(429), Sign::Throttled);
        check(status(502), Sign::Throttled);
        check(status(504), Sign::Throttled);
        check(status(500), Sign::Ill);
        check(status(404), Sign::Refused);
        check(status(301), Sign::Refused);
        check(Outcome::Answered { status: 500, retry_after_ms: None, elsewhere: true }, Sign::Nothing);
        check(Outcome::NoAnswer { kind: NoAnswer::Timeout, detail: String::new() }, Sign::Throttled);
        check(Outcome::NoAnswer { kind: NoAnswer::Connect, detail: String::new() }, Sign::Ill);
        check(Outcome::NoAnswer { kind: NoAnswer::AddressRefused, detail: String::new() }, Sign::Nothing);
    }

    #[test]
    fn the_window_halves_once_for_all_and_widens_by_ten() {
        let (mut pace, began) = (Pace::new(), Instant::now());
        assert_eq!(pace.window(32), 32);
        for _ in 0..5 {
            pace.end(Sign::Throttled, 32, began, began + SECOND);
        }
        assert_eq!(pace.window(32), 16, "five that were under way together halve it once");
        pace.end(Sign::Throttled, 32, began + 2 * SECOND, began + 3 * SECOND);
        assert_eq!(pace.window(32), 8);
        assert_eq!(pace.window(4), 4, "an owner may want fewer");
        for _ in 0..10 {
            pace.end(Sign::Well, 32, began, began);
        }
        assert_eq!(pace.window(32), 9);
        for _ in 0..1_000 {
            pace.end(Sign::Well, 32, began, began);
        }
        assert_eq!((pace.window(32), pace.window(64)), (32, 64), "as wide as it was, and no memory of it");
        for step in 4..20 {
            pace.end(Sign::Throttled, 32, began + step * SECOND, began + step * SECOND);
            pace.end(Sign::Well, 32, began, began);
        }
        assert_eq!(pace.window(32), 1);
    }

    #[test]
    fn the_breaker_opens_tries_and_closes() {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        for _ in 0..FAILURES_MAX {
            assert_eq!(pace.leave(4, None, 0, now), Leave::Go);
            pace.end(Sign::Ill, 4, now, now);
        }
        for rest in [5, 10, 20, 40, 80, 160, 300, 300] {
            let until = now + rest * SECOND;
            assert_eq!(
                (pace.leave(4, None, 0, now), pace.breaker_word()),
                (Leave::NotBefore(until, Rest::Breaker), "open")
            );
            assert_eq!(pace.leave(4, None, 0, until), Leave::Go);
            assert_eq!((pace.leave(4, None, 1, until), pace.breaker_word()), (Leave::Full, "half-open"));
            now = until;
            pace.end(Sign::Ill, 4, now, now);
        }
        now += 300 * SECOND;
        assert_eq!(pace.leave(4, None, 0, now), Leave::Go);
        pace.end(Sign::Well, 4, now, now);
        assert_eq!((pace.window(4), pace.breaker_word()), (1, "closed"));
        let mut mixed = Pace::new();
        for _ in 0..100 {
            (0..FAILURES_MAX - 1).for_each(|_| mixed.end(Sign::Ill, 4, now, now));
            mixed.end(Sign::Nothing, 4, now, now);
            mixed.end(Sign::Well, 4, now, now);
        }
        assert_eq!(mixed.breaker_word(), "closed", "never ten in a row");
    }

    #[test]
    fn a_receivers_wish_holds_for_its_lane() {
        let answer = |status, retry_after_ms| Outcome::Answered { status, retry_after_ms, elsewhere: false };
        assert_eq!(wish(&answer(429, Some(2_000))), Some(2 * SECOND));
        assert_eq!(wish(&answer(503, Some(u64::MAX))), Some(WISH_MAX));
        assert_eq!((wish(&answer(500, Some(2_000))), wish(&answer(429, None))), (None, None));
        let (mut pace, now) = (Pace::new(), Instant::now());
        pace.heed(5 * SECOND, now);
        pace.heed(SECOND, now);
        assert_eq!(pace.leave(4, None, 0, now), Leave::NotBefore(now + 5 * SECOND, Rest::RetryAfter));
        assert_eq!(pace.leave(4, None, 0, now + 5 * SECOND), Leave::Go);
        pace.heed(60 * SECOND, now);
        pace.forget_receiver();
        assert_eq!(pace.leave(4, None, 0, now), Leave::Go, "another receiver said nothing");
    }

    #[test]
    fn a_rate_holds_over_time() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        let (mut now, mut sent) = (start, 0);
        while now < start + 10 * SECOND {
            match pace.leave(32, Some(5), 0, now) {
                Leave::Go => {
                    pace.begin();
                    sent += 1;
                }
                Leave::NotBefore(at, _) => now = at.max(now + Duration::from_micros(1)),
                Leave::Full => unreachable!("nothing is under way"),
            }
        }
        assert!((54..=56).contains(&sent), "one second's worth at once, then five a second: {sent}");
    }

    proptest! {
        #[test]
        fn there_is_always_a_way_on(
            signs in proptest::collection::vec((0..5, 0u64..400), 0..200),
            concurrency in 1u32..64,
            rate in proptest::option::of(1u32..100),
        ) {
            let (mut pace, mut now) = (Pace::new(), Instant::now());
            for (sign, wait_s) in signs {
                now += Duration::from_secs(wait_s);
                let sign = [Sign::Well, Sign::Throttled, Sign::Ill, Sign::Nothing, Sign::Refused][sign as usize];
                pace.end(sign, concurrency, now, now);
                prop_assert!((1..=concurrency).contains(&pace.window(concurrency)));
                match pace.leave(concurrency, rate, 0, now) {
                    Leave::Go => pace.begin(),
                    Leave::NotBefore(at, Rest::Rate) => prop_assert!(at <= now + SECOND),
                    Leave::NotBefore(at, _) => prop_assert!(at <= now + REST_MAX),
                    Leave::Full => prop_assert!(false, "nothing is under way"),
                }
            }
        }
    }
}

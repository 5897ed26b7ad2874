//! How fast a lane may go: how many requests at once, how many a second, and whether it rests.
//!
//! # Rules
//! - The window, how many may be under way, begins at the subscription's `concurrency`. A receiver that throttles (429,
//!   502, 503, 504) or does not answer in time halves it, once for all that were under way together; every ten deliveries add one.
//! - A receiver that throttles is also asked at a rate that follows from its answers ([`Throttle`]).
//! - The first requests to a receiver begin [`FIRST_AT_ONCE`] at once, and twice as many after each [`FIRST_STEP`], so that a
//!   limit is met by a few of them and not by a whole window.
//! - After a fault of this host the lane rests for [`HOST_REST_MIN`], twice as long each time, up to [`HOST_REST_MAX`]; then one
//!   request tries.
//! - After [`FAILURES_MAX`] failures in a row, in which the receiver did not answer, answered 5xx or throttled, the breaker
//!   opens: the lane rests for [`REST_MIN`], twice as long each time, up to [`REST_MAX`]. Then one request tries: a success
//!   closes the breaker, a failure opens it again. An answer such as 404 or 422 is about the request, and opens nothing.
//! - A receiver that answers 429 or 503 with `Retry-After` is left alone for as long as it says, up to [`WISH_MAX`].
//! - `rate_per_s` is a bucket that holds one second's worth.
//!
//! Pure: time is passed in.

use super::throttle::Throttle;
use crate::delivery::{NoAnswer, Outcome};
use std::time::{Duration, Instant};

/// So many failures in a row open the breaker.
const FAILURES_MAX: u32 = 10;

/// How long the breaker stays open the first time, and at the most.
const REST_MIN: Duration = Duration::from_secs(5);
const REST_MAX: Duration = Duration::from_secs(300);

/// The longest wish of a receiver that holds for its whole lane; the delivery that was answered waits as long as it says.
const WISH_MAX: Duration = Duration::from_secs(3_600);

/// How long a lane rests when this host could not send or judge, the first time and at the most.
const HOST_REST_MIN: Duration = Duration::from_secs(1);
const HOST_REST_MAX: Duration = Duration::from_secs(30);

/// Requests that begin at once when nothing is known of a receiver, and the time after which twice as many may be under way.
const FIRST_AT_ONCE: u32 = 4;
const FIRST_STEP: Duration = Duration::from_millis(50);

/// So many deliveries widen the window by one.
const SUCCESSES_PER_STEP: u32 = 10;

/// What an attempt says about its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It takes what it gets.
    Well,
    /// It wants fewer requests.
    Throttled,
    /// It cannot keep up: it did not answer in time.
    Slow,
    /// It is ill.
    Ill,
    /// It refuses this request, which says little about the next one.
    Refused,
    /// Nothing: this host could not do its part.
    HostFault,
    /// Nothing: it was not asked.
    Nothing,
}

impl Sign {
    pub(super) fn of(outcome: &Outcome) -> Self {
        match outcome {
            // What a plugin sends elsewhere says nothing about the Notify URL.
            Outcome::Answered { elsewhere: true, .. } => Sign::Nothing,
            Outcome::Answered { status: 200..=299, .. } => Sign::Well,
            Outcome::Answered { status: 429 | 502..=504, .. } => Sign::Throttled,
            Outcome::NoAnswer { kind: NoAnswer::Timeout, .. } => Sign::Slow,
            Outcome::Answered { status: 500..=599, .. } => Sign::Ill,
            Outcome::Answered { .. } => Sign::Refused,
            Outcome::NoAnswer { kind: NoAnswer::AddressRefused, .. } => Sign::Nothing,
            Outcome::NoAnswer { .. } => Sign::Ill,
            Outcome::HostFault(_) => Sign::HostFault,
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
    /// The rate that a throttling receiver seems to allow.
    Throttle,
    /// This host cannot send or judge.
    HostFault,
    /// Nothing is known of the receiver yet.
    Start,
}

impl Rest {
    /// The word for it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Rest::Breaker => "breaker",
            Rest::RetryAfter => "retry-after",
            Rest::Rate => "rate",
            Rest::Throttle => "throttled",
            Rest::HostFault => "host-fault",
            Rest::Start => "start",
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
    throttle: Option<Throttle>,
    /// Since a fault of this host that no answer followed yet: until when the lane rests, and for how long.
    host_rest: Option<(Instant, Duration)>,
    /// When the first request to the receiver began.
    started_at: Option<Instant>,
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
            throttle: None,
            host_rest: None,
            started_at: None,
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
            Breaker::Closed { .. } if self.host_rest.is_none() => self.window.unwrap_or(concurrency).min(concurrency),
            _ => 1,
        }
    }

    /// Whether requests begin one by one, at a rate that follows from the receiver's answers.
    pub(super) fn is_throttled(&self) -> bool {
        self.throttle.is_some()
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
        if let Some((until, _)) = self.host_rest.filter(|(until, _)| now < *until) {
            return Leave::NotBefore(until, Rest::HostFault);
        }
        if in_flight >= self.window(concurrency) {
            return Leave::Full;
        }
        if let Some(at) = self.more_at(in_flight, now) {
            return Leave::NotBefore(at, Rest::Start);
        }
        if let Some(at) = self.throttle.as_ref().map(Throttle::next_at).filter(|at| now < *at) {
            return Leave::NotBefore(at, Rest::Throttle);
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

    /// When more requests may be under way than now, if nothing is known of the receiver and so many are.
    fn more_at(&self, in_flight: u32, now: Instant) -> Option<Instant> {
        let started_at = self.started_at?;
        let steps = now.duration_since(started_at).as_millis() / FIRST_STEP.as_millis();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let at_once = FIRST_AT_ONCE.checked_shl(steps).filter(|_| steps < 8)?;
        (in_flight >= at_once).then(|| started_at + FIRST_STEP * (steps + 1))
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.tokens = (self.tokens - 1.0).max(0.0);
        self.started_at.get_or_insert(now);
        if let Some(throttle) = &mut self.throttle {
            throttle.begin(now);
        }
    }

    /// The receiver wants to be left alone for so long. A later wish never shortens an earlier one.
    fn heed(&mut self, wish: Duration, now: Instant) {
        self.wished_until = self.wished_until.max(Some(now + wish));
    }

    /// An attempt ended that began at `began`; the receiver wants to be left alone for `wish`.
    pub(super) fn end(
        &mut self,
        sign: Sign,
        wish: Option<Duration>,
        concurrency: u32,
        (began, now): (Instant, Instant),
    ) {
        // What began after the rest and came to something else shows that this host does its part again.
        if sign != Sign::HostFault {
            self.host_rest.take_if(|(until, _)| *until <= began);
        }
        match sign {
            Sign::Nothing | Sign::Refused => {}
            Sign::Well => self.well(concurrency),
            Sign::Throttled => self.throttled(wish.unwrap_or_default(), concurrency, began, now),
            Sign::Slow => {
                self.narrow(concurrency, began, now);
                self.failed(now);
            }
            Sign::Ill => self.failed(now),
            Sign::HostFault => self.host_failed(began, now),
        }
        wish.into_iter().for_each(|wish| self.heed(wish, now));
    }

    fn throttled(&mut self, wish: Duration, concurrency: u32, began: Instant, now: Instant) {
        self.narrow(concurrency, began, now);
        let lowered = match &mut self.throttle {
            Some(throttle) => throttle.refused(began, wish, now),
            None => {
                self.throttle = Some(Throttle::new(now));
                true
            }
        };
        // A receiver that refuses what was under way together is not ill for that: it counts once.
        if lowered {
            self.failed(now);
        }
    }

    fn host_failed(&mut self, began: Instant, now: Instant) {
        let rest = match self.host_rest {
            None => HOST_REST_MIN,
            // What began before the rest says nothing about the time since.
            Some((until, rest)) if began < until => return self.host_rest = Some((until, rest)),
            Some((_, rest)) => (rest * 2).min(HOST_REST_MAX),
        };
        self.host_rest = Some((now + rest, rest));
    }

    fn well(&mut self, concurrency: u32) {
        if let Some(throttle) = &mut self.throttle {
            throttle.accepted();
        }
        self.throttle.take_if(|throttle| throttle.is_lifted());
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
mod tests;

//! Flow control of a lane: concurrency window, rate limits and circuit breaker.
//!
//! # Guarantees
//! - The window is the maximum number of attempts under way. It starts at the subscription's `concurrency`. A receiver that
//!   throttles (429, 502, 503, 504) or times out halves the window, once for all attempts that were under way together; every
//!   [`SUCCESSES_PER_STEP`] deliveries widen it by one.
//! - A throttling receiver also gets requests at a learned rate ([`AdaptiveRate`]).
//! - Slow start: the first [`SLOW_START_REQUESTS`] requests to a receiver may be under way together, and twice as many after each
//!   [`SLOW_START_STEP`], so that a few requests meet a limit and not a whole window.
//! - After a fault of this host the lane pauses for [`HOST_PAUSE_MIN`], twice as long each time, up to [`HOST_PAUSE_MAX`]; then the
//!   window is one request.
//! - After [`FAILURES_MAX`] failures in a row (no answer, 5xx, throttling) the circuit breaker opens for [`OPEN_MIN`], twice as long
//!   each time, up to [`OPEN_MAX`]. Then it is half-open: one request is sent. A success closes the breaker, a failure opens it
//!   again. An answer such as 404 or 422 concerns the request and does not count.
//! - `Retry-After` of a 429 or 503 pauses the whole lane, for at most [`RETRY_AFTER_MAX`].
//! - `rate_per_s` is a token bucket that holds the tokens of one second. It counts attempts when they begin. A lane that goes on after
//!   another one of the subscription, of another host or before a restart, starts with one token, and that of a new one with all.
//!
//! # Limits
//! Does not look at the clock: callers pass the time. Knows neither deliveries nor the store.

mod token_bucket;

use super::adaptive_rate::AdaptiveRate;
use hookloom_model::delivery::{NoAnswer, Outcome};
use std::time::{Duration, Instant};
use token_bucket::TokenBucket;

/// Number of failures in a row that opens the breaker.
const FAILURES_MAX: u32 = 10;

/// Shortest and longest time for which the breaker stays open.
const OPEN_MIN: Duration = Duration::from_secs(5);
const OPEN_MAX: Duration = Duration::from_secs(300);

/// Longest `Retry-After` that pauses the whole lane. The delivery that got the answer waits for the full time.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Shortest and longest pause of a lane after a fault of this host.
const HOST_PAUSE_MIN: Duration = Duration::from_secs(1);
const HOST_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Number of requests under way at the beginning of slow start, and the time in which that number doubles.
const SLOW_START_REQUESTS: u32 = 4;
const SLOW_START_STEP: Duration = Duration::from_millis(50);

/// Number of deliveries that widen the window by one.
const SUCCESSES_PER_STEP: u32 = 10;

/// State of a receiver, as one attempt shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReceiverHealth {
    /// The receiver accepted the request.
    Ok,
    /// The receiver asks for fewer requests (429, 502, 503, 504).
    Throttled,
    /// The receiver did not answer in time.
    Slow,
    /// The receiver cannot be reached, or answered another 5xx.
    Failing,
    /// The receiver rejected this request, which says little about the next one.
    Rejected,
    /// Not observed: this host could not send the request.
    HostFault,
    /// Not observed: no request was sent to the Notify URL.
    Unknown,
}

impl ReceiverHealth {
    pub(super) fn of(outcome: &Outcome) -> Self {
        match outcome {
            // A plugin chose another URL: the answer says nothing about the Notify URL.
            Outcome::Answered { elsewhere: true, .. } => ReceiverHealth::Unknown,
            Outcome::Answered { status: 200..=299, .. } => ReceiverHealth::Ok,
            Outcome::Answered { status: 429 | 502..=504, .. } => ReceiverHealth::Throttled,
            Outcome::NoAnswer { kind: NoAnswer::Timeout, .. } => ReceiverHealth::Slow,
            Outcome::Answered { status: 500..=599, .. } => ReceiverHealth::Failing,
            Outcome::Answered { .. } => ReceiverHealth::Rejected,
            Outcome::NoAnswer { kind: NoAnswer::AddressRefused, .. } => ReceiverHealth::Unknown,
            Outcome::NoAnswer { .. } => ReceiverHealth::Failing,
            Outcome::HostFault(_) => ReceiverHealth::HostFault,
            _ => ReceiverHealth::Unknown,
        }
    }
}

/// Decision about the next attempt of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// The attempt may begin.
    Allow,
    /// The attempt may begin after another one has ended.
    AtCapacity,
    /// The attempt may begin at this time.
    NotBefore(Instant, PauseReason),
}

/// Reason why a lane pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PauseReason {
    /// The circuit breaker is open.
    Breaker,
    /// The receiver answered with `Retry-After`.
    RetryAfter,
    /// The subscription's `rate_per_s`.
    RateLimit,
    /// The learned rate of a throttling receiver.
    Throttled,
    /// This host could not send a request or run a plugin.
    HostFault,
    /// Slow start.
    SlowStart,
    /// This host cannot reach the database, which other hosts share, and others may attempt its deliveries soon.
    Lease,
    /// Attempts of another host, which ended, may still be under way, and deliveries have an order.
    Takeover,
}

impl PauseReason {
    /// Name in [`LaneStatus::rests_for`](super::LaneStatus::rests_for).
    pub(super) fn as_str(self) -> &'static str {
        match self {
            PauseReason::Breaker => "breaker",
            PauseReason::RetryAfter => "retry-after",
            PauseReason::RateLimit => "rate",
            PauseReason::Throttled => "throttled",
            PauseReason::HostFault => "host-fault",
            PauseReason::SlowStart => "start",
            PauseReason::Lease => "lease",
            PauseReason::Takeover => "takeover",
        }
    }
}

/// `Retry-After` of a 429 or 503 of the Notify URL, capped for the lane.
pub(super) fn retry_after(outcome: &Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Answered { status: 429 | 503, retry_after_ms: Some(ms), elsewhere: false } => {
            Some(Duration::from_millis(*ms).min(RETRY_AFTER_MAX))
        }
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Breaker {
    Closed { failures: u32 },
    Open { until: Instant, lasts: Duration },
    HalfOpen { opened_for: Duration },
}

/// State of flow control for one receiver. Edits of the subscription keep it; another Notify URL resets it.
pub(super) struct FlowControl {
    /// Reduced window. None: the window is the subscription's `concurrency`.
    window: Option<u32>,
    /// Deliveries since the window last changed.
    successes: u32,
    reduced_at: Option<Instant>,
    breaker: Breaker,
    retry_after_until: Option<Instant>,
    adaptive_rate: Option<AdaptiveRate>,
    /// End and length of the pause after a fault of this host, until an attempt shows that the fault is over.
    host_pause: Option<(Instant, Duration)>,
    /// Time at which the first request to the receiver began.
    started_at: Option<Instant>,
    /// Tokens of `rate_per_s`.
    bucket: TokenBucket,
}

impl Default for FlowControl {
    fn default() -> Self {
        FlowControl::new()
    }
}

impl FlowControl {
    pub(super) fn new() -> Self {
        FlowControl {
            window: None,
            successes: 0,
            reduced_at: None,
            breaker: Breaker::Closed { failures: 0 },
            retry_after_until: None,
            adaptive_rate: None,
            host_pause: None,
            started_at: None,
            bucket: TokenBucket::default(),
        }
    }

    /// Goes on after another lane.
    pub(super) fn goes_on(&mut self, now: Instant) {
        self.bucket = TokenBucket::with_one_token(now);
    }

    /// Returns whether no request may begin now, also of an attempt that is under way: the receiver asked for a pause, or the breaker is
    /// open.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        let open_until = match self.breaker {
            Breaker::Open { until, .. } => Some(until),
            Breaker::Closed { .. } | Breaker::HalfOpen { .. } => None,
        };
        self.retry_after_until.max(open_until).is_some_and(|until| now < until)
    }

    /// Resets everything that was observed of the receiver, because the Notify URL changed. `rate_per_s` stays in force.
    pub(super) fn reset_receiver(&mut self) {
        *self = FlowControl { bucket: self.bucket, ..FlowControl::new() };
    }

    /// Maximum number of attempts under way.
    pub(super) fn window(&self, concurrency: u32) -> u32 {
        match self.breaker {
            Breaker::Closed { .. } if self.host_pause.is_none() => self.window.unwrap_or(concurrency).min(concurrency),
            _ => 1,
        }
    }

    /// Returns whether requests are spaced at a learned rate.
    pub(super) fn is_throttled(&self) -> bool {
        self.adaptive_rate.is_some()
    }

    /// Name of the breaker's state in [`LaneStatus::breaker`](super::LaneStatus::breaker).
    pub(super) fn breaker_state(&self) -> &'static str {
        match self.breaker {
            Breaker::Closed { .. } => "closed",
            Breaker::Open { .. } => "open",
            Breaker::HalfOpen { .. } => "half-open",
        }
    }

    /// Decides whether an attempt may begin. [`FlowControl::attempt_started`] charges it.
    pub(super) fn admit(
        &mut self,
        concurrency: u32,
        rate_per_s: Option<u32>,
        in_flight: u32,
        now: Instant,
    ) -> Admission {
        if let Breaker::Open { until, lasts } = self.breaker {
            if now < until {
                return Admission::NotBefore(until, PauseReason::Breaker);
            }
            self.breaker = Breaker::HalfOpen { opened_for: lasts };
        }
        if let Some(until) = self.retry_after_until.filter(|until| now < *until) {
            return Admission::NotBefore(until, PauseReason::RetryAfter);
        }
        if let Some((until, _)) = self.host_pause.filter(|(until, _)| now < *until) {
            return Admission::NotBefore(until, PauseReason::HostFault);
        }
        if in_flight >= self.window(concurrency) {
            return Admission::AtCapacity;
        }
        if let Some(at) = self.slow_start_opens_at(in_flight, now) {
            return Admission::NotBefore(at, PauseReason::SlowStart);
        }
        if let Some(at) = self.adaptive_rate.as_ref().map(AdaptiveRate::next_at).filter(|at| now < *at) {
            return Admission::NotBefore(at, PauseReason::Throttled);
        }
        let next_at = rate_per_s.and_then(|rate| self.bucket.next_at(f64::from(rate), now));
        next_at.map_or(Admission::Allow, |at| Admission::NotBefore(at, PauseReason::RateLimit))
    }

    /// Time of the next step of slow start, if `in_flight` has reached the present step.
    fn slow_start_opens_at(&self, in_flight: u32, now: Instant) -> Option<Instant> {
        let started_at = self.started_at?;
        let steps = now.duration_since(started_at).as_millis() / SLOW_START_STEP.as_millis();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let allowed = SLOW_START_REQUESTS.checked_shl(steps).filter(|_| steps < 8)?;
        (in_flight >= allowed).then(|| started_at + SLOW_START_STEP * (steps + 1))
    }

    /// Charges an attempt that begins now.
    pub(super) fn attempt_started(&mut self, now: Instant) {
        self.bucket.take();
        self.started_at.get_or_insert(now);
        if let Some(adaptive_rate) = &mut self.adaptive_rate {
            adaptive_rate.begin(now);
        }
    }

    /// Pauses the lane for `retry_after`. A later answer never shortens the pause.
    fn observe_retry_after(&mut self, retry_after: Duration, now: Instant) {
        self.retry_after_until = self.retry_after_until.max(Some(now + retry_after));
    }

    /// Adapts window, rate and breaker to an attempt that began at `began` and ends now.
    pub(super) fn attempt_ended(
        &mut self,
        health: ReceiverHealth,
        retry_after: Option<Duration>,
        concurrency: u32,
        (began, now): (Instant, Instant),
    ) {
        // An attempt that began after the pause and reached the receiver shows that the fault of this host is over.
        if health != ReceiverHealth::HostFault {
            self.host_pause.take_if(|(until, _)| *until <= began);
        }
        match health {
            ReceiverHealth::Unknown | ReceiverHealth::Rejected => {}
            ReceiverHealth::Ok => self.succeeded(concurrency),
            ReceiverHealth::Throttled => self.throttled(retry_after.unwrap_or_default(), concurrency, began, now),
            ReceiverHealth::Slow => {
                self.reduce_window(concurrency, began, now);
                self.failed(now);
            }
            ReceiverHealth::Failing => self.failed(now),
            ReceiverHealth::HostFault => self.host_failed(began, now),
        }
        if let Some(retry_after) = retry_after {
            self.observe_retry_after(retry_after, now);
        }
    }

    fn throttled(&mut self, retry_after: Duration, concurrency: u32, began: Instant, now: Instant) {
        self.reduce_window(concurrency, began, now);
        let lowered = match &mut self.adaptive_rate {
            Some(adaptive_rate) => adaptive_rate.refused(began, retry_after, now),
            None => {
                self.adaptive_rate = Some(AdaptiveRate::new(now));
                true
            }
        };
        // Refusals of requests that were under way together count as one failure.
        if lowered {
            self.failed(now);
        }
    }

    fn host_failed(&mut self, began: Instant, now: Instant) {
        let pause = match self.host_pause {
            None => HOST_PAUSE_MIN,
            // An attempt that began before the pause says nothing about the time since.
            Some((until, _)) if began < until => return,
            Some((_, pause)) => (pause * 2).min(HOST_PAUSE_MAX),
        };
        self.host_pause = Some((now + pause, pause));
    }

    fn succeeded(&mut self, concurrency: u32) {
        if let Some(adaptive_rate) = &mut self.adaptive_rate {
            adaptive_rate.accepted();
        }
        self.adaptive_rate.take_if(|adaptive_rate| adaptive_rate.is_lifted());
        if !matches!(self.breaker, Breaker::Closed { .. }) {
            // The receiver has just recovered: start with one request at a time.
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

    fn reduce_window(&mut self, concurrency: u32, began: Instant, now: Instant) {
        // An attempt that began before the last reduction says nothing about the present window.
        if self.reduced_at.is_some_and(|reduced_at| began < reduced_at) {
            return;
        }
        self.window = Some((self.window.unwrap_or(concurrency).min(concurrency) / 2).max(1));
        self.reduced_at = Some(now);
        self.successes = 0;
    }

    fn failed(&mut self, now: Instant) {
        self.breaker = match self.breaker {
            Breaker::Closed { failures } if failures + 1 < FAILURES_MAX => Breaker::Closed { failures: failures + 1 },
            Breaker::Closed { .. } => Breaker::Open { until: now + OPEN_MIN, lasts: OPEN_MIN },
            Breaker::HalfOpen { opened_for } => {
                let lasts = (opened_for * 2).min(OPEN_MAX);
                Breaker::Open { until: now + lasts, lasts }
            }
            // An attempt that was under way when the breaker opened.
            open @ Breaker::Open { .. } => open,
        };
    }
}

#[cfg(test)]
mod tests;

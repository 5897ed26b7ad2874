//! Rules of flow control, with a passed clock.

use super::*;
use hookloom_model::clock;
use hookloom_model::delivery::Reason;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn status(status: u16) -> Outcome {
    Outcome::Answered { status, retry_after_ms: None, elsewhere: false }
}

#[test]
fn outcomes_show_the_health_of_the_receiver() {
    #[track_caller]
    fn check(outcome: Outcome, expected: ReceiverHealth) {
        assert_eq!(ReceiverHealth::of(&outcome), expected, "{outcome:?}");
    }
    check(status(204), ReceiverHealth::Ok);
    check(status(429), ReceiverHealth::Throttled);
    check(status(502), ReceiverHealth::Throttled);
    check(status(503), ReceiverHealth::Throttled);
    check(status(504), ReceiverHealth::Throttled);
    check(status(500), ReceiverHealth::Failing);
    check(status(404), ReceiverHealth::Rejected);
    check(status(301), ReceiverHealth::Rejected);
    check(Outcome::Answered { status: 500, retry_after_ms: None, elsewhere: true }, ReceiverHealth::Unknown);
    check(Outcome::NoAnswer { kind: NoAnswer::Timeout, detail: String::new() }, ReceiverHealth::Slow);
    check(Outcome::NoAnswer { kind: NoAnswer::Connect, detail: String::new() }, ReceiverHealth::Failing);
    check(Outcome::NoAnswer { kind: NoAnswer::AddressRefused, detail: String::new() }, ReceiverHealth::Unknown);
}

#[test]
fn the_window_halves_once_for_all_and_widens_by_ten() {
    let mut flow = FlowControl::new();
    let began = clock::instant();
    assert_eq!(flow.window(32), 32);
    for _ in 0..5 {
        flow.attempt_ended(ReceiverHealth::Throttled, None, 32, (began, began + SECOND));
    }
    assert_eq!(flow.window(32), 16, "five that were under way together halve it once");
    flow.attempt_ended(ReceiverHealth::Throttled, None, 32, (began + 2 * SECOND, began + 3 * SECOND));
    assert_eq!(flow.window(32), 8);
    assert_eq!(flow.window(4), 4, "an owner may want fewer");
    for _ in 0..10 {
        flow.attempt_ended(ReceiverHealth::Ok, None, 32, (began, began));
    }
    assert_eq!(flow.window(32), 9);
    for _ in 0..1_000 {
        flow.attempt_ended(ReceiverHealth::Ok, None, 32, (began, began));
    }
    assert_eq!((flow.window(32), flow.window(64)), (32, 64), "as wide as it was, and no memory of it");
    for step in 4..20 {
        flow.attempt_ended(ReceiverHealth::Throttled, None, 32, (began + step * SECOND, began + step * SECOND));
        flow.attempt_ended(ReceiverHealth::Ok, None, 32, (began, began));
    }
    assert_eq!(flow.window(32), 1);
}

#[test]
fn the_breaker_opens_half_opens_and_closes() {
    let mut flow = FlowControl::new();
    let mut now = clock::instant();
    for _ in 0..FAILURES_MAX {
        assert_eq!(flow.admit(4, None, 0, now), Admission::Allow);
        flow.attempt_ended(ReceiverHealth::Failing, None, 4, (now, now));
    }
    for pause_s in [5, 10, 20, 40, 80, 160, 300, 300] {
        let until = now + pause_s * SECOND;
        assert_eq!(
            (flow.admit(4, None, 0, now), flow.breaker_state()),
            (Admission::NotBefore(until, PauseReason::Breaker), "open")
        );
        assert!(flow.is_paused(now), "for attempts under way too");
        assert_eq!(flow.admit(4, None, 0, until), Admission::Allow);
        assert_eq!((flow.admit(4, None, 1, until), flow.breaker_state()), (Admission::AtCapacity, "half-open"));
        now = until;
        flow.attempt_ended(ReceiverHealth::Failing, None, 4, (now, now));
    }
    now += 300 * SECOND;
    assert_eq!(flow.admit(4, None, 0, now), Admission::Allow);
    flow.attempt_ended(ReceiverHealth::Ok, None, 4, (now, now));
    assert_eq!((flow.window(4), flow.breaker_state()), (1, "closed"));
    assert!(!flow.is_paused(now));
    let mut mixed = FlowControl::new();
    for _ in 0..100 {
        (0..FAILURES_MAX - 1).for_each(|_| mixed.attempt_ended(ReceiverHealth::Failing, None, 4, (now, now)));
        mixed.attempt_ended(ReceiverHealth::Unknown, None, 4, (now, now));
        mixed.attempt_ended(ReceiverHealth::Ok, None, 4, (now, now));
    }
    assert_eq!(mixed.breaker_state(), "closed", "never ten in a row");
}

#[test]
fn retry_after_pauses_the_whole_lane() {
    let answer = |status, retry_after_ms| Outcome::Answered { status, retry_after_ms, elsewhere: false };
    assert_eq!(retry_after(&answer(429, Some(2_000))), Some(2 * SECOND));
    assert_eq!(retry_after(&answer(503, Some(u64::MAX))), Some(RETRY_AFTER_MAX));
    assert_eq!((retry_after(&answer(500, Some(2_000))), retry_after(&answer(429, None))), (None, None));
    let mut flow = FlowControl::new();
    let now = clock::instant();
    flow.observe_retry_after(5 * SECOND, now);
    flow.observe_retry_after(SECOND, now);
    assert_eq!(flow.admit(4, None, 0, now), Admission::NotBefore(now + 5 * SECOND, PauseReason::RetryAfter));
    assert_eq!(flow.admit(4, None, 0, now + 5 * SECOND), Admission::Allow);
    assert!(flow.is_paused(now + 4 * SECOND) && !flow.is_paused(now + 5 * SECOND), "for attempts under way too");
    flow.observe_retry_after(60 * SECOND, now);
    flow.reset_receiver();
    assert_eq!(flow.admit(4, None, 0, now), Admission::Allow, "another receiver said nothing");
}

#[test]
fn a_fault_of_this_host_pauses_the_lane_and_blames_no_receiver() {
    assert_eq!(ReceiverHealth::of(&Outcome::HostFault(Reason::new("host-network", "m"))), ReceiverHealth::HostFault);
    let mut flow = FlowControl::new();
    let mut now = clock::instant();
    for pause_s in [1, 2, 4, 8, 16, 30, 30] {
        let began = now;
        for _ in 0..20 {
            flow.attempt_ended(ReceiverHealth::HostFault, None, 8, (began, now));
        }
        assert_eq!(flow.admit(8, None, 0, now), Admission::NotBefore(now + pause_s * SECOND, PauseReason::HostFault));
        now += pause_s * SECOND;
        assert_eq!(
            (flow.admit(8, None, 0, now), flow.admit(8, None, 1, now)),
            (Admission::Allow, Admission::AtCapacity),
            "one tries"
        );
    }
    assert_eq!(flow.breaker_state(), "closed");
    flow.attempt_ended(ReceiverHealth::Ok, None, 8, (now - SECOND, now));
    assert_eq!(flow.window(8), 1, "what began before the fault says nothing");
    flow.attempt_ended(ReceiverHealth::Unknown, None, 8, (now, now));
    assert_eq!((flow.window(8), flow.admit(8, None, 1, now)), (8, Admission::Allow));
}

#[test]
fn the_first_requests_begin_few_at_a_time() {
    let mut flow = FlowControl::new();
    let start = clock::instant();
    assert_eq!(flow.admit(64, None, 0, start), Admission::Allow);
    flow.attempt_started(start);
    assert_eq!(flow.admit(64, None, 3, start), Admission::Allow);
    assert_eq!(flow.admit(64, None, 4, start), Admission::NotBefore(start + SLOW_START_STEP, PauseReason::SlowStart));
    assert_eq!(flow.admit(64, None, 4, start + SLOW_START_STEP), Admission::Allow);
    assert_eq!(
        flow.admit(64, None, 8, start + SLOW_START_STEP),
        Admission::NotBefore(start + 2 * SLOW_START_STEP, PauseReason::SlowStart)
    );
    assert_eq!(flow.admit(64, None, 63, start + 4 * SLOW_START_STEP), Admission::Allow);
    assert_eq!(flow.admit(64, None, 64, start + 60 * SECOND), Admission::AtCapacity);
    flow.reset_receiver();
    assert_eq!(flow.admit(64, None, 4, start + 60 * SECOND), Admission::Allow);
    flow.attempt_started(start + 60 * SECOND);
    assert_eq!(
        flow.admit(64, None, 4, start + 60 * SECOND),
        Admission::NotBefore(start + 60 * SECOND + SLOW_START_STEP, PauseReason::SlowStart)
    );
}

#[test]
fn a_throttling_receiver_gets_spaced_requests_and_opens_the_breaker_late() {
    let mut flow = FlowControl::new();
    let now = clock::instant();
    for _ in 0..4 * FAILURES_MAX {
        flow.attempt_ended(ReceiverHealth::Throttled, None, 32, (now, now + SECOND));
    }
    assert_eq!((flow.breaker_state(), flow.is_throttled()), ("closed", true), "what began together counts once");
    let Admission::NotBefore(at, PauseReason::Throttled) = flow.admit(32, None, 0, now + SECOND) else {
        panic!("not throttled")
    };
    assert!(at > now + SECOND && at <= now + 2 * SECOND);
    assert_eq!(flow.admit(32, None, 0, at), Admission::Allow);
    for step in 2..12 {
        flow.attempt_ended(ReceiverHealth::Throttled, Some(SECOND), 32, (now + step * SECOND, now + step * SECOND));
    }
    assert_eq!(flow.breaker_state(), "open", "refusals one after the other are failures");
    flow.reset_receiver();
    assert!(!flow.is_throttled());
}

#[test]
fn a_wait_for_the_rate_ends_when_it_has_passed() {
    let begun = clock::instant();
    for rate in 1..200 {
        let mut flow = FlowControl::new();
        let mut now = begun;
        for _ in 0..3 * rate {
            if let Admission::NotBefore(at, _) = flow.admit(8, Some(rate), 0, now) {
                assert!(at > now, "{rate} a second: a wait of nothing");
                now = at;
                assert_eq!(flow.admit(8, Some(rate), 0, now), Admission::Allow, "{rate} a second");
            }
            flow.attempt_started(now);
        }
    }
}

#[test]
fn a_lane_that_goes_on_has_one_token() {
    let now = clock::instant();
    let mut flow = FlowControl::new();
    flow.goes_on(now);
    assert_eq!(flow.admit(8, Some(5), 0, now), Admission::Allow);
    flow.attempt_started(now);
    let next = now + Duration::from_millis(200);
    assert_eq!(flow.admit(8, Some(5), 0, now), Admission::NotBefore(next, PauseReason::RateLimit));
    assert_eq!(flow.admit(8, Some(5), 0, next), Admission::Allow);
}

#[test]
fn a_rate_holds_over_time() {
    let mut flow = FlowControl::new();
    let start = clock::instant();
    let mut now = start;
    let mut sent = 0;
    while now < start + 10 * SECOND {
        match flow.admit(32, Some(5), 0, now) {
            Admission::Allow => {
                flow.attempt_started(now);
                sent += 1;
            }
            Admission::NotBefore(at, _) => now = at.max(now + Duration::from_micros(1)),
            Admission::AtCapacity => unreachable!("nothing is under way"),
        }
    }
    assert!((54..=56).contains(&sent), "one second's worth at once, then five a second: {sent}");
}

proptest! {
    #[test]
    fn an_attempt_may_always_begin_some_time(
        observed in proptest::collection::vec((0..7usize, 0u64..400, proptest::option::of(0u64..100)), 0..200),
        concurrency in 1u32..64,
        rate in proptest::option::of(1u32..100),
    ) {
        let mut flow = FlowControl::new();
        let mut now = clock::instant();
        for (health, wait_s, retry_after_s) in observed {
            now += Duration::from_secs(wait_s);
            let every = [ReceiverHealth::Ok, ReceiverHealth::Throttled, ReceiverHealth::Slow, ReceiverHealth::Failing, ReceiverHealth::HostFault, ReceiverHealth::Unknown, ReceiverHealth::Rejected];
            let asked = retry_after_s.map(Duration::from_secs);
            flow.attempt_ended(every[health], asked, concurrency, (now, now));
            // A request that is returned in a pause must wait in the lane.
            prop_assert!(!flow.is_paused(now) || matches!(flow.admit(concurrency, rate, 0, now), Admission::NotBefore(..)));
            prop_assert!((1..=concurrency).contains(&flow.window(concurrency)));
            match flow.admit(concurrency, rate, 0, now) {
                Admission::Allow => flow.attempt_started(now),
                Admission::NotBefore(at, PauseReason::RateLimit) => prop_assert!(at <= now + SECOND),
                Admission::NotBefore(at, _) => prop_assert!(at <= now + OPEN_MAX),
                Admission::AtCapacity => prop_assert!(false, "nothing is under way"),
            }
        }
    }
}

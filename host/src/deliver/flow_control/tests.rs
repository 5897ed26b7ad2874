//! Tests of the rules by which a lane goes.

use super::*;
use crate::delivery::Reason;
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
    check(status(503), Sign::Throttled);
    check(status(504), Sign::Throttled);
    check(status(500), Sign::Ill);
    check(status(404), Sign::Refused);
    check(status(301), Sign::Refused);
    check(Outcome::Answered { status: 500, retry_after_ms: None, elsewhere: true }, Sign::Nothing);
    check(Outcome::NoAnswer { kind: NoAnswer::Timeout, detail: String::new() }, Sign::Slow);
    check(Outcome::NoAnswer { kind: NoAnswer::Connect, detail: String::new() }, Sign::Ill);
    check(Outcome::NoAnswer { kind: NoAnswer::AddressRefused, detail: String::new() }, Sign::Nothing);
}

#[test]
fn the_window_halves_once_for_all_and_widens_by_ten() {
    let (mut pace, began) = (Pace::new(), Instant::now());
    assert_eq!(pace.window(32), 32);
    for _ in 0..5 {
        pace.end(Sign::Throttled, None, 32, (began, began + SECOND));
    }
    assert_eq!(pace.window(32), 16, "five that were under way together halve it once");
    pace.end(Sign::Throttled, None, 32, (began + 2 * SECOND, began + 3 * SECOND));
    assert_eq!(pace.window(32), 8);
    assert_eq!(pace.window(4), 4, "an owner may want fewer");
    for _ in 0..10 {
        pace.end(Sign::Well, None, 32, (began, began));
    }
    assert_eq!(pace.window(32), 9);
    for _ in 0..1_000 {
        pace.end(Sign::Well, None, 32, (began, began));
    }
    assert_eq!((pace.window(32), pace.window(64)), (32, 64), "as wide as it was, and no memory of it");
    for step in 4..20 {
        pace.end(Sign::Throttled, None, 32, (began + step * SECOND, began + step * SECOND));
        pace.end(Sign::Well, None, 32, (began, began));
    }
    assert_eq!(pace.window(32), 1);
}

#[test]
fn the_breaker_opens_tries_and_closes() {
    let (mut pace, mut now) = (Pace::new(), Instant::now());
    for _ in 0..FAILURES_MAX {
        assert_eq!(pace.leave(4, None, 0, now), Leave::Go);
        pace.end(Sign::Ill, None, 4, (now, now));
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
        pace.end(Sign::Ill, None, 4, (now, now));
    }
    now += 300 * SECOND;
    assert_eq!(pace.leave(4, None, 0, now), Leave::Go);
    pace.end(Sign::Well, None, 4, (now, now));
    assert_eq!((pace.window(4), pace.breaker_word()), (1, "closed"));
    let mut mixed = Pace::new();
    for _ in 0..100 {
        (0..FAILURES_MAX - 1).for_each(|_| mixed.end(Sign::Ill, None, 4, (now, now)));
        mixed.end(Sign::Nothing, None, 4, (now, now));
        mixed.end(Sign::Well, None, 4, (now, now));
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
fn a_fault_of_this_host_rests_the_lane_and_blames_no_receiver() {
    assert_eq!(Sign::of(&Outcome::HostFault(Reason::new("host-network", "m"))), Sign::HostFault);
    let (mut pace, mut now) = (Pace::new(), Instant::now());
    for rest in [1, 2, 4, 8, 16, 30, 30] {
        let began = now;
        for _ in 0..20 {
            pace.end(Sign::HostFault, None, 8, (began, now));
        }
        assert_eq!(pace.leave(8, None, 0, now), Leave::NotBefore(now + rest * SECOND, Rest::HostFault));
        now += rest * SECOND;
        assert_eq!((pace.leave(8, None, 0, now), pace.leave(8, None, 1, now)), (Leave::Go, Leave::Full), "one tries");
    }
    assert_eq!(pace.breaker_word(), "closed");
    pace.end(Sign::Well, None, 8, (now - SECOND, now));
    assert_eq!(pace.window(8), 1, "what began before the fault says nothing");
    pace.end(Sign::Nothing, None, 8, (now, now));
    assert_eq!((pace.window(8), pace.leave(8, None, 1, now)), (8, Leave::Go));
}

#[test]
fn the_first_requests_begin_few_at_a_time() {
    let (mut pace, start) = (Pace::new(), Instant::now());
    assert_eq!(pace.leave(64, None, 0, start), Leave::Go);
    pace.begin(start);
    assert_eq!(pace.leave(64, None, 3, start), Leave::Go);
    assert_eq!(pace.leave(64, None, 4, start), Leave::NotBefore(start + FIRST_STEP, Rest::Start));
    assert_eq!(pace.leave(64, None, 4, start + FIRST_STEP), Leave::Go);
    assert_eq!(pace.leave(64, None, 8, start + FIRST_STEP), Leave::NotBefore(start + 2 * FIRST_STEP, Rest::Start));
    assert_eq!(pace.leave(64, None, 63, start + 4 * FIRST_STEP), Leave::Go);
    assert_eq!(pace.leave(64, None, 64, start + 60 * SECOND), Leave::Full);
    pace.forget_receiver();
    assert_eq!(pace.leave(64, None, 4, start + 60 * SECOND), Leave::Go);
    pace.begin(start + 60 * SECOND);
    assert_eq!(
        pace.leave(64, None, 4, start + 60 * SECOND),
        Leave::NotBefore(start + 60 * SECOND + FIRST_STEP, Rest::Start)
    );
}

#[test]
fn a_throttling_receiver_is_asked_in_steps_and_is_not_ill_at_once() {
    let (mut pace, now) = (Pace::new(), Instant::now());
    for _ in 0..4 * FAILURES_MAX {
        pace.end(Sign::Throttled, None, 32, (now, now + SECOND));
    }
    assert_eq!((pace.breaker_word(), pace.is_throttled()), ("closed", true), "what began together counts once");
    let Leave::NotBefore(at, Rest::Throttle) = pace.leave(32, None, 0, now + SECOND) else { panic!("not throttled") };
    assert!(at > now + SECOND && at <= now + 2 * SECOND);
    assert_eq!(pace.leave(32, None, 0, at), Leave::Go);
    for step in 2..12 {
        pace.end(Sign::Throttled, Some(SECOND), 32, (now + step * SECOND, now + step * SECOND));
    }
    assert_eq!(pace.breaker_word(), "open", "one after the other it is ill");
    pace.forget_receiver();
    assert!(!pace.is_throttled());
}

#[test]
fn a_rate_holds_over_time() {
    let (mut pace, start) = (Pace::new(), Instant::now());
    let (mut now, mut sent) = (start, 0);
    while now < start + 10 * SECOND {
        match pace.leave(32, Some(5), 0, now) {
            Leave::Go => {
                pace.begin(now);
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
        signs in proptest::collection::vec((0..7usize, 0u64..400), 0..200),
        concurrency in 1u32..64,
        rate in proptest::option::of(1u32..100),
    ) {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        for (sign, wait_s) in signs {
            now += Duration::from_secs(wait_s);
            let signs =
                [Sign::Well, Sign::Throttled, Sign::Slow, Sign::Ill, Sign::HostFault, Sign::Nothing, Sign::Refused];
            let sign = signs[sign];
            pace.end(sign, None, concurrency, (now, now));
            prop_assert!((1..=concurrency).contains(&pace.window(concurrency)));
            match pace.leave(concurrency, rate, 0, now) {
                Leave::Go => pace.begin(now),
                Leave::NotBefore(at, Rest::Rate) => prop_assert!(at <= now + SECOND),
                Leave::NotBefore(at, _) => prop_assert!(at <= now + REST_MAX),
                Leave::Full => prop_assert!(false, "nothing is under way"),
            }
        }
    }
}

//! Throttle of failed attempts to sign in, which answers guesses with 429.
//!
//! # Guarantees
//! - Only wrong credentials are counted or refused, so that failed attempts of others lock nobody out: a right key or link signs in
//!   from any address at any time.
//! - Attempts are counted by the client's network (an IPv4 address, or the /64 of an IPv6 address, which one client has) and by the
//!   first characters of the credential, so that guesses at one key from many networks are counted together.
//! - Memory is bounded: [`SOURCES_MAX`] of each kind are remembered, and the one with the oldest failure is replaced.
//!
//! # Limits
//! The throttle does not protect keys. A key has 256 random bits and is looked up by its hash, so it cannot be guessed. The
//! throttle bounds the noise, and stops programs that guess. API keys, intake tokens and session cookies have no throttle: a
//! refusal costs one hash and one look-up in memory, less than a count would. The crate `governor` could count as well, but its
//! keyed state grows with the number of keys.

use super::rate_limit::RateLimit;
use lru::LruCache;
use parking_lot::Mutex;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZero;
use std::time::{Duration, Instant};

/// Number of failed attempts within [`WINDOW`] that are answered as such. Later ones are answered with 429.
const FAILURES_MAX: u32 = 10;

/// Duration after which a count starts over.
pub(super) const WINDOW: Duration = Duration::from_secs(300);

/// Maximum number of networks, and of prefixes of credentials, that are remembered.
const SOURCES_MAX: NonZero<usize> = NonZero::new(10_000).expect("not zero");

/// Number of characters of a credential by which attempts are counted: as many as lists of keys show.
const PREFIX_CHARS: usize = 8;

/// Failed attempts to sign in.
pub struct SignInThrottle(Mutex<FailureCounts>);

struct FailureCounts {
    networks: LruCache<IpAddr, FailureCount>,
    prefixes: LruCache<String, FailureCount>,
}

/// Number of failures since a time.
#[derive(Clone, Copy)]
struct FailureCount {
    failures: u32,
    since: Instant,
}

/// Answer to a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailedAttempt {
    /// Refuse the credential.
    WithinLimit,
    /// Refuse the credential, with 429.
    OverLimit,
}

/// Counted failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CountedFailure {
    /// Answer to the attempt.
    pub(super) failure: FailedAttempt,
    /// Limit, and its remaining part.
    pub(super) limit: RateLimit,
}

impl Default for SignInThrottle {
    fn default() -> Self {
        let networks = LruCache::new(SOURCES_MAX);
        let prefixes = LruCache::new(SOURCES_MAX);
        SignInThrottle(Mutex::new(FailureCounts { networks, prefixes }))
    }
}

impl SignInThrottle {
    /// Counts an attempt with a wrong credential.
    pub(super) fn note_failure(&self, address: IpAddr, credential: &str, now: Instant) -> CountedFailure {
        let mut counts = self.0.lock();
        let prefix = credential.chars().take(PREFIX_CHARS).collect();
        let of_network = count(&mut counts.networks, network(address), now);
        let of_prefix = count(&mut counts.prefixes, prefix, now);
        let most = if of_prefix.failures > of_network.failures { of_prefix } else { of_network };
        let reset = WINDOW.saturating_sub(now.duration_since(most.since));
        CountedFailure {
            failure: if most.failures > FAILURES_MAX { FailedAttempt::OverLimit } else { FailedAttempt::WithinLimit },
            limit: RateLimit::SignIn {
                quota: FAILURES_MAX.into(),
                window_s: WINDOW.as_secs(),
                remaining: FAILURES_MAX.saturating_sub(most.failures).into(),
                reset_s: reset.as_secs().max(1),
            },
        }
    }
}

/// Adds a failure and returns the count of the window.
fn count<K: Hash + Eq>(counts: &mut LruCache<K, FailureCount>, key: K, now: Instant) -> FailureCount {
    let count = counts.get_or_insert_mut(key, || FailureCount { failures: 0, since: now });
    if now.duration_since(count.since) > WINDOW {
        *count = FailureCount { failures: 0, since: now };
    }
    count.failures = count.failures.saturating_add(1);
    *count
}

/// Returns the network of one client: an IPv4 address, or the /64 of an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// Makes failed attempts from an address with a credential, and returns the answer to the last one.
    fn fail(throttle: &SignInThrottle, times: u32, address: &str, credential: &str, now: Instant) -> FailedAttempt {
        let address = address.parse().expect(address);
        let counted = (0..times).map(|_| throttle.note_failure(address, credential, now));
        counted.last().expect("an attempt").failure
    }

    #[test]
    fn the_remaining_limit_is_reported() {
        let throttle = SignInThrottle::default();
        let now = clock::instant();
        let limit = |after_s: u64| {
            let later = now + Duration::from_secs(after_s);
            throttle.note_failure("192.0.2.1".parse().expect("an address"), "hlk_aaaa", later).limit
        };
        fn rate_limit(remaining: u64, reset_s: u64) -> RateLimit {
            RateLimit::SignIn { quota: 10, window_s: 300, remaining, reset_s }
        }
        assert_eq!(limit(0), rate_limit(9, 300));
        for left in (0..9).rev() {
            assert_eq!(limit(100), rate_limit(left, 200));
        }
        assert_eq!((limit(299), limit(301)), (rate_limit(0, 1), rate_limit(9, 300)));
    }

    #[test]
    fn an_address_is_counted_for_itself_and_again_after_a_while() {
        let throttle = SignInThrottle::default();
        let now = clock::instant();
        assert_eq!(fail(&throttle, 10, "192.0.2.1", "hlk_aaaa1", now), FailedAttempt::WithinLimit);
        assert_eq!(fail(&throttle, 1, "192.0.2.1", "hlk_bbbb1", now), FailedAttempt::OverLimit, "whatever is guessed");
        assert_eq!(
            fail(&throttle, 1, "::ffff:192.0.2.1", "hlk_cccc1", now),
            FailedAttempt::OverLimit,
            "however it is written"
        );
        assert_eq!(fail(&throttle, 1, "192.0.2.2", "hlk_dddd1", now), FailedAttempt::WithinLimit, "a neighbour");
        let later = now + WINDOW + Duration::from_secs(1);
        assert_eq!(fail(&throttle, 10, "192.0.2.1", "hlk_eeee1", later), FailedAttempt::WithinLimit);
        assert_eq!(fail(&throttle, 1, "192.0.2.1", "hlk_ffff1", later), FailedAttempt::OverLimit);
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let throttle = SignInThrottle::default();
        let now = clock::instant();
        for host in 1..=10 {
            fail(&throttle, 1, &format!("2001:db8:0:1::{host}"), &format!("hlk_{host:04}"), now);
        }
        assert_eq!(fail(&throttle, 1, "2001:db8:0:1:ffff::1", "hlk_zzzz", now), FailedAttempt::OverLimit);
        assert_eq!(fail(&throttle, 1, "2001:db8:0:2::1", "hlk_yyyy", now), FailedAttempt::WithinLimit);
    }

    #[test]
    fn guesses_at_one_key_from_many_networks_are_counted_together() {
        let throttle = SignInThrottle::default();
        let now = clock::instant();
        let from = |last: u32, guess: &str| fail(&throttle, 1, &format!("198.51.100.{last}"), guess, now);
        assert!((0..10).all(|last| from(last, &format!("hlk_abcd-guess-{last}")) == FailedAttempt::WithinLimit));
        assert_eq!(from(10, "hlk_abcd-another"), FailedAttempt::OverLimit);
        assert_eq!(from(11, "hlk_abce"), FailedAttempt::WithinLimit);
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = SignInThrottle::default();
        let now = clock::instant();
        for number in 0..u128::try_from(SOURCES_MAX.get()).expect("small") + 5_000 {
            let address = Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | (number << 64));
            throttle.note_failure(address.into(), &format!("{number:08}"), now);
        }
        let counts = throttle.0.lock();
        assert_eq!((counts.networks.len(), counts.prefixes.len()), (SOURCES_MAX.get(), SOURCES_MAX.get()));
        assert!(counts.prefixes.iter().all(|(prefix, _)| prefix.chars().count() <= PREFIX_CHARS));
    }
}

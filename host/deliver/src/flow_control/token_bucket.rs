//! Token bucket of a subscription's `rate_per_s`, which holds the tokens of one second.

use std::time::{Duration, Instant};

/// Part of a token that rounding may take.
const TOKENS_ROUNDED: f64 = 1e-6;

/// Token bucket, which is full at first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TokenBucket {
    tokens: f64,
    /// None: it has not been used.
    filled_at: Option<Instant>,
}

impl TokenBucket {
    /// Returns the bucket of a lane that goes on after another one, which may have used all other tokens a moment ago.
    pub(super) fn with_one_token(now: Instant) -> Self {
        TokenBucket { tokens: 1.0, filled_at: Some(now) }
    }

    /// Fills the bucket. Returns the time of the next token, unless there is one.
    pub(super) fn next_at(&mut self, rate_per_s: f64, now: Instant) -> Option<Instant> {
        let since_s = self.filled_at.map_or(1.0, |filled_at| now.duration_since(filled_at).as_secs_f64());
        self.tokens = (self.tokens + since_s * rate_per_s).min(rate_per_s);
        self.filled_at = Some(now);
        // A wait that is rounded to nothing would be asked for again and again.
        (self.tokens < 1.0 - TOKENS_ROUNDED).then(|| now + Duration::from_secs_f64((1.0 - self.tokens) / rate_per_s))
    }

    /// Takes a token.
    pub(super) fn take(&mut self) {
        self.tokens = (self.tokens - 1.0).max(0.0);
    }
}

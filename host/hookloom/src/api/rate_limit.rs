//! Headers for limits: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
//!
//! The host has two such limits: concurrent requests of a tenant or of the operator, and failed attempts to sign in. Other answers
//! have no such headers.

use http::{HeaderMap, HeaderName, HeaderValue};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// Limit, and its remaining part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RateLimit {
    /// Concurrent requests: the maximum of one party, and how many more it could begin now.
    Requests { quota: u64, remaining: u64 },
    /// Failed attempts to sign in within a window, and the seconds until the count starts over.
    SignIn { quota: u64, window_s: u64, remaining: u64, reset_s: u64 },
}

impl RateLimit {
    fn values(self) -> [String; 2] {
        match self {
            RateLimit::Requests { quota, remaining } => {
                [format!("\"requests\";q={quota};qu=\"concurrent-requests\""), format!("\"requests\";r={remaining}")]
            }
            RateLimit::SignIn { quota, window_s, remaining, reset_s } => {
                [format!("\"sign-in\";q={quota};w={window_s}"), format!("\"sign-in\";r={remaining};t={reset_s}")]
            }
        }
    }

    /// Sets both headers.
    pub(super) fn write(self, headers: &mut HeaderMap) {
        for (name, value) in [POLICY, STATE].into_iter().zip(self.values()) {
            headers.insert(name, HeaderValue::try_from(value).expect("numbers and constant words are visible ASCII"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(limit: RateLimit, expected: [&str; 2]) {
        let mut headers = HeaderMap::new();
        limit.write(&mut headers);
        let value = |name: &str| headers[name].to_str().expect("ASCII").to_owned();
        assert_eq!([value("ratelimit-policy"), value("ratelimit")], expected);
    }

    #[test]
    fn limits_are_written_as_structured_fields() {
        check(
            RateLimit::Requests { quota: 384, remaining: 383 },
            ["\"requests\";q=384;qu=\"concurrent-requests\"", "\"requests\";r=383"],
        );
        check(
            RateLimit::SignIn { quota: 10, window_s: 300, remaining: 0, reset_s: 211 },
            ["\"sign-in\";q=10;w=300", "\"sign-in\";r=0;t=211"],
        );
    }
}

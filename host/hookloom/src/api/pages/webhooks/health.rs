//! Health of a webhook: one word for its state, what its receiver answers, and what holds it up. Pure.

use crate::figures::Figures;
use crate::subscription::SubscriptionState;

/// Least success of a healthy webhook, in percent.
const HEALTHY_MIN: f64 = 99.0;

/// Least success of a degraded webhook, in percent. Below it, the webhook fails.
const DEGRADED_MIN: f64 = 50.0;

/// Health of a webhook, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api::pages) enum WebhookHealth {
    /// The host disabled it, or the receiver asked for no more webhooks.
    Disabled,
    /// Less than half of the requests are answered with 2xx.
    Failing,
    /// No request is sent for a while, because the receiver has failed.
    Waiting,
    /// Some requests fail.
    Degraded,
    /// Events match and wait.
    Paused,
    /// There were no attempts.
    Idle,
    /// Requests are answered with 2xx.
    Healthy,
}

impl WebhookHealth {
    /// All values, the worst first.
    pub(super) const ALL: [WebhookHealth; 7] = [
        WebhookHealth::Disabled,
        WebhookHealth::Failing,
        WebhookHealth::Waiting,
        WebhookHealth::Degraded,
        WebhookHealth::Paused,
        WebhookHealth::Idle,
        WebhookHealth::Healthy,
    ];

    /// Decides the health of a webhook by its state, its circuit breaker (`closed`, `half-open` or `open`), and its figures of the last
    /// day.
    pub(super) fn of(state: SubscriptionState, breaker: &str, figures: &Figures) -> Self {
        match state {
            SubscriptionState::Disabled => return WebhookHealth::Disabled,
            SubscriptionState::Paused => return WebhookHealth::Paused,
            SubscriptionState::Active => {}
        }
        if breaker == "open" {
            return WebhookHealth::Waiting;
        }
        match figures.success() {
            _ if figures.attempts() == 0 => WebhookHealth::Idle,
            Some(success) if success < DEGRADED_MIN => WebhookHealth::Failing,
            Some(success) if success < HEALTHY_MIN => WebhookHealth::Degraded,
            // What plugins drop does not fail.
            Some(_) | None => WebhookHealth::Healthy,
        }
    }

    /// Returns the word of the pages, which is also the value of the filter.
    pub(in crate::api::pages) fn word(self) -> &'static str {
        match self {
            WebhookHealth::Disabled => "disabled",
            WebhookHealth::Failing => "failing",
            WebhookHealth::Waiting => "waiting",
            WebhookHealth::Degraded => "degraded",
            WebhookHealth::Paused => "paused",
            WebhookHealth::Idle => "idle",
            WebhookHealth::Healthy => "healthy",
        }
    }

    /// Returns the health with this word.
    pub(super) fn parse(word: &str) -> Option<Self> {
        WebhookHealth::ALL.into_iter().find(|health| health.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: SubscriptionState = SubscriptionState::Active;

    /// Checks the health by numbers of attempts that delivered, failed and were dropped.
    #[track_caller]
    fn check(state: SubscriptionState, breaker: &str, [delivered, failed, dropped]: [u64; 3], expected: WebhookHealth) {
        let figures = Figures { delivered, failed, dropped, ..Figures::default() };
        assert_eq!(WebhookHealth::of(state, breaker, &figures), expected, "{state:?}, {breaker}, {figures:?}");
    }

    #[test]
    fn a_badge_follows_from_the_figures() {
        check(ACTIVE, "closed", [0, 0, 0], WebhookHealth::Idle);
        check(ACTIVE, "closed", [1, 0, 0], WebhookHealth::Healthy);
        check(ACTIVE, "closed", [99, 1, 0], WebhookHealth::Healthy);
        check(ACTIVE, "closed", [98, 2, 0], WebhookHealth::Degraded);
        check(ACTIVE, "closed", [50, 50, 0], WebhookHealth::Degraded);
        check(ACTIVE, "closed", [49, 51, 0], WebhookHealth::Failing);
        check(ACTIVE, "closed", [1, 117, 0], WebhookHealth::Failing);
        check(ACTIVE, "closed", [0, 0, 7], WebhookHealth::Healthy);
        check(ACTIVE, "closed", [0, 1, 700], WebhookHealth::Failing);
    }

    #[test]
    fn what_holds_a_webhook_up_comes_before_its_figures() {
        check(ACTIVE, "open", [0, 0, 0], WebhookHealth::Waiting);
        check(ACTIVE, "open", [99, 1, 0], WebhookHealth::Waiting);
        check(ACTIVE, "half-open", [0, 3, 0], WebhookHealth::Failing);
        check(SubscriptionState::Paused, "open", [0, 9, 0], WebhookHealth::Paused);
        check(SubscriptionState::Disabled, "closed", [9, 0, 0], WebhookHealth::Disabled);
    }

    #[test]
    fn a_word_names_one_health() {
        for health in WebhookHealth::ALL {
            assert_eq!(WebhookHealth::parse(health.word()), Some(health));
        }
        assert_eq!(WebhookHealth::parse("active"), None);
    }
}

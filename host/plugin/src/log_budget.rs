//! Limit on the log lines of plugins that are stored for a subscription in a minute.
//!
//! Attempts are stored with their logs until they are pruned, so a plugin that logs at every event must not fill the disk. Lines beyond
//! the limit are left out, and their number is added to the log. The plugin does not notice.

use hookloom_model::subscription::SubscriptionId;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Current minute, with the bytes that each subscription has stored in it.
#[derive(Default)]
pub(super) struct LogBudget {
    minute: Mutex<(i64, HashMap<SubscriptionId, u64>)>,
}

impl LogBudget {
    /// Removes the lines that exceed the budget.
    pub(super) fn trim(&self, id: SubscriptionId, limit: u64, now_ms: i64, log: &mut Vec<String>) {
        if log.is_empty() {
            return;
        }
        let mut minute = self.minute.lock();
        let this_minute = now_ms.div_euclid(60_000);
        if minute.0 != this_minute {
            *minute = (this_minute, HashMap::new());
        }
        let kept = minute.1.entry(id).or_default();
        let fits = |line: &String| {
            let after = *kept + line.len() as u64;
            if after <= limit {
                *kept = after;
            }
            after <= limit
        };
        let lines = log.len();
        log.retain(fits);
        if log.len() < lines {
            let left_out = lines - log.len();
            log.push(format!("… {left_out} lines were left out: limits.log_bytes_per_minute is reached"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_a_budget_for_each_subscription() {
        let budget = LogBudget::default();
        let one = SubscriptionId::new();
        let other = SubscriptionId::new();
        let check = |id, now_ms, expected: &[&str]| {
            let mut log = vec!["0123456789".to_owned(), "abcde".to_owned()];
            budget.trim(id, 28, now_ms, &mut log);
            assert_eq!(log, expected);
        };
        check(one, 0, &["0123456789", "abcde"]);
        check(one, 30_000, &["0123456789", "… 1 lines were left out: limits.log_bytes_per_minute is reached"]);
        check(one, 59_999, &["… 2 lines were left out: limits.log_bytes_per_minute is reached"]);
        check(other, 59_999, &["0123456789", "abcde"]);
        check(one, 60_000, &["0123456789", "abcde"]);
    }
}

//! Number of rows that share a commit: fewer where rows take long, so that whoever waits for a commit waits for milliseconds.

use super::ROWS_MAX;
use std::time::Duration;

/// Minimum number of rows that share one commit, however long they take.
const ROWS_MIN: u64 = 32;

/// Time that the outcomes of a commit should take, and the other writes, beside the flush.
const COMMIT_TIME: Duration = Duration::from_millis(10);

/// Commits of at most this many rows tell how long a flush takes.
const FLUSH_ROWS: u64 = 8;

/// Commits of at least this many rows tell how long a row takes.
const MANY_ROWS: u64 = 32;

/// Number of rows that fit in [`COMMIT_TIME`], estimated from recent commits. Rows of one subscription's deliveries are appended to
/// pages that are in memory; each row of a thousand subscriptions changes several pages. The flush is subtracted: on a slow disk
/// commits must not become small.
pub(super) struct RowBudget {
    /// Nanoseconds that a row takes.
    row_ns: u64,
    /// Nanoseconds that a commit of few rows takes.
    flush_ns: u64,
}

/// Moves an average a quarter of the way to a new value.
fn follow(average: &mut u64, value: u64) {
    *average = if *average == 0 { value } else { (3 * *average + value) / 4 };
}

impl RowBudget {
    pub(super) const NONE_KNOWN: RowBudget = RowBudget { row_ns: 0, flush_ns: 0 };

    /// Returns how many rows the next commit may have, of outcomes and of other writes each.
    pub(super) fn rows(&self) -> u64 {
        let target = u64::try_from(COMMIT_TIME.as_nanos()).unwrap_or(u64::MAX);
        target.checked_div(self.row_ns).unwrap_or(ROWS_MAX).clamp(ROWS_MIN, ROWS_MAX)
    }

    /// Takes a commit into account.
    pub(super) fn observe(&mut self, rows: u64, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if rows <= FLUSH_ROWS {
            follow(&mut self.flush_ns, took);
        } else if rows >= MANY_ROWS {
            follow(&mut self.row_ns, took.saturating_sub(self.flush_ns) / rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits of so many rows and milliseconds, and how many rows the next one has.
    #[track_caller]
    fn check_budget(commits: &[(u64, u64)], expected: u64) {
        let mut budget = RowBudget::NONE_KNOWN;
        for (rows, ms) in commits {
            budget.observe(*rows, Duration::from_millis(*ms));
        }
        assert_eq!(budget.rows(), expected, "after {commits:?}");
    }

    #[test]
    fn commits_are_smaller_where_rows_take_long() {
        check_budget(&[], ROWS_MAX);
        check_budget(&[(1_024, 5)], ROWS_MAX);
        check_budget(&[(1_000, 20)], 500);
        check_budget(&[(1_000, 500)], ROWS_MIN);
        check_budget(&[(2, 500)], ROWS_MAX);
        // A row takes 40 µs beside a flush of 10 ms.
        check_budget(&[(2, 10), (250, 20)], 250);
        check_budget(&[(2, 10), (40, 10)], ROWS_MAX);
        check_budget(&[(1_000, 20), (1_000, 4)], 625);
        check_budget(&[(1_000, 0)], ROWS_MAX);
    }
}

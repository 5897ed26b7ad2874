//! Number of rows in a commit: fewer if rows take long, so that a wait for a commit takes milliseconds.

use crate::write_queue::ROWS_MAX;
use std::time::Duration;

/// Minimum number of rows in a commit.
const ROWS_MIN: u64 = 16;

/// Target duration of a commit for its outcomes, and for its other writes, without the flush. When all cores are busy, a commit takes
/// three times as long, and a write waits for the current commit and its own. With 10 ms instead of 4, an honest tenant waited 25 ms
/// instead of 17 beside another tenant that fills the writer; the throughput of a single tenant was the same.
const COMMIT_TIME: Duration = Duration::from_millis(4);

/// Maximum number of rows of a commit whose duration is taken for that of a flush.
const FLUSH_ROWS: u64 = 8;

/// Minimum number of rows of a commit from which the duration of a row is estimated.
const MANY_ROWS: u64 = 32;

/// Number of rows that fit in [`COMMIT_TIME`], estimated from recent commits. Deliveries of one subscription are appended to pages
/// in memory, while each row of a thousand subscriptions changes several pages. The duration of the flush is subtracted, so that
/// commits do not become small on a slow disk.
pub(super) struct RowBudget {
    /// Duration of a row, in nanoseconds.
    row_ns: u64,
    /// Duration of a commit of few rows, in nanoseconds.
    flush_ns: u64,
}

/// Moves an average by a quarter towards a new value.
fn follow(average: &mut u64, value: u64) {
    *average = if *average == 0 { value } else { (3 * *average + value) / 4 };
}

impl RowBudget {
    pub(super) const NONE_KNOWN: RowBudget = RowBudget { row_ns: 0, flush_ns: 0 };

    /// Returns the maximum number of rows of outcomes, and of other writes, in the next commit.
    pub(super) fn rows(&self) -> u64 {
        let target = u64::try_from(COMMIT_TIME.as_nanos()).unwrap_or(u64::MAX);
        target.checked_div(self.row_ns).unwrap_or(ROWS_MAX).clamp(ROWS_MIN, ROWS_MAX)
    }

    /// Updates the estimate after a commit.
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

    /// Observes commits of these rows and milliseconds, and compares the number of rows of the next one.
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
        check_budget(&[(1_024, 3)], ROWS_MAX);
        check_budget(&[(1_000, 20)], 200);
        check_budget(&[(1_000, 500)], ROWS_MIN);
        check_budget(&[(2, 500)], ROWS_MAX);
        // A row takes 40 µs, and the flush 10 ms.
        check_budget(&[(2, 10), (250, 20)], 100);
        check_budget(&[(2, 10), (40, 10)], ROWS_MAX);
        check_budget(&[(1_000, 20), (1_000, 4)], 250);
        check_budget(&[(1_000, 0)], ROWS_MAX);
    }
}

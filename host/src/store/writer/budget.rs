//! Number of rows that share a commit: fewer where rows take long, so that whoever waits for a commit waits for milliseconds.

use super::ROWS_MAX;
use std::time::Duration;

/// The fewest rows that share one commit, however long they take: a slow flush must not make commits small.
const ROWS_MIN: u64 = 256;

/// Time that the outcomes of a commit should take, and the other writes.
const COMMIT_TIME: Duration = Duration::from_millis(10);

/// Number of rows that fit in [`COMMIT_TIME`], as far as the commits of late tell. A row of one subscription's deliveries after
/// the other is appended to pages that are at hand; rows of a thousand subscriptions change some pages each.
pub(super) struct RowBudget {
    /// Nanoseconds that a row takes.
    row_ns: u64,
}

impl RowBudget {
    pub(super) const NONE_KNOWN: RowBudget = RowBudget { row_ns: 0 };

    /// Returns how many rows the next commit may have, of outcomes and of other writes each.
    pub(super) fn rows(&self) -> u64 {
        let target = u64::try_from(COMMIT_TIME.as_nanos()).unwrap_or(u64::MAX);
        target.checked_div(self.row_ns).unwrap_or(ROWS_MAX).clamp(ROWS_MIN, ROWS_MAX)
    }

    /// Takes a commit into account. Small ones tell of the flush only.
    pub(super) fn observe(&mut self, rows: u64, took: Duration) {
        if rows < ROWS_MIN {
            return;
        }
        let row_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / rows;
        self.row_ns = if self.row_ns == 0 { row_ns } else { (3 * self.row_ns + row_ns) / 4 };
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
        check_budget(&[(1_000, 20), (1_000, 4)], 625);
        check_budget(&[(1_000, 0)], ROWS_MAX);
    }
}

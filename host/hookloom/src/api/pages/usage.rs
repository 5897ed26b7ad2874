//! Storage of a tenant by kind, for the overview.

use super::size;
use crate::store::{Usage, UsageKind, grouped};

/// Storage section of the overview.
pub(super) struct UsageView {
    pub(super) bytes: u64,
    pub(super) bytes_max: u64,
    pub(super) summary: String,
    /// True if nine tenths of the share are used.
    pub(super) is_nearly_full: bool,
    pub(super) rows: Vec<KindRow>,
}

pub(super) struct KindRow {
    pub(super) name: &'static str,
    pub(super) bytes: u64,
    /// Percentage of all stored data.
    pub(super) part: String,
}

impl UsageView {
    pub(super) fn new(usage: &Usage) -> Self {
        let Usage { events, events_max, bytes, bytes_max, .. } = *usage;
        let mut kinds: Vec<_> = usage.by_kind.iter().filter(|one| one.bytes > 0).collect();
        kinds.sort_by_key(|one| std::cmp::Reverse(one.bytes));
        let row = |one: &&crate::store::KindUsage| KindRow {
            name: name(one.kind),
            bytes: one.bytes,
            part: percent(one.bytes, bytes),
        };
        UsageView {
            bytes,
            bytes_max,
            summary: format!(
                "{} of {} ({}) and {} of {} events are kept.",
                size(bytes),
                size(bytes_max),
                percent(bytes, bytes_max),
                grouped(events),
                grouped(events_max)
            ),
            is_nearly_full: is_nearly(bytes, bytes_max) || is_nearly(events, events_max),
            rows: kinds.iter().map(row).collect(),
        }
    }
}

/// Returns true if nine tenths of a limit are used.
pub(super) fn is_nearly(used: u64, most: u64) -> bool {
    used as f64 >= most as f64 * 0.9
}

fn percent(part: u64, whole: u64) -> String {
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    if percent > 0.0 && percent < 0.1 { "< 0.1 %".to_owned() } else { format!("{percent:.1} %") }
}

fn name(kind: UsageKind) -> &'static str {
    match kind {
        UsageKind::Events => "Events and payloads",
        UsageKind::Deliveries => "Deliveries",
        UsageKind::Attempts => "Attempts with answers and logs",
        UsageKind::Plugins => "Plugin versions",
        UsageKind::Subscriptions => "Webhooks",
        UsageKind::Bins => "Inspector bins and their requests",
        UsageKind::RejectedRequests => "Rejected requests",
        UsageKind::IdempotencyKeys => "Idempotency keys",
        UsageKind::Changes => "Log of changes",
        UsageKind::Access => "Keys, addresses and sessions",
        UsageKind::Statistics => "Statistics",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_in_percent() {
        assert_eq!(
            [percent(0, 0), percent(1, 3), percent(1, 1_000_000), percent(7, 7)],
            ["0.0 %", "33.3 %", "< 0.1 %", "100.0 %"]
        );
    }
}

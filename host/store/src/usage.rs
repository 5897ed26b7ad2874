//! Usage of tenants: stored bytes by kind, and the share that bounds them.

use crate::caps::Caps;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Kind of stored data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageKind {
    /// Accepted events with their payloads, including test events.
    Events,
    /// Deliveries, including replays and tests.
    Deliveries,
    /// Attempts with their requests, answers and logs.
    Attempts,
    /// Versions of plugins with their components, and rollouts.
    Plugins,
    /// Settings, headers, config and sealed secrets of subscriptions.
    Subscriptions,
    /// Bins and the requests they received.
    Bins,
    /// Requests to `/in` that were rejected.
    RejectedRequests,
    /// Idempotency keys with their answers.
    IdempotencyKeys,
    /// The log of changes.
    Changes,
    /// Keys, intake tokens, sessions, and the tenant's own settings.
    Access,
    /// Statistics of the overview, and incidents with their e-mails.
    Statistics,
}

impl UsageKind {
    /// All kinds, in the order in which they are shown.
    pub const ALL: [UsageKind; 11] = [
        UsageKind::Events,
        UsageKind::Deliveries,
        UsageKind::Attempts,
        UsageKind::Plugins,
        UsageKind::Subscriptions,
        UsageKind::Bins,
        UsageKind::RejectedRequests,
        UsageKind::IdempotencyKeys,
        UsageKind::Changes,
        UsageKind::Access,
        UsageKind::Statistics,
    ];

    /// Returns the name in the API and, after `bytes_of_`, in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            UsageKind::Events => "events",
            UsageKind::Deliveries => "deliveries",
            UsageKind::Attempts => "attempts",
            UsageKind::Plugins => "plugins",
            UsageKind::Subscriptions => "subscriptions",
            UsageKind::Bins => "bins",
            UsageKind::RejectedRequests => "rejected_requests",
            UsageKind::IdempotencyKeys => "idempotency_keys",
            UsageKind::Changes => "changes",
            UsageKind::Access => "access",
            UsageKind::Statistics => "statistics",
        }
    }
}

/// Bytes by kind, in the order of [`UsageKind::ALL`].
pub(crate) type BytesByKind = [u64; UsageKind::ALL.len()];

/// Size of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KindUsage {
    /// Kind of data.
    pub kind: UsageKind,
    /// Size in bytes.
    pub bytes: u64,
}

/// Storage that a tenant uses, and the share that bounds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Number of stored events.
    pub events: u64,
    /// Maximum number of events: `tenant_events_max`.
    pub events_max: u64,
    /// Size of all kinds together, in bytes.
    pub bytes: u64,
    /// Maximum size of all kinds together, in bytes: `tenant_bytes_max`.
    pub bytes_max: u64,
    /// Size of each kind.
    pub by_kind: Vec<KindUsage>,
}

impl Usage {
    /// Returns the size of one kind, in bytes.
    pub fn of(&self, kind: UsageKind) -> u64 {
        self.by_kind.iter().find(|one| one.kind == kind).map_or(0, |one| one.bytes)
    }

    /// Returns the number of events, and the size of all kinds together.
    pub(crate) fn amounts(&self) -> [u64; 2] {
        [self.events, self.bytes]
    }

    /// Returns the largest kinds, as a text such as `events 1,024, bins 512`.
    pub fn largest(&self) -> String {
        let mut kinds: Vec<&KindUsage> = self.by_kind.iter().filter(|one| one.bytes > 0).collect();
        kinds.sort_by_key(|one| std::cmp::Reverse(one.bytes));
        let kinds = kinds.iter().take(4).map(|one| format!("{} {}", one.kind.as_str(), grouped(one.bytes)));
        kinds.collect::<Vec<_>>().join(", ")
    }
}

/// Returns a number with separated thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Caps {
    /// Returns the usage of these amounts, with this share as its bound.
    pub(crate) fn of(self, (events, bytes): (u64, BytesByKind)) -> Usage {
        Usage {
            events,
            events_max: self.events,
            bytes: bytes.iter().sum(),
            bytes_max: self.bytes,
            by_kind: UsageKind::ALL.into_iter().zip(bytes).map(|(kind, bytes)| KindUsage { kind, bytes }).collect(),
        }
    }
}

/// Contents of a tenant, as numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantContents {
    /// Id of the tenant.
    pub tenant: String,
    /// Time at which the deletion began, in milliseconds since the epoch. Absent if the tenant is not being deleted.
    pub deleting_since_ms: Option<i64>,
    /// Number of stored events.
    pub events: u64,
    /// Number of deliveries in all states.
    pub deliveries: u64,
    /// Number of plugins.
    pub plugins: u64,
    /// Number of versions of plugins.
    pub versions: u64,
    /// Number of subscriptions.
    pub subscriptions: u64,
    /// Number of bins.
    pub bins: u64,
    /// Number of API keys.
    pub keys: u64,
    /// Number of intake tokens, each with an address.
    pub intake_tokens: u64,
    /// Size of all data, in bytes, as [`Usage`] counts it.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_thousands_separated() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567, u64::MAX].map(grouped),
            ["0", "999", "1,000", "1,234,567", "18,446,744,073,709,551,615"]
        );
    }
}

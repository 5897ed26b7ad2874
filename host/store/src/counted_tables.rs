//! Tables whose rows count for the usage of tenants, and what a row counts.
//!
//! The size of a row is the length of its texts and bytes, and a constant for its other columns and the entries of its indexes. It is
//! the same on every database, so that a share means the same. Each database has triggers of its own, which it makes from this table.

use crate::usage::UsageKind;
use std::fmt::Write as _;

/// Fixed size of an event, in bytes.
pub(crate) const EVENT_BYTES: u64 = 160;

/// Fixed size of a delivery, in bytes.
pub(crate) const DELIVERY_BYTES: u64 = 320;

/// Fixed size of an attempt, in bytes.
pub(crate) const ATTEMPT_BYTES: u64 = 96;

/// Fixed size of an idempotency key, in bytes.
pub(crate) const IDEMPOTENCY_KEY_BYTES: u64 = 192;

/// Table whose rows count.
pub(crate) struct CountedTable {
    pub(crate) table: &'static str,
    pub(crate) kind: UsageKind,
    /// SQL of a row's tenant; `@` stands for the row.
    tenant: &'static str,
    /// Fixed size of a row, in bytes.
    row_bytes: u64,
    /// Columns whose length counts.
    pub(crate) lengths: &'static [&'static str],
    /// Column that holds a size in bytes.
    pub(crate) size: Option<&'static str>,
}

/// Returns a table with a column `tenant`.
pub(crate) const fn counted(
    table: &'static str,
    kind: UsageKind,
    row_bytes: u64,
    lengths: &'static [&'static str],
) -> CountedTable {
    CountedTable { table, kind, tenant: "@.tenant", row_bytes, lengths, size: None }
}

const fn owned_by(tenant: &'static str, counted: CountedTable) -> CountedTable {
    CountedTable { tenant, ..counted }
}

const OF_KEY: &str = "(SELECT k.tenant FROM keys k WHERE k.id = @.key)";

/// Tables that count.
pub(crate) const COUNTED: [CountedTable; 21] = [
    counted("events", UsageKind::Events, EVENT_BYTES, &["name", "entity_id", "payload"]),
    counted("deliveries", UsageKind::Deliveries, DELIVERY_BYTES, &["order_key", "reason"]),
    counted("attempts", UsageKind::Attempts, ATTEMPT_BYTES, &["detail"]),
    CountedTable {
        size: Some("size"),
        ..counted("plugin_versions", UsageKind::Plugins, 256, &["report", "created_by"])
    },
    counted("plugins", UsageKind::Plugins, 192, &["activated_by"]),
    counted("quarantine", UsageKind::Plugins, 160, &["reason"]),
    counted("rollouts", UsageKind::Plugins, 192, &["counts", "earlier", "ended_reason"]),
    counted("subscriptions", UsageKind::Subscriptions, 128, &["settings", "sealed", "state_reason"]),
    counted("bins", UsageKind::Bins, 160, &["settings"]),
    owned_by(
        "(SELECT b.tenant FROM bins b WHERE b.id = @.bin)",
        counted("bin_requests", UsageKind::Bins, 160, &["head", "body"]),
    ),
    counted("rejected_requests", UsageKind::RejectedRequests, 96, &["reason", "body"]),
    counted("idempotency_keys", UsageKind::IdempotencyKeys, IDEMPOTENCY_KEY_BYTES, &["key", "answer"]),
    counted("changes", UsageKind::Changes, 128, &["who", "action", "subject", "before", "after"]),
    counted("keys", UsageKind::Access, 256, &["hint", "scopes", "label"]),
    counted("intake_tokens", UsageKind::Access, 256, &["hint", "label"]),
    owned_by(OF_KEY, counted("sessions", UsageKind::Access, 256, &[])),
    owned_by(OF_KEY, counted("sign_in_links", UsageKind::Access, 160, &[])),
    counted("portal_sessions", UsageKind::Access, 320, &["return_url"]),
    counted("figures", UsageKind::Statistics, 96, &["plugin", "figures"]),
    counted("incidents", UsageKind::Statistics, 160, &["subject", "record"]),
    counted("alert_emails", UsageKind::Statistics, 96, &["record"]),
];

impl CountedTable {
    /// Returns the SQL of the tenant of a row.
    pub(crate) fn tenant_of(&self, row: &str) -> String {
        self.tenant.replace('@', row)
    }

    /// Returns the SQL of the size of a row. `if_null` is the database's name of the function with the value for NULL.
    pub(crate) fn bytes_of(&self, row: &str, if_null: &str) -> String {
        let mut text = self.row_bytes.to_string();
        for column in self.lengths {
            // Writing to a string cannot fail.
            let _ = write!(text, " + {if_null}(octet_length({row}.{column}), 0)");
        }
        if let Some(size) = self.size {
            let _ = write!(text, " + {row}.{size}");
        }
        text
    }
}

/// Returns the column of a kind in `ledgers`.
pub(crate) fn column(kind: UsageKind) -> String {
    format!("bytes_of_{}", kind.as_str())
}

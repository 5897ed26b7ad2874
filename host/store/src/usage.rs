//! Usage of tenants: stored bytes by kind, and the share that bounds them.
//!
//! # Guarantees
//! - The counters of a tenant's row in `ledgers` equal the result of [`recount`], after every commit.
//! - Every table is in [`COUNTED`] or, with a reason, in `NOT_COUNTED`; a test compares them with the schema.
//!
//! # Theory of operation
//! The size of a row is the length of its texts and blobs, and a constant for its other columns and the entries of its indexes.
//! Triggers count changed and deleted rows, and most inserted rows. The inserts of the hot path have no trigger: [`batch`](super::batch)
//! adds them up and writes one sum for each tenant and commit. The triggers are generated from [`COUNTED`]. If they differ from
//! those in the database (after a migration or an upgrade), they are replaced and everything is counted once.
//!
//! # Limits
//! The real size on the disk differs, because pages are never quite full and columns may be packed.

use super::caps::Caps;
use super::rows::{DELIVERY_BYTES, EVENT_BYTES};
use super::{Store, StoreError};
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
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
    /// Statistics of the overview.
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
pub(super) type BytesByKind = [u64; UsageKind::ALL.len()];

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

/// Counted size of an attempt besides its detail, in bytes.
pub(super) const ATTEMPT_BYTES: u64 = 96;

/// Counted size of an idempotency key besides the key and its answer, in bytes.
pub(super) const IDEMPOTENCY_KEY_BYTES: u64 = 192;

/// Counter of a table's inserts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inserts {
    ByTrigger,
    /// By the transaction, for the hot path.
    ByBatch,
}

/// Table whose rows count.
struct UsageTable {
    table: &'static str,
    kind: UsageKind,
    /// SQL of a row's tenant; `@` stands for the row.
    tenant: &'static str,
    /// Fixed size of a row, in bytes.
    row_bytes: u64,
    /// Columns whose length counts.
    lengths: &'static [&'static str],
    /// Column that holds a size in bytes.
    size: Option<&'static str>,
    inserts: Inserts,
}

const fn counted(table: &'static str, kind: UsageKind, row_bytes: u64, lengths: &'static [&'static str]) -> UsageTable {
    UsageTable { table, kind, tenant: "@.tenant", row_bytes, lengths, size: None, inserts: Inserts::ByTrigger }
}

const fn hot(counted: UsageTable) -> UsageTable {
    UsageTable { inserts: Inserts::ByBatch, ..counted }
}

const fn owned_by(tenant: &'static str, counted: UsageTable) -> UsageTable {
    UsageTable { tenant, ..counted }
}

const OF_KEY: &str = "(SELECT k.tenant FROM keys k WHERE k.id = @.key)";

/// Tables that count.
const COUNTED: [UsageTable; 18] = [
    hot(counted("events", UsageKind::Events, EVENT_BYTES, &["name", "entity_id", "payload"])),
    hot(counted("deliveries", UsageKind::Deliveries, DELIVERY_BYTES, &["order_key", "reason"])),
    hot(counted("attempts", UsageKind::Attempts, ATTEMPT_BYTES, &["detail"])),
    UsageTable { size: Some("size"), ..counted("plugin_versions", UsageKind::Plugins, 256, &["report", "created_by"]) },
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
    hot(counted("idempotency_keys", UsageKind::IdempotencyKeys, IDEMPOTENCY_KEY_BYTES, &["key", "answer"])),
    counted("changes", UsageKind::Changes, 128, &["who", "action", "subject", "before", "after"]),
    counted("keys", UsageKind::Access, 256, &["hint", "scopes", "label"]),
    counted("intake_tokens", UsageKind::Access, 256, &["hint", "label"]),
    owned_by(OF_KEY, counted("sessions", UsageKind::Access, 256, &[])),
    owned_by(OF_KEY, counted("sign_in_links", UsageKind::Access, 160, &[])),
    counted("figures", UsageKind::Statistics, 96, &["plugin", "figures"]),
];

impl UsageTable {
    fn of_row(text: &str, row: &str) -> String {
        text.replace('@', row)
    }

    fn bytes(&self, row: &str) -> String {
        let mut text = self.row_bytes.to_string();
        for column in self.lengths {
            // Writing to a string cannot fail.
            let _ = write!(text, " + ifnull(octet_length({row}.{column}), 0)");
        }
        if let Some(size) = self.size {
            let _ = write!(text, " + {row}.{size}");
        }
        text
    }

    /// Returns the name and text of each trigger of the table.
    fn triggers(&self) -> Vec<(String, String)> {
        let table = self.table;
        let column = column(self.kind);
        let [new, old] = ["new", "old"].map(|row| self.bytes(row));
        let add = |what: &str, row: &str| {
            format!(
                "UPDATE ledgers SET {column} = {column} + {what} WHERE tenant = {};",
                Self::of_row(self.tenant, row)
            )
        };
        let trigger = |event: &str, of: &str, when: &str, what: &str, row: &str| {
            let name = format!("usage_{table}_{}", event.to_ascii_lowercase());
            let text = format!("CREATE TRIGGER {name} AFTER {event}{of} ON {table}{when} BEGIN {} END", add(what, row));
            (name, text)
        };
        let mut triggers = vec![trigger("DELETE", "", "", &format!("-({old})"), "old")];
        if self.inserts == Inserts::ByTrigger {
            triggers.push(trigger("INSERT", "", "", &format!("({new})"), "new"));
        }
        let changing: Vec<&str> = self.lengths.iter().copied().chain(self.size).collect();
        if !changing.is_empty() {
            let of = format!(" OF {}", changing.join(", "));
            let when = format!(" WHEN ({new}) <> ({old})");
            triggers.push(trigger("UPDATE", &of, &when, &format!("({new}) - ({old})"), "new"));
        }
        triggers
    }
}

pub(super) fn column(kind: UsageKind) -> String {
    format!("bytes_of_{}", kind.as_str())
}

/// Installs the triggers. If they differed from those in the database, counts everything.
pub(super) fn install(connection: &mut Connection) -> Result<(), StoreError> {
    let wanted: BTreeMap<String, String> = COUNTED.iter().flat_map(UsageTable::triggers).collect();
    let sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'usage\\_%' ESCAPE '\\'";
    let found: BTreeMap<String, String> =
        connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    if found == wanted {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for name in found.keys() {
        transaction.execute_batch(&format!("DROP TRIGGER {name}"))?;
    }
    for text in wanted.values() {
        transaction.execute_batch(text)?;
    }
    let columns = UsageKind::ALL.map(|kind| format!("{} = 0", column(kind)));
    transaction.execute(&format!("UPDATE ledgers SET {}", columns.join(", ")), [])?;
    for (tenant, bytes) in recount(&transaction)? {
        for (kind, bytes) in UsageKind::ALL.into_iter().zip(bytes) {
            let sql = format!("UPDATE ledgers SET {} = ?2 WHERE tenant = ?1", column(kind));
            transaction.execute(&sql, rusqlite::params![&*tenant.0, bytes])?;
        }
    }
    Ok(transaction.commit()?)
}

/// Counts the rows of all tables by tenant. Reads every row.
pub(super) fn recount(connection: &Connection) -> Result<HashMap<TenantId, BytesByKind>, StoreError> {
    let mut found: HashMap<TenantId, BytesByKind> = HashMap::new();
    for counted in &COUNTED {
        let table = counted.table;
        let bytes = counted.bytes(counted.table);
        let tenant = UsageTable::of_row(counted.tenant, table);
        let sql = format!("SELECT {tenant} AS owner, SUM({bytes}) FROM {table} GROUP BY owner");
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // Rows without a tenant belong to the host.
            let Some(tenant) = row.get::<_, Option<String>>(0)? else { continue };
            found.entry(TenantId(tenant.into())).or_default()[counted.kind as usize] += row.get::<_, u64>(1)?;
        }
    }
    Ok(found)
}

/// Returns a tenant's stored number of events and sizes by kind. None: the tenant does not exist, or it is being deleted.
pub(super) fn kept(connection: &Connection, tenant: &TenantId) -> Result<Option<(u64, BytesByKind)>, StoreError> {
    const SQL: &str = "SELECT MAX(events_kept, 0), MAX(bytes_of_events, 0), MAX(bytes_of_deliveries, 0), MAX(bytes_of_attempts, 0),
        MAX(bytes_of_plugins, 0), MAX(bytes_of_subscriptions, 0), MAX(bytes_of_bins, 0), MAX(bytes_of_rejected_requests, 0),
        MAX(bytes_of_idempotency_keys, 0), MAX(bytes_of_changes, 0), MAX(bytes_of_access, 0), MAX(bytes_of_statistics, 0)
        FROM ledgers WHERE tenant = ?1 AND NOT deleting";
    Ok(connection.prepare_cached(SQL)?.query_row([&*tenant.0], kept_row).optional()?)
}

fn kept_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<(u64, BytesByKind)> {
    let mut bytes = BytesByKind::default();
    for (index, bytes) in bytes.iter_mut().enumerate() {
        *bytes = row.get(index + 1)?;
    }
    Ok((row.get(0)?, bytes))
}

impl Caps {
    /// Returns the usage of these amounts, with this share as its bound.
    pub(super) fn of(self, (events, bytes): (u64, BytesByKind)) -> Usage {
        Usage {
            events,
            events_max: self.events,
            bytes: bytes.iter().sum(),
            bytes_max: self.bytes,
            by_kind: UsageKind::ALL.into_iter().zip(bytes).map(|(kind, bytes)| KindUsage { kind, bytes }).collect(),
        }
    }
}

impl Store {
    /// Returns the storage that a tenant uses, as of the last commit.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]: there is no such tenant.
    pub async fn usage(&self, tenant: TenantId) -> Result<Usage, StoreError> {
        let share = self.limits.share;
        let owner = tenant.clone();
        let read = move |connection: &Connection| kept(connection, &tenant);
        Ok(share.of(self.readers.read(&owner, read).await?.ok_or(StoreError::NotFound("tenant"))?))
    }
}

#[cfg(test)]
mod tests;

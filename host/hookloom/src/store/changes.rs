//! The log of changes: who changed what, and how it was before and after. Entries are never altered; who writes one leaves
//! secrets out. They are written after the change, the deletion of a tenant with it.

use super::batch::Batch;
use super::fair_queue::Owner;
use super::usage::UsageKind;
use super::{Store, StoreError, now_ms};
use crate::limits::shortened;
use crate::subscription::TenantId;
use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};
use uuid::Uuid;

/// One change.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its id, which grows.
    pub id: Uuid,
    /// Time of the change, in milliseconds since the epoch.
    pub at_ms: i64,
    /// Label and hint of the key that made the change.
    pub who: String,
    /// Kind of the change, such as `subscription.update`.
    pub action: String,
    /// Thing that was changed.
    pub subject: String,
    /// State before the change. None: there was nothing, or nothing worth telling.
    pub before: Option<Value>,
    /// State after the change.
    pub after: Option<Value>,
}

/// Number of entries that are kept of each tenant. Some hundred more can be there until they are pruned.
const KEPT_MAX: usize = 10_000;

/// Maximum length of who changed what, in bytes each.
const SUBJECT_BYTES_MAX: usize = 1_000;

/// Maximum length of a state before or after a change, in bytes: settings of the usual size many times over.
const STATE_BYTES_MAX: usize = 64 << 10;

/// A state as it is kept: one that is too long is told by its length.
fn state_text(state: &Value) -> String {
    let text = state.to_string();
    if text.len() <= STATE_BYTES_MAX { text } else { json!({ "omitted_bytes": text.len() }).to_string() }
}

/// Size of the states on a page of changes above which it ends, in bytes: what a network thread writes as JSON in about a
/// millisecond.
const PAGE_BYTES_MAX: usize = 256 << 10;

/// Counted size of a tenant's log above which its oldest entries go, in bytes.
const BYTES_MAX: u64 = 64 << 20;

/// Number of the oldest entries that are deleted at once when the log is too large.
const OLDEST: usize = 256;

fn owner(tenant: Option<&TenantId>) -> &str {
    tenant.map_or("", |tenant| &tenant.0)
}

impl Store {
    /// Writes a change down. Without a tenant it is the host's.
    pub async fn note_change(&self, tenant: Option<TenantId>, change: Change) -> Result<(), StoreError> {
        let account = tenant.clone();
        let catalog = self.catalog.clone();
        let share = self.limits.share;
        let write = move |batch: &Batch<'_>| {
            let mut change = change;
            if let Some(tenant) = &tenant {
                if catalog.tenant(tenant).is_none() {
                    // It was deleted meanwhile, and its log with it.
                    return Ok(());
                }
                let usage = batch.usage(tenant, share)?;
                if usage.bytes >= share.bytes {
                    // Who did what is written down in any case; how it was before and after is what takes space.
                    (change.before, change.after) = (None, None);
                }
                if usage.of(UsageKind::Changes) > BYTES_MAX {
                    let sql = "DELETE FROM changes WHERE tenant = ?1 AND id IN
                               (SELECT id FROM changes WHERE tenant = ?1 ORDER BY id LIMIT ?2)";
                    batch.execute(sql, params![&*tenant.0, OLDEST])?;
                }
            }
            insert_change(batch, tenant.as_ref(), &change)
        };
        self.write(Owner::from(account.as_ref()), write).await
    }

    /// Returns changes, the newest first, older than `before`, and whether there are more: at most `limit`, and at least one,
    /// however large.
    pub async fn changes(
        &self,
        tenant: Option<TenantId>,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<(Vec<Change>, bool), StoreError> {
        let account = Owner::from(tenant.as_ref());
        let read = move |connection: &Connection| {
            let sql = "SELECT id, at_ms, who, action, subject, before, after FROM changes
                       WHERE tenant = ?1 AND id < ?2 ORDER BY id DESC";
            let mut statement = connection.prepare_cached(sql)?;
            let before = before.unwrap_or(Uuid::max());
            let mut rows = statement.query(params![owner(tenant.as_ref()), before])?;
            let mut changes = Vec::new();
            let mut bytes = 0;
            while let Some(row) = rows.next()? {
                bytes += state_bytes(row, 5)? + state_bytes(row, 6)?;
                if changes.len() == limit || (bytes > PAGE_BYTES_MAX && !changes.is_empty()) {
                    return Ok((changes, true));
                }
                changes.push(change_row(row)?);
            }
            Ok((changes, false))
        };
        self.readers.read(account, read).await
    }
}

fn state_bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<usize> {
    Ok(row.get_ref(column)?.as_str_or_null()?.map_or(0, str::len))
}

/// Adds an entry to a tenant's log, or to the host's. Part of a larger transaction where the change and its entry must not be
/// without each other.
pub(super) fn insert_change(batch: &Batch<'_>, tenant: Option<&TenantId>, change: &Change) -> Result<(), StoreError> {
    let Change { id, at_ms, who, action, subject, before, after } = change;
    let sql = "INSERT INTO changes (tenant, id, at_ms, who, action, subject, before, after) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let tenant = owner(tenant);
    let [who, subject] = [who, subject].map(|text| shortened(text, SUBJECT_BYTES_MAX));
    let before = before.as_ref().map(state_text);
    let after = after.as_ref().map(state_text);
    batch.execute(sql, params![tenant, id, at_ms, who, action, subject, before, after])?;
    // Finding the oldest that stays reads all that is kept: one change in 256, by a byte that is random, does it.
    if id.as_bytes()[15] != 0 {
        return Ok(());
    }
    let sql = "DELETE FROM changes WHERE tenant = ?1 AND id <= (SELECT id FROM changes WHERE tenant = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
    batch.execute(sql, params![tenant, KEPT_MAX])?;
    Ok(())
}

impl Change {
    /// A change that was made now.
    pub fn now(who: String, action: &str, subject: String, before: Option<Value>, after: Option<Value>) -> Self {
        Change { id: Uuid::now_v7(), at_ms: now_ms(), who, action: action.to_owned(), subject, before, after }
    }
}

fn change_row(row: &Row<'_>) -> rusqlite::Result<Change> {
    Ok(Change {
        id: row.get(0)?,
        at_ms: row.get(1)?,
        who: row.get(2)?,
        action: row.get(3)?,
        subject: row.get(4)?,
        before: parsed(row.get(5)?),
        after: parsed(row.get(6)?),
    })
}

fn parsed(text: Option<String>) -> Option<Value> {
    text.and_then(|text| serde_json::from_str(&text).ok())
}

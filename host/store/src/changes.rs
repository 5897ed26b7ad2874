//! Log of changes: the author, the action, and the states before and after.
//!
//! # Guarantees
//! - An entry is written in the transaction of its change: both are committed, or neither. Where a change takes several
//!   transactions, the entry is part of the first one.
//! - Entries are never altered, and have no secrets ([`audit`](super::audit)).

use super::audit::{Actor, AuditAction, AuditState};
use super::batch::AdminTx;
use super::fair_queue::Owner;
use super::usage::UsageKind;
use super::{Store, StoreError};
use hookloom_model::clock::now_ms;
use hookloom_model::ids;
use hookloom_model::limits::shortened;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};
use uuid::Uuid;

/// Entry of the log of changes.
#[derive(Clone, Debug)]
pub struct Change {
    /// Id of the entry. Ids grow.
    pub id: Uuid,
    /// Time of the change, in milliseconds since the epoch.
    pub at_ms: i64,
    /// Label and hint of the key that made the change.
    pub who: String,
    /// Kind of the change, such as `subscription.update`.
    pub action: String,
    /// Thing that was changed.
    pub subject: String,
    /// State before the change. None: there was none, or it is not recorded.
    pub before: Option<Value>,
    /// State after the change.
    pub after: Option<Value>,
}

/// Maximum number of entries of a tenant. Some hundred more can exist until they are pruned.
const KEPT_MAX: usize = 10_000;

/// Maximum size of `who` and of `subject`, in bytes.
const SUBJECT_BYTES_MAX: usize = 1_000;

/// Maximum size of a state before or after a change, in bytes. Many times the usual size of settings.
const STATE_BYTES_MAX: usize = 64 << 10;

/// Returns the stored text of a state. A text that is too long is replaced by its length.
fn state_text(state: &AuditState<'_>) -> Result<String, StoreError> {
    let text = serde_json::to_string(state)?;
    Ok(if text.len() <= STATE_BYTES_MAX { text } else { json!({ "omitted_bytes": text.len() }).to_string() })
}

/// Size of the states on a page, in bytes, at which the page ends. A network thread writes that much JSON in about a millisecond.
const PAGE_BYTES_MAX: usize = 256 << 10;

/// Counted size of a tenant's log, in bytes, above which its oldest entries are deleted.
const BYTES_MAX: u64 = 64 << 20;

/// Number of entries that are deleted at once when the log is too large.
const OLDEST: usize = 256;

fn owner(tenant: Option<&TenantId>) -> &str {
    tenant.map_or("", |tenant| &tenant.0)
}

impl AdminTx<'_, '_> {
    /// Adds the entry of a change in this transaction to a tenant's log. None: to the host's log. Changes by the host itself have no
    /// entry.
    pub(super) fn record(
        &self,
        actor: &Actor,
        tenant: Option<&TenantId>,
        action: &AuditAction<'_>,
    ) -> Result<(), StoreError> {
        let Actor::Key(who) = actor else { return Ok(()) };
        let mut states = action.states();
        if let Some(tenant) = tenant {
            let usage = match self.usage(tenant, self.share()) {
                // The tenant is being deleted, with its log.
                Err(StoreError::NotFound(_)) => return Ok(()),
                usage => usage?,
            };
            if usage.bytes >= self.share().bytes {
                // The entry is written even if the share is used up, without its states, which take the space.
                states = [None, None];
            }
            if usage.of(UsageKind::Changes) > BYTES_MAX {
                let sql = "DELETE FROM changes WHERE tenant = ?1 AND id IN
                           (SELECT id FROM changes WHERE tenant = ?1 ORDER BY id LIMIT ?2)";
                self.execute(sql, params![&*tenant.0, OLDEST])?;
            }
        }
        insert(self, owner(tenant), who, action, states)
    }
}

/// Adds an entry, and now and then deletes those above [`KEPT_MAX`].
fn insert(
    connection: &Connection,
    tenant: &str,
    who: &str,
    action: &AuditAction<'_>,
    [before, after]: [Option<AuditState<'_>>; 2],
) -> Result<(), StoreError> {
    let id = ids::new_uuid();
    let sql = "INSERT INTO changes (tenant, id, at_ms, who, action, subject, before, after) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let who = shortened(who, SUBJECT_BYTES_MAX);
    let subject = shortened(&action.subject(), SUBJECT_BYTES_MAX);
    let before = before.as_ref().map(state_text).transpose()?;
    let after = after.as_ref().map(state_text).transpose()?;
    connection.execute(sql, params![tenant, id, now_ms(), who, action.as_str(), subject, before, after])?;
    // Finding the entries to delete reads the whole log, so only one change in 256 does it, chosen by a random byte.
    if id.as_bytes()[15] != 0 {
        return Ok(());
    }
    let sql = "DELETE FROM changes WHERE tenant = ?1 AND id <= (SELECT id FROM changes WHERE tenant = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
    connection.execute(sql, params![tenant, KEPT_MAX])?;
    Ok(())
}

impl Store {
    /// Returns at most `limit` entries older than `before`, newest first, and whether there are more. Returns at least one entry,
    /// of any size.
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

//! Log of changes in the database.

use super::Sqlite;
use super::batch::AdminTx;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::changes::{
    BYTES_MAX, Change, ChangeBackend, ChangeSearch, EntryTexts, KEPT_MAX, OLDEST, PAGE_BYTES_MAX,
};
use crate::fair_queue::Owner;
use crate::usage::UsageKind;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::ids;
use hookloom_model::subscription::TenantId;
use rusqlite::{Connection, Row, params};
use serde_json::Value;
use uuid::Uuid;

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
        let mut with_states = true;
        if let Some(tenant) = tenant {
            let usage = match self.usage(tenant, self.share()) {
                // The tenant is being deleted, with its log.
                Err(StoreError::NotFound(_)) => return Ok(()),
                usage => usage?,
            };
            if usage.bytes >= self.share().bytes {
                // The entry is written even if the share is used up, without its states, which take the space.
                with_states = false;
            }
            if usage.of(UsageKind::Changes) > BYTES_MAX {
                let sql = "DELETE FROM changes WHERE tenant = ?1 AND id IN
                           (SELECT id FROM changes WHERE tenant = ?1 ORDER BY id LIMIT ?2)";
                self.execute(sql, params![&*tenant.0, OLDEST])?;
            }
        }
        insert(self, owner(tenant), EntryTexts::of(who, action, with_states)?)
    }
}

/// Adds an entry, and now and then deletes those above [`KEPT_MAX`].
fn insert(connection: &Connection, tenant: &str, entry: EntryTexts) -> Result<(), StoreError> {
    let EntryTexts { who, action, subject, before, after } = entry;
    let id = ids::new_uuid();
    let sql = "INSERT INTO changes (tenant, id, at_ms, who, action, subject, before, after) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    connection.execute(sql, params![tenant, id, now_ms(), who, action, subject, before, after])?;
    // Finding the entries to delete reads the whole log, so only one change in 256 does it, chosen by a random byte.
    if id.as_bytes()[15] != 0 {
        return Ok(());
    }
    let sql = "DELETE FROM changes WHERE tenant = ?1 AND id <= (SELECT id FROM changes WHERE tenant = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
    connection.execute(sql, params![tenant, KEPT_MAX])?;
    Ok(())
}

#[async_trait]
impl ChangeBackend for Sqlite {
    async fn changes(
        &self,
        tenant: Option<TenantId>,
        search: ChangeSearch,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<(Vec<Change>, bool), StoreError> {
        let account = Owner::from(tenant.as_ref());
        let read = move |connection: &Connection| {
            // `lower` knows the letters of ASCII only. A kind has no comma.
            let sql = "SELECT id, at_ms, who, action, subject, before, after FROM changes
                       WHERE tenant = ?1 AND id < ?2 AND at_ms >= ?3 AND at_ms < ?4
                         AND (?5 = '' OR instr(lower(who), lower(?5)) > 0)
                         AND (?6 = '' OR instr(?6, ',' || substr(action, 1, instr(action, '.') - 1) || ',') > 0)
                       ORDER BY id DESC";
            let mut statement = connection.prepare_cached(sql)?;
            let before = before.unwrap_or(Uuid::max());
            let ChangeSearch { who, kinds, from_ms, to_ms } = &search;
            let from_ms = from_ms.unwrap_or(i64::MIN);
            let to_ms = to_ms.unwrap_or(i64::MAX);
            let kinds = if kinds.is_empty() { String::new() } else { format!(",{},", kinds.join(",")) };
            let mut rows = statement.query(params![owner(tenant.as_ref()), before, from_ms, to_ms, who, kinds])?;
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

    async fn has_changes(&self) -> Result<bool, StoreError> {
        self.readers.read(Owner::Host, has_changes).await
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

fn has_changes(connection: &Connection) -> Result<bool, StoreError> {
    Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM changes)", [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests;

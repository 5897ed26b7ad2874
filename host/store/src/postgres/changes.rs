//! Log of changes in the database.

use super::Postgres;
use super::connection::Connection;
use super::rows::{int, text};
use super::share::usage_of;
use super::transaction::WriteTx;
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
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

fn owner(tenant: Option<&TenantId>) -> &str {
    tenant.map_or("", |tenant| &tenant.0)
}

impl WriteTx {
    /// Adds the entry of a change in this transaction to a tenant's log. None: to the host's log. Changes by the host itself have no
    /// entry.
    pub(super) async fn record(
        &self,
        actor: &Actor,
        tenant: Option<&TenantId>,
        action: &AuditAction<'_>,
    ) -> Result<(), StoreError> {
        let Actor::Key(who) = actor else { return Ok(()) };
        let mut with_states = true;
        if let Some(tenant) = tenant {
            let usage = match usage_of(self, tenant, self.share()).await {
                // The tenant is being deleted, with its log.
                Err(StoreError::NotFound(_)) => return Ok(()),
                usage => usage?,
            };
            // The entry is written even if the share is used up, without its states, which take the space.
            with_states = usage.bytes < self.share().bytes;
            if usage.of(UsageKind::Changes) > BYTES_MAX {
                let sql = "DELETE FROM changes WHERE tenant = $1 AND id IN
                           (SELECT id FROM changes WHERE tenant = $1 ORDER BY id LIMIT $2)";
                self.execute(sql, &[&&*tenant.0, &int(OLDEST)]).await?;
            }
        }
        insert(self, owner(tenant), EntryTexts::of(who, action, with_states)?).await
    }
}

/// Adds an entry, and now and then deletes those above [`KEPT_MAX`].
async fn insert(connection: &Connection, tenant: &str, entry: EntryTexts) -> Result<(), StoreError> {
    let EntryTexts { who, action, subject, before, after } = entry;
    let id = ids::new_uuid();
    let sql = "INSERT INTO changes (tenant, id, at_ms, who, action, subject, before, after) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let at_ms = now_ms();
    connection
        .execute(sql, &[&tenant, &id, &at_ms, &&*text(&who), &action, &&*text(&subject), &before, &after])
        .await?;
    // Finding the entries to delete reads the whole log, so only one change in 256 does it, chosen by a random byte.
    if id.as_bytes()[15] != 0 {
        return Ok(());
    }
    let sql = "DELETE FROM changes WHERE tenant = $1 AND id <= (SELECT id FROM changes WHERE tenant = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)";
    connection.execute(sql, &[&tenant, &int(KEPT_MAX)]).await?;
    Ok(())
}

#[async_trait]
impl ChangeBackend for Postgres {
    async fn changes(
        &self,
        tenant: Option<TenantId>,
        search: ChangeSearch,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<(Vec<Change>, bool), StoreError> {
        let read = self.readers.read(Owner::from(tenant.as_ref()), move |connection| {
            Box::pin(async move {
                let mut page = ChangePage { changes: Vec::new(), bytes: 0, limit };
                let mut before = before.unwrap_or(Uuid::max());
                loop {
                    let rows = older(connection, owner(tenant.as_ref()), &search, before).await?;
                    for row in &rows {
                        if page.is_complete_before(row)? {
                            return Ok((page.changes, true));
                        }
                    }
                    match rows.last() {
                        Some(last) if int(rows.len()) == ROWS_MAX => before = last.try_get(0)?,
                        _ => return Ok((page.changes, false)),
                    }
                }
            })
        });
        read.await
    }

    async fn has_changes(&self) -> Result<bool, StoreError> {
        let read = self.readers.read_one(Owner::Host, |connection| {
            Box::pin(async move { connection.exists("SELECT 1 FROM changes LIMIT 1", &[]).await })
        });
        read.await
    }
}

/// Maximum number of entries that one statement reads. Their states have at most some megabytes.
const ROWS_MAX: i64 = 64;

async fn older(
    connection: &Connection,
    owner: &str,
    search: &ChangeSearch,
    before: Uuid,
) -> Result<Vec<Row>, StoreError> {
    let ChangeSearch { who, kinds, from_ms, to_ms } = search;
    let from_ms = from_ms.unwrap_or(i64::MIN);
    let to_ms = to_ms.unwrap_or(i64::MAX);
    // With this collation, `lower` knows the letters of ASCII only, as in the other backends.
    let sql = "SELECT id, at_ms, who, action, subject, before, after FROM changes
               WHERE tenant = $1 AND id < $2 AND at_ms >= $3 AND at_ms < $4
                 AND position(lower($5::text COLLATE \"C\") IN lower(who COLLATE \"C\")) > 0
                 AND (cardinality($6::text[]) = 0 OR split_part(action, '.', 1) = ANY ($6::text[]))
               ORDER BY id DESC LIMIT $7";
    let kinds: Vec<_> = kinds.iter().map(|kind| text(kind)).collect();
    let kinds: Vec<&str> = kinds.iter().map(|kind| &**kind).collect();
    connection.query(sql, &[&owner, &before, &from_ms, &to_ms, &&*text(who), &kinds, &ROWS_MAX]).await
}

/// Page of entries.
struct ChangePage {
    changes: Vec<Change>,
    /// Size of the states.
    bytes: usize,
    limit: usize,
}

impl ChangePage {
    /// Adds an entry. Returns true if the page ends before it.
    fn is_complete_before(&mut self, row: &Row) -> Result<bool, StoreError> {
        let [before, after]: [Option<&str>; 2] = [row.try_get(5)?, row.try_get(6)?];
        self.bytes += before.map_or(0, str::len) + after.map_or(0, str::len);
        if self.changes.len() == self.limit || (self.bytes > PAGE_BYTES_MAX && !self.changes.is_empty()) {
            return Ok(true);
        }
        fn state(text: Option<&str>) -> Option<Value> {
            text.and_then(|text| serde_json::from_str(text).ok())
        }
        self.changes.push(Change {
            id: row.try_get(0)?,
            at_ms: row.try_get(1)?,
            who: row.try_get(2)?,
            action: row.try_get(3)?,
            subject: row.try_get(4)?,
            before: state(before),
            after: state(after),
        });
        Ok(false)
    }
}

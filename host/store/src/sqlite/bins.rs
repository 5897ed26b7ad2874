//! Bins and their requests in the database.

use super::Sqlite;
use super::batch::AdminTx;
use super::share::within_share;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::inspector::{
    BIN_BYTES_MAX, BINS_MAX, BinBackend, BinFilter, BinPage, SEARCH_BYTES_MAX, SEARCHED_BYTES, oldest_ms,
};
use crate::fair_queue::Owner;
use crate::write_queue::{Terms, payload_rows};
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::clock::now_ms;
use hookloom_model::ids;
use hookloom_model::ids::BinId;
use hookloom_model::inspector::{Bin, BinRequest, BinSettings, RequestHead};
use hookloom_model::subscription::TenantId;
use memchr::memmem::Finder;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

const REQUEST: &str = "SELECT id, received_at_ms, head, body FROM bin_requests";

#[async_trait]
impl BinBackend for Sqlite {
    async fn create_bin(&self, actor: Actor, tenant: TenantId, bin: Bin) -> Result<Bin, StoreError> {
        let owner = tenant.clone();
        let share = self.limits.share;
        let write = move |tx: &AdminTx<'_, '_>| {
            let count: usize =
                tx.query_row("SELECT COUNT(*) FROM bins WHERE tenant = ?1", [&*tenant.0], |row| row.get(0))?;
            if count >= BINS_MAX {
                return Err(StoreError::Conflict(format!("a tenant has at most {BINS_MAX} bins")));
            }
            let sql = "INSERT INTO bins (id, tenant, settings, created_at_ms) VALUES (?1, ?2, ?3, ?4)";
            let settings = serde_json::to_string(&bin.settings)?;
            let row = params![&*bin.id, &*tenant.0, settings, bin.created_at_ms];
            within_share(tx, &tenant, share, |tx| Ok(tx.execute(sql, row)?))?;
            tx.record(&actor, Some(&tenant), &AuditAction::BinCreate(&bin))?;
            Ok(bin)
        };
        self.write(&owner, write).await
    }

    async fn update_bin(
        &self,
        actor: Actor,
        tenant: TenantId,
        id: BinId,
        settings: BinSettings,
    ) -> Result<Bin, StoreError> {
        let owner = tenant.clone();
        let share = self.limits.share;
        let write = move |tx: &AdminTx<'_, '_>| {
            let (_, before) = find(tx, &id, Some(&tenant))?.ok_or(StoreError::NotFound("bin"))?;
            let text = serde_json::to_string(&settings)?;
            let sql = "UPDATE bins SET settings = ?3 WHERE tenant = ?1 AND id = ?2";
            within_share(tx, &tenant, share, |tx| {
                tx.execute(sql, params![&*tenant.0, &*id, text])?;
                prune(tx, &id, &settings)
            })?;
            let action = AuditAction::BinUpdate { id: &id, before: &before.settings, after: &settings };
            tx.record(&actor, Some(&tenant), &action)?;
            Ok(Bin { settings, ..before })
        };
        self.write(&owner, write).await
    }

    async fn delete_bin(&self, actor: Actor, tenant: TenantId, id: BinId) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            find(tx, &id, Some(&tenant))?.ok_or(StoreError::NotFound("bin"))?;
            // Before the bin, whose row has their tenant.
            tx.execute("DELETE FROM bin_requests WHERE bin = ?1", [&*id])?;
            tx.execute("DELETE FROM bins WHERE id = ?1", [&*id])?;
            tx.record(&actor, Some(&tenant), &AuditAction::BinDelete(&id))
        };
        self.write(&owner, write).await
    }

    async fn bins(&self, tenant: TenantId) -> Result<Vec<Bin>, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let sql = "SELECT tenant, id, settings, created_at_ms, received FROM bins WHERE tenant = ?1 ORDER BY created_at_ms DESC";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([&*tenant.0], bin_row)?;
            rows.map(|row| Ok(whole(row?)?.1)).collect()
        };
        self.readers.read(owner, read).await
    }

    async fn bin(&self, tenant: TenantId, id: BinId) -> Result<Bin, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| find(connection, &id, Some(&tenant));
        self.readers.read(owner, read).await?.map(|(_, bin)| bin).ok_or(StoreError::NotFound("bin"))
    }

    async fn bin_by_url(&self, id: BinId) -> Result<(TenantId, Bin), StoreError> {
        let read = move |connection: &Connection| find(connection, &id, None);
        self.readers.read(Owner::Host, read).await?.ok_or(StoreError::NotFound("bin"))
    }

    async fn receive_in_bin(
        &self,
        tenant: &TenantId,
        bin: &Bin,
        head: RequestHead,
        body: Bytes,
    ) -> Result<(Uuid, u64), StoreError> {
        let terms = Terms { owner: tenant.into(), rows: 2 + payload_rows(body.len()) };
        let id = bin.id.clone();
        let settings = bin.settings.clone();
        let tenant = tenant.clone();
        let share = self.limits.share;
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "UPDATE bins SET received = received + 1 WHERE id = ?1 RETURNING received - 1";
            let nth: Option<u64> = tx.query_row(sql, [&*id], |row| row.get(0)).optional()?;
            let nth = nth.ok_or(StoreError::NotFound("bin"))?;
            let request = ids::new_uuid();
            let sql = "INSERT INTO bin_requests (bin, id, received_at_ms, head, body) VALUES (?1, ?2, ?3, ?4, ?5)";
            let head = serde_json::to_string(&head.answered_by(&settings, nth))?;
            within_share(tx, &tenant, share, |tx| {
                tx.prepare_cached(sql)?.execute(params![&*id, request, now_ms(), head, &body[..]])?;
                prune(tx, &id, &settings)
            })?;
            Ok((request, nth))
        };
        self.writer.write(terms, write, |_| {}).await
    }

    async fn bin_requests(&self, tenant: TenantId, bin: BinId, filter: BinFilter) -> Result<BinPage, StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            let (_, owner) = find(connection, &bin, Some(&tenant))?.ok_or(StoreError::NotFound("bin"))?;
            page(connection, &bin, oldest_ms(&owner.settings), &filter)
        };
        self.readers.read(owner, read).await
    }

    async fn bin_request(
        &self,
        tenant: TenantId,
        bin: BinId,
        id: Uuid,
    ) -> Result<(BinRequest, Option<BinRequest>), StoreError> {
        let owner = Owner::from(&tenant);
        let read = move |connection: &Connection| {
            find(connection, &bin, Some(&tenant))?.ok_or(StoreError::NotFound("bin"))?;
            let sql = format!("{REQUEST} WHERE bin = ?1 AND id <= ?2 ORDER BY id DESC LIMIT 2");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![&*bin, id], request_row)?;
            let mut found: Vec<BinRequest> = rows.map(|row| request(row?)).collect::<Result<_, _>>()?;
            match found.first() {
                Some(first) if first.id == id => {
                    let before = (found.len() == 2).then(|| found.remove(1));
                    Ok((found.remove(0), before))
                }
                _ => Err(StoreError::NotFound("request")),
            }
        };
        self.readers.read(owner, read).await
    }

    async fn forget_bin_requests(
        &self,
        actor: Actor,
        tenant: TenantId,
        bin: BinId,
        id: Option<Uuid>,
    ) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            find(tx, &bin, Some(&tenant))?.ok_or(StoreError::NotFound("bin"))?;
            let sql = "DELETE FROM bin_requests WHERE bin = ?1 AND (?2 IS NULL OR id = ?2)";
            let action = match (tx.execute(sql, params![&*bin, id])?, id) {
                (0, Some(_)) => return Err(StoreError::NotFound("request")),
                (_, Some(request)) => AuditAction::BinForget { bin: &bin, request },
                (_, None) => AuditAction::BinClear(&bin),
            };
            tx.record(&actor, Some(&tenant), &action)
        };
        self.write(&owner, write).await
    }

    async fn record_bin_replay(
        &self,
        actor: Actor,
        tenant: TenantId,
        request: Uuid,
        host: String,
    ) -> Result<(), StoreError> {
        let owner = tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            tx.record(&actor, Some(&tenant), &AuditAction::BinReplay { request, host: &host })
        };
        self.write(&owner, write).await
    }

    async fn bins_to_prune(&self) -> Result<Vec<(TenantId, Bin)>, StoreError> {
        self.readers.read(Owner::Host, bins_to_prune).await
    }

    async fn prune_bin(&self, tenant: &TenantId, bin: Bin) -> Result<(), StoreError> {
        self.write(tenant, move |tx| prune(tx, &bin.id, &bin.settings)).await
    }
}

/// Returns the bins with a request that is older than their retention.
fn bins_to_prune(connection: &Connection) -> Result<Vec<(TenantId, Bin)>, StoreError> {
    let sql = "SELECT tenant, id, settings, created_at_ms, received FROM bins";
    let rows = connection.prepare_cached(sql)?.query_map([], bin_row)?.collect::<Result<Vec<_>, _>>()?;
    // Only bins with expired requests, because each costs a write.
    let sql = "SELECT received_at_ms FROM bin_requests WHERE bin = ?1 ORDER BY id LIMIT 1";
    let mut oldest = connection.prepare_cached(sql)?;
    let mut old = Vec::new();
    for row in rows {
        let (tenant, bin) = whole(row)?;
        let received_at_ms: Option<i64> = oldest.query_row([&*bin.id], |row| row.get(0)).optional()?;
        if received_at_ms.is_some_and(|at_ms| at_ms < oldest_ms(&bin.settings)) {
            old.push((tenant, bin));
        }
    }
    Ok(old)
}

fn page(connection: &Connection, bin: &str, oldest_ms: i64, filter: &BinFilter) -> Result<BinPage, StoreError> {
    let sql = format!("{REQUEST} WHERE bin = ?1 AND id < ?2 AND received_at_ms >= ?3 ORDER BY id DESC");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![bin, filter.before.unwrap_or(Uuid::max()), oldest_ms])?;
    let search = filter.search.as_ref().map(|text| text.to_ascii_lowercase());
    let finder = search.as_ref().map(|text| Finder::new(text.as_bytes()));
    let mut page = BinPage::default();
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        if page.requests.len() == filter.limit || looked_at >= SEARCH_BYTES_MAX {
            return Ok(page);
        }
        let found = match &finder {
            None => true,
            Some(finder) => {
                let [head, body] = [bytes(row, 2)?, bytes(row, 3)?];
                let body = &body[..body.len().min(SEARCHED_BYTES)];
                looked_at += head.len() + body.len();
                [head, body].into_iter().any(|part| finder.find(&part.to_ascii_lowercase()).is_some())
            }
        };
        page.further = Some(row.get(0)?);
        if found {
            page.requests.push(request(request_row(row)?)?);
        }
    }
    page.further = None;
    Ok(page)
}

fn bytes<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<&'r [u8]> {
    Ok(row.get_ref(column)?.as_bytes()?)
}

fn prune(connection: &Connection, id: &str, settings: &BinSettings) -> Result<(), StoreError> {
    let sql = "DELETE FROM bin_requests WHERE bin = ?1 AND (received_at_ms < ?2 OR id <= (SELECT id FROM bin_requests WHERE bin = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?3))";
    connection.prepare_cached(sql)?.execute(params![id, oldest_ms(settings), settings.requests_max])?;
    let sql = "DELETE FROM bin_requests WHERE bin = ?1 AND id IN (SELECT id FROM (
                 SELECT id, SUM(LENGTH(body) + LENGTH(head)) OVER (ORDER BY id DESC) AS held FROM bin_requests WHERE bin = ?1
               ) WHERE held > ?2)";
    connection.prepare_cached(sql)?.execute(params![id, BIN_BYTES_MAX])?;
    Ok(())
}

type BinRow = (String, String, String, i64, u64);

fn bin_row(row: &Row<'_>) -> rusqlite::Result<BinRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

fn whole((tenant, id, settings, created_at_ms, received): BinRow) -> Result<(TenantId, Bin), StoreError> {
    let id = serde_json::from_value(id.into())?;
    let bin = Bin { id, settings: serde_json::from_str(&settings)?, created_at_ms, received };
    Ok((TenantId(tenant.into()), bin))
}

fn find(connection: &Connection, id: &str, tenant: Option<&TenantId>) -> Result<Option<(TenantId, Bin)>, StoreError> {
    let sql = "SELECT tenant, id, settings, created_at_ms, received FROM bins WHERE id = ?1";
    let found = connection.prepare_cached(sql)?.query_row([id], bin_row).optional()?;
    let found = found.map(whole).transpose()?;
    Ok(found.filter(|(owner, _)| tenant.is_none_or(|tenant| tenant == owner)))
}

type RequestRow = (Uuid, i64, String, Vec<u8>);

fn request_row(row: &Row<'_>) -> rusqlite::Result<RequestRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn request((id, received_at_ms, head, body): RequestRow) -> Result<BinRequest, StoreError> {
    Ok(BinRequest { id, received_at_ms, head: serde_json::from_str(&head)?, body: body.into() })
}

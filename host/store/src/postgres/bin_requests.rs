//! Requests of bins in the database.
//!
//! # Guarantees
//! - After each write, a bin keeps no more requests, and for no longer, than its settings allow, and at most
//!   [`BIN_BYTES_MAX`] bytes.
//!
//! # Limits
//! - Callers check that the bin exists and whose it is.
//! - A search reads whole bodies, though it looks only at their first bytes: a bin bounds them together.

use super::connection::Connection;
use super::rows::{int, number};
use super::share::ShareCheck;
use super::transaction::WriteTx;
use crate::StoreError;
use crate::backend::inspector::{BIN_BYTES_MAX, BinFilter, BinPage, SEARCH_BYTES_MAX, SEARCHED_BYTES, oldest_ms};
use bytes::Bytes;
use hookloom_model::clock::now_ms;
use hookloom_model::ids;
use hookloom_model::ids::BinId;
use hookloom_model::inspector::{Bin, BinRequest, BinSettings, RequestHead};
use hookloom_model::subscription::TenantId;
use memchr::memmem::Finder;
use tokio_postgres::Row;
use uuid::Uuid;

/// Query of [`request_row`], without a condition.
const REQUEST: &str = "SELECT id, received_at_ms, head, body FROM bin_requests";

/// Maximum number of requests that one statement reads: as many as a search looks at if their bodies are long.
const ROWS_MAX: i64 = (SEARCH_BYTES_MAX / SEARCHED_BYTES) as i64;

/// Stores a request, and returns its number in the bin, from 0.
pub(super) async fn receive(
    tx: &WriteTx,
    tenant: &TenantId,
    bin: &Bin,
    head: &RequestHead,
    body: &Bytes,
) -> Result<(Uuid, u64), StoreError> {
    let sql = "UPDATE bins SET received = received + 1 WHERE id = $1 RETURNING received - 1";
    let row = tx.query_opt(sql, &[&&*bin.id]).await?.ok_or(StoreError::NotFound("bin"))?;
    let check = ShareCheck::begin(tx, tenant, tx.share()).await?;
    let id = ids::new_uuid();
    let sql = "INSERT INTO bin_requests (bin, id, received_at_ms, head, body) VALUES ($1, $2, $3, $4, $5)";
    let nth = number(&row, 0)?;
    let head = serde_json::to_string(&head.clone().answered_by(&bin.settings, nth))?;
    tx.execute(sql, &[&&*bin.id, &id, &now_ms(), &head, &&body[..]]).await?;
    prune(tx, &bin.id, &bin.settings).await?;
    check.end(tx).await?;
    Ok((id, nth))
}

/// Deletes the requests of a bin that are too old, too many or too large together. The size of a head is its number of characters.
pub(super) async fn prune(connection: &Connection, id: &BinId, settings: &BinSettings) -> Result<(), StoreError> {
    let sql = "DELETE FROM bin_requests WHERE bin = $1 AND id IN (SELECT r.id FROM (
                 SELECT id, received_at_ms, row_number() OVER newest_first AS nth,
                   sum(CASE WHEN received_at_ms < $2 THEN 0 ELSE length(head) + octet_length(body) END)
                     OVER newest_first AS held
                 FROM bin_requests WHERE bin = $1 WINDOW newest_first AS (ORDER BY id DESC)
               ) r WHERE r.received_at_ms < $2 OR r.nth > $3 OR r.held > $4)";
    let parameters = [oldest_ms(settings), int(settings.requests_max), int(BIN_BYTES_MAX)];
    connection.execute(sql, &[&&**id, &parameters[0], &parameters[1], &parameters[2]]).await.map(drop)
}

/// Deletes one request of a bin, or all of them. Returns the number of deleted requests.
pub(super) async fn forget(connection: &Connection, bin: &BinId, id: Option<Uuid>) -> Result<u64, StoreError> {
    match id {
        Some(id) => connection.execute("DELETE FROM bin_requests WHERE bin = $1 AND id = $2", &[&&**bin, &id]).await,
        None => connection.execute("DELETE FROM bin_requests WHERE bin = $1", &[&&**bin]).await,
    }
}

/// Returns a request, and the one before it.
pub(super) async fn with_the_one_before(
    connection: &Connection,
    bin: &BinId,
    id: Uuid,
) -> Result<(BinRequest, Option<BinRequest>), StoreError> {
    let sql = format!("{REQUEST} WHERE bin = $1 AND id <= $2 ORDER BY id DESC LIMIT 2");
    let rows = connection.query(&sql, &[&&**bin, &id]).await?;
    let mut requests = rows.iter().map(request_row);
    let found = requests.next().transpose()?.filter(|found| found.id == id);
    let found = found.ok_or(StoreError::NotFound("request"))?;
    Ok((found, requests.next().transpose()?))
}

/// Returns requests of a bin, newest first.
pub(super) async fn page(connection: &Connection, bin: &Bin, filter: &BinFilter) -> Result<BinPage, StoreError> {
    let sql = format!("{REQUEST} WHERE bin = $1 AND id < $2 AND received_at_ms >= $3 ORDER BY id DESC LIMIT $4");
    let oldest_ms = oldest_ms(&bin.settings);
    let search = filter.search.as_ref().map(|text| text.to_ascii_lowercase());
    let finder = search.as_ref().map(|text| Finder::new(text.as_bytes()));
    // Without a search, the page and the request that shows that there are more.
    let rows_max = if finder.is_some() { ROWS_MAX } else { int(filter.limit.saturating_add(1)).min(ROWS_MAX) };
    let mut partial = PartialPage { page: BinPage::default(), limit: filter.limit, finder, looked_at: 0 };
    let mut before = filter.before.unwrap_or(Uuid::max());
    loop {
        let rows = connection.query(&sql, &[&&*bin.id, &before, &oldest_ms, &rows_max]).await?;
        for row in &rows {
            if partial.is_complete_before(row)? {
                return Ok(partial.page);
            }
        }
        match rows.last() {
            Some(last) if int(rows.len()) == rows_max => before = last.try_get(0)?,
            _ => return Ok(BinPage { further: None, ..partial.page }),
        }
    }
}

/// Page that is being filled.
struct PartialPage<'f> {
    page: BinPage,
    limit: usize,
    /// Finder of the searched text, in lower case.
    finder: Option<Finder<'f>>,
    /// Number of bytes that were searched.
    looked_at: usize,
}

impl PartialPage<'_> {
    /// Adds a request if the search finds it. Returns true if the page ends before it.
    fn is_complete_before(&mut self, row: &Row) -> Result<bool, StoreError> {
        if self.page.requests.len() == self.limit || self.looked_at >= SEARCH_BYTES_MAX {
            return Ok(true);
        }
        let found = match &self.finder {
            None => true,
            Some(finder) => {
                let head = row.try_get::<_, &str>(2)?.as_bytes();
                let body: &[u8] = row.try_get(3)?;
                let body = &body[..body.len().min(SEARCHED_BYTES)];
                self.looked_at += head.len() + body.len();
                [head, body].into_iter().any(|part| finder.find(&part.to_ascii_lowercase()).is_some())
            }
        };
        self.page.further = Some(row.try_get(0)?);
        if found {
            self.page.requests.push(request_row(row)?);
        }
        Ok(false)
    }
}

fn request_row(row: &Row) -> Result<BinRequest, StoreError> {
    Ok(BinRequest {
        id: row.try_get(0)?,
        received_at_ms: row.try_get(1)?,
        head: serde_json::from_str(row.try_get(2)?)?,
        body: Bytes::copy_from_slice(row.try_get(3)?),
    })
}

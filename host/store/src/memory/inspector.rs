//! Bins with the requests that they received.

mod rejected;

use super::Memory;
use super::share::{record, within_share};
use super::sorted_table::delete_where;
use super::tables::{MemoryTables, StoredBin};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::inspector::{
    BIN_BYTES_MAX, BINS_MAX, BinBackend, BinFilter, BinPage, SEARCH_BYTES_MAX, SEARCHED_BYTES, oldest_ms,
};
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_model::clock::now_ms;
use hookloom_model::ids;
use hookloom_model::ids::BinId;
use hookloom_model::inspector::{Bin, BinRequest, BinSettings, RequestHead};
use hookloom_model::subscription::TenantId;
use memchr::memmem::Finder;
use std::cmp::Reverse;
use std::ops::Bound;
use uuid::Uuid;

#[async_trait]
impl BinBackend for Memory {
    async fn create_bin(&self, actor: Actor, tenant: TenantId, bin: Bin) -> Result<Bin, StoreError> {
        let share = self.limits.share;
        let write = move |tables: &mut MemoryTables| {
            if tables.bins.values().filter(|row| row.tenant == tenant).count() >= BINS_MAX {
                return Err(StoreError::Conflict(format!("a tenant has at most {BINS_MAX} bins")));
            }
            within_share(tables, &tenant, share, |tables| {
                let row = StoredBin { tenant: tenant.clone(), bin: bin.clone() };
                tables.bins.insert_mut(bin.id.clone(), row);
                Ok(())
            })?;
            record(tables, &actor, Some(&tenant), &AuditAction::BinCreate(&bin), share)?;
            Ok(bin)
        };
        self.write(write, |_, _| {}).await
    }

    async fn update_bin(
        &self,
        actor: Actor,
        tenant: TenantId,
        id: BinId,
        settings: BinSettings,
    ) -> Result<Bin, StoreError> {
        let share = self.limits.share;
        let write = move |tables: &mut MemoryTables| {
            let before = find(tables, &tenant, &id)?.clone();
            let after = Bin { settings, ..before.clone() };
            within_share(tables, &tenant, share, |tables| {
                let row = StoredBin { tenant: tenant.clone(), bin: after.clone() };
                tables.bins.insert_mut(id.clone(), row);
                prune(tables, &id, &after.settings)
            })?;
            let action = AuditAction::BinUpdate { id: &id, before: &before.settings, after: &after.settings };
            record(tables, &actor, Some(&tenant), &action, share)?;
            Ok(after)
        };
        self.write(write, |_, _| {}).await
    }

    async fn delete_bin(&self, actor: Actor, tenant: TenantId, id: BinId) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            find(tables, &tenant, &id)?;
            delete_where(&mut tables.bin_requests, |(bin, _), _| *bin == id);
            tables.bins.remove_mut(&id);
            record(tables, &actor, Some(&tenant), &AuditAction::BinDelete(&id), self.limits.share)
        };
        self.write(write, |_, ()| {}).await
    }

    async fn bins(&self, tenant: TenantId) -> Result<Vec<Bin>, StoreError> {
        self.read(move |tables| {
            let rows = tables.bins.values().filter(|row| row.tenant == tenant);
            let mut bins: Vec<Bin> = rows.map(|row| row.bin.clone()).collect();
            bins.sort_by_key(|bin| Reverse(bin.created_at_ms));
            Ok(bins)
        })
        .await
    }

    async fn bin(&self, tenant: TenantId, id: BinId) -> Result<Bin, StoreError> {
        self.read(move |tables| find(tables, &tenant, &id).cloned()).await
    }

    async fn bin_by_url(&self, id: BinId) -> Result<(TenantId, Bin), StoreError> {
        self.read(move |tables| {
            let row = tables.bins.get(&id).ok_or(StoreError::NotFound("bin"))?;
            Ok((row.tenant.clone(), row.bin.clone()))
        })
        .await
    }

    async fn receive_in_bin(
        &self,
        tenant: &TenantId,
        bin: &Bin,
        head: RequestHead,
        body: Bytes,
    ) -> Result<(Uuid, u64), StoreError> {
        let share = self.limits.share;
        let write = move |tables: &mut MemoryTables| {
            let row = tables.bins.get_mut(&bin.id).ok_or(StoreError::NotFound("bin"))?;
            let nth = row.bin.received;
            row.bin.received += 1;
            let id = ids::new_uuid();
            let head = head.answered_by(&bin.settings, nth);
            let request = BinRequest { id, received_at_ms: now_ms(), head, body };
            within_share(tables, tenant, share, |tables| {
                tables.bin_requests.insert_mut((bin.id.clone(), id), request);
                prune(tables, &bin.id, &bin.settings)
            })?;
            Ok((id, nth))
        };
        self.write(write, |_, _| {}).await
    }

    async fn bin_requests(&self, tenant: TenantId, bin: BinId, filter: BinFilter) -> Result<BinPage, StoreError> {
        self.read(move |tables| page(tables, find(tables, &tenant, &bin)?, &filter)).await
    }

    async fn bin_request(
        &self,
        tenant: TenantId,
        bin: BinId,
        id: Uuid,
    ) -> Result<(BinRequest, Option<BinRequest>), StoreError> {
        self.read(move |tables| {
            find(tables, &tenant, &bin)?;
            let mut requests = newest_first(tables, &bin, Bound::Included(id));
            let found = requests.next().filter(|request| request.id == id);
            let found = found.ok_or(StoreError::NotFound("request"))?;
            Ok((found.clone(), requests.next().cloned()))
        })
        .await
    }

    async fn forget_bin_requests(
        &self,
        actor: Actor,
        tenant: TenantId,
        bin: BinId,
        id: Option<Uuid>,
    ) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            find(tables, &tenant, &bin)?;
            let is_meant = |(of, request): &(BinId, Uuid)| *of == bin && id.is_none_or(|id| id == *request);
            let deleted = delete_where(&mut tables.bin_requests, |key, _| is_meant(key));
            let action = match (deleted, id) {
                (0, Some(_)) => return Err(StoreError::NotFound("request")),
                (_, Some(request)) => AuditAction::BinForget { bin: &bin, request },
                (_, None) => AuditAction::BinClear(&bin),
            };
            record(tables, &actor, Some(&tenant), &action, self.limits.share)
        };
        self.write(write, |_, ()| {}).await
    }

    async fn record_bin_replay(
        &self,
        actor: Actor,
        tenant: TenantId,
        request: Uuid,
        host: String,
    ) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            let action = AuditAction::BinReplay { request, host: &host };
            record(tables, &actor, Some(&tenant), &action, self.limits.share)
        };
        self.write(write, |_, ()| {}).await
    }

    async fn bins_to_prune(&self) -> Result<Vec<(TenantId, Bin)>, StoreError> {
        self.read(|tables| {
            let has_expired = |row: &&StoredBin| {
                let oldest = newest_first(tables, &row.bin.id, Bound::Included(Uuid::max())).next_back();
                oldest.is_some_and(|request| request.received_at_ms < oldest_ms(&row.bin.settings))
            };
            let rows = tables.bins.values().filter(has_expired);
            Ok(rows.map(|row| (row.tenant.clone(), row.bin.clone())).collect())
        })
        .await
    }

    async fn prune_bin(&self, _: &TenantId, bin: Bin) -> Result<(), StoreError> {
        self.write(move |tables| prune(tables, &bin.id, &bin.settings), |_, ()| {}).await
    }
}

fn find<'t>(tables: &'t MemoryTables, tenant: &TenantId, id: &BinId) -> Result<&'t Bin, StoreError> {
    let row = tables.bins.get(id).filter(|row| row.tenant == *tenant);
    row.map(|row| &row.bin).ok_or(StoreError::NotFound("bin"))
}

/// Returns the requests of a bin up to an id, newest first.
fn newest_first<'t>(
    tables: &'t MemoryTables,
    bin: &BinId,
    end: Bound<Uuid>,
) -> impl DoubleEndedIterator<Item = &'t BinRequest> + use<'t> {
    let first = Bound::Included((bin.clone(), Uuid::nil()));
    let range = (first, end.map(|id| (bin.clone(), id)));
    tables.bin_requests.range(range).rev().map(|(_, request)| request)
}

fn page(tables: &MemoryTables, bin: &Bin, filter: &BinFilter) -> Result<BinPage, StoreError> {
    let oldest_ms = oldest_ms(&bin.settings);
    let search = filter.search.as_ref().map(|text| text.to_ascii_lowercase());
    let finder = search.as_ref().map(|text| Finder::new(text.as_bytes()));
    let mut page = BinPage::default();
    let mut looked_at = 0;
    let requests = newest_first(tables, &bin.id, Bound::Excluded(filter.before.unwrap_or(Uuid::max())));
    for request in requests.filter(|request| request.received_at_ms >= oldest_ms) {
        if page.requests.len() == filter.limit || looked_at >= SEARCH_BYTES_MAX {
            return Ok(page);
        }
        let found = match &finder {
            None => true,
            Some(finder) => {
                let head = serde_json::to_vec(&request.head)?;
                let body = &request.body[..request.body.len().min(SEARCHED_BYTES)];
                looked_at += head.len() + body.len();
                [&head[..], body].into_iter().any(|part| finder.find(&part.to_ascii_lowercase()).is_some())
            }
        };
        page.further = Some(request.id);
        if found {
            page.requests.push(request.clone());
        }
    }
    page.further = None;
    Ok(page)
}

/// Deletes the requests of a bin that are too old, too many or too large together. The size of a head is its number of characters.
fn prune(tables: &mut MemoryTables, id: &BinId, settings: &BinSettings) -> Result<(), StoreError> {
    let oldest_ms = oldest_ms(settings);
    let mut ended = Vec::new();
    let mut held = 0;
    for (index, request) in newest_first(tables, id, Bound::Included(Uuid::max())).enumerate() {
        let is_kept = index < settings.requests_max && request.received_at_ms >= oldest_ms;
        if is_kept {
            let head = serde_json::to_string(&request.head)?;
            held += (head.chars().count() + request.body.len()) as u64;
        }
        if !is_kept || held > BIN_BYTES_MAX {
            ended.push((id.clone(), request.id));
        }
    }
    for key in &ended {
        tables.bin_requests.remove_mut(key);
    }
    Ok(())
}

//! Links and sessions of the portal.

use super::Memory;
use super::share::{record, usage};
use super::sorted_table::delete_where;
use super::tables::{MemoryTables, PortalRow};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::access::CredentialHash;
use crate::backend::portal::{EXPIRED, NewPortalSession, PER_TENANT_MAX, PortalBackend};
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::portal::{EndedPortal, PortalLink, PortalSession};
use hookloom_model::subscription::TenantId;

#[async_trait]
impl PortalBackend for Memory {
    async fn put_portal_link(&self, actor: Actor, hash: CredentialHash, link: PortalLink) -> Result<(), StoreError> {
        let share = self.limits.share;
        let write = move |tables: &mut MemoryTables| {
            // Refuses a tenant that is being deleted, and no other.
            usage(tables, &link.tenant, share)?;
            delete_expired(tables);
            tables.portal.insert_mut(hash, PortalRow::Link(link.clone()));
            delete_surplus(tables, &link.tenant, hash, |row| matches!(row, PortalRow::Link(_)));
            record(tables, &actor, Some(&link.tenant), &AuditAction::PortalLinkCreate(&link), share)
        };
        self.write(write, |_, ()| {}).await
    }

    async fn open_portal_session(
        &self,
        link: CredentialHash,
        new: NewPortalSession,
    ) -> Result<Option<PortalSession>, StoreError> {
        let share = self.limits.share;
        let write = move |tables: &mut MemoryTables| {
            let Some(PortalRow::Link(found)) = tables.portal.get(&link).cloned() else { return Ok(None) };
            tables.portal.remove_mut(&link);
            if found.expires_at_ms <= now_ms() || usage(tables, &found.tenant, share).is_err() {
                return Ok(None);
            }
            let session = found.opened(new.csrf, now_ms());
            tables.portal.insert_mut(new.hash, PortalRow::Session(session.clone()));
            delete_surplus(tables, &session.tenant, new.hash, |row| matches!(row, PortalRow::Session(_)));
            let action = AuditAction::PortalSessionOpen(new.from);
            record(tables, &Actor::from(&session.key()), Some(&session.tenant), &action, share)?;
            Ok(Some(session))
        };
        self.write(write, |_, _| {}).await
    }

    async fn portal_session(&self, hash: CredentialHash) -> Result<Option<PortalSession>, StoreError> {
        self.read(move |tables| {
            let Some(PortalRow::Session(session)) = tables.portal.get(&hash) else { return Ok(None) };
            Ok(Some(session.clone()).filter(|session| session.expires_at_ms > now_ms()))
        })
        .await
    }

    async fn delete_portal_session(&self, hash: CredentialHash) -> Result<(), StoreError> {
        let write = move |tables: &mut MemoryTables| {
            if matches!(tables.portal.get(&hash), Some(PortalRow::Session(_))) {
                tables.portal.remove_mut(&hash);
            }
            Ok(())
        };
        self.write(write, |_, ()| {}).await
    }

    async fn end_portal(&self, actor: Actor, tenant: TenantId) -> Result<EndedPortal, StoreError> {
        let write = move |tables: &mut MemoryTables| {
            let mut ended = EndedPortal::default();
            for row in tables.portal.values().filter(|row| *row.tenant() == tenant) {
                match row {
                    PortalRow::Link(link) => ended.links += u64::from(link.expires_at_ms > now_ms()),
                    PortalRow::Session(session) => ended.sessions += u64::from(session.expires_at_ms > now_ms()),
                }
            }
            delete_where(&mut tables.portal, |_, row| *row.tenant() == tenant);
            record(tables, &actor, Some(&tenant), &AuditAction::PortalEnd(ended), self.limits.share)?;
            Ok(ended)
        };
        self.write(write, |_, _| {}).await
    }
}

/// Deletes the rows that expired first, at most [`EXPIRED`].
fn delete_expired(tables: &mut MemoryTables) {
    let now_ms = now_ms();
    let mut expired: Vec<(i64, CredentialHash)> = tables
        .portal
        .iter()
        .map(|(hash, row)| (row.expires_at_ms(), *hash))
        .filter(|(at_ms, _)| *at_ms < now_ms)
        .collect();
    expired.sort_unstable();
    for (_, hash) in expired.into_iter().take(EXPIRED) {
        tables.portal.remove_mut(&hash);
    }
}

/// Deletes the oldest rows of a kind of a tenant above [`PER_TENANT_MAX`]. The new one is the last of its time.
fn delete_surplus(
    tables: &mut MemoryTables,
    tenant: &TenantId,
    new: CredentialHash,
    is_of_kind: impl Fn(&PortalRow) -> bool,
) {
    let of_kind = tables.portal.iter().filter(|(_, row)| row.tenant() == tenant && is_of_kind(row));
    let mut rows: Vec<_> = of_kind.map(|(hash, row)| (row.since_ms(), *hash == new, *hash)).collect();
    rows.sort_unstable_by(|one, other| other.cmp(one));
    for (.., hash) in rows.into_iter().skip(PER_TENANT_MAX) {
        tables.portal.remove_mut(&hash);
    }
}

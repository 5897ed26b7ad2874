//! Log of changes: its reads.

use super::Memory;
use crate::StoreError;
use crate::backend::changes::{Change, ChangeBackend, ChangeSearch, PAGE_BYTES_MAX};
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;
use uuid::Uuid;

#[async_trait]
impl ChangeBackend for Memory {
    async fn changes(
        &self,
        tenant: Option<TenantId>,
        search: ChangeSearch,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<(Vec<Change>, bool), StoreError> {
        self.read(move |tables| {
            let range = (tenant.clone(), Uuid::nil())..(tenant, before.unwrap_or(Uuid::max()));
            let mut changes = Vec::new();
            let mut bytes = 0;
            for (_, change) in tables.changes.range(range).rev().filter(|(_, change)| search.selects(change)) {
                bytes += state_bytes(change);
                if changes.len() == limit || (bytes > PAGE_BYTES_MAX && !changes.is_empty()) {
                    return Ok((changes, true));
                }
                changes.push(change.clone());
            }
            Ok((changes, false))
        })
        .await
    }

    async fn has_changes(&self) -> Result<bool, StoreError> {
        self.read(|tables| Ok(!tables.changes.is_empty())).await
    }
}

/// Returns the size of the states of an entry as JSON, in bytes.
fn state_bytes(change: &Change) -> usize {
    [&change.before, &change.after].into_iter().flatten().map(|state| state.to_string().len()).sum()
}

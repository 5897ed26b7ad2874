//! Deletion of tenants, plugins and versions.
//!
//! # Guarantees
//! - Deleted things cannot be used as soon as the first write is durable: the keys and addresses of a tenant stop working, and a
//!   plugin is not listed, loaded or called.
//! - The remaining rows are deleted in steps of some milliseconds, between which other writes run. After a crash or a stop, the
//!   next start continues.
//! - Nothing is written for a tenant that is being deleted, and its name is free when its last row is deleted.
//! - A file in the plugins folder does not bring a deleted plugin back: the sha256 of the last component from the file stays
//!   recorded. Another component in the same file is a new upload.
//!
//! # Limits
//! A component is deleted in one piece, so a step takes as long as the largest component needs.

use crate::background::{let_others_write, run_when_woken};
use crate::{Store, StoreError};

impl Store {
    /// Deletes the remaining rows of tenants, plugins and versions. Runs until the store stops.
    pub async fn run_deletions(&self) {
        run_when_woken(&self.deletions, "a step of a deletion failed", || self.delete_discarded()).await;
    }

    pub(crate) async fn delete_discarded(&self) -> Result<(), StoreError> {
        loop {
            let step = self.backend.delete_discarded_versions().await?;
            if step.done {
                break;
            }
            let_others_write(step.took).await;
        }
        for tenant in self.backend.tenants_being_deleted().await? {
            loop {
                let step = self.backend.delete_tenant_step(&tenant).await?;
                if step.done {
                    break;
                }
                let_others_write(step.took).await;
            }
            tracing::info!(%tenant, "a tenant was deleted with everything that belonged to it");
        }
        Ok(())
    }
}

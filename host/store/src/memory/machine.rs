//! The machine below the backend: memory, which has no faults.

use super::Memory;
use crate::StoreError;
use crate::backend::fleet::FleetBackend;
use crate::backend::machine::{DamageReport, MachineBackend};
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;

/// One host uses a store in memory.
impl FleetBackend for Memory {}

#[async_trait]
impl MachineBackend for Memory {
    async fn check(&self) -> Result<(), StoreError> {
        self.read(|_| Ok(())).await
    }

    fn failed_commits(&self) -> u64 {
        0
    }

    fn folder_faults(&self) -> Vec<String> {
        Vec::new()
    }

    fn damage(&self, _: Option<&TenantId>) -> DamageReport {
        DamageReport::default()
    }

    /// Returns a key that is no secret: nothing of a store in memory outlives the process, so no plugin that was compiled for it is read
    /// from a disk.
    fn compiled_cache_key(&self) -> [u8; 32] {
        [0; 32]
    }

    async fn run_upkeep(&self) {}
}

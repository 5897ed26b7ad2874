//! The machine below the backend: memory, which has no faults.

use super::Memory;
use crate::StoreError;
use crate::backend::fleet::{FleetBackend, PluginChange};
use crate::backend::machine::{DamageReport, MachineBackend};
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;

/// A store that is opened without a fleet has no other hosts.
#[async_trait]
impl FleetBackend for Memory {
    async fn in_force(&self) -> Result<Vec<String>, StoreError> {
        match &self.member {
            Some(member) => member.in_force().await,
            None => Ok(Vec::new()),
        }
    }

    fn note_in_force(&self, change: &PluginChange) {
        if let Some(member) = &self.member {
            member.membership.note_in_force(change.generation);
        }
    }

    async fn give_away(&self) {
        if let Some(member) = &self.member {
            member.give_away().await;
        }
    }

    async fn leave(&self) -> Result<(), StoreError> {
        match &self.member {
            Some(member) => member.leave().await,
            None => Ok(()),
        }
    }
}

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

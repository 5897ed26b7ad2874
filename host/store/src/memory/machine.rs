//! The machine below the backend: memory, which has no faults.

use super::Memory;
use super::share::record;
use super::tables::MemoryTables;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::fleet::{FleetBackend, FleetView, PluginChange};
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

    async fn fleet(&self) -> Result<Option<FleetView>, StoreError> {
        let Some(member) = &self.member else { return Ok(None) };
        let own = member.membership.registration().map_or(0, |registration| registration.host);
        self.read(|tables| Ok(Some(tables.fleet.view(own)))).await
    }

    async fn pin_shard(&self, actor: Actor, shard: u8, to: Option<i16>) -> Result<(), StoreError> {
        let share = self.limits.share;
        let write = move |tables: &mut MemoryTables| {
            tables.fleet.pin(shard, to)?;
            record(tables, &actor, None, &AuditAction::ShardMove { shard, to }, share)
        };
        self.write(write, |_, ()| {}).await
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

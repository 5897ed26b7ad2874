//! Readiness of the database. The server looks after its own files.

use super::Postgres;
use crate::StoreError;
use crate::backend::machine::{DamageReport, MachineBackend};
use crate::fair_queue::Owner;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl MachineBackend for Postgres {
    /// Writes and reads.
    async fn check(&self) -> Result<(), StoreError> {
        // Beside the transactions of other hosts, as intake is: what a load balancer asks every second must stop nobody.
        let row = Some("readiness".to_owned());
        let written = self.writer.run_intake(
            Terms::small(Owner::Host),
            row,
            |tx| {
                Box::pin(async move {
                    let sql = "INSERT INTO readiness (checked_at_ms) VALUES ($1)
                               ON CONFLICT (only_row) DO UPDATE SET checked_at_ms = EXCLUDED.checked_at_ms";
                    tx.execute(sql, &[&now_ms()]).await.map(drop)
                })
            },
            |_, ()| {},
        );
        written.await?;
        let read = self.readers.read_one(Owner::Host, |connection| {
            Box::pin(async move { connection.query("SELECT 1 FROM tenants LIMIT 1", &[]).await.map(drop) })
        });
        read.await
    }

    fn failed_commits(&self) -> u64 {
        self.writer.failed_commits()
    }

    fn folder_faults(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns no damage: the server reports it in its own log.
    fn damage(&self, _tenant: Option<&TenantId>) -> DamageReport {
        DamageReport::default()
    }

    fn compiled_cache_key(&self) -> [u8; 32] {
        self.vault.cache_key()
    }

    async fn run_upkeep(&self) {}
}

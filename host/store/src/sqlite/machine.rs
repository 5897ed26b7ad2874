//! Readiness of the database, and the upkeep of its files.

use super::Sqlite;
use super::batch::AdminTx;
use crate::StoreError;
use crate::backend::fleet::FleetBackend;
use crate::backend::machine::{DamageReport, MachineBackend};
use crate::fair_queue::Owner;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::clock::now_ms;
use hookloom_model::subscription::TenantId;
use rusqlite::Connection;
use std::time::Duration;

/// One host at a time uses a data folder.
impl FleetBackend for Sqlite {}

#[async_trait]
impl MachineBackend for Sqlite {
    /// Writes the largest event and rolls it back, flushes a small write, and runs a query.
    async fn check(&self) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO readiness (only_row, checked_at_ms) VALUES (1, ?1)";
        let write = move |tx: &AdminTx<'_, '_>| {
            tx.try_event()?;
            Ok(tx.execute(sql, [now_ms()])?)
        };
        // Alone, because the rollback must not affect other writes.
        self.writer.change(Terms::small(Owner::Host), write, |_| {}).await?;
        self.readers.read(Owner::Host, query_tenants).await
    }

    fn failed_commits(&self) -> u64 {
        self.room.failed_commits()
    }

    fn folder_faults(&self) -> Vec<String> {
        self.folder.faults(&self.vault)
    }

    fn damage(&self, tenant: Option<&TenantId>) -> DamageReport {
        self.damage.report(tenant)
    }

    fn compiled_cache_key(&self) -> [u8; 32] {
        self.vault.cache_key()
    }

    async fn run_upkeep(&self) {
        tokio::join!(self.watch_disk(), self.run_repairs(), self.watch_moves());
    }
}

impl Sqlite {
    /// Checks a full disk every second, so that free space is detected without traffic. Never returns.
    async fn watch_disk(&self) {
        loop {
            tokio::time::sleep(DISK_CHECK_INTERVAL).await;
            if self.room.is_full() {
                // The writer checks the disk before each write. If the disk is still full, that is known already.
                let _ = self.check().await;
            }
        }
    }
}

fn query_tenants(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.query_row("SELECT COUNT(*) FROM tenants", [], |_| Ok(()))?)
}

/// Interval at which a full disk is checked.
const DISK_CHECK_INTERVAL: Duration = Duration::from_secs(1);

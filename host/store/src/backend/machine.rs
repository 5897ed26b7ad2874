//! The machine below a backend: its readiness, its damage and its own upkeep.

use crate::StoreError;
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;
use serde::Serialize;
use std::fmt;
use utoipa::ToSchema;
use uuid::Uuid;

/// Kind of a row that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RowKind {
    /// An event.
    Event,
    /// A delivery.
    Delivery,
}

/// Row that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRow {
    /// Tenant of the row.
    pub tenant: TenantId,
    /// Kind of the row.
    pub kind: RowKind,
    /// Id of the row.
    pub id: Uuid,
    /// Time of the discovery, in milliseconds since the epoch.
    pub found_at_ms: i64,
    /// Error of the read.
    pub detail: String,
}

/// Table or index with a page that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedObject {
    /// Name in the schema.
    pub name: String,
    /// Description of the damage.
    pub detail: String,
}

/// Rows, tables and indexes that cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DamageReport {
    /// Damaged rows, by tenant, kind and id.
    pub rows: Vec<DamagedRow>,
    /// Known damaged tables and indexes, by name.
    pub objects: Vec<DamagedObject>,
    /// True if a write failed because of damage, and none has succeeded since.
    pub failing_writes: bool,
}

impl RowKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            RowKind::Event => "event",
            RowKind::Delivery => "delivery",
        }
    }
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl DamageReport {
    /// Returns true if no damage is known.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.objects.is_empty() && !self.failing_writes
    }
}

/// Machine below a backend.
#[async_trait]
pub trait MachineBackend: Send + Sync {
    /// Verifies that the store can read, and can accept the largest event.
    async fn check(&self) -> Result<(), StoreError>;

    /// Returns the number of commits that failed since the start. Any earlier check is void after a failed commit.
    fn failed_commits(&self) -> u64;

    /// Returns faults of the backend's files that affect only the next start.
    fn folder_faults(&self) -> Vec<String>;

    /// Returns the known damage of one tenant, or of all.
    fn damage(&self, tenant: Option<&TenantId>) -> DamageReport;

    /// Returns the key that authenticates compiled plugins on disk.
    fn compiled_cache_key(&self) -> [u8; 32];

    /// Looks after the backend's own files until the store stops, or returns at once if it has none.
    async fn run_upkeep(&self);
}

//! Damaged parts of the database: recognised by the error, and remembered. [`set_apart`](super::set_apart) records the rows.
//!
//! # Guarantees
//! - Damage is logged once, and reported by [`Store::damage`](crate::Store::damage) to pages, `/readyz` and metrics from then on. The table `damage`
//!   keeps it over a restart, as far as the table can be written.
//! - A row is set apart only if reading this very row failed, and failed again after a check of the whole database in which damaged
//!   indexes were rebuilt. So rows that only a damaged index hides are not lost. The row stays in place: nothing is deleted or
//!   overwritten.
//! - Rows that can be read again after a restart (of a disk or of the host) are no longer reported.
//!
//! # Limits
//! SQLite has no checksums. A changed byte inside a text or a blob is found only if the value is malformed by it.

use crate::StoreError;
use crate::backend::machine::{DamageReport, DamagedObject, DamagedRow, RowKind};
use hookloom_model::clock::now_ms;
use hookloom_model::subscription::TenantId;
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, ErrorCode};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;
use uuid::Uuid;

/// Maximum number of damaged rows that are remembered. Further rows are found again by each read.
const KEPT_MAX: usize = 100_000;

type Key = (TenantId, RowKind, Uuid);

#[derive(Default)]
struct KnownDamage {
    rows: BTreeMap<Key, DamagedRow>,
    objects: BTreeMap<String, DamagedObject>,
    failing_writes: bool,
    /// Rows that could not be read once, with the number of checks that had begun by then.
    suspects: BTreeMap<Key, u64>,
    /// Number of checks of the whole database that have begun, and that have ended.
    checks: [u64; 2],
}

/// Registry of known damage, shared by every reader and the writer.
#[derive(Clone, Default)]
pub(super) struct Damage {
    known: Arc<Mutex<KnownDamage>>,
    /// Wakes the check for damaged indexes.
    pub(super) seen: Arc<Notify>,
    /// Wakes the check at once, because a row waits for its result.
    pub(super) suspected: Arc<Notify>,
}

impl Damage {
    /// Reads the recorded damage. If the table itself cannot be read, starts without any.
    pub(super) fn load(connection: &Connection) -> Self {
        let damage = Damage::default();
        match load_rows(connection) {
            Ok(rows) => rows.into_iter().for_each(|row| {
                damage.add(row);
            }),
            Err(error) => {
                tracing::error!(error = %hookloom_model::describe(&error), "the list of damaged rows cannot be read");
                damage.seen.notify_one();
            }
        }
        damage
    }

    /// Adds a row. Returns false if it is known already.
    pub(super) fn add(&self, row: DamagedRow) -> bool {
        let mut known = self.lock();
        let key = (row.tenant.clone(), row.kind, row.id);
        known.rows.len() < KEPT_MAX && known.rows.insert(key, row).is_none()
    }

    /// Removes a row that can be read again.
    pub(super) fn forget(&self, row: DamagedRow) {
        self.lock().rows.remove(&(row.tenant, row.kind, row.id));
    }

    /// Returns true if a row is known to be unreadable.
    pub(super) fn has(&self, tenant: &TenantId, kind: RowKind, id: Uuid) -> bool {
        self.lock().rows.contains_key(&(tenant.clone(), kind, id))
    }

    /// Returns true if a row that cannot be read now could not be read before the last check either. Requests a check otherwise.
    pub(super) fn confirm(&self, tenant: &TenantId, kind: RowKind, id: Uuid) -> bool {
        let mut known = self.lock();
        let [begun, ended] = known.checks;
        let key = (tenant.clone(), kind, id);
        if known.rows.contains_key(&key) {
            return true;
        }
        match known.suspects.get(&key) {
            Some(seen_at) if ended > *seen_at => {
                known.suspects.remove(&key);
                return true;
            }
            Some(_) => {}
            None if known.suspects.len() < KEPT_MAX => {
                known.suspects.insert(key, begun);
            }
            None => {}
        }
        drop(known);
        self.seen.notify_one();
        self.suspected.notify_one();
        false
    }

    /// Records that a check has begun or ended.
    pub(super) fn note_check(&self, has_ended: bool) {
        let checks = &mut self.lock().checks;
        checks[usize::from(has_ended)] = if has_ended { checks[0] } else { checks[0] + 1 };
    }

    /// Returns true if any damage is known.
    pub(super) fn is_known(&self) -> bool {
        let known = self.lock();
        !known.rows.is_empty() || !known.objects.is_empty()
    }

    /// Replaces the known damage of tables and indexes.
    pub(super) fn set_objects(&self, objects: Vec<DamagedObject>) {
        self.lock().objects = objects.into_iter().map(|object| (object.name.clone(), object)).collect();
    }

    /// Records whether a write failed because of damage.
    pub(super) fn note_write(&self, failed: bool) {
        self.lock().failing_writes = failed;
        if failed {
            self.seen.notify_one();
        }
    }

    /// Returns true if an error is damage, and wakes the check for damaged indexes in that case.
    pub(super) fn note(&self, error: &StoreError) -> bool {
        let is_damage = error.is_damage();
        if is_damage {
            self.seen.notify_one();
        }
        is_damage
    }

    /// Returns the known damage of one tenant, or of all.
    pub(super) fn report(&self, tenant: Option<&TenantId>) -> DamageReport {
        let known = self.lock();
        let rows = known.rows.values().filter(|row| tenant.is_none_or(|tenant| *tenant == row.tenant));
        DamageReport {
            rows: rows.cloned().collect(),
            objects: known.objects.values().cloned().collect(),
            failing_writes: known.failing_writes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, KnownDamage> {
        self.known.lock()
    }
}

fn load_rows(connection: &Connection) -> Result<Vec<DamagedRow>, StoreError> {
    let mut statement = connection.prepare("SELECT tenant, kind, id, found_at_ms, detail FROM damage")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let kind = match row.get::<_, String>(1)?.as_str() {
            "event" => RowKind::Event,
            _ => RowKind::Delivery,
        };
        let tenant = TenantId(row.get::<_, String>(0)?.into());
        found.push(DamagedRow { tenant, kind, id: row.get(2)?, found_at_ms: row.get(3)?, detail: row.get(4)? });
    }
    Ok(found)
}

/// Returns true if an error of SQLite is damage: see [`StoreError::is_damage`](crate::StoreError::is_damage).
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                || failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHORT_READ
        }
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    }
}

/// Returns the record of a row that was found just now.
pub(super) fn damaged(tenant: &TenantId, kind: RowKind, id: Uuid, detail: impl Into<String>) -> DamagedRow {
    DamagedRow { tenant: tenant.clone(), kind, id, found_at_ms: now_ms(), detail: detail.into() }
}

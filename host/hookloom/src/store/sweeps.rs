//! Sweeps: deliveries that wait for another plugin version or config become due when one comes, however many they are.
//!
//! # Guarantees
//! - The transaction of a change makes at most [`STEP`] deliveries due. If there may be more, it notes a sweep, which makes the
//!   rest due in transactions of as many; others write in between, and a restart goes on with it.
//! - No delivery is made due that was attempted after the change: it waits for the next one.
//! - Rows of a backlog that do not wait for a change are not looked at.
//!
//! Where the clock is set back, an attempt after the change can look like one before it; that delivery is attempted once more.

use super::background::{let_others_write, run_when_woken};
use super::batch::Batch;
use super::damage::Damage;
use super::fair_queue::Owner;
use super::writer::{Terms, WriteMode};
use super::{News, Store, StoreError, now_ms};
use crate::subscription::{SubscriptionId, TenantId};
use rusqlite::{Connection, params};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Maximum number of deliveries that one transaction makes due.
const STEP: usize = 256;

/// Maximum number of subscriptions that the transaction of a change looks at.
const SUBSCRIPTIONS: usize = 64;

/// Subject of a change that deliveries wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// A plugin of the tenant.
    Plugin(String),
    /// One subscription.
    Subscription(SubscriptionId),
}

impl Changed {
    /// Its two columns.
    fn columns(&self) -> (&str, &[u8]) {
        match self {
            Changed::Plugin(name) => (name, &[]),
            Changed::Subscription(id) => ("", id.0.as_bytes()),
        }
    }
}

/// A change whose effect is not complete.
#[derive(Clone, Debug)]
struct Sweep {
    tenant: TenantId,
    changed: Changed,
    at_ms: i64,
}

/// Makes what waits for a change due now, in the transaction of the change; what is too much for it is noted.
pub(super) fn judge_again(
    connection: &Connection,
    tenant: &TenantId,
    changed: &Changed,
    users: &[SubscriptionId],
    damage: &Damage,
) -> Result<(), StoreError> {
    let sql = "UPDATE deliveries SET due_at_ms = ?3, awaiting_plugin = 0
               WHERE tenant = ?1 AND id IN (SELECT id FROM deliveries INDEXED BY deliveries_retried
                 WHERE tenant = ?1 AND subscription = ?2 AND state = 0 AND attempts_made > 0 AND awaiting_plugin = 1 LIMIT ?4)";
    // Beside damage every delivery needs a transaction of its own, and the change must not fail.
    let mut left = if damage.is_known() { 0 } else { STEP };
    let at_ms = now_ms();
    for id in users.iter().take(if left > 0 { SUBSCRIPTIONS } else { 0 }) {
        left -= connection.prepare_cached(sql)?.execute(params![&*tenant.0, id.0, at_ms, left])?.min(left);
        if left == 0 {
            break;
        }
    }
    if left > 0 && users.len() <= SUBSCRIPTIONS {
        return Ok(());
    }
    let (plugin, subscription) = changed.columns();
    let sql = "INSERT INTO sweeps (tenant, plugin, subscription, at_ms) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT DO UPDATE SET at_ms = ?4";
    connection.prepare_cached(sql)?.execute(params![&*tenant.0, plugin, subscription, at_ms])?;
    Ok(())
}

impl Store {
    /// Completes changes whose deliveries were too many for one transaction, as long as there is a store.
    pub async fn run_sweeps(&self) {
        run_when_woken(&self.sweeps, "deliveries that wait for a plugin could not be made due", || self.sweep()).await;
    }

    /// Completes the changes that are noted.
    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        while let Some(sweep) = self.readers.read(Owner::Host, next_sweep).await? {
            let users = match &sweep.changed {
                Changed::Plugin(name) => self.users_of(&sweep.tenant, name),
                Changed::Subscription(id) => vec![*id],
            };
            for id in users {
                self.sweep_one(&sweep, id).await?;
            }
            let write = move |batch: &Batch<'_>| {
                let (plugin, subscription) = sweep.changed.columns();
                // Not one that came meanwhile.
                let sql = "DELETE FROM sweeps WHERE tenant = ?1 AND plugin = ?2 AND subscription = ?3 AND at_ms = ?4";
                batch.execute(sql, params![&*sweep.tenant.0, plugin, subscription, sweep.at_ms])?;
                Ok(())
            };
            self.write(Owner::Host, write).await?;
        }
        Ok(())
    }

    /// Makes deliveries due each in a transaction of its own, but for those that are damaged.
    async fn sweep_one_by_one(
        &self,
        sweep: &Sweep,
        id: SubscriptionId,
        found: Vec<Uuid>,
    ) -> Result<Duration, StoreError> {
        let mut took = Duration::ZERO;
        for delivery in found {
            let owner = sweep.tenant.clone();
            let at_ms = sweep.at_ms;
            let write = move |batch: &Batch<'_>| make_due(batch, &owner, &[delivery], at_ms);
            match self.write(&sweep.tenant, write).await {
                // Its lane finds it, too, and sets it apart.
                Err(error) if error.is_damage() => {}
                one => took += one?,
            }
        }
        let _ = self.news.send(News::Changed(id));
        Ok(took)
    }

    async fn sweep_one(&self, sweep: &Sweep, id: SubscriptionId) -> Result<(), StoreError> {
        let mut after = Uuid::nil();
        loop {
            let tenant = sweep.tenant.clone();
            let at_ms = sweep.at_ms;
            let find = move |connection: &Connection| waiting(connection, &tenant, id, after);
            let found = self.readers.read(Owner::Host, find).await?;
            let Some(last) = found.last().copied() else { return Ok(()) };
            after = last;
            let owner = sweep.tenant.clone();
            let found_too = found.clone();
            let write = move |batch: &Batch<'_>| make_due(batch, &owner, &found_too, at_ms);
            let news = self.news.clone();
            // These were attempted before: a lane looks for new deliveries among the others only.
            let tell = move |_: &mut Duration| drop(news.send(News::Changed(id)));
            let terms = Terms { owner: (&sweep.tenant).into(), mode: WriteMode::Shared, rows: STEP as u64 };
            let took = match self.writer.write(terms, write, tell).await {
                Err(error) if error.is_damage() => self.sweep_one_by_one(sweep, id, found).await?,
                took => took?,
            };
            let_others_write(took).await;
        }
    }
}

/// Makes deliveries due that wait for a change that came at this time.
fn make_due(batch: &Batch<'_>, tenant: &TenantId, ids: &[Uuid], at_ms: i64) -> Result<Duration, StoreError> {
    let begun = Instant::now();
    let sql = "UPDATE deliveries SET due_at_ms = ?3, awaiting_plugin = 0
               WHERE tenant = ?1 AND id = ?2 AND state = 0 AND awaiting_plugin = 1
                 AND (updated_at_ms <= ?4 OR updated_at_ms > ?3)";
    let mut statement = batch.prepare_cached(sql)?;
    for id in ids {
        statement.execute(params![&*tenant.0, id, now_ms(), at_ms])?;
    }
    Ok(begun.elapsed())
}

fn next_sweep(connection: &Connection) -> Result<Option<Sweep>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT tenant, plugin, subscription, at_ms FROM sweeps ORDER BY at_ms LIMIT 1")?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let plugin: String = row.get(1)?;
    let changed =
        if plugin.is_empty() { Changed::Subscription(SubscriptionId(row.get(2)?)) } else { Changed::Plugin(plugin) };
    Ok(Some(Sweep { tenant: TenantId(row.get::<_, String>(0)?.into()), changed, at_ms: row.get(3)? }))
}

/// The next deliveries of a subscription that wait for a change, by id.
fn waiting(
    connection: &Connection,
    tenant: &TenantId,
    id: SubscriptionId,
    after: Uuid,
) -> Result<Vec<Uuid>, StoreError> {
    let sql = "SELECT id FROM deliveries INDEXED BY deliveries_retried
               WHERE tenant = ?1 AND subscription = ?2 AND state = 0 AND attempts_made > 0 AND awaiting_plugin = 1 AND id > ?3
               ORDER BY id LIMIT ?4";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(params![&*tenant.0, id.0, after, STEP], |row| row.get(0))?;
    Ok(found.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests;

//! Sweeps: after a change of a plugin's version or of a config, the deliveries that wait for it become due.
//!
//! # Guarantees
//! - The transaction of the change makes at most [`STEP`] deliveries due. If there may be more, it records a sweep, which makes the
//!   others due in transactions of the same size, between which other writes run. A restart continues the sweep.
//! - A delivery that was attempted after the change is not made due: it waits for the next change.
//! - Rows of a backlog that do not wait for a change are not read.
//!
//! # Limits
//! If the clock is set back, an attempt after the change can look like one before it. That delivery is attempted once more.

use super::background::{let_others_write, run_when_woken};
use super::batch::AdminTx;
use super::damage::Damage;
use super::fair_queue::Owner;
use super::writer::Terms;
use super::{Store, StoreError, StoreEvent};
use hookloom_model::clock::{self, now_ms};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::{Connection, params};
use std::time::Duration;
use uuid::Uuid;

/// Maximum number of deliveries that one transaction makes due.
const STEP: usize = 256;

/// Maximum number of subscriptions that the transaction of a change reads.
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
    /// Returns the values of its two columns.
    fn columns(&self) -> (&str, &[u8]) {
        match self {
            Changed::Plugin(name) => (name, &[]),
            Changed::Subscription(id) => ("", id.0.as_bytes()),
        }
    }
}

/// Change whose deliveries are not all due yet.
#[derive(Clone, Debug)]
struct Sweep {
    tenant: TenantId,
    changed: Changed,
    at_ms: i64,
}

/// Makes the deliveries that wait for a change due, in the transaction of the change. If there may be too many, records a sweep.
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
    // Near damage, every delivery needs a separate transaction, and the change must not fail.
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
    /// Completes sweeps. Runs until the store stops.
    pub async fn run_sweeps(&self) {
        run_when_woken(&self.sweeps, "deliveries that wait for a plugin could not be made due", || self.sweep()).await;
    }

    /// Completes the recorded sweeps.
    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        while let Some(sweep) = self.readers.read(Owner::Host, next_sweep).await? {
            let users = match &sweep.changed {
                Changed::Plugin(name) => self.users_of(&sweep.tenant, name),
                Changed::Subscription(id) => vec![*id],
            };
            for id in users {
                self.sweep_one(&sweep, id).await?;
            }
            let write = move |tx: &AdminTx<'_, '_>| {
                let (plugin, subscription) = sweep.changed.columns();
                // Keeps a sweep that was recorded meanwhile.
                let sql = "DELETE FROM sweeps WHERE tenant = ?1 AND plugin = ?2 AND subscription = ?3 AND at_ms = ?4";
                tx.execute(sql, params![&*sweep.tenant.0, plugin, subscription, sweep.at_ms])?;
                Ok(())
            };
            self.write(Owner::Host, write).await?;
        }
        Ok(())
    }

    /// Makes deliveries due, each in a separate transaction, except damaged ones.
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
            let write = move |tx: &AdminTx<'_, '_>| make_due(tx, &owner, &[delivery], at_ms);
            match self.write(&sweep.tenant, write).await {
                // The lane of the delivery meets the damage as well, and sets the delivery apart.
                Err(error) if error.is_damage() => {}
                one => took += one?,
            }
        }
        let _ = self.store_events.send(StoreEvent::Changed(id));
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
            let write = move |tx: &AdminTx<'_, '_>| make_due(tx, &owner, &found_too, at_ms);
            let store_events = self.store_events.clone();
            // The lane must read retries too: these deliveries have been attempted before.
            let publish = move |_: &mut Duration| drop(store_events.send(StoreEvent::Changed(id)));
            let terms = Terms { owner: (&sweep.tenant).into(), rows: STEP as u64 };
            let took = match self.writer.write(terms, write, publish).await {
                Err(error) if error.is_damage() => self.sweep_one_by_one(sweep, id, found).await?,
                took => took?,
            };
            let_others_write(took).await;
        }
    }
}

/// Makes deliveries due that wait for a change made at this time.
fn make_due(tx: &AdminTx<'_, '_>, tenant: &TenantId, ids: &[Uuid], at_ms: i64) -> Result<Duration, StoreError> {
    let begun = clock::instant();
    let sql = "UPDATE deliveries SET due_at_ms = ?3, awaiting_plugin = 0
               WHERE tenant = ?1 AND id = ?2 AND state = 0 AND awaiting_plugin = 1
                 AND (updated_at_ms <= ?4 OR updated_at_ms > ?3)";
    let mut statement = tx.prepare_cached(sql)?;
    for id in ids {
        statement.execute(params![&*tenant.0, id, now_ms(), at_ms])?;
    }
    Ok(clock::since(begun))
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

/// Returns the next deliveries of a subscription that wait for a change, by id.
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

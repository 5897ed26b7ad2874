//! Hints behind a pooler, where a host cannot listen: rows of a small table, at which the other hosts look again and again.
//!
//! # Theory of operation
//! A host has [`SLOTS`] rows for hints about deliveries, which it overwrites in turn, and one for those about the fleet. The number of a
//! row grows each time by the number of slots, so that a host that looks sees whether it has missed one: anything may have changed then.
//! The table is not in the log of the server, which empties it after a crash. The numbers begin anew, which looks like a missed hint.

use super::super::super::connection::Connection;
use super::Listener;
use crate::StoreError;
use crate::fleet::{Hint, POLL};
use hookloom_model::subscription::SubscriptionId;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Number of rows of a host for hints about deliveries: some times as many as it sends between two looks of another one.
const SLOTS: i64 = 32;

/// Slot of the hints about the fleet.
const FLEET_SLOT: i16 = -1;

/// Interval in which a host looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Query of a number that each hint changes. Most looks find no hint, and this is a fifth of the work of [`look`].
const STATE: &str = "SELECT sum(number) FROM hints";

/// Numbers of the hints that a host has seen, by host and slot.
type Seen = HashMap<(i16, i16), i64>;

/// Writes a hint of a host.
pub(super) async fn write(connection: &Connection, host: i16, hint: &Hint) -> Result<(), StoreError> {
    let subscriptions: Option<Vec<Uuid>> = match hint {
        Hint::Fleet => {
            let sql = "INSERT INTO hints (host, slot, number) SELECT $1, $2, 1 FROM set_config('synchronous_commit', 'off', true)
                       ON CONFLICT (host, slot) DO UPDATE SET number = hints.number + 1";
            return connection.execute(sql, &[&host, &FLEET_SLOT]).await.map(drop);
        }
        Hint::AllDeliveries => None,
        Hint::Deliveries(some) => Some(some.iter().map(|id| id.0).collect()),
    };
    let sql = "INSERT INTO hints (host, slot, number, subscriptions)
               SELECT $1, (next.number % $3)::int2, next.number, $2
               FROM (SELECT coalesce(max(number), 0) + 1 AS number FROM hints WHERE host = $1 AND slot >= 0) next,
                 set_config('synchronous_commit', 'off', true)
               ON CONFLICT (host, slot) DO UPDATE SET number = EXCLUDED.number, subscriptions = EXCLUDED.subscriptions";
    connection.execute(sql, &[&host, &subscriptions, &SLOTS]).await.map(drop)
}

/// Looks at the hints of other hosts until the connection is lost or the receiver is dropped.
pub(super) async fn look_while_connected(
    listener: &Listener,
    hints: &mpsc::UnboundedSender<Hint>,
) -> Result<(), StoreError> {
    let connection = Connection::open(&listener.config).await?;
    let mut state = connection.last_row(STATE).await?;
    let mut seen = Seen::new();
    look(&connection, listener.number.load(Ordering::Relaxed), &mut seen).await?;
    // Hints before this moment were lost.
    let mut found = vec![Hint::AllDeliveries];
    loop {
        for hint in found.drain(..) {
            if hints.send(hint).is_err() {
                return Ok(());
            }
        }
        let has_others = listener.has_others.load(Ordering::Relaxed);
        tokio::select! {
            () = tokio::time::sleep(if has_others { LOOK_EVERY } else { POLL }) => {}
            () = hints.closed() => return Ok(()),
        }
        if !has_others {
            continue;
        }
        let now = connection.last_row(STATE).await?;
        if now != state {
            state = now;
            found = look(&connection, listener.number.load(Ordering::Relaxed), &mut seen).await?;
        }
    }
}

/// Returns the hints of other hosts that were not seen before.
async fn look(connection: &Connection, host: i16, seen: &mut Seen) -> Result<Vec<Hint>, StoreError> {
    let mut known: (Vec<i16>, Vec<i16>, Vec<i64>) = Default::default();
    for ((host, slot), number) in &*seen {
        known.0.push(*host);
        known.1.push(*slot);
        known.2.push(*number);
    }
    let sql = "SELECT h.host, h.slot, h.number, h.subscriptions FROM hints h
               LEFT JOIN unnest($2::int2[], $3::int2[], $4::int8[]) k (host, slot, number) ON k.host = h.host AND k.slot = h.slot
               WHERE h.host <> $1 AND k.number IS DISTINCT FROM h.number";
    let mut hints = Vec::new();
    for row in connection.query(sql, &[&host, &known.0, &known.1, &known.2]).await? {
        let slot: i16 = row.try_get(1)?;
        let number: i64 = row.try_get(2)?;
        let before = seen.insert((row.try_get(0)?, slot), number);
        if slot == FLEET_SLOT {
            hints.push(Hint::Fleet);
            continue;
        }
        let subscriptions: Option<Vec<Uuid>> = row.try_get(3)?;
        // A new slot has its own number first.
        let is_next =
            number == before.map_or(i64::from(slot), |before| before + SLOTS) || before.is_none() && number == SLOTS;
        hints.push(match subscriptions {
            Some(some) if is_next => Hint::Deliveries(some.into_iter().map(SubscriptionId).collect()),
            _ => Hint::AllDeliveries,
        });
    }
    Ok(hints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::test_server::TestDatabase;

    fn deliveries(number: u128) -> Hint {
        Hint::Deliveries(vec![SubscriptionId(Uuid::from_u128(number))])
    }

    #[tokio::test]
    async fn a_hint_is_seen_once_and_a_missed_one_is_noticed() {
        let database = TestDatabase::new().await;
        let connection = database.connect().await;
        let mut seen = Seen::new();
        for number in 0..3 * u128::try_from(SLOTS).expect("some slots") {
            write(&connection, 1, &deliveries(number)).await.expect("written");
            assert_eq!(look(&connection, 2, &mut seen).await.expect("hints"), [deliveries(number)]);
            assert_eq!(look(&connection, 2, &mut seen).await.expect("none"), []);
        }
        assert_eq!(look(&connection, 1, &mut Seen::new()).await.expect("none"), [], "they are its own");
        write(&connection, 1, &Hint::Fleet).await.expect("written");
        assert_eq!(look(&connection, 2, &mut seen).await.expect("a hint"), [Hint::Fleet]);
        for number in 0..=SLOTS {
            write(&connection, 1, &deliveries(u128::try_from(number).expect("a number"))).await.expect("written");
        }
        let found = look(&connection, 2, &mut seen).await.expect("hints");
        assert!(found.contains(&Hint::AllDeliveries), "{found:?}");
        // As after a crash of the server.
        connection.batch_execute("TRUNCATE hints").await.expect("emptied");
        write(&connection, 1, &deliveries(7)).await.expect("written");
        assert_eq!(look(&connection, 2, &mut seen).await.expect("a hint"), [Hint::AllDeliveries]);
    }
}

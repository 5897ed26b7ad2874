//! Hints between hosts: something changed, look now. They come by `NOTIFY`, or behind a pooler through a table ([`polled`]).
//!
//! # Guarantees
//! - A hint is sent after the commit that it is about, in a statement of its own: `NOTIFY` within the transaction of an intake would hold
//!   a lock of the whole server until its end.
//! - After the listening connection was lost, everything that a lost hint could have been about is looked at.
//!
//! # Limits
//! A hint has no duty: a host that gets none looks at its lanes and at the catalog from time to time
//! ([`Membership`](crate::fleet::Membership)).

mod polled;

use super::super::connection::{Connection, ConnectionConfig};
use crate::StoreError;
use crate::fleet::Hint;
use hookloom_model::subscription::SubscriptionId;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI16};
use std::time::Duration;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Name of the channel.
const CHANNEL: &str = "hookloom";

/// Maximum number of subscriptions in a hint, whose text has at most 8,000 bytes. As a row, it fits into a page beside others.
const NAMED_MAX: usize = 100;

/// Returns the hints about new deliveries of subscriptions.
pub(super) fn of_deliveries(subscriptions: &HashSet<SubscriptionId>) -> Vec<Hint> {
    let all: Vec<SubscriptionId> = subscriptions.iter().copied().collect();
    all.chunks(NAMED_MAX).map(|some| Hint::Deliveries(some.to_vec())).collect()
}

/// Returns the text of a hint.
fn text_of(hint: &Hint) -> String {
    match hint {
        Hint::Fleet => "fleet".to_owned(),
        Hint::AllDeliveries => "deliveries".to_owned(),
        Hint::Deliveries(some) => {
            let ids: Vec<String> = some.iter().map(|id| id.0.simple().to_string()).collect();
            format!("deliveries {}", ids.join(" "))
        }
    }
}

/// Returns the hint of a text. A hint of a newer host may have another form; it may be about anything.
fn parse(text: &str) -> Hint {
    let mut words = text.split(' ');
    if words.next() != Some("deliveries") {
        return Hint::Fleet;
    }
    let ids: Result<Vec<Uuid>, _> = words.map(Uuid::try_parse).collect();
    match ids {
        Ok(ids) if !ids.is_empty() => Hint::Deliveries(ids.into_iter().map(SubscriptionId).collect()),
        _ => Hint::AllDeliveries,
    }
}

/// Sends a hint of a host to the others. It need not be flushed.
pub(super) async fn send(connection: &Connection, host: i16, hint: &Hint) -> Result<(), StoreError> {
    if connection.is_pooled() {
        return polled::write(connection, host, hint).await;
    }
    let sql = "SELECT pg_notify($1, $2) FROM set_config('synchronous_commit', 'off', true)";
    connection.query(sql, &[&CHANNEL, &text_of(hint)]).await.map(drop)
}

/// Way to the hints of other hosts.
pub(super) struct Listener {
    pub(super) config: ConnectionConfig,
    /// Number of this host.
    pub(super) number: Arc<AtomicI16>,
    /// True while there is a host that could send hints.
    pub(super) has_others: Arc<AtomicBool>,
}

impl Listener {
    /// Passes on the hints of other hosts until the receiver is dropped. Connects again when the connection was lost.
    pub(super) async fn run(self, hints: mpsc::UnboundedSender<Hint>) {
        const PAUSE: Duration = Duration::from_millis(500);
        loop {
            let ended = if self.config.is_pooled {
                polled::look_while_connected(&self, &hints).await
            } else {
                listen_once(&self.config, &hints).await
            };
            if let Err(error) = ended {
                tracing::debug!(error = %hookloom_model::describe(&error), "the connection for hints was lost");
            }
            if hints.is_closed() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn listen_once(config: &ConnectionConfig, hints: &mpsc::UnboundedSender<Hint>) -> Result<(), StoreError> {
    let (connection, mut notifications) = Connection::listening(config).await?;
    connection.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
    // Hints before this moment were lost.
    let mut hint = Some(Hint::AllDeliveries);
    while let Some(one) = hint {
        if hints.send(one).is_err() {
            return Ok(());
        }
        hint = tokio::select! {
            text = notifications.recv() => text.map(|text| parse(&text)),
            () = hints.closed() => None,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_read_as_it_was_sent() {
        let some: HashSet<SubscriptionId> = (0..450).map(|number| SubscriptionId(Uuid::from_u128(number))).collect();
        let hints = of_deliveries(&some);
        assert_eq!(hints.len(), 5);
        let mut read = HashSet::new();
        for hint in &hints {
            let text = text_of(hint);
            assert!(text.len() < 8_000);
            let Hint::Deliveries(ids) = parse(&text) else { panic!("another hint: {text}") };
            read.extend(ids);
        }
        assert_eq!(read, some);
        assert_eq!(parse(&text_of(&Hint::AllDeliveries)), Hint::AllDeliveries);
        assert_eq!(parse(&text_of(&Hint::Fleet)), Hint::Fleet);
        assert_eq!(parse("deliveries of a newer form"), Hint::AllDeliveries);
        assert_eq!(parse("something else"), Hint::Fleet);
    }
}

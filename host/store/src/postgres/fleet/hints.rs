//! Hints between hosts, by `NOTIFY`: something changed, look now.
//!
//! # Guarantees
//! - A hint is sent after the commit that it is about, in a statement of its own: `NOTIFY` within the transaction of an intake would hold
//!   a lock of the whole server until its end.
//! - After the listening connection was lost, everything that a lost hint could have been about is looked at.
//!
//! # Limits
//! A hint has no duty: a host that gets none looks at its lanes every [`LOOK_EVERY`], and at the catalog every
//! [`POLL`](super::membership::POLL).

use super::super::connection::{Connection, ConnectionConfig};
use crate::StoreError;
use hookloom_model::subscription::SubscriptionId;
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Name of the channel.
const CHANNEL: &str = "hookloom";

/// Maximum time until a host that got no hint finds a delivery that another host accepted for it.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Maximum number of subscriptions in a hint, whose text has at most 8,000 bytes.
const NAMED_MAX: usize = 200;

/// Content of a hint.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// The catalog or the owners of shards changed.
    Fleet,
    /// Subscriptions have new deliveries.
    Deliveries(Vec<SubscriptionId>),
    /// Any subscription may have new deliveries.
    AllDeliveries,
}

impl Hint {
    /// Returns the hints about new deliveries of subscriptions.
    pub(super) fn of_deliveries(subscriptions: &HashSet<SubscriptionId>) -> Vec<Hint> {
        let all: Vec<SubscriptionId> = subscriptions.iter().copied().collect();
        all.chunks(NAMED_MAX).map(|some| Hint::Deliveries(some.to_vec())).collect()
    }

    fn text(&self) -> String {
        match self {
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
}

/// Sends a hint to the other hosts.
pub(super) async fn send(connection: &Connection, hint: &Hint) -> Result<(), StoreError> {
    connection.query("SELECT pg_notify($1, $2)", &[&CHANNEL, &hint.text()]).await.map(drop)
}

/// Listens to the hints of other hosts until the receiver is dropped. Connects again when the connection was lost.
pub(super) async fn listen(config: ConnectionConfig, hints: mpsc::UnboundedSender<Hint>) {
    const PAUSE: Duration = Duration::from_millis(500);
    loop {
        if let Err(error) = listen_once(&config, &hints).await {
            tracing::debug!(error = %hookloom_model::describe(&error), "the connection for hints was lost");
        }
        if hints.is_closed() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
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
            text = notifications.recv() => text.map(|text| Hint::parse(&text)),
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
        let hints = Hint::of_deliveries(&some);
        assert_eq!(hints.len(), 3);
        let mut read = HashSet::new();
        for hint in &hints {
            let text = hint.text();
            assert!(text.len() < 8_000);
            let Hint::Deliveries(ids) = Hint::parse(&text) else { panic!("another hint: {text}") };
            read.extend(ids);
        }
        assert_eq!(read, some);
        assert_eq!(Hint::parse(&Hint::AllDeliveries.text()), Hint::AllDeliveries);
        assert_eq!(Hint::parse(&Hint::Fleet.text()), Hint::Fleet);
        assert_eq!(Hint::parse("deliveries of a newer form"), Hint::AllDeliveries);
        assert_eq!(Hint::parse("something else"), Hint::Fleet);
    }
}

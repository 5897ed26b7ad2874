//! Membership of this host on PostgreSQL: its tasks and their connections.

use super::super::connection::{Connection, ConnectionConfig};
use super::super::writer_handle::Writer;
use super::hints::{self, Listener};
use super::registration::{self, HostIdentity};
use super::shards;
use crate::StoreError;
use crate::activity::AttemptLoad;
use crate::fleet::{FleetDatabase, FleetState, HINT_PAUSE, Hint, Membership, POLL, Registration, Renewal};
use crate::host_state::HostState;
use crate::ownership::ShardSet;
use async_trait::async_trait;
use hookloom_model::clock;
use std::mem::{self, Discriminant};
use std::sync::Arc;
use std::sync::atomic::{AtomicI16, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Time for which changes are kept.
const CHANGES_KEPT: Duration = Duration::from_secs(3_600);

/// Membership of this host, with what it needs to reach the database.
pub(in super::super) struct PostgresFleet {
    config: ConnectionConfig,
    identity: HostIdentity,
    host: Arc<HostState>,
    pub(in super::super) membership: Arc<Membership>,
    /// Number of the last registration.
    pub(in super::super) number: Arc<AtomicI16>,
}

/// Connection of the membership. The writer is missing while the database is opened.
struct FleetConnection<'c> {
    connection: &'c Connection,
    fleet: &'c PostgresFleet,
    writer: Option<&'c Writer>,
}

#[async_trait]
impl FleetDatabase for FleetConnection<'_> {
    async fn register(&self) -> Result<Registration, StoreError> {
        // A start waits for what its former process has begun.
        let settings = if self.writer.is_some() { registration::LIMITS } else { "" };
        let registration = registration::register(self.connection, &self.fleet.identity, settings).await?;
        self.fleet.number.store(registration.host, Ordering::Relaxed);
        Ok(registration)
    }

    async fn renew(
        &self,
        registration: Registration,
        generation: Option<i64>,
        load: AttemptLoad,
    ) -> Result<bool, StoreError> {
        let renewed = registration::renew(self.connection, registration, generation, load);
        self.connection.transaction(&begin_unflushed(), renewed).await
    }

    async fn read(&self) -> Result<FleetState, StoreError> {
        let begin = format!("BEGIN READ ONLY; {}", registration::LIMITS);
        self.connection.snapshot(&begin, shards::read(self.connection)).await
    }

    async fn take_over(&self, by: Registration, from: i16) -> Result<bool, StoreError> {
        registration::take_over(self.connection, by, from).await
    }

    async fn give(&self, from: Registration, to: i16, shards: ShardSet) -> Result<(), StoreError> {
        let writer = self.writer.ok_or(StoreError::Unavailable)?;
        writer.write_as_host(move |tx| Box::pin(async move { shards::give(tx, from, to, shards).await })).await
    }

    async fn hint(&self, hint: &Hint) -> Result<(), StoreError> {
        hints::send(self.connection, self.fleet.number(), hint).await
    }

    fn look_for_changes(&self) {
        if let Some(writer) = self.writer {
            writer.look_for_changes();
        }
    }
}

impl PostgresFleet {
    pub(in super::super) fn new(config: ConnectionConfig, identity: HostIdentity, host: Arc<HostState>) -> Arc<Self> {
        let membership = Arc::new(Membership::new(host.clone()));
        Arc::new(PostgresFleet { config, identity, host, membership, number: Arc::default() })
    }

    /// Returns the number of this host.
    fn number(&self) -> i16 {
        self.number.load(Ordering::Relaxed)
    }

    fn on<'c>(&'c self, connection: &'c Connection, writer: Option<&'c Writer>) -> FleetConnection<'c> {
        FleetConnection { connection, fleet: self, writer }
    }

    /// Registers this host.
    pub(in super::super) async fn register(&self, connection: &Connection) -> Result<Registration, StoreError> {
        let registration = self.on(connection, None).register().await?;
        self.membership.registered(registration);
        Ok(registration)
    }

    /// Owns what the database says, before the dispatcher listens.
    pub(in super::super) async fn own_first(&self, connection: &Connection) -> Result<(), StoreError> {
        self.membership.own_first(&self.on(connection, None)).await
    }

    /// Starts the tasks of the membership. They end with the returned set.
    pub(in super::super) fn start(self: &Arc<Self>, writer: Writer) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let (heard, hints) = mpsc::unbounded_channel();
        let has_others = self.membership.has_others.clone();
        let listener = Listener { config: self.config.clone(), number: self.number.clone(), has_others };
        tasks.spawn(listener.run(heard));
        let membership = self.membership.clone();
        tasks.spawn(async move { membership.follow_hints(hints).await });
        tasks.spawn(self.clone().send_hints());
        tasks.spawn(self.clone().run(writer));
        tasks
    }

    /// Sends hints about deliveries for subscriptions of other hosts.
    async fn send_hints(self: Arc<Self>) {
        let mut connection = None;
        loop {
            let waiting = self.host.take_hints().await;
            for hint in hints::of_deliveries(&waiting) {
                while let Err(error) = self.send_hint(&mut connection, &hint).await {
                    tracing::debug!(error = %hookloom_model::describe(&error), "a hint could not be sent; trying again");
                    connection = None;
                    tokio::time::sleep(POLL).await;
                }
            }
            tokio::time::sleep(HINT_PAUSE).await;
        }
    }

    async fn send_hint(&self, connection: &mut Option<Connection>, hint: &Hint) -> Result<(), StoreError> {
        hints::send(self.connected(connection).await?, self.number(), hint).await
    }

    /// Returns the connection, or a new one.
    async fn connected<'c>(&self, connection: &'c mut Option<Connection>) -> Result<&'c Connection, StoreError> {
        if connection.as_ref().is_none_or(Connection::is_closed) {
            *connection = Some(Connection::open(&self.config).await?);
        }
        connection.as_ref().ok_or(StoreError::Unavailable)
    }

    async fn run(self: Arc<Self>, writer: Writer) {
        let mut connection = None;
        let mut renewal = Renewal::default();
        let mut tidied = clock::since_boot();
        let mut giving = JoinSet::new();
        let mut outage = Outage::default();
        loop {
            let step = self.step(&mut connection, &mut renewal, &writer, &mut giving).await;
            outage.note(&step);
            if step.is_err() {
                connection = None;
                self.membership.lapse_if_ended();
            } else if clock::since_boot().saturating_sub(tidied) > CHANGES_KEPT
                && let Ok(connection) = self.connected(&mut connection).await
            {
                tidied = clock::since_boot();
                let forgotten = registration::forget_changes(connection, CHANGES_KEPT);
                let _ = connection.transaction(&begin_unflushed(), forgotten).await;
            }
            self.membership.wait_for_step().await;
            while giving.try_join_next().is_some() {}
        }
    }

    /// Does once what the task does.
    async fn step(
        self: &Arc<Self>,
        connection: &mut Option<Connection>,
        renewal: &mut Renewal,
        writer: &Writer,
        giving: &mut JoinSet<()>,
    ) -> Result<(), StoreError> {
        let connection = self.connected(connection).await?;
        let excess = self.membership.step(&self.on(connection, Some(writer)), renewal).await?;
        if let Some(excess) = excess.filter(|_| giving.is_empty()) {
            let fleet = self.clone();
            let writer = writer.clone();
            giving.spawn(async move {
                match Connection::open(&fleet.config).await {
                    Ok(connection) => fleet.membership.give(&fleet.on(&connection, Some(&writer)), excess).await,
                    Err(error) => {
                        tracing::warn!(error = %hookloom_model::describe(&error), "shards could not be given");
                    }
                }
            });
        }
        Ok(())
    }

    /// Gives all shards to the other hosts. See [`FleetBackend::give_away`](crate::backend::fleet::FleetBackend::give_away).
    pub(super) async fn give_away(&self, writer: &Writer) {
        let Some(registration) = self.membership.begin_to_leave() else { return };
        if let Err(error) = self.give_all(registration, writer).await {
            tracing::warn!(error = %hookloom_model::describe(&error), "the other hosts take over when the lease of this host ends");
        }
    }

    async fn give_all(&self, registration: Registration, writer: &Writer) -> Result<(), StoreError> {
        let connection = Connection::open(&self.config).await?;
        self.membership.give_all(&self.on(&connection, Some(writer)), registration).await
    }

    /// Ends the registration, after the last write.
    pub(super) async fn leave(&self) -> Result<(), StoreError> {
        let Some(registration) = self.membership.registration() else { return Ok(()) };
        let connection = Connection::open(&self.config).await?;
        registration::leave(&connection, registration).await?;
        hints::send(&connection, registration.host, &Hint::Fleet).await
    }
}

/// Time for which the database has failed, for the log.
#[derive(Default)]
struct Outage {
    /// None: the last step did not fail.
    since: Option<Duration>,
    /// Kind of the last error that was logged.
    logged: Option<Discriminant<StoreError>>,
}

impl Outage {
    /// Logs a failed step, unless the one before failed in the same way, and the first success after failed ones.
    fn note(&mut self, step: &Result<(), StoreError>) {
        let Err(error) = step else {
            if let Some(since) = self.since.take() {
                self.logged = None;
                let away_ms = clock::since_boot().saturating_sub(since).as_millis();
                tracing::warn!(away_ms, "the database answers again");
            }
            return;
        };
        self.since.get_or_insert_with(clock::since_boot);
        if self.logged.replace(mem::discriminant(error)) != Some(mem::discriminant(error)) {
            tracing::error!(
                error = %hookloom_model::describe(error),
                "the database fails: requests are refused, and no attempt begins after the lease of this host"
            );
        }
    }
}

/// SQL that begins a transaction whose commit need not be flushed: a lost renewal is one that was late.
fn begin_unflushed() -> String {
    format!("BEGIN; SET LOCAL synchronous_commit = off; {}", registration::LIMITS)
}

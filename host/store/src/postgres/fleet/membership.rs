//! Task of the membership: renews the lease, follows what this host owns, takes over, and gives.

use super::super::connection::{Connection, ConnectionConfig};
use super::super::writer_handle::Writer;
use super::hints::{self, Hint, LOOK_EVERY};
use super::registration::{self, HostIdentity, LEASE, Registration};
use super::shards::FleetState;
use crate::StoreError;
use crate::backend::fleet::PluginChange;
use crate::host_state::HostState;
use crate::ownership::ShardSet;
use hookloom_model::clock;
use hookloom_model::subscription::TenantId;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI16, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Interval in which a lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// Time without a renewal after which the database counts as having been away.
const INTERRUPTED: Duration = Duration::from_secs(2);

/// Interval in which the catalog's generation is read.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// Shortest time between two hints about deliveries.
const HINT_PAUSE: Duration = Duration::from_millis(5);

/// Time for which changes are kept.
const CHANGES_KEPT: Duration = Duration::from_secs(3_600);

/// Membership of this host.
pub(in super::super) struct Membership {
    pub(super) config: ConnectionConfig,
    identity: HostIdentity,
    pub(super) host: Arc<HostState>,
    pub(super) current: Mutex<Current>,
    /// Wakes the task: something was loaded, or a hint came.
    wake: Notify,
    pub(super) leaves: AtomicBool,
    /// Number of the last registration.
    pub(in super::super) number: Arc<AtomicI16>,
    /// True while another host is registered, so that it may write.
    pub(in super::super) has_others: Arc<AtomicBool>,
}

/// Registration, and what is in force under it.
#[derive(Default)]
pub(super) struct Current {
    /// None: the lease has ended.
    registration: Option<Registration>,
    /// Registration under which the catalog was loaded, and the last change that it shows.
    loaded: Option<(Registration, i64)>,
    /// Changes of plugins that were loaded, but are not in force.
    not_in_force: BTreeSet<i64>,
    /// Last change that was made before changes had to wait for this host. It owns nothing before it has loaded that one. None: changes
    /// do not wait for it yet.
    awaited_after: Option<i64>,
    /// Time since which the lease was renewed without an interruption, by the steady clock.
    since: Duration,
    /// Shards that are being given.
    pub(super) giving: ShardSet,
}

impl Membership {
    pub(in super::super) fn new(config: ConnectionConfig, identity: HostIdentity, host: Arc<HostState>) -> Arc<Self> {
        host.claims.ownership.clear();
        Arc::new(Membership {
            config,
            identity,
            host,
            current: Mutex::default(),
            wake: Notify::new(),
            leaves: AtomicBool::new(false),
            number: Arc::default(),
            has_others: Arc::default(),
        })
    }

    /// Returns the registration. None: the lease has ended.
    pub(in super::super) fn registration(&self) -> Option<Registration> {
        self.current.lock().registration
    }

    /// Returns the last change that the catalog shows. None: it was loaded under another registration, and must be loaded again.
    pub(in super::super) fn loaded(&self, under: Registration) -> Option<i64> {
        self.current.lock().loaded.filter(|(registration, _)| *registration == under).map(|(_, generation)| generation)
    }

    /// Records that the catalog shows the changes up to one of them.
    pub(in super::super) fn note_loaded(&self, under: Registration, generation: i64) {
        self.current.lock().loaded = Some((under, generation));
        self.wake.notify_one();
    }

    /// Lets the plugin runtime follow a change of the plugins of tenants. Without a plugin runtime, there is nothing to follow.
    pub(in super::super) fn follow_plugins(&self, tenants: Vec<TenantId>, generation: i64) {
        if self.host.publish_plugin_change(PluginChange { tenants, generation }) {
            self.current.lock().not_in_force.insert(generation);
        }
    }

    /// Records that a change of plugins is in force.
    pub(super) fn note_in_force(&self, generation: i64) {
        self.current.lock().not_in_force.remove(&generation);
        self.wake.notify_one();
    }

    /// Ends the ownership of everything, because the lease has ended or this host was taken over.
    pub(in super::super) fn lapse(&self, registration: Registration) {
        {
            let mut current = self.current.lock();
            if current.registration != Some(registration) {
                return;
            }
            current.registration = None;
        }
        tracing::warn!(host = registration.host, "the lease of this host has ended; it registers again");
        self.host.claims.disown(ShardSet::ALL);
        self.host.claims.ownership.clear();
        self.host.publish_ownership();
        self.wake.notify_one();
    }

    /// Registers this host.
    pub(in super::super) async fn register(&self, connection: &Connection) -> Result<Registration, StoreError> {
        let registration = registration::register(connection, &self.identity).await?;
        self.number.store(registration.host, Ordering::Relaxed);
        let mut current = self.current.lock();
        current.registration = Some(registration);
        current.since = clock::since_boot();
        current.not_in_force.clear();
        current.awaited_after = None;
        current.giving = ShardSet::default();
        Ok(registration)
    }

    /// Owns what the database says, before the dispatcher listens.
    pub(in super::super) async fn own_first(&self, connection: &Connection) -> Result<(), StoreError> {
        let Some(registration) = self.registration() else { return Ok(()) };
        if let Some(until) = registration::renew(connection, registration, self.shown(registration)).await? {
            self.host.claims.ownership.set_until(until);
            let fleet = FleetState::read(connection).await?;
            self.note_others(&fleet, registration);
            if self.may_own(&fleet, registration) {
                self.follow(&fleet, registration);
            }
        }
        Ok(())
    }

    /// Starts the tasks of the membership. They end with the returned set.
    pub(in super::super) fn start(self: &Arc<Self>, writer: Writer) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let (heard, hints) = mpsc::unbounded_channel();
        tasks.spawn(hints::listen(self.config.clone(), heard));
        tasks.spawn(self.clone().follow_hints(hints));
        tasks.spawn(self.clone().send_hints());
        tasks.spawn(self.clone().run(writer));
        tasks
    }

    async fn follow_hints(self: Arc<Self>, mut hints: mpsc::UnboundedReceiver<Hint>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // A look is due also while hints arrive: the host that should have sent one may have ended before.
            let hint = tokio::select! {
                hint = hints.recv() => hint,
                _ = look.tick() => Some(Hint::AllDeliveries),
            };
            match hint {
                None => return,
                Some(Hint::Fleet) => self.wake.notify_one(),
                Some(Hint::Deliveries(some)) => self.host.publish_later(some),
                Some(Hint::AllDeliveries) if self.has_others.load(Ordering::Relaxed) => {
                    self.host.publish_later_of_all();
                }
                Some(Hint::AllDeliveries) => {}
            }
        }
    }

    /// Sends hints about deliveries for subscriptions of other hosts.
    async fn send_hints(self: Arc<Self>) {
        let mut connection = None;
        loop {
            let waiting = self.host.take_hints().await;
            for hint in Hint::of_deliveries(&waiting) {
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
        hints::send(self.connected(connection).await?, hint).await
    }

    /// Returns the connection, or a new one. What it writes need not be flushed: a lost renewal is one that was late.
    async fn connected<'c>(&self, connection: &'c mut Option<Connection>) -> Result<&'c Connection, StoreError> {
        if connection.as_ref().is_none_or(Connection::is_closed) {
            let new = Connection::open(&self.config).await?;
            let settings = "SET synchronous_commit = off; SET lock_timeout = '3s'; SET statement_timeout = '5s'";
            new.batch_execute(settings).await?;
            *connection = Some(new);
        }
        connection.as_ref().ok_or(StoreError::Unavailable)
    }

    async fn run(self: Arc<Self>, writer: Writer) {
        let mut connection = None;
        let mut renewed = None;
        let mut tidied = clock::since_boot();
        let mut giving = JoinSet::new();
        loop {
            let ticked = self.tick(&mut connection, &mut renewed, &writer, &mut giving).await;
            if let Err(error) = ticked {
                tracing::debug!(error = %hookloom_model::describe(&error), "the database cannot be reached for the lease");
                connection = None;
                if let Some(registration) = self.registration().filter(|_| !self.host.claims.ownership.may_begin()) {
                    self.lapse(registration);
                }
            } else if clock::since_boot().saturating_sub(tidied) > CHANGES_KEPT
                && let Ok(connection) = self.connected(&mut connection).await
            {
                tidied = clock::since_boot();
                let _ = registration::forget_changes(connection, CHANGES_KEPT).await;
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = self.wake.notified() => {}
            }
            while giving.try_join_next().is_some() {}
        }
    }

    /// Does once what the task does.
    async fn tick(
        self: &Arc<Self>,
        connection: &mut Option<Connection>,
        renewed: &mut Option<(Registration, Duration, Option<i64>)>,
        writer: &Writer,
        giving: &mut JoinSet<()>,
    ) -> Result<(), StoreError> {
        let connection = self.connected(connection).await?;
        let registration = match self.registration() {
            Some(registration) => registration,
            None if self.leaves.load(Ordering::Relaxed) => return Ok(()),
            None => self.register(connection).await?,
        };
        let shown = self.shown(registration);
        let is_due = renewed.is_none_or(|(of, at, of_generation)| {
            of != registration || of_generation != shown || clock::since_boot().saturating_sub(at) >= RENEW_EVERY
        });
        if is_due {
            match registration::renew(connection, registration, shown).await? {
                None => {
                    self.lapse(registration);
                    return Ok(());
                }
                Some(until) => self.host.claims.ownership.set_until(until),
            }
            let now = clock::since_boot();
            // After an interruption, other hosts need time to find the database again as well.
            if renewed.is_some_and(|(_, at, _)| now.saturating_sub(at) > INTERRUPTED) {
                self.current.lock().since = now;
            }
            *renewed = Some((registration, now, shown));
        }
        let fleet = FleetState::read(connection).await?;
        self.note_others(&fleet, registration);
        if self.loaded(registration).is_none_or(|loaded| loaded < fleet.generation) {
            writer.look_for_changes();
        }
        if shown.is_some() && self.may_own(&fleet, registration) && !self.leaves.load(Ordering::Relaxed) {
            if self.follow(&fleet, registration) {
                self.host.publish_ownership();
            }
            self.take_over_from_ended(connection, &fleet, registration).await?;
            self.give_excess(&fleet, registration, writer, giving);
        }
        Ok(())
    }

    fn note_others(&self, fleet: &FleetState, registration: Registration) {
        let has_others = fleet.members.iter().any(|one| one.host != registration.host);
        self.has_others.store(has_others, Ordering::Relaxed);
    }

    /// Returns true if every change that no other host has waited with for this one is in its catalog. To be called with a state that
    /// was read after a renewal showed what is in force here: changes wait for this host since then.
    fn may_own(&self, fleet: &FleetState, registration: Registration) -> bool {
        let mut current = self.current.lock();
        let awaited_after = *current.awaited_after.get_or_insert(fleet.generation);
        current.loaded.is_some_and(|(under, loaded)| under == registration && loaded >= awaited_after)
    }

    /// Returns the last change that is in force here. None: the catalog is not loaded.
    fn shown(&self, registration: Registration) -> Option<i64> {
        let loaded = self.loaded(registration)?;
        let first = self.current.lock().not_in_force.first().copied();
        Some(first.map_or(loaded, |first| loaded.min(first - 1)))
    }

    /// Owns what the database says, as soon as no claim of an earlier ownership is left. Returns true if something changed.
    fn follow(&self, fleet: &FleetState, registration: Registration) -> bool {
        let claims = &self.host.claims;
        let stored = fleet.of(registration.host);
        let owned = claims.ownership.shards();
        let lost = owned.without(&stored);
        let gained = stored.without(&owned).without(&self.current.lock().giving);
        let gained = claims.without_claims(gained);
        if lost.is_empty() && gained.is_empty() {
            return false;
        }
        claims.disown(lost);
        claims.ownership.add(gained, fleet.taken_over);
        tracing::info!(
            host = registration.host,
            gained = gained.len(),
            lost = lost.len(),
            "the shards of this host changed"
        );
        true
    }

    async fn take_over_from_ended(
        &self,
        connection: &Connection,
        fleet: &FleetState,
        registration: Registration,
    ) -> Result<(), StoreError> {
        let since = self.current.lock().since;
        if clock::since_boot().saturating_sub(since) < LEASE {
            return Ok(());
        }
        for ended in fleet.members.iter().filter(|one| one.has_ended && one.host != registration.host) {
            if registration::take_over(connection, registration, ended.host).await? {
                tracing::warn!(host = ended.host, "a host ended, and its shards were taken over");
                hints::send(connection, &Hint::Fleet).await?;
                self.wake.notify_one();
            }
        }
        Ok(())
    }

    fn give_excess(
        self: &Arc<Self>,
        fleet: &FleetState,
        registration: Registration,
        writer: &Writer,
        giving: &mut JoinSet<()>,
    ) {
        if !giving.is_empty() {
            return;
        }
        if let Some((to, shards)) = fleet.excess(registration.host, ShardSet::default()) {
            giving.spawn(self.clone().give(registration, to, shards, writer.clone()));
        }
    }

    /// Ends the registration, after the last write.
    pub(super) async fn leave(&self) -> Result<(), StoreError> {
        let Some(registration) = self.registration() else { return Ok(()) };
        let connection = Connection::open(&self.config).await?;
        registration::leave(&connection, registration).await?;
        hints::send(&connection, &Hint::Fleet).await
    }
}

#[cfg(test)]
mod tests;

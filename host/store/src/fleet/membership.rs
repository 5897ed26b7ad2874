//! Membership of this host in the fleet, apart from the database: what is in force here, and the order of the steps.
//!
//! # Guarantees
//! - A host owns what it has read itself, and only after no claim of an earlier ownership is left.
//! - A host that has registered owns nothing before it has loaded the changes whose answers did not wait for it.
//! - A host takes over from others only after it has renewed its own lease for as long as a lease lasts. So hosts that find the database
//!   again after an outage do not take over from each other.
//! - An ended lease is never renewed: the host registers again and loads the catalog.

use super::database::{FleetDatabase, Hint, LEASE, LEASE_MARGIN, Registration};
use super::state::FleetState;
use crate::StoreError;
use crate::backend::fleet::PluginChange;
use crate::host_state::HostState;
use crate::ownership::ShardSet;
use hookloom_model::clock;
use hookloom_model::subscription::TenantId;
use hookloom_telemetry as telemetry;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;

/// Interval in which a lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// Time without a renewal after which the database counts as having been away.
const INTERRUPTED: Duration = Duration::from_secs(2);

/// Interval in which the catalog's generation is read.
pub(crate) const POLL: Duration = Duration::from_millis(200);

/// Maximum time until a host that got no hint finds a delivery that another host accepted for it.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Shortest time between two hints about deliveries.
pub(crate) const HINT_PAUSE: Duration = Duration::from_millis(5);

/// Membership of this host.
pub(crate) struct Membership {
    pub(super) host: Arc<HostState>,
    pub(super) current: Mutex<Current>,
    /// Wakes the task: something was loaded, or a hint came.
    pub(crate) wake: Notify,
    pub(super) leaves: AtomicBool,
    /// True while another host is registered, so that it may write.
    pub(crate) has_others: Arc<AtomicBool>,
}

/// Registration, and what is in force under it.
#[derive(Default)]
pub(super) struct Current {
    /// None: the lease has ended.
    registration: Option<Registration>,
    /// The registration before, if there was one.
    before: Option<Registration>,
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
    /// Shards whose giving has ended since the last read of the fleet began, which may show them as they were before.
    pub(super) given: ShardSet,
}

/// Last renewal of the lease: by which registration, when, and with which change in force.
#[derive(Default)]
pub(crate) struct Renewal(Option<(Registration, Duration, Option<i64>)>);

/// Shards that this host is about to give to another one.
pub(crate) struct Excess {
    pub(crate) registration: Registration,
    pub(crate) to: i16,
    pub(crate) shards: ShardSet,
}

impl Membership {
    /// Creates the membership of a host, which owns nothing until it has registered.
    pub(crate) fn new(host: Arc<HostState>) -> Self {
        host.claims.ownership.clear();
        Membership {
            host,
            current: Mutex::default(),
            wake: Notify::new(),
            leaves: AtomicBool::new(false),
            has_others: Arc::default(),
        }
    }

    /// Returns the registration. None: the lease has ended.
    pub(crate) fn registration(&self) -> Option<Registration> {
        self.current.lock().registration
    }

    /// Returns the last change that the catalog shows. None: it was loaded under another registration, and must be loaded again.
    pub(crate) fn loaded(&self, under: Registration) -> Option<i64> {
        self.current.lock().loaded.filter(|(registration, _)| *registration == under).map(|(_, generation)| generation)
    }

    /// Records that the catalog shows the changes up to one of them.
    pub(crate) fn note_loaded(&self, under: Registration, generation: i64) {
        self.current.lock().loaded = Some((under, generation));
        self.wake.notify_one();
    }

    /// Records that the catalog shows what other hosts changed, up to one of the changes. Changes of the plugins of tenants are in force
    /// when the plugin runtime has followed them.
    pub(crate) fn note_shown(&self, under: Registration, generation: i64, plugins: Vec<TenantId>) {
        if !plugins.is_empty() {
            self.follow_plugins(plugins, generation);
        }
        self.note_loaded(under, generation);
    }

    /// Lets the plugin runtime follow a change of the plugins of tenants. Without a plugin runtime, there is nothing to follow.
    fn follow_plugins(&self, tenants: Vec<TenantId>, generation: i64) {
        if self.host.publish_plugin_change(PluginChange { tenants, generation }) {
            self.current.lock().not_in_force.insert(generation);
        }
    }

    /// Records that a change of plugins is in force.
    pub(crate) fn note_in_force(&self, generation: i64) {
        self.current.lock().not_in_force.remove(&generation);
        self.wake.notify_one();
    }

    /// Ends the ownership of everything, because the lease has ended or this host was taken over.
    pub(crate) fn lapse(&self, registration: Registration) {
        {
            let mut current = self.current.lock();
            if current.registration != Some(registration) {
                return;
            }
            current.registration = None;
            // Under the lock, so that what was read before cannot be owned afterwards.
            self.host.claims.disown(ShardSet::ALL);
            self.host.claims.ownership.clear();
        }
        tracing::warn!(host = registration.host, "the lease of this host has ended; it registers again");
        self.host.publish_ownership();
        self.wake.notify_one();
    }

    /// Ends the ownership of everything if the lease has ended by the clock of this host.
    pub(crate) fn lapse_if_ended(&self) {
        if let Some(registration) = self.registration().filter(|_| !self.host.claims.ownership.may_begin()) {
            self.lapse(registration);
        }
    }

    /// Begins a registration. If another host has taken over since the one before, claims of that time are void: a takeover raises the
    /// epoch as well.
    pub(crate) fn registered(&self, registration: Registration) {
        let mut current = self.current.lock();
        let next = current.before.map(|before| Registration { epoch: before.epoch + 1, ..before });
        if next.is_some_and(|next| next != registration) {
            self.host.claims.note_takeover();
        }
        current.before = Some(registration);
        current.registration = Some(registration);
        current.since = clock::since_boot();
        current.not_in_force.clear();
        current.awaited_after = None;
        current.giving = ShardSet::default();
    }

    /// Renews the lease. Returns false if it has ended.
    pub(crate) async fn renew<D: FleetDatabase + ?Sized>(
        &self,
        database: &D,
        registration: Registration,
    ) -> Result<bool, StoreError> {
        // Before the database can have seen the request.
        let sent = clock::since_boot();
        let load = self.host.activity.load();
        let is_renewed = database.renew(registration, self.shown(registration), load).await?;
        if is_renewed {
            telemetry::lease_renewed(clock::since_boot().saturating_sub(sent));
            self.host.claims.ownership.set_until(sent + LEASE - LEASE_MARGIN);
        }
        Ok(is_renewed)
    }

    /// Owns what the database says, before the dispatcher listens.
    pub(crate) async fn own_first<D: FleetDatabase + ?Sized>(&self, database: &D) -> Result<(), StoreError> {
        let Some(registration) = self.registration() else { return Ok(()) };
        if self.renew(database, registration).await? {
            let fleet = database.read().await?;
            self.note_others(&fleet, registration);
            if self.shown(registration).is_some() && self.may_own(&fleet, registration) {
                self.follow(&fleet, registration);
            }
        }
        Ok(())
    }

    /// Follows the hints of other hosts, until their channel is closed.
    pub(crate) async fn follow_hints(&self, mut hints: mpsc::UnboundedReceiver<Hint>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // A look is due also while hints arrive: the host that should have sent one may have ended before.
            let hint = tokio::select! {
                biased;
                _ = look.tick() => Some(Hint::AllDeliveries),
                hint = hints.recv() => hint,
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

    /// Waits until the next step: for a short time, or until something was loaded or a hint came.
    pub(crate) async fn wait_for_step(&self) {
        tokio::select! {
            // In this order, so that a simulation can be repeated.
            biased;
            () = self.wake.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }

    /// Does a step: renews the lease, follows what the database says, and takes over from hosts that have ended. Returns the shards that
    /// this host should give to another one.
    pub(crate) async fn step<D: FleetDatabase + ?Sized>(
        &self,
        database: &D,
        renewal: &mut Renewal,
    ) -> Result<Option<Excess>, StoreError> {
        let registration = match self.registration() {
            Some(registration) => registration,
            None if self.leaves.load(Ordering::Relaxed) => return Ok(None),
            None => {
                let registration = database.register().await?;
                self.registered(registration);
                registration
            }
        };
        let shown = self.shown(registration);
        let is_due = renewal.0.is_none_or(|(of, at, of_generation)| {
            of != registration || of_generation != shown || clock::since_boot().saturating_sub(at) >= RENEW_EVERY
        });
        if is_due {
            if !self.renew(database, registration).await? {
                self.lapse(registration);
                return Ok(None);
            }
            let now = clock::since_boot();
            // After an interruption, other hosts need time to find the database again as well.
            if renewal.0.is_some_and(|(_, at, _)| now.saturating_sub(at) > INTERRUPTED) {
                self.current.lock().since = now;
            }
            renewal.0 = Some((registration, now, shown));
        }
        self.current.lock().given = ShardSet::default();
        let fleet = database.read().await?;
        self.note_others(&fleet, registration);
        if self.loaded(registration).is_none_or(|loaded| loaded < fleet.generation) {
            database.look_for_changes();
        }
        if shown.is_none() || !self.may_own(&fleet, registration) || self.leaves.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if self.follow(&fleet, registration) {
            self.host.publish_ownership();
        }
        self.take_over_from_ended(database, &fleet, registration).await?;
        let excess = fleet.excess(registration.host);
        Ok(excess.map(|(to, shards)| Excess { registration, to, shards }))
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

    /// Owns what the database says, as soon as no claim of an earlier ownership is left. Returns true if something changed. What was read
    /// under an earlier registration says nothing.
    fn follow(&self, fleet: &FleetState, registration: Registration) -> bool {
        let current = self.current.lock();
        if current.registration != Some(registration) {
            return false;
        }
        let claims = &self.host.claims;
        let stored = fleet.of(registration.host);
        let owned = claims.ownership.shards();
        let lost = owned.without(&stored);
        let gained = stored.without(&owned).without(&current.giving.with(&current.given));
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

    async fn take_over_from_ended<D: FleetDatabase + ?Sized>(
        &self,
        database: &D,
        fleet: &FleetState,
        registration: Registration,
    ) -> Result<(), StoreError> {
        let since = self.current.lock().since;
        if clock::since_boot().saturating_sub(since) < LEASE {
            return Ok(());
        }
        for ended in fleet.members.iter().filter(|one| one.has_ended && one.host != registration.host) {
            if database.take_over(registration, ended.host).await? {
                telemetry::took_over();
                tracing::warn!(host = ended.host, "a host ended, and its shards were taken over");
                database.hint(&Hint::Fleet).await?;
                self.wake.notify_one();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

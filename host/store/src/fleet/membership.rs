//! Membership of this host in the fleet, apart from the database: what is in force here, and the order of the steps.
//!
//! # Guarantees
//! - A host owns what it has read itself, and only after no claim of an earlier ownership is left.
//! - A host takes over from others only after it has held its own lease for as long as a lease lasts. So hosts that find the database
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
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Interval in which a lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(1);

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
    /// True while another host has a lease.
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
    /// Time of the registration, by the steady clock.
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

    /// Lets the plugin runtime follow a change of the plugins of tenants. Without a plugin runtime, there is nothing to follow.
    pub(crate) fn follow_plugins(&self, tenants: Vec<TenantId>, generation: i64) {
        if self.host.publish_plugin_change(PluginChange { tenants, generation }) {
            self.current.lock().not_in_force.insert(generation);
        }
    }

    /// Records that a change of plugins is in force.
    pub(crate) fn note_in_force(&self, generation: i64) {
        self.current.lock().not_in_force.remove(&generation);
        self.wake.notify_one();
    }

    /// Returns the number of this host and the last change that it has made or loaded.
    pub(crate) fn shown_here(&self) -> Option<(i16, i64)> {
        let current = self.current.lock();
        current.loaded.map(|(registration, generation)| (registration.host, generation))
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
        let is_renewed = database.renew(registration, self.shown(registration)).await?;
        if is_renewed {
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
            self.follow(&fleet, registration);
        }
        Ok(())
    }

    /// Follows the hints of other hosts, until their channel is closed.
    pub(crate) async fn follow_hints(&self, mut hints: mpsc::UnboundedReceiver<Hint>) {
        loop {
            let hint = tokio::time::timeout(LOOK_EVERY, hints.recv()).await;
            match hint {
                Ok(None) => return,
                Ok(Some(Hint::Fleet)) => self.wake.notify_one(),
                Ok(Some(Hint::Deliveries(some))) => self.host.publish_later(some),
                Ok(Some(Hint::AllDeliveries)) | Err(_) if self.has_others.load(Ordering::Relaxed) => {
                    self.host.publish_later_of_all();
                }
                Ok(Some(Hint::AllDeliveries)) | Err(_) => {}
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
            renewal.0 = Some((registration, clock::since_boot(), shown));
        }
        self.current.lock().given = ShardSet::default();
        let fleet = database.read().await?;
        self.note_others(&fleet, registration);
        if self.loaded(registration).is_none_or(|loaded| loaded < fleet.generation) {
            database.look_for_changes();
        }
        if shown.is_none() || self.leaves.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if self.follow(&fleet, registration) {
            self.host.publish_ownership();
        }
        self.take_over_from_ended(database, &fleet, registration).await?;
        let excess = fleet.excess(registration.host, ShardSet::default());
        Ok(excess.map(|(to, shards)| Excess { registration, to, shards }))
    }

    fn note_others(&self, fleet: &FleetState, registration: Registration) {
        self.has_others.store(!fleet.others(registration.host).is_empty(), Ordering::Relaxed);
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
                tracing::warn!(host = ended.host, "a host ended, and its shards were taken over");
                database.hint(&Hint::Fleet).await?;
                self.wake.notify_one();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_under_an_earlier_registration_is_not_owned() {
        let membership = Membership::new(Arc::new(HostState::new().0));
        let [first, second] = [1, 2].map(|epoch| Registration { host: 1, epoch });
        let fleet = FleetState { owners: [(1, ShardSet::ALL)].into(), ..FleetState::default() };
        membership.registered(first);
        assert!(membership.follow(&fleet, first));
        membership.lapse(first);
        assert!(!membership.follow(&fleet, first));
        membership.registered(second);
        assert!(!membership.follow(&fleet, first));
        assert!(membership.host.claims.ownership.shards().is_empty());
        assert!(membership.follow(&fleet, second));
    }

    #[test]
    fn claims_are_void_after_a_takeover_but_not_after_an_outage() {
        let membership = Membership::new(Arc::new(HostState::new().0));
        let claims = &membership.host.claims;
        membership.registered(Registration { host: 1, epoch: 1 });
        claims.ownership.add(ShardSet::ALL, ShardSet::default());
        let claim = claims.claim_new(crate::claims::tests::any_delivery()).expect("it is owned");
        membership.registered(Registration { host: 1, epoch: 2 });
        assert!(!claims.is_void(&claim));
        membership.registered(Registration { host: 1, epoch: 4 });
        assert!(claims.is_void(&claim));
    }

    #[test]
    fn what_was_read_before_shards_were_given_is_not_owned() {
        let membership = Membership::new(Arc::new(HostState::new().0));
        let registration = Registration { host: 1, epoch: 1 };
        membership.registered(registration);
        let fleet = FleetState { owners: [(1, ShardSet::ALL)].into(), ..FleetState::default() };
        let given: ShardSet = [3, 4].into_iter().collect();
        membership.current.lock().given = given;
        assert!(membership.follow(&fleet, registration));
        assert_eq!(membership.host.claims.ownership.shards(), ShardSet::ALL.without(&given));
    }
}

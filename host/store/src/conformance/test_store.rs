//! Store under test, on any backend, with one tenant and a clock that stands still.

use super::test_values::{contact, settings, subscription_of};
use crate::backend::Backend;
use crate::backend::deliveries::Pruned;
use crate::memory::MemoryDisk;
use crate::postgres::test_server::TestDatabase;
use crate::{
    Accepted, Actor, AttemptClass, Caps, Claim, ClaimedPage, DeliveryFilter, DeliveryView, Ledger, NewEvent,
    StateChange, Store, StoreEvent, StoreLimits, TenantChange,
};
use hookloom_model::clock::{Clock as _, Entered, ManualClock, enter};
use hookloom_model::delivery::{DeliveryId, Reason};
use hookloom_model::ids;
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use serde_json::Value;
use std::ops::Deref;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

/// Time of the clock at the beginning of a case, in milliseconds since the epoch.
pub(super) const BEGIN_MS: i64 = 1_500_000_000_000;

/// Number of milliseconds of an hour.
pub(super) const HOUR_MS: i64 = 3_600_000;

/// Kind of a backend that is tested.
#[derive(Clone, Copy, Debug)]
pub(super) enum BackendKind {
    /// A database file in a folder.
    Sqlite,
    /// Tables in memory.
    Memory,
    /// A database of a server of PostgreSQL.
    Postgres,
    /// The same behind a pooler in transaction mode.
    PooledPostgres,
}

/// Durable part of a store, which outlives it.
enum DurablePart {
    Folder(TempDir),
    Memory(MemoryDisk),
    Postgres(TestDatabase),
    PooledPostgres(TestDatabase),
}

/// Open store with the channel of its events.
struct OpenStore {
    store: Arc<Store>,
    store_events: UnboundedReceiver<StoreEvent>,
}

impl DurablePart {
    async fn open(&self, limits: StoreLimits) -> OpenStore {
        let opened = match self {
            DurablePart::Folder(folder) => Store::open_with(folder.path(), limits),
            DurablePart::Memory(disk) => Store::open_in_memory(disk.clone(), limits, None),
            DurablePart::Postgres(database) => {
                Store::open_postgres(&database.url(), &database.master_key(), limits).await
            }
            DurablePart::PooledPostgres(database) => {
                Store::open_postgres(&database.pooled_url(), &database.master_key(), limits).await
            }
        };
        let (store, store_events) = opened.expect("the store opens");
        OpenStore { store, store_events }
    }
}

/// Store under test, with its clock. Dereferences to the store.
pub(super) struct TestStore {
    /// None only while it is opened again.
    open: Option<OpenStore>,
    part: DurablePart,
    clock: Arc<ManualClock>,
    _entered: Entered,
}

impl Deref for TestStore {
    type Target = Arc<Store>;

    fn deref(&self) -> &Arc<Store> {
        &self.open.as_ref().expect("an open store").store
    }
}

/// Returns the tenant that every case has.
pub(super) fn tenant() -> TenantId {
    TenantId("t".into())
}

impl TestStore {
    /// Opens a new store with the tenant `t`.
    pub(super) async fn new(kind: BackendKind) -> Self {
        // Ids of this process do not go back behind the time of this one. So no id has a time near that of the case's clock.
        ids::new_uuid();
        let clock = Arc::new(ManualClock::at(BEGIN_MS));
        let entered = enter(Some(clock.clone()));
        let part = match kind {
            BackendKind::Sqlite => DurablePart::Folder(tempfile::tempdir().expect("a folder")),
            BackendKind::Memory => DurablePart::Memory(MemoryDisk::default()),
            BackendKind::Postgres => DurablePart::Postgres(TestDatabase::new().await),
            BackendKind::PooledPostgres => DurablePart::PooledPostgres(TestDatabase::new().await),
        };
        let open = Some(part.open(StoreLimits::default()).await);
        let test_store = TestStore { open, part, clock, _entered: entered };
        test_store.add_tenant("t").await;
        test_store
    }

    /// Ends the store, and opens what it has left.
    pub(super) async fn reopen(&mut self) {
        self.reopen_with(StoreLimits::default()).await;
    }

    /// Opens the store again with other limits.
    pub(super) async fn reopen_with(&mut self, limits: StoreLimits) {
        self.open = None;
        self.open = Some(self.part.open(limits).await);
    }

    /// Opens the store again with a share of this many bytes more than the tenant uses.
    pub(super) async fn reopen_with_room(&mut self, bytes: u64) {
        let used = self.usage(tenant()).await.expect("a usage").bytes;
        let share = Caps { events: u64::MAX, bytes: used + bytes };
        self.reopen_with(StoreLimits { share, ..StoreLimits::default() }).await;
    }

    /// Returns the backend below the store.
    pub(super) fn seam(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Returns the time of the clock, in milliseconds since the epoch.
    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Lets this many milliseconds pass.
    pub(super) fn pass(&self, ms: i64) {
        self.clock.pass(u64::try_from(ms).expect("time does not go back"));
    }

    /// Sets the wall clock by this many milliseconds.
    pub(super) fn set_wall(&self, by_ms: i64) {
        self.clock.set_wall(by_ms);
    }

    /// Creates a tenant as the host.
    pub(super) async fn add_tenant(&self, id: &str) -> TenantId {
        let id = TenantId(id.into());
        self.create_tenant(Actor::Host, id.clone(), TenantChange::default()).await.expect("a tenant");
        id
    }

    /// Creates a subscription for contacts, with further settings.
    pub(super) async fn subscribe(&self, more: Value) -> Arc<Subscription> {
        let new = subscription_of(settings(more));
        self.create_subscription(Actor::Host, tenant(), new).await.expect("a subscription")
    }

    /// Returns the present state of a subscription.
    pub(super) fn current(&self, id: SubscriptionId) -> Arc<Subscription> {
        self.catalog().subscription(&tenant(), id).expect("the subscription")
    }

    /// Disables a subscription as the host.
    pub(super) async fn disable(&self, id: SubscriptionId) -> Arc<Subscription> {
        let change = StateChange::Disable { reason: Reason::new("test", "disabled by a test"), generation: None };
        self.set_subscription_state(Actor::Host, &tenant(), id, change).await.expect("disabled")
    }

    /// Resumes a subscription as the host.
    pub(super) async fn resume(&self, id: SubscriptionId) -> Arc<Subscription> {
        self.set_subscription_state(Actor::Host, &tenant(), id, StateChange::Resume).await.expect("resumed")
    }

    /// Accepts events, and releases the claims of their deliveries.
    pub(super) async fn take(&mut self, events: Vec<NewEvent>) -> Vec<Accepted> {
        let accepted = self.accept(tenant(), events, Caps::NONE).await.expect("accepted");
        drop(self.store_events());
        accepted
    }

    /// Accepts one event of a contact, as [`TestStore::take`] does.
    pub(super) async fn take_one(&mut self, entity: &str) -> Accepted {
        self.take(vec![contact(entity)]).await[0]
    }

    /// Takes the published events of the store.
    pub(super) fn store_events(&mut self) -> Vec<StoreEvent> {
        let receiver = &mut self.open.as_mut().expect("an open store").store_events;
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    /// Claims a page of a lane.
    pub(super) async fn page(&self, of: &Subscription, class: AttemptClass, limit: usize) -> ClaimedPage {
        self.claim_due(of, class, limit).await.expect("a page")
    }

    /// Claims all deliveries of a subscription that are due.
    pub(super) async fn claims(&self, of: &Subscription) -> Vec<Claim> {
        let mut claims = Vec::new();
        for class in [AttemptClass::First, AttemptClass::Retry] {
            claims.extend(self.page(of, class, usize::MAX).await.due.into_iter().map(|due| due.claim));
        }
        claims
    }

    /// Claims the only delivery of a subscription that is due.
    pub(super) async fn claim(&self, of: &Subscription) -> Claim {
        let mut claims = self.claims(of).await;
        assert_eq!(claims.len(), 1, "{claims:?}");
        claims.remove(0)
    }

    /// Returns a delivery without its attempts.
    pub(super) async fn view(&self, id: DeliveryId) -> DeliveryView {
        self.delivery(tenant(), id).await.expect("the delivery").0
    }

    /// Returns all deliveries, newest first.
    pub(super) async fn all_deliveries(&self) -> Vec<DeliveryView> {
        let filter = DeliveryFilter { limit: usize::MAX, ..DeliveryFilter::default() };
        self.deliveries(tenant(), filter).await.expect("deliveries")
    }

    /// Returns the ledger, whose law holds.
    pub(super) async fn lawful_ledger(&self) -> Ledger {
        let ledger = self.ledger(tenant()).await.expect("a ledger");
        let Ledger {
            fan_out, replayed, tests, delivered, dropped, dead, cancelled, superseded, pending, pruned, ..
        } = ledger;
        let Pruned { events: _, delivered: d, dropped: r, dead: e, cancelled: c, superseded: s } = pruned;
        let promised = fan_out + replayed + tests;
        let ended = delivered + dropped + dead + cancelled + superseded;
        assert_eq!(promised, ended + pending + d + r + e + c + s, "{ledger:?}");
        let counted: u64 = self.seam().pending(&tenant()).values().sum();
        assert_eq!(pending, counted, "the number of pending deliveries without a query");
        ledger
    }
}

//! Lane queue against a real store: in any order of events, no delivery is attempted twice at once and none is lost.

use super::*;
use hookloom_model::delivery::DeliveryId;
use hookloom_model::event::Module;
use hookloom_model::subscription::{LoadedSettings, TenantId};
use hookloom_store::{Actor, Caps, NewEvent, StoreEvent, TenantChange};
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use tokio::sync::mpsc;

#[test]
fn a_retry_beyond_its_share_sets_no_timer() {
    let mut queue = LaneQueue::default();
    queue.note_due_again(5);
    queue.first.next_due_at_ms = None;
    assert_eq!((queue.next_due_at_ms(true), queue.next_due_at_ms(false)), (Some(5), None));
    queue.first.next_due_at_ms = Some(7);
    assert_eq!((queue.next_due_at_ms(true), queue.next_due_at_ms(false)), (Some(5), Some(7)));
}

/// Event in the life of a lane.
#[derive(Clone, Copy, Debug)]
enum LaneStep {
    /// This many events are accepted. The dispatcher pushes an even number of them at once.
    Accept(usize),
    /// The dispatcher pushes the accepted deliveries, late.
    Push,
    /// An attempt begins.
    Begin,
    /// The oldest attempt ends: delivered, or to be made again at once.
    End { again: bool },
    /// The subscription changes.
    Change,
}

fn step() -> impl Strategy<Value = LaneStep> {
    prop_oneof![
        3 => (1usize..400).prop_map(LaneStep::Accept),
        2 => Just(LaneStep::Push),
        6 => Just(LaneStep::Begin),
        4 => any::<bool>().prop_map(|again| LaneStep::End { again }),
        1 => Just(LaneStep::Change),
    ]
}

/// A lane's queue with its store, and the expected state.
struct TestLane {
    store: Arc<Store>,
    store_events: mpsc::UnboundedReceiver<StoreEvent>,
    subscription: Arc<Subscription>,
    handle: LaneHandle,
    budget: MemoryBudget,
    queue: LaneQueue,
    under_way: VecDeque<NextDelivery>,
    accepted: usize,
    delivered: HashSet<DeliveryId>,
    _folder: tempfile::TempDir,
}

impl TestLane {
    async fn new() -> TestLane {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, store_events) = Store::open(folder.path()).expect("a store");
        let tenant = TenantId("t".into());
        store.create_tenant(Actor::Host, tenant.clone(), TenantChange::default()).await.expect("a tenant");
        let settings = serde_json::from_value(json!({"notify_url": "http://a.example/", "modules": ["Contact"]}));
        let new = hookloom_store::NewSubscription {
            settings: LoadedSettings::new(settings.expect("settings"), BTreeMap::new()).expect("a URL"),
            signing: Vec::new(),
        };
        let subscription = store.create_subscription(Actor::Host, tenant, new).await.expect("a subscription");
        TestLane {
            store,
            store_events,
            subscription,
            handle: LaneHandle::default(),
            // Fits a few hundred deliveries: the tests accept more at once, which are read in pages.
            budget: MemoryBudget::of(1 << 20),
            queue: LaneQueue::default(),
            under_way: VecDeque::new(),
            accepted: 0,
            delivered: HashSet::new(),
            _folder: folder,
        }
    }

    async fn apply(&mut self, step: LaneStep) {
        match step {
            LaneStep::Accept(count) => {
                let event = NewEvent {
                    name: "Contact is Created".into(),
                    module: Module::Contact,
                    entity_id: None,
                    payload: bytes::Bytes::from_static(b"{}"),
                };
                let caps = Caps { events: u64::MAX >> 1, bytes: u64::MAX >> 1 };
                let events = vec![event; count];
                self.store.accept(self.subscription.tenant.clone(), events, caps).await.expect("accepted");
                self.accepted += count;
                if count % 2 == 0 {
                    self.push_accepted();
                }
            }
            LaneStep::Push => self.push_accepted(),
            LaneStep::Begin => {
                if let Some(next) = self.next().await {
                    let id = next.delivery().id;
                    assert!(!self.delivered.contains(&id), "it was delivered already");
                    assert!(self.under_way.iter().all(|other| other.delivery().id != id), "it is under way already");
                    self.under_way.push_back(next);
                }
            }
            LaneStep::End { again } => self.end(again).await,
            LaneStep::Change => {
                self.queue.return_to_store(&self.handle);
            }
        }
    }

    fn push_accepted(&mut self) {
        while let Ok(event) = self.store_events.try_recv() {
            if let StoreEvent::Accepted(new) = event {
                new.due.into_iter().for_each(|one| self.handle.try_push(one, &self.budget));
            }
        }
    }

    async fn next(&mut self) -> Option<NextDelivery> {
        self.queue.next(&self.store, &self.handle, &self.budget, &self.subscription, true).await.expect("a page")
    }

    /// Ends an attempt as a lane does: records the outcome, then releases the delivery.
    async fn end(&mut self, again: bool) {
        let Some(next) = self.under_way.pop_front() else { return };
        let id = next.delivery().id;
        if again {
            // The attempt is not recorded: the delivery is still due in the store.
            next.claim.release();
            self.queue.note_due_again(now_ms());
            return;
        }
        let reason = hookloom_model::delivery::Reason::new("done", "by the test");
        self.store.give_up(next.claim, reason).await.expect("recorded");
        self.delivered.insert(id);
    }
}

#[tokio::test]
async fn a_lane_reserves_at_most_its_part_of_the_budget_and_releases_it() {
    let mut lane = TestLane::new().await;
    let whole = 1 << 20;
    let entry_bytes = ENTRY_OVERHEAD_BYTES + 2;
    let reserved = |lane: &TestLane| whole - usize::try_from(lane.budget.free.free()).expect("a few bytes");
    lane.apply(LaneStep::Accept(100)).await;
    assert_eq!(reserved(&lane), 100 * entry_bytes);
    assert!(lane.next().await.is_some());
    assert_eq!(reserved(&lane), 99 * entry_bytes, "it has begun");
    lane.apply(LaneStep::Accept(400)).await;
    assert!((whole / 8..whole / 8 + entry_bytes).contains(&reserved(&lane)), "{}", reserved(&lane));
    lane.apply(LaneStep::Change).await;
    assert_eq!(reserved(&lane), 0, "all is left to the store");
    lane.handle.close();
    lane.apply(LaneStep::Accept(2)).await;
    assert_eq!(reserved(&lane), 0, "nobody will come for it");
}

#[tokio::test]
async fn a_page_keeps_the_events_that_fit_the_budget() {
    let mut lane = TestLane::new().await;
    let entry_bytes = ENTRY_OVERHEAD_BYTES + 2;
    lane.handle.close();
    lane.apply(LaneStep::Accept(9)).await;
    lane.apply(LaneStep::Push).await;
    lane.budget = MemoryBudget::of(16 * entry_bytes);
    lane.queue.recheck_store();
    let mut loaded = Vec::new();
    for _ in 0..9 {
        let next = lane.next().await.expect("one of nine");
        let event = lane.store.event_of(next.delivery()).await.expect("a read").expect("an event");
        assert_eq!(event.id, next.delivery().event);
        loaded.push(next.event.is_some_and(|kept| kept.payload == event.payload));
    }
    assert_eq!(loaded, [true, true, false, false, false, false, false, false, false], "an eighth of the budget");
    assert!(lane.next().await.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_delivery_is_attempted_twice_at_once_and_none_is_lost(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut lane = TestLane::new().await;
            for step in steps {
                lane.apply(step).await;
            }
            // Every open delivery is ended.
            lane.push_accepted();
            lane.queue.recheck_store();
            loop {
                while !lane.under_way.is_empty() {
                    lane.end(false).await;
                }
                match lane.next().await {
                    Some(next) => lane.under_way.push_back(next),
                    None => break,
                }
            }
            assert_eq!(lane.delivered.len(), lane.accepted);
        });
    }
}

//! A lane's stock against a real store: whatever happens in whatever order, nothing is held twice and nothing is forgotten.

use super::*;
use crate::event::Module;
use crate::store::{Caps, NewEvent, News, TenantChange};
use crate::subscription::TenantId;
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::mpsc;

#[test]
fn a_retry_without_room_wakes_nobody() {
    let mut stock = Stock::default();
    stock.forget(DeliveryId::new(), Some(5));
    stock.first.next_due_at_ms = None;
    assert_eq!((stock.next_due_at_ms(true), stock.next_due_at_ms(false)), (Some(5), None));
    stock.first.next_due_at_ms = Some(7);
    assert_eq!((stock.next_due_at_ms(true), stock.next_due_at_ms(false)), (Some(5), Some(7)));
}

/// What can happen to a lane.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many events are accepted, and the dispatcher hands them over.
    Accept(usize),
    /// The dispatcher is late: what was accepted is handed over now.
    Hand,
    /// An attempt begins.
    Begin,
    /// The oldest attempt ends: delivered, or to be made again at once.
    End { again: bool },
    /// The subscription changes.
    Change,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1usize..400).prop_map(Step::Accept),
        2 => Just(Step::Hand),
        6 => Just(Step::Begin),
        4 => any::<bool>().prop_map(|again| Step::End { again }),
        1 => Just(Step::Change),
    ]
}

/// A lane with its store, and what a test knows of it.
struct Lane {
    store: Arc<Store>,
    news: mpsc::UnboundedReceiver<News>,
    subscription: Arc<Subscription>,
    handle: LaneHandle,
    room: Room,
    stock: Stock,
    under_way: VecDeque<NextDelivery>,
    accepted: usize,
    delivered: HashSet<DeliveryId>,
    _folder: tempfile::TempDir,
}

impl Lane {
    async fn new() -> Lane {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, news) = Store::open(folder.path()).expect("a store");
        let tenant = TenantId("t".into());
        store.create_tenant(tenant.clone(), TenantChange::default()).await.expect("a tenant");
        let settings = serde_json::from_value(json!({"notify_url": "http://a.example/", "modules": ["Contact"]}));
        let new = crate::store::NewSubscription {
            settings: settings.expect("settings"),
            signing: Vec::new(),
            secrets: std::collections::BTreeMap::new(),
        };
        let subscription = store.create_subscription(tenant, new).await.expect("a subscription");
        Lane {
            store,
            news,
            subscription,
            handle: LaneHandle::default(),
            // For a few hundred: more is accepted at once, and read in pages.
            room: Room::of(1 << 20),
            stock: Stock::default(),
            under_way: VecDeque::new(),
            accepted: 0,
            delivered: HashSet::new(),
            _folder: folder,
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Accept(count) => {
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
                    self.hand();
                }
            }
            Step::Hand => self.hand(),
            Step::Begin => {
                if let Some(next) = self.next().await {
                    let id = next.delivery.id;
                    assert!(!self.delivered.contains(&id), "it was delivered already");
                    assert!(self.under_way.iter().all(|other| other.delivery.id != id), "it is under way already");
                    self.under_way.push_back(next);
                }
            }
            Step::End { again } => self.end(again).await,
            Step::Change => {
                self.stock.put_back(&self.handle);
            }
        }
    }

    fn hand(&mut self) {
        while let Ok(news) = self.news.try_recv() {
            if let News::Accepted(new) = news {
                new.due.into_iter().for_each(|one| self.handle.try_push(one, &self.room));
            }
        }
    }

    async fn next(&mut self) -> Option<NextDelivery> {
        self.stock.next(&self.store, &self.handle, &self.room, &self.subscription, true).await.expect("a page")
    }

    /// As a lane does: the outcome is recorded, and then the stock forgets.
    async fn end(&mut self, again: bool) {
        let Some(next) = self.under_way.pop_front() else { return };
        let id = next.delivery.id;
        match again {
            // A try that the store does not hear of: the delivery is still due there.
            true => self.stock.forget(id, Some(now_ms())),
            false => {
                let reason = crate::delivery::Reason::new("done", "by the test");
                self.store.give_up(&next.delivery, reason).await.expect("recorded");
                self.delivered.insert(id);
                self.stock.forget(id, None);
            }
        }
    }
}

#[tokio::test]
async fn a_lane_takes_its_share_of_the_room_and_gives_it_back() {
    let (mut lane, whole, of_one) = (Lane::new().await, 1 << 20, DUE_BYTES + 2);
    let taken = |lane: &Lane| whole - usize::try_from(lane.room.free.free()).expect("a few bytes");
    lane.take(Step::Accept(100)).await;
    assert_eq!(taken(&lane), 100 * of_one);
    assert!(lane.next().await.is_some());
    assert_eq!(taken(&lane), 99 * of_one, "it has begun");
    lane.take(Step::Accept(400)).await;
    assert!((whole / 8..whole / 8 + of_one).contains(&taken(&lane)), "{}", taken(&lane));
    lane.take(Step::Change).await;
    assert_eq!(taken(&lane), 0, "all is left to the store");
    lane.handle.close();
    lane.take(Step::Accept(2)).await;
    assert_eq!(taken(&lane), 0, "nobody will come for it");
}

#[tokio::test]
async fn a_page_keeps_the_events_that_there_is_room_for() {
    let (mut lane, of_one) = (Lane::new().await, DUE_BYTES + 2);
    lane.take(Step::Accept(9)).await;
    lane.handle.close();
    lane.room = Room::of(16 * of_one);
    lane.stock.look_again();
    let mut loaded = Vec::new();
    for _ in 0..9 {
        let next = lane.next().await.expect("one of nine");
        let event = lane.store.event_of(&next.delivery).await.expect("a read").expect("an event");
        assert_eq!(event.id, next.delivery.event);
        loaded.push(next.event.is_some_and(|kept| kept.payload == event.payload));
    }
    assert_eq!(loaded, [true, true, false, false, false, false, false, false, false], "an eighth of the room");
    assert!(lane.next().await.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_held_twice_and_nothing_is_forgotten(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut lane = Lane::new().await;
            for step in steps {
                lane.take(step).await;
            }
            // Whatever was left open comes to its end.
            lane.hand();
            lane.stock.look_again();
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

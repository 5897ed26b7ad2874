//! Lists page by page: everything once, newest first.

use super::test_store::{TestStore, tenant};
use super::test_values::{contact, end, event_of, many, operator, record, settings, subscription_of};
use crate::{
    Actor, BinFilter, Caps, ChangeSearch, DeliveryFilter, DeliveryView, EventFilter, NewEvent, RejectedEntry, Span,
};
use bytes::Bytes;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::event::{EventId, Module};
use hookloom_model::inspector::{BinSettings, RequestHead};
use serde_json::json;
use uuid::Uuid;

conformance! {
    pages_of_events_cover_them_once,
    events_are_filtered,
    events_are_found_by_a_text_and_by_id,
    pages_of_deliveries_cover_them_once,
    deliveries_are_filtered,
    pages_of_changes_cover_them_once,
    changes_are_found_by_author_kind_and_time,
    pages_of_rejected_requests_cover_them_once,
    pages_of_bin_requests_cover_them_once,
    recent_events_are_the_newest_ones,
    the_last_events_of_subscriptions_are_the_newest_ones,
    the_newest_events_are_counted_by_name,
}

/// Asserts that pages have these things once, newest first.
fn check_pages(pages: &[Vec<Uuid>], limit: usize, count: usize) {
    let all: Vec<Uuid> = pages.concat();
    assert!(all.is_sorted_by(|newer, older| newer > older), "newest first, and none twice: {all:?}");
    assert_eq!(all.len(), count);
    assert!(pages.iter().all(|page| page.len() <= limit));
}

async fn pages_of_events_cover_them_once(store: &mut TestStore) {
    store.take(many(7)).await;
    let other = store.add_tenant("u").await;
    store.accept(other, many(2), Caps::NONE).await.expect("accepted");
    let mut filter = EventFilter { limit: 3, ..EventFilter::default() };
    let mut pages = Vec::new();
    loop {
        let page = store.events(tenant(), filter.clone()).await.expect("a page");
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        pages.push(page.iter().map(|one| one.id.0).collect());
    }
    check_pages(&pages, 3, 7);
    assert_eq!(pages[0].len(), 3, "a page is full if there are more");
}

async fn events_are_filtered(store: &mut TestStore) {
    let updated = NewEvent { name: "Contact is Updated".into(), ..contact("1") };
    let events = store.take(vec![contact("1"), updated, contact("2"), event_of(Module::Deal, "1"), contact("")]).await;
    let blank = EventFilter { limit: 9, ..EventFilter::default() };
    let filters = [
        (EventFilter { module: Some(Module::Contact), ..blank.clone() }, vec![4, 2, 1, 0]),
        (EventFilter { name: Some("Contact is Updated".into()), ..blank.clone() }, vec![1]),
        (EventFilter { entity_id: Some("1".into()), ..blank.clone() }, vec![3, 1, 0]),
        (EventFilter { entity_id: Some("1".into()), module: Some(Module::Deal), ..blank.clone() }, vec![3]),
        (EventFilter { entity_id: Some("1".into()), before: Some(events[3].event), limit: 1, ..blank }, vec![1]),
    ];
    for (filter, expected) in filters {
        let found: Vec<_> =
            store.events(tenant(), filter.clone()).await.expect("events").iter().map(|one| one.id).collect();
        assert_eq!(found, expected.iter().map(|index: &usize| events[*index].event).collect::<Vec<_>>(), "{filter:?}");
    }
}

async fn events_are_found_by_a_text_and_by_id(store: &mut TestStore) {
    fn with(payload: &'static str) -> NewEvent {
        NewEvent { payload: Bytes::from_static(payload.as_bytes()), ..contact("1") }
    }
    let taken = vec![with(r#"{"name": "Ada Lovelace"}"#), with(r#"{"name": "Ünal 50%_"}"#), with(r#"{"name": "ada"}"#)];
    let events = store.take(taken).await;
    let blank = EventFilter { limit: 9, ..EventFilter::default() };
    for (text, expected) in [
        ("Ada", vec![0]),
        ("ada", vec![2]),
        ("\"name\"", vec![2, 1, 0]),
        ("Ünal", vec![1]),
        ("%_", vec![1]),
        ("0%", vec![1]),
        ("nobody", vec![]),
    ] {
        let filter = EventFilter { text: Some(text.to_owned()), ..blank.clone() };
        let found: Vec<_> = store.events(tenant(), filter).await.expect("events").iter().map(|one| one.id).collect();
        assert_eq!(found, expected.iter().map(|index: &usize| events[*index].event).collect::<Vec<_>>(), "{text:?}");
    }
    let filter = EventFilter { text: Some("name".into()), before: Some(events[2].event), limit: 1, ..blank };
    let found = store.events(tenant(), filter).await.expect("events");
    assert_eq!(found.iter().map(|one| one.id).collect::<Vec<_>>(), [events[1].event]);

    let nowhere = EventId(Uuid::from_u128(5));
    let found = store.event_summaries(tenant(), vec![events[2].event, nowhere, events[0].event]).await.expect("events");
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[&events[2].event].id, found[&events[2].event].entity_id.as_deref()),
        (events[2].event, Some("1"))
    );
    assert!(store.event_summaries(tenant(), Vec::new()).await.expect("none").is_empty());
    let other = store.add_tenant("u").await;
    assert!(store.event_summaries(other, vec![events[0].event]).await.expect("of another tenant").is_empty());
}

async fn pages_of_deliveries_cover_them_once(store: &mut TestStore) {
    store.subscribe(json!({})).await;
    let of = store.subscribe(json!({})).await;
    store.take(many(5)).await;
    for (subscription, count) in [(None, 10), (Some(of.id), 5)] {
        let mut filter = DeliveryFilter { subscription, limit: 3, ..DeliveryFilter::default() };
        let mut pages = Vec::new();
        loop {
            let page = store.deliveries(tenant(), filter.clone()).await.expect("a page");
            let Some(last) = page.last() else { break };
            filter.before = Some(last.id);
            pages.push(page.iter().map(|one| one.id.0).collect());
        }
        check_pages(&pages, 3, count);
    }
}

async fn deliveries_are_filtered(store: &mut TestStore) {
    let one = store.subscribe(json!({})).await;
    let two = store.subscribe(json!({})).await;
    let event = store.take_one("1").await.event;
    let other = store.take_one("2").await.event;
    let made_ms = store.all_deliveries().await.iter().map(|view| view.id.made_at_ms()).collect::<Vec<_>>();
    let [first_ms, last_ms] = [made_ms.iter().min(), made_ms.iter().max()].map(|ms| *ms.expect("deliveries"));
    let ever = Span { from_ms: first_ms, to_ms: last_ms + 1 };
    let before = Span { from_ms: 0, to_ms: first_ms };
    let after = Span { from_ms: last_ms + 1, to_ms: i64::MAX };
    let states = [DeliveryState::Delivered, DeliveryState::Dead];
    for (claim, state) in store.claims(&one).await.into_iter().zip(states) {
        let outcome = record(claim.delivery(), end(state));
        store.finish(claim, outcome).await.expect("recorded");
    }
    let blank = DeliveryFilter { limit: 9, ..DeliveryFilter::default() };
    let filters = [
        (DeliveryFilter { subscription: Some(two.id), ..blank.clone() }, 2),
        (DeliveryFilter { event: Some(event), ..blank.clone() }, 2),
        (DeliveryFilter { event: Some(event), subscription: Some(one.id), ..blank.clone() }, 1),
        (DeliveryFilter { among: Some(vec![event, other]), ..blank.clone() }, 4),
        (DeliveryFilter { among: Some(vec![other]), state: Some(DeliveryState::Pending), ..blank.clone() }, 1),
        (DeliveryFilter { among: Some(Vec::new()), ..blank.clone() }, 0),
        (DeliveryFilter { span: Some(ever), ..blank.clone() }, 4),
        (DeliveryFilter { span: Some(before), ..blank.clone() }, 0),
        (DeliveryFilter { span: Some(after), subscription: Some(one.id), ..blank.clone() }, 0),
        (DeliveryFilter { state: Some(DeliveryState::Pending), ..blank.clone() }, 2),
        (DeliveryFilter { state: Some(DeliveryState::Pending), subscription: Some(two.id), ..blank.clone() }, 2),
        (DeliveryFilter { state: Some(DeliveryState::Pending), subscription: Some(one.id), ..blank.clone() }, 0),
        (DeliveryFilter { state: Some(DeliveryState::Delivered), subscription: Some(one.id), ..blank.clone() }, 1),
        (DeliveryFilter { state: Some(DeliveryState::Delivered), event: Some(event), ..blank.clone() }, 1),
        (DeliveryFilter { state: Some(DeliveryState::Dead), event: Some(event), ..blank.clone() }, 0),
        (DeliveryFilter { state: Some(DeliveryState::Cancelled), ..blank }, 0),
    ];
    for (filter, expected) in filters {
        let found = store.deliveries(tenant(), filter.clone()).await.expect("deliveries");
        assert_eq!(found.len(), expected, "{filter:?}");
        let fits = |view: &DeliveryView| {
            filter.state.is_none_or(|state| view.state == state)
                && filter.event.is_none_or(|event| view.event == event)
                && filter.among.as_ref().is_none_or(|among| among.contains(&view.event))
                && filter.subscription.is_none_or(|of| view.subscription == of)
        };
        assert!(found.iter().all(fits) && found.is_sorted_by(|newer, older| newer.id > older.id), "{found:?}");
    }
}

async fn pages_of_changes_cover_them_once(store: &mut TestStore) {
    for index in 0..7 {
        store.create_token(operator(), tenant(), index.to_string()).await.expect("a token");
    }
    let mut pages = Vec::new();
    let mut before = None;
    loop {
        let (page, more) = store.changes(Some(tenant()), before, 3).await.expect("a page");
        before = page.last().map(|last| last.id);
        pages.push(page.iter().map(|one| one.id).collect::<Vec<Uuid>>());
        if !more {
            break;
        }
    }
    check_pages(&pages, 3, 7);
    let (rest, more) = store.changes(Some(tenant()), before, 3).await.expect("a page");
    assert!(rest.is_empty() && !more);
}

async fn changes_are_found_by_author_kind_and_time(store: &mut TestStore) {
    let other = Actor::Key("Anna_100%".to_owned());
    store.create_token(operator(), tenant(), "0".into()).await.expect("a token");
    store.pass(1_000);
    let middle_ms = store.now_ms();
    store.create_key(other.clone(), Some(tenant()), Vec::new(), "1".into()).await.expect("a key");
    store.pass(1_000);
    let subscription = subscription_of(settings(json!({})));
    store.create_subscription(other, tenant(), subscription).await.expect("a subscription");
    fn search(who: &str, kinds: &[&str], span: [Option<i64>; 2]) -> ChangeSearch {
        let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        ChangeSearch { who: who.to_owned(), kinds, from_ms: span[0], to_ms: span[1] }
    }
    let searches = [
        (search("", &[], [None, None]), vec!["subscription.create", "key.create", "intake-token.create"]),
        (search("aNNa", &[], [None, None]), vec!["subscription.create", "key.create"]),
        (search("_100%", &[], [None, None]), vec!["subscription.create", "key.create"]),
        (search("%", &["intake-token"], [None, None]), vec![]),
        (search("", &["key", "intake-token"], [None, None]), vec!["key.create", "intake-token.create"]),
        (search("", &["token", "subscription.create", ""], [None, None]), vec![]),
        (search("", &[], [Some(middle_ms), None]), vec!["subscription.create", "key.create"]),
        (search("", &[], [None, Some(middle_ms)]), vec!["intake-token.create"]),
        (search("anna", &["key"], [Some(middle_ms), Some(middle_ms + 1)]), vec!["key.create"]),
    ];
    for (search, expected) in searches {
        let (found, more) = store.search_changes(Some(tenant()), search.clone(), None, 9).await.expect("a page");
        let actions: Vec<_> = found.iter().map(|one| one.action.as_str()).collect();
        assert_eq!((actions, more), (expected, false), "{search:?}");
    }
    let by_key = search("", &["key", "intake-token"], [None, None]);
    let (first, more) = store.search_changes(Some(tenant()), by_key.clone(), None, 1).await.expect("a page");
    assert_eq!((first[0].action.as_str(), more), ("key.create", true));
    let (rest, more) = store.search_changes(Some(tenant()), by_key, Some(first[0].id), 1).await.expect("a page");
    assert_eq!((rest[0].action.as_str(), more), ("intake-token.create", false));
}

async fn pages_of_rejected_requests_cover_them_once(store: &mut TestStore) {
    for length in 0..7 {
        let body = Bytes::from(vec![b'x'; length]);
        store.reject(tenant(), format!("reason {length}"), body, length == 3).await.expect("kept");
    }
    let mut pages = Vec::new();
    let mut all: Vec<RejectedEntry> = Vec::new();
    loop {
        let before = all.last().map(|last| last.id);
        let page = store.rejected_requests(tenant(), before, 3).await.expect("a page");
        if page.is_empty() {
            break;
        }
        pages.push(page.iter().map(|one| one.id).collect());
        all.extend(page);
    }
    check_pages(&pages, 3, 7);
    assert!(all.iter().rev().map(|one| one.bytes).eq(0..7));
    assert_eq!((&*all[3].reason, all[3].truncated, all[2].truncated), ("reason 3", true, false));
    store.forget_rejected_request(operator(), tenant(), all[3].id).await.expect("forgotten");
    assert_eq!(store.rejected_requests(tenant(), None, 9).await.expect("a page").len(), 6);
}

async fn pages_of_bin_requests_cover_them_once(store: &mut TestStore) {
    let bin = store.create_bin(operator(), tenant(), BinSettings::default()).await.expect("a bin");
    for nth in 0..7 {
        let body = Bytes::from(nth.to_string());
        let received = store.receive_in_bin(&tenant(), &bin, RequestHead::default(), body).await;
        assert_eq!(received.expect("received").1, nth);
    }
    let mut pages = Vec::new();
    let mut filter = BinFilter { limit: 3, ..BinFilter::default() };
    loop {
        let page = store.bin_requests(tenant(), bin.id.clone(), filter.clone()).await.expect("a page");
        pages.push(page.requests.iter().map(|one| one.id).collect::<Vec<Uuid>>());
        filter.before = page.further;
        if page.further.is_none() {
            break;
        }
    }
    check_pages(&pages, 3, 7);
}

async fn recent_events_are_the_newest_ones(store: &mut TestStore) {
    let of = store.subscribe(json!({})).await;
    let events = store.take(vec![contact("1"), event_of(Module::Deal, "1"), contact("2"), contact("3")]).await;
    store.test(operator(), &of, contact("test")).await.expect("a test");
    let recent = async |modules: Vec<Module>, limit| {
        let found = store.recent_events(tenant(), modules, limit).await.expect("events");
        found.iter().map(|event| event.id).collect::<Vec<_>>()
    };
    assert_eq!(recent(vec![Module::Contact], 2).await, [events[3].event, events[2].event]);
    let all = [3, 2, 1, 0].map(|index: usize| events[index].event);
    assert_eq!(recent(vec![Module::Contact, Module::Deal], 9).await, all);
    assert_eq!(recent(Vec::new(), 9).await, []);
}

async fn the_newest_events_are_counted_by_name(store: &mut TestStore) {
    async fn counted(store: &TestStore, limit: usize) -> Vec<(String, u64, i64)> {
        let counts = store.name_counts(tenant(), limit).await.expect("counts");
        counts.into_iter().map(|one| (one.name, one.events, one.last_received_at_ms)).collect()
    }
    assert_eq!(counted(store, 9).await, []);
    for event in [contact("1"), event_of(Module::Deal, "1"), contact("2"), contact("1")] {
        store.take(vec![event]).await;
    }
    let events = store.events(tenant(), EventFilter { limit: 9, ..EventFilter::default() }).await.expect("events");
    let [newest, _, deal, _] = &events[..] else { panic!("four events: {events:?}") };
    let contacts = |count| (newest.name.clone(), count, newest.received_at_ms);
    assert_eq!(counted(store, 9).await, [contacts(3), (deal.name.clone(), 1, deal.received_at_ms)]);
    assert_eq!(counted(store, 2).await, [contacts(2)]);
    let other = store.add_tenant("u").await;
    assert_eq!(store.name_counts(other, 9).await.expect("counts"), []);
}

async fn the_last_events_of_subscriptions_are_the_newest_ones(store: &mut TestStore) {
    let one = store.subscribe(json!({})).await;
    let two = store.subscribe(json!({"modules": ["Deal"]})).await;
    let three = store.subscribe(json!({})).await;
    let mut events = Vec::new();
    for event in [contact("1"), event_of(Module::Deal, "1"), contact("2")] {
        events.push(store.take(vec![event]).await[0].event);
    }
    let last = async |of: Vec<_>, limit| {
        let found = store.last_events_of(tenant(), of, limit).await.expect("events");
        found.into_iter().map(|(event, of)| (event.id, of)).collect::<Vec<_>>()
    };
    let expected = [(events[2], one.id), (events[1], two.id), (events[0], one.id)];
    assert_eq!(last(vec![one.id, two.id], 9).await, expected);
    assert_eq!(last(vec![two.id, one.id], 2).await, expected[..2]);
    assert_eq!(last(vec![three.id], 1).await, [(events[2], three.id)]);
    assert_eq!(last(Vec::new(), 9).await, []);
}

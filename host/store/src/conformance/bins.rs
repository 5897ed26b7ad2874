//! Bins with the requests that they received.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::operator;
use crate::backend::inspector::{BIN_BYTES_MAX, SEARCHED_BYTES};
use crate::{BINS_MAX, BinFilter, StoreError};
use bytes::Bytes;
use futures_util::future::join_all;
use hookloom_model::ids::BinId;
use hookloom_model::inspector::{Bin, BinSettings, Reply, RequestHead};
use uuid::Uuid;

conformance! {
    a_bin_is_found_by_its_url,
    a_bin_keeps_the_newest_requests,
    a_request_has_the_status_of_its_answer,
    requests_expire,
    a_smaller_bin_forgets_requests,
    a_request_is_shown_with_the_one_before,
    requests_are_searched,
    many_requests_are_listed_and_searched,
    a_search_continues_after_some_megabytes,
    a_bin_has_a_limited_size,
    requests_are_forgotten,
    a_bin_belongs_to_its_tenant,
    a_tenant_has_a_limited_number_of_bins,
    a_bin_stays_within_the_share,
}

async fn bin_with(store: &TestStore, settings: BinSettings) -> Bin {
    store.create_bin(operator(), tenant(), settings).await.expect("a bin")
}

async fn receive(store: &TestStore, bin: &Bin, body: &str) -> Uuid {
    let head = RequestHead { method: "POST".into(), path: "/a".into(), ..RequestHead::default() };
    store.receive_in_bin(&tenant(), bin, head, Bytes::from(body.to_owned())).await.expect("received").0
}

async fn bodies(store: &TestStore, bin: &Bin, search: Option<&str>) -> Vec<String> {
    let filter = BinFilter { search: search.map(str::to_owned), limit: 99, ..BinFilter::default() };
    let page = store.bin_requests(tenant(), bin.id.clone(), filter).await.expect("a page");
    page.requests.iter().map(|one| String::from_utf8_lossy(&one.body).into_owned()).collect()
}

fn is_missing<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::NotFound(_)))
}

async fn a_bin_is_found_by_its_url(store: &mut TestStore) {
    let one = bin_with(store, BinSettings { name: "one".into(), ..BinSettings::default() }).await;
    store.pass(1_000);
    let two = bin_with(store, BinSettings { name: "two".into(), ..BinSettings::default() }).await;
    receive(store, &one, "a").await;
    store.reopen().await;
    let (owner, found) = store.bin_by_url(one.id.clone()).await.expect("the bin");
    assert_eq!((owner, found.settings, found.received), (tenant(), one.settings, 1));
    let names: Vec<String> =
        store.bins(tenant()).await.expect("bins").into_iter().map(|bin| bin.settings.name).collect();
    assert_eq!(names, ["two", "one"], "newest first");
    assert!(is_missing(&store.bin_by_url(BinId::parse("nothing").expect("an id")).await));
    store.delete_bin(operator(), tenant(), two.id.clone()).await.expect("deleted");
    assert!(
        is_missing(&store.bin_by_url(two.id.clone()).await) && is_missing(&store.bin(tenant(), two.id.clone()).await)
    );
    assert!(is_missing(&store.receive_in_bin(&tenant(), &two, RequestHead::default(), Bytes::new()).await));
}

async fn a_bin_keeps_the_newest_requests(store: &mut TestStore) {
    let bin = bin_with(store, BinSettings { requests_max: 3, ..BinSettings::default() }).await;
    for body in ["a", "b", "c", "d", "e"] {
        receive(store, &bin, body).await;
    }
    assert_eq!(bodies(store, &bin, None).await, ["e", "d", "c"]);
    assert_eq!(store.bin(tenant(), bin.id).await.expect("the bin").received, 5, "all of them are counted");
}

async fn a_request_has_the_status_of_its_answer(store: &mut TestStore) {
    let reply = Reply { statuses: vec![500, 201], ..Reply::default() };
    let bin = bin_with(store, BinSettings { reply, ..BinSettings::default() }).await;
    for body in ["a", "b", "c"] {
        receive(store, &bin, body).await;
    }
    let head = RequestHead { answered: Some(413), ..RequestHead::default() };
    store.receive_in_bin(&tenant(), &bin, head, Bytes::new()).await.expect("received");
    store.reopen().await;
    let filter = BinFilter { limit: 99, ..BinFilter::default() };
    let page = store.bin_requests(tenant(), bin.id.clone(), filter).await.expect("a page");
    let answered: Vec<_> = page.requests.iter().map(|one| one.head.answered).collect();
    assert_eq!(answered, [Some(413), Some(500), Some(201), Some(500)], "newest first");
}

async fn requests_expire(store: &mut TestStore) {
    let bin = bin_with(store, BinSettings { ttl_s: 3_600, ..BinSettings::default() }).await;
    let other = bin_with(store, BinSettings::default()).await;
    receive(store, &bin, "old").await;
    receive(store, &other, "kept").await;
    store.pass(HOUR_MS / 2);
    receive(store, &bin, "young").await;
    assert!(store.seam().bins_to_prune().await.expect("bins").is_empty());
    store.pass(HOUR_MS * 3 / 4);
    assert_eq!(bodies(store, &bin, None).await, ["young"], "an expired request is not shown");
    let to_prune = store.seam().bins_to_prune().await.expect("bins");
    assert_eq!(to_prune.iter().map(|(owner, bin)| (owner, &bin.id)).collect::<Vec<_>>(), [(&tenant(), &bin.id)]);
    store.prune_bins().await.expect("pruned");
    assert!(store.seam().bins_to_prune().await.expect("bins").is_empty());
    assert_eq!((bodies(store, &bin, None).await.len(), bodies(store, &other, None).await.len()), (1, 1));
}

async fn a_smaller_bin_forgets_requests(store: &mut TestStore) {
    let bin = bin_with(store, BinSettings::default()).await;
    for body in ["a", "b", "c"] {
        receive(store, &bin, body).await;
    }
    let settings = BinSettings { name: "small".into(), requests_max: 1, ..BinSettings::default() };
    let changed = store.update_bin(operator(), tenant(), bin.id.clone(), settings.clone()).await.expect("changed");
    assert_eq!((&changed.settings, changed.received), (&settings, 3));
    assert_eq!(bodies(store, &bin, None).await, ["c"]);
    store.reopen().await;
    assert_eq!(store.bin(tenant(), bin.id).await.expect("the bin").settings, settings);
    let unknown = BinId::parse("nothing").expect("an id");
    assert!(is_missing(&store.update_bin(operator(), tenant(), unknown, settings).await));
}

async fn a_request_is_shown_with_the_one_before(store: &mut TestStore) {
    let bin = bin_with(store, BinSettings::default()).await;
    let first = receive(store, &bin, "a").await;
    let second = receive(store, &bin, "b").await;
    let (found, before) = store.bin_request(tenant(), bin.id.clone(), second).await.expect("the request");
    assert_eq!((found.id, &*found.body, &*found.head.method), (second, &b"b"[..], "POST"));
    assert_eq!((found.received_at_ms, before.map(|one| one.id)), (store.now_ms(), Some(first)));
    let (_, before) = store.bin_request(tenant(), bin.id.clone(), first).await.expect("the request");
    assert!(before.is_none());
    assert!(is_missing(&store.bin_request(tenant(), bin.id, Uuid::nil()).await));
}

async fn requests_are_searched(store: &mut TestStore) {
    let bin = bin_with(store, BinSettings::default()).await;
    for body in ["An Apple", "a pear", "pineapple", "%_"] {
        receive(store, &bin, body).await;
    }
    let head = RequestHead { headers: vec![("x-fruit".into(), "APPLE".into())], ..RequestHead::default() };
    store.receive_in_bin(&tenant(), &bin, head, Bytes::from_static(b"in a header")).await.expect("received");
    assert_eq!(bodies(store, &bin, Some("apple")).await, ["in a header", "pineapple", "An Apple"]);
    assert_eq!(bodies(store, &bin, Some("A PEAR")).await, ["a pear"]);
    assert_eq!(bodies(store, &bin, Some("%_")).await, ["%_"], "a search has no wildcards");
    assert_eq!(bodies(store, &bin, Some("grape")).await.len(), 0);
}

async fn many_requests_are_listed_and_searched(store: &mut TestStore) {
    let bin = bin_with(store, BinSettings { requests_max: 150, ..BinSettings::default() }).await;
    for nth in 0..151 {
        receive(store, &bin, &format!("request {nth}.")).await;
    }
    let all = bodies(store, &bin, None).await;
    assert_eq!((all.len(), &*all[0], &*all[98]), (99, "request 150.", "request 52."));
    let found = bodies(store, &bin, Some("request 1.")).await;
    assert_eq!(found, ["request 1."], "the oldest one that is kept");
    let filter = BinFilter { limit: 150, ..BinFilter::default() };
    let page = store.bin_requests(tenant(), bin.id, filter).await.expect("a page");
    assert_eq!((page.requests.len(), page.further), (150, None), "all of them");
}

async fn a_search_continues_after_some_megabytes(store: &mut TestStore) {
    let bin = bin_with(store, BinSettings::default()).await;
    let oldest = receive(store, &bin, "a needle").await;
    for _ in 0..66 {
        receive(store, &bin, &"x".repeat(SEARCHED_BYTES)).await;
    }
    let mut filter = BinFilter { search: Some("Needle".into()), limit: 9, ..BinFilter::default() };
    let page = store.bin_requests(tenant(), bin.id.clone(), filter.clone()).await.expect("a page");
    assert!(page.requests.is_empty() && page.further.is_some(), "{page:?}");
    filter.before = page.further;
    let page = store.bin_requests(tenant(), bin.id.clone(), filter).await.expect("a page");
    assert_eq!((page.requests.iter().map(|one| one.id).collect::<Vec<_>>(), page.further), (vec![oldest], None));
}

async fn a_bin_has_a_limited_size(store: &mut TestStore) {
    let bin = bin_with(store, BinSettings::default()).await;
    let quarter = usize::try_from(BIN_BYTES_MAX / 4).expect("a size");
    for _ in 0..5 {
        receive(store, &bin, &"x".repeat(quarter)).await;
    }
    assert_eq!(bodies(store, &bin, None).await.len(), 3, "four have no room for their heads");
    receive(store, &bin, "small").await;
    assert_eq!(bodies(store, &bin, None).await.len(), 4);
}

async fn requests_are_forgotten(store: &mut TestStore) {
    let bin = bin_with(store, BinSettings::default()).await;
    let first = receive(store, &bin, "a").await;
    receive(store, &bin, "b").await;
    receive(store, &bin, "c").await;
    let forget = async |id| store.forget_bin_requests(operator(), tenant(), bin.id.clone(), id).await;
    forget(Some(first)).await.expect("forgotten");
    assert!(is_missing(&forget(Some(first)).await));
    assert_eq!(bodies(store, &bin, None).await, ["c", "b"]);
    forget(None).await.expect("forgotten");
    assert_eq!(bodies(store, &bin, None).await.len(), 0);
    forget(None).await.expect("an empty bin is emptied as well");
    assert_eq!(store.bin(tenant(), bin.id.clone()).await.expect("the bin").received, 3);
}

async fn a_bin_belongs_to_its_tenant(store: &mut TestStore) {
    let other = store.add_tenant("u").await;
    let bin = bin_with(store, BinSettings::default()).await;
    let id = bin.id.clone();
    let request = receive(store, &bin, "a").await;
    assert!(store.bins(other.clone()).await.expect("bins").is_empty());
    assert!(is_missing(&store.bin(other.clone(), id.clone()).await));
    assert!(is_missing(&store.bin_requests(other.clone(), id.clone(), BinFilter::default()).await));
    assert!(is_missing(&store.bin_request(other.clone(), id.clone(), request).await));
    assert!(is_missing(&store.update_bin(operator(), other.clone(), id.clone(), BinSettings::default()).await));
    assert!(is_missing(&store.forget_bin_requests(operator(), other.clone(), id.clone(), None).await));
    assert!(is_missing(&store.delete_bin(operator(), other, id).await));
    assert_eq!(bodies(store, &bin, None).await, ["a"]);
}

async fn a_tenant_has_a_limited_number_of_bins(store: &mut TestStore) {
    join_all((0..BINS_MAX).map(|_| bin_with(store, BinSettings::default()))).await;
    let refused = store.create_bin(operator(), tenant(), BinSettings::default()).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    let other = store.add_tenant("u").await;
    store.create_bin(operator(), other, BinSettings::default()).await.expect("another tenant has room");
}

async fn a_bin_stays_within_the_share(store: &mut TestStore) {
    let bin = bin_with(store, BinSettings { requests_max: 1, ..BinSettings::default() }).await;
    receive(store, &bin, "a").await;
    store.reopen_with_room(1_000).await;
    let body = Bytes::from(vec![b'x'; 2_000]);
    let refused = store.receive_in_bin(&tenant(), &bin, RequestHead::default(), body).await;
    assert!(matches!(refused, Err(StoreError::TenantFull(_))), "{refused:?}");
    assert_eq!(store.bin(tenant(), bin.id.clone()).await.expect("the bin").received, 1, "nothing was written");
    receive(store, &bin, "b").await;
    assert_eq!(bodies(store, &bin, None).await, ["b"]);
}

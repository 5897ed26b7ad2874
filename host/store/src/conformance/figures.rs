//! Sums of statistics: each cell is in one span of each length, for as long as the span is kept.

use super::test_store::{HOUR_MS, TestStore, tenant};
use crate::Actor;
use crate::backend::figures::{Cell, SpanFigures};
use hookloom_model::delivery::AttemptOutcome;
use hookloom_model::figures::Figures;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use uuid::Uuid;

conformance! {
    cells_of_a_write_share_their_spans,
    figures_of_a_full_or_unknown_tenant_are_left_out,
    figures_are_deleted_after_their_retention,
}

/// Returns a cell of one delivered attempt.
fn cell(of: TenantId, minute_s: i64, plugin: &str) -> (Cell, Figures) {
    let mut figures = Figures::default();
    figures.add(AttemptOutcome::Delivered, Some(5), None);
    (Cell { tenant: of, minute_s, subscription: SubscriptionId(Uuid::nil()), plugin: plugin.into() }, figures)
}

/// Returns a time within the current hour, which is the beginning of the hour and some minutes.
fn minute_s(store: &TestStore, minutes: i64) -> i64 {
    store.now_ms() / HOUR_MS * HOUR_MS / 1_000 + minutes * 60
}

async fn put(store: &TestStore, cells: Vec<(Cell, Figures)>) {
    store.seam().put_figures(cells).await.expect("written");
}

async fn sums(store: &TestStore, of: TenantId, span_s: i64) -> Vec<SpanFigures> {
    store.seam().figures(of, span_s, 0).await.expect("figures")
}

/// Returns the number of delivered attempts of each span, by time and plugins.
async fn delivered(store: &TestStore, span_s: i64) -> Vec<(i64, String, u64)> {
    let found = sums(store, tenant(), span_s).await;
    found.into_iter().map(|one| (one.at_s, one.plugin, one.figures.delivered)).collect()
}

async fn cells_of_a_write_share_their_spans(store: &mut TestStore) {
    let [first, second] = [minute_s(store, 1), minute_s(store, 2)];
    let hour = minute_s(store, 0);
    put(store, vec![cell(tenant(), second, "a+b"), cell(tenant(), first, ""), cell(tenant(), second, "")]).await;
    put(store, vec![cell(tenant(), second, ""), cell(tenant(), second, "")]).await;
    let minutes = [(first, String::new(), 1), (second, String::new(), 3), (second, "a+b".to_owned(), 1)];
    assert_eq!(delivered(store, 60).await, minutes);
    assert_eq!(delivered(store, 3_600).await, [(hour, String::new(), 4), (hour, "a+b".to_owned(), 1)]);
    let latencies = sums(store, tenant(), 3_600).await.iter().map(|one| one.figures.post.count()).collect::<Vec<_>>();
    assert_eq!(latencies, [4, 1]);
}

async fn figures_of_a_full_or_unknown_tenant_are_left_out(store: &mut TestStore) {
    let other = store.add_tenant("u").await;
    store.create_token(Actor::Host, tenant(), "a long label that no other tenant has".into()).await.expect("a token");
    // The share that the tenant has used up. The other tenant uses less of it.
    store.reopen_with_room(0).await;
    let at_s = minute_s(store, 0);
    let nobody = TenantId("nobody".into());
    let cells = [tenant(), other.clone(), nobody.clone()].map(|of| cell(of, at_s, ""));
    put(store, cells.to_vec()).await;
    assert!(sums(store, tenant(), 60).await.is_empty() && sums(store, nobody, 60).await.is_empty());
    assert_eq!(sums(store, other, 60).await.len(), 1);
}

async fn figures_are_deleted_after_their_retention(store: &mut TestStore) {
    let old = minute_s(store, 0);
    put(store, vec![cell(tenant(), old, "")]).await;
    store.pass(26 * HOUR_MS);
    let young = minute_s(store, 0);
    put(store, vec![cell(tenant(), young, "")]).await;
    assert_eq!(delivered(store, 60).await, [(young, String::new(), 1)]);
    assert_eq!(delivered(store, 3_600).await, [(old, String::new(), 1), (young, String::new(), 1)]);
    store.pass(7 * 24 * HOUR_MS);
    // A tenant without room loses its old sums as well.
    store.reopen_with_room(0).await;
    put(store, vec![cell(tenant(), minute_s(store, 0), "")]).await;
    assert_eq!(delivered(store, 60).await, []);
    assert_eq!(delivered(store, 3_600).await, [(young, String::new(), 1)]);
}

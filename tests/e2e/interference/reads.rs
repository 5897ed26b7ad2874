//! Attacks by reads: searches without results, lists, pages and metrics of much data.

use super::arena::{Arena, Attack, Tenant, again, batch, concurrent};
use super::run::Scenario;
use crate::harness::{exchange, guest, text};
use reqwest::Method;
use serde_json::json;
use std::sync::Arc;

/// Scenarios of this kind.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new("bin-searches", "16 searches at once in bins with 12 MiB each", |arena| {
        Box::pin(bin_searches(arena))
    }),
    Scenario::new("lists", "16 readers of lists of deliveries, with filters that match none of 50,000", |arena| {
        Box::pin(lists(arena))
    }),
    Scenario::new("overviews", "16 readers of overview, ledger and metrics", |arena| Box::pin(overviews(arena))),
];

/// Requests these paths in turn, by this number of concurrent readers.
fn readers(tenant: &Tenant, cookie: &str, count: usize, paths: Vec<String>) -> Vec<Attack> {
    let paths: Arc<[String]> = paths.into();
    concurrent(count, |number| {
        let tenant = tenant.clone();
        let paths = paths.clone();
        let cookie = cookie.to_owned();
        again(move |round| {
            let path = &paths[(number + round) % paths.len()];
            let request = tenant.request(Method::GET, path).header("cookie", &cookie);
            async move { drop(exchange(request).await) }
        })
    })
}

/// Searches for a text that occurs in none of many large requests.
async fn bin_searches(arena: Arena) -> Vec<Attack> {
    let tenant = arena.tenant("a").await;
    let mut paths = Vec::new();
    for _ in 0..arena.pick(8, 2) {
        let settings = json!({"body_bytes_max": 4 << 20, "requests_max": 1_000}).to_string();
        let bin = text(&tenant.ask(Method::POST, "./bins", settings).await, "id").to_owned();
        for _ in 0..3 {
            tenant.ask(Method::POST, &format!("/bins/{bin}/"), vec![b'x'; 4 << 20]).await;
        }
        paths.push(format!("./bins/{bin}/requests?search=%25x%25y%25z%25nothing&limit=500"));
    }
    readers(&tenant, "", 16, paths)
}

/// Creates a tenant with many ended deliveries, and one with rare properties.
async fn with_deliveries(arena: &Arena, count: usize) -> Tenant {
    let tenant = arena.tenant("a").await;
    tenant.plugin("drops", guest("remembers")).await;
    tenant.subscription("http://127.0.0.1:9999/", json!({"plugin": "drops", "concurrency": 256})).await;
    for number in 0..count / 1_000 {
        tenant.ask(Method::POST, "./events", batch(number * 1_000, 1_000)).await;
    }
    tenant
}

/// Requests lists of deliveries: filters without results, and pages of 500.
async fn lists(arena: Arena) -> Vec<Attack> {
    let tenant = with_deliveries(&arena, arena.pick(50_000, 2_000)).await;
    let cookie = tenant.sign_in().await;
    let id = tenant.ask(Method::GET, "./subscriptions", "").await[0]["id"].as_str().unwrap().to_owned();
    let paths = [
        "./deliveries?state=dead&limit=500".to_owned(),
        format!("./deliveries?state=cancelled&subscription={id}&limit=500"),
        "./deliveries?limit=500".to_owned(),
        "/t/a/deliveries?state=dead".to_owned(),
    ];
    readers(&tenant, &cookie, 16, paths.into())
}

/// Requests the overview, the ledger, and the metrics of the whole host.
async fn overviews(arena: Arena) -> Vec<Attack> {
    let tenant = with_deliveries(&arena, arena.pick(50_000, 2_000)).await;
    let cookie = tenant.sign_in().await;
    let paths = ["/t/a", "./ledger", "/t/a?span=week", "/t/a/webhooks"].map(str::to_owned);
    let metrics = readers(&arena.operator(), "", 4, vec!["/metrics".to_owned()]);
    readers(&tenant, &cookie, 12, paths.into()).into_iter().chain(metrics).collect()
}

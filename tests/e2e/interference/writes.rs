//! Attacks by writes: products of two limits, long values, many small writes, large operations.

use super::arena::{Arena, Attack, Tenant, again, batch, concurrent, large_event, subscription};
use super::run::Scenario;
use crate::harness::{event, guest, text};
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Scenarios of this kind.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new("fan-out", "batches of 2,000 events for 2,000 webhooks, or as many as are accepted", |arena| {
        Box::pin(fan_out(arena))
    }),
    Scenario::new("batches", "16 batches of 1,000 events at once for 10 webhooks", |arena| Box::pin(batches(arena))),
    Scenario::new("single-events", "64 senders of single events for 5 webhooks", |arena| {
        Box::pin(single_events(arena))
    }),
    Scenario::new("oversized-batches", "4 bodies of 16 MiB at once with 340,000 events", |arena| {
        Box::pin(oversized_batches(arena))
    }),
    Scenario::new("long-ids", "ids of 250 KB for 1,000 ordered webhooks", |arena| Box::pin(long_ids(arena))),
    Scenario::new("idempotency-keys", "32 senders of events with ever new idempotency keys", |arena| {
        Box::pin(idempotency_keys(arena))
    }),
    Scenario::new("subscriptions", "8 clients that make, change and delete subscriptions", |arena| {
        Box::pin(subscriptions(arena))
    }),
    Scenario::new(
        "changes",
        "60 KB of configuration changed without pause, and the log of changes read by 8",
        |arena| Box::pin(changes(arena)),
    ),
    Scenario::new("rejected-requests", "16 senders of 260 KB to `/in` that are no events", |arena| {
        Box::pin(rejected_requests(arena))
    }),
    Scenario::new("replays", "replays and redrives of 50,000 deliveries", |arena| Box::pin(replays(arena))),
    Scenario::new("tests", "32 test deliveries at once of 200 KB", |arena| Box::pin(tests(arena))),
];

/// Plugin that drops everything, so that a delivery ends without a receiver.
const DROPS: &str = "remembers";

/// Creates a tenant with this number of webhooks, whose deliveries end at once.
async fn with_webhooks(arena: &Arena, count: usize, also: &Value) -> Tenant {
    let tenant = arena.tenant("a").await;
    tenant.plugin("drops", guest(DROPS)).await;
    let mut settings = json!({"plugin": "drops"});
    settings.as_object_mut().unwrap().extend(also.as_object().cloned().unwrap());
    let made =
        futures_util::stream::iter(0..count).map(|_| tenant.subscription("http://127.0.0.1:9999/", settings.clone()));
    made.buffer_unordered(32).for_each(async |_| {}).await;
    tenant
}

/// Repeatedly sends the largest accepted batch: halves it while it is refused.
fn largest_batches(tenant: Tenant, events: usize) -> Attack {
    let size = Arc::new(AtomicUsize::new(events));
    again(move |_| {
        let tenant = tenant.clone();
        let size = size.clone();
        async move {
            let events = size.load(Ordering::SeqCst);
            if (400..500).contains(&tenant.send(batch(0, events)).await) {
                size.store((events / 2).max(1), Ordering::SeqCst);
            }
        }
    })
}

/// Sends one batch to all webhooks.
async fn fan_out(arena: Arena) -> Vec<Attack> {
    let webhooks = arena.pick(2_000, 200);
    let tenant = with_webhooks(&arena, webhooks, &json!({})).await;
    vec![largest_batches(tenant, arena.pick(2_000, 1_000))]
}

/// Sends many allowed batches concurrently.
async fn batches(arena: Arena) -> Vec<Attack> {
    let tenant = with_webhooks(&arena, 10, &json!({})).await;
    concurrent(16, |_| largest_batches(tenant.clone(), 1_000))
}

/// Sends single events by many concurrent senders.
async fn single_events(arena: Arena) -> Vec<Attack> {
    let tenant = with_webhooks(&arena, 5, &json!({})).await;
    concurrent(64, |_| {
        let tenant = tenant.clone();
        again(move |round| {
            let tenant = tenant.clone();
            async move {
                tenant.send(event("Contact is Created", round)).await;
            }
        })
    })
}

/// Sends bodies of 16 MiB with many more events than a batch may have.
async fn oversized_batches(arena: Arena) -> Vec<Attack> {
    let tenant = arena.tenant("a").await;
    let line = r#"{"eventName":"Contact is Created","eventData":{}}"#;
    let count = (16 << 20) / (line.len() + 1) - 1;
    let lines: bytes::Bytes = vec![line; count].join("\n").into();
    let array: bytes::Bytes = format!("[{}]", vec![line; count].join(",")).into();
    concurrent(4, move |number| {
        let tenant = tenant.clone();
        let body = if number % 2 == 0 { lines.clone() } else { array.clone() };
        again(move |_| {
            let tenant = tenant.clone();
            let body = body.clone();
            async move {
                tenant.send(body).await;
            }
        })
    })
}

/// Sends events with an id of 250 KB to ordered webhooks.
async fn long_ids(arena: Arena) -> Vec<Attack> {
    let ordering = json!({"ordering": {"on_failure": "block"}});
    let tenant = with_webhooks(&arena, arena.pick(1_000, 200), &ordering).await;
    concurrent(4, move |lane| {
        let tenant = tenant.clone();
        again(move |round| {
            let tenant = tenant.clone();
            let id = format!("{lane}-{round}-{}", "i".repeat(250_000));
            async move {
                tenant.send(format!(r#"{{"eventName":"Contact is Created","eventData":{{"id":"{id}"}}}}"#)).await;
            }
        })
    })
}

/// Sends events with a different idempotency key each.
async fn idempotency_keys(arena: Arena) -> Vec<Attack> {
    let tenant = with_webhooks(&arena, 1, &json!({})).await;
    concurrent(32, |lane| {
        let tenant = tenant.clone();
        again(move |round| {
            let key = format!("{lane}-{round}-{}", "k".repeat(230));
            let request = tenant.request(Method::POST, "./events").header("idempotency-key", key);
            async move { drop(crate::harness::exchange(request.body(event("Contact is Created", round))).await) }
        })
    })
}

/// Creates, changes and deletes subscriptions without pause.
async fn subscriptions(arena: Arena) -> Vec<Attack> {
    let tenant = with_webhooks(&arena, 50, &json!({})).await;
    concurrent(8, move |_| {
        let tenant = tenant.clone();
        again(move |_| {
            let tenant = tenant.clone();
            async move {
                let wanted = subscription("http://127.0.0.1:9999/", &json!({}));
                let Some(made) = tenant.try_ask(Method::POST, "./subscriptions", wanted.clone()).await else { return };
                let Some(id) = made.json["id"].as_str() else { return };
                let path = format!("./subscriptions/{id}");
                tenant.try_ask(Method::PUT, &path, wanted).await;
                tenant.try_ask(Method::DELETE, &path, "").await;
            }
        })
    })
}

/// Repeatedly changes a subscription with this much configuration, and reads the log of changes.
async fn changes(arena: Arena) -> Vec<Attack> {
    let tenant = with_webhooks(&arena, 0, &json!({})).await;
    fn settings(round: usize) -> Value {
        let entry = |number: usize| (format!("k{number}"), Value::String(format!("{round}-{}", "c".repeat(230))));
        json!({"plugin": "drops", "config": (0..250).map(entry).collect::<serde_json::Map<_, _>>()})
    }
    let id = tenant.subscription("http://127.0.0.1:9999/", settings(0)).await;
    let path = format!("./subscriptions/{id}");
    for round in 0..arena.pick(200, 20) {
        tenant.ask(Method::PUT, &path, subscription("http://127.0.0.1:9999/", &settings(round))).await;
    }
    let cookie = tenant.sign_in().await;
    let writer = tenant.clone();
    let reader = tenant;
    let writes = again(move |round| {
        let tenant = writer.clone();
        let path = path.clone();
        let wanted = subscription("http://127.0.0.1:9999/", &settings(round));
        async move {
            tenant.try_ask(Method::PUT, &path, wanted).await;
        }
    });
    let reads = concurrent(8, move |number| {
        let tenant = reader.clone();
        let cookie = cookie.clone();
        again(move |_| {
            let path = if number < 4 { "./changes?limit=500" } else { "/t/a/changes" };
            let request = tenant.request(Method::GET, path).header("cookie", &cookie);
            async move { drop(crate::harness::exchange(request).await) }
        })
    });
    reads.into_iter().chain([writes]).collect()
}

/// Sends requests to `/in` that are not events and are kept.
async fn rejected_requests(arena: Arena) -> Vec<Attack> {
    let tenant = arena.tenant("a").await;
    let token = tenant.ask(Method::POST, "./intake-tokens", r#"{"label":"x"}"#).await;
    let path = text(&token, "path").to_owned();
    concurrent(16, move |_| {
        let tenant = tenant.clone();
        let path = path.clone();
        again(move |_| {
            let tenant = tenant.clone();
            let path = path.clone();
            async move {
                tenant.try_ask(Method::POST, &path, vec![b'{'; 260_000]).await;
            }
        })
    })
}

/// Replays and redrives all events of a webhook.
async fn replays(arena: Arena) -> Vec<Attack> {
    let tenant = with_webhooks(&arena, 1, &json!({"concurrency": 256})).await;
    for number in 0..arena.pick(50, 2) {
        tenant.ask(Method::POST, "./events", batch(number * 1_000, 1_000)).await;
    }
    let give_up = Instant::now() + Duration::from_secs(300);
    while tenant.ask(Method::GET, "./ledger", "").await["pending"] != 0 && Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let id = tenant.ask(Method::GET, "./subscriptions", "").await[0]["id"].as_str().unwrap().to_owned();
    concurrent(2, move |number| {
        let tenant = tenant.clone();
        let id = id.clone();
        again(move |_| {
            let tenant = tenant.clone();
            let id = id.clone();
            async move {
                let (action, body) = if number == 0 {
                    ("replay", json!({"from_ms": 0, "to_ms": i64::MAX}))
                } else {
                    ("redrive", json!({"states": ["dropped"], "from_ms": 0}))
                };
                tenant.try_ask(Method::POST, &format!("./subscriptions/{id}/{action}"), body.to_string()).await;
            }
        })
    })
}

/// Sends concurrent test deliveries of large events.
async fn tests(arena: Arena) -> Vec<Attack> {
    let tenant = with_webhooks(&arena, 1, &json!({"concurrency": 256})).await;
    let id = tenant.ask(Method::GET, "./subscriptions", "").await[0]["id"].as_str().unwrap().to_owned();
    let path = format!("./subscriptions/{id}/test");
    concurrent(32, move |_| {
        let tenant = tenant.clone();
        let path = path.clone();
        again(move |round| {
            let tenant = tenant.clone();
            let path = path.clone();
            async move {
                tenant.try_ask(Method::POST, &path, large_event(round, 200_000)).await;
            }
        })
    })
}

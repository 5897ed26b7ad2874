//! Attacks by plugins: sections of components, CPU time, logs, and output that is compared and searched.

use super::arena::{Arena, Attack, Tenant, again, batch, concurrent, large_event, subscription};
use super::run::Scenario;
use crate::harness::{RawReceiver, example, guest};
use crate::hostile_sections::{self, with_sections};
use crate::soak::distinct;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Scenarios of this kind.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "debug-ranges",
        "a plugin whose 40,000 debug units share 60,000 ranges, uploaded and called",
        |arena| Box::pin(debug_ranges(arena)),
    ),
    Scenario::new("debug-lines", "a plugin whose 20,000 debug units share a million line instructions", |arena| {
        Box::pin(debug_lines(arena))
    }),
    Scenario::new("long-names", "a plugin with 500 function names of 15 KB that traps", |arena| {
        Box::pin(long_names(arena))
    }),
    Scenario::new("spinning-plugins", "six tenants whose plugins spin for a second", |arena| Box::pin(spinning(arena))),
    Scenario::new("dry-runs", "64 dry runs at once of a plugin that spins", |arena| Box::pin(dry_runs(arena))),
    Scenario::new("logs", "1,000 calls/s of a plugin that floods its log", |arena| Box::pin(logs(arena))),
    Scenario::new("chains", "chains of eight with 250 secrets and bodies of 200 KB", |arena| Box::pin(chains(arena))),
    Scenario::new("shadows", "shadow comparisons of 60 KB bodies that differ in every line", |arena| {
        Box::pin(shadows(arena))
    }),
    Scenario::new("diff-pages", "pages and comparisons that show such differences, 8 at once", |arena| {
        Box::pin(diff_pages(arena))
    }),
    Scenario::new("compiles", "two tenants that compile large components without pause", |arena| {
        Box::pin(compiles(arena))
    }),
    Scenario {
        restarts: true,
        ..Scenario::new("restart", "a restart with plugins that must be compiled again", |arena| {
            Box::pin(to_compile(arena))
        })
    },
    Scenario::new("versions", "4 uploads at once of ever new plugin versions", |arena| Box::pin(versions(arena))),
];

/// Uploads this component repeatedly under new names, and has it called.
async fn uploaded_and_called(arena: Arena, component: Vec<u8>) -> Vec<Attack> {
    let tenant = arena.tenant("a").await;
    let url = RawReceiver::hanging().await.url;
    vec![again(move |round| {
        let (tenant, url, component) = (tenant.clone(), url.clone(), distinct(&component, round % 10_000));
        async move {
            let name = format!("p{round}");
            tenant.try_ask(Method::PUT, &format!("./plugins/{name}"), component).await;
            let wanted = subscription(&url, &json!({"plugin": name, "retry": {"schedule_s": [0, 0]}}));
            tenant.try_ask(Method::POST, "./subscriptions", wanted).await;
            tenant.send(batch(0, 20)).await;
        }
    })]
}

async fn debug_ranges(arena: Arena) -> Vec<Attack> {
    let component = with_sections(&guest("traps"), &hostile_sections::ranges());
    uploaded_and_called(arena, component).await
}

async fn debug_lines(arena: Arena) -> Vec<Attack> {
    let component = with_sections(&guest("traps"), &hostile_sections::lines());
    uploaded_and_called(arena, component).await
}

async fn long_names(arena: Arena) -> Vec<Attack> {
    let component = with_sections(&guest("recurses"), &hostile_sections::names());
    uploaded_and_called(arena, component).await
}

/// Creates a tenant whose subscription has this plugin, with the largest limits and no retries.
async fn with_plugin(arena: &Arena, id: &str, component: Vec<u8>, also: Value) -> Tenant {
    let tenant = arena.tenant(id).await;
    tenant.plugin("p", component).await;
    let limits = json!({"cpu_ms": 1_000, "wall_ms": 5_000});
    let mut settings = json!({"plugin": "p", "limits": limits, "retry": {"schedule_s": [0]}, "concurrency": 256});
    settings.as_object_mut().unwrap().extend(also.as_object().cloned().unwrap());
    let url = RawReceiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned()).await.url;
    // Two, so that the tenant reaches its maximum of attempts under way.
    for _ in 0..2 {
        tenant.subscription(&url, settings.clone()).await;
    }
    tenant
}

/// Runs six tenants whose plugins use all of their time.
async fn spinning(arena: Arena) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for number in 0..6 {
        let tenant = with_plugin(&arena, &format!("a{number}"), guest("loops"), json!({})).await;
        attacks.push(again(move |_| {
            let tenant = tenant.clone();
            async move {
                tenant.send(batch(0, 500)).await;
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }));
    }
    attacks
}

/// Uses all of the time by concurrent dry runs.
async fn dry_runs(arena: Arena) -> Vec<Attack> {
    let tenant = arena.tenant("a").await;
    tenant.plugin("p", guest("loops")).await;
    let event: Value = serde_json::from_str(&batch(0, 1)).unwrap();
    let body = json!({"event": event, "limits": {"cpu_ms": 1_000, "wall_ms": 5_000}}).to_string();
    concurrent(64, move |_| {
        let tenant = tenant.clone();
        let body = body.clone();
        again(move |_| {
            let tenant = tenant.clone();
            let body = body.clone();
            async move {
                tenant.try_ask(Method::POST, "./plugins/p/dry-run", body).await;
            }
        })
    })
}

async fn logs(arena: Arena) -> Vec<Attack> {
    let limits = json!({"log_bytes": 65_536, "log_bytes_per_minute": 4_194_304, "cpu_ms": 1_000, "wall_ms": 5_000});
    let tenant = with_plugin(&arena, "a", guest("floods_log"), json!({"limits": limits})).await;
    vec![again(move |round| {
        let tenant = tenant.clone();
        async move {
            tenant.send(batch(round * 100, 100)).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })]
}

/// Runs a chain of eight plugins, each of which returns 200 KB in which many secrets are searched.
async fn chains(arena: Arena) -> Vec<Attack> {
    let secrets: serde_json::Map<String, Value> = (0..250)
        .map(|number| (format!("s{number:03}"), format!("{}{number:03}", "x".repeat(200))))
        .map(|(name, value)| (name, Value::String(value)))
        .collect();
    let limits = json!({"cpu_ms": 1_000, "wall_ms": 5_000});
    let also = json!({"plugin": vec!["p"; 8], "secrets": secrets, "limits": limits});
    let tenant = with_plugin(&arena, "a", guest("appends"), also).await;
    concurrent(4, move |_| {
        let tenant = tenant.clone();
        again(move |round| {
            let tenant = tenant.clone();
            async move {
                tenant.send(large_event(round, 200_000)).await;
            }
        })
    })
}

/// Returns an event of about 60 KB with many lines, all of which `flatten` changes.
fn many_lines(number: usize) -> String {
    let property = |index: usize| json!({"type": "CUSTOM", "name": format!("p{index}"), "value": format!("v{number}-{index}-{}", "y".repeat(40))});
    let properties: Vec<Value> = (0..550).map(property).collect();
    json!({"eventName": "Contact is Created", "eventData": {"id": number, "properties": properties}}).to_string()
}

/// Runs a shadow whose output differs from the active version's in every line of 60 KB.
async fn shadows(arena: Arena) -> Vec<Attack> {
    let tenant = with_plugin(&arena, "a", guest("passes"), json!({})).await;
    let uploaded = tenant.ask(Method::PUT, "./plugins/p?activate=false", example("flatten")).await;
    let rollout = json!({"kind": "shadow", "sha256": uploaded["sha256"]}).to_string();
    tenant.ask(Method::PUT, "./plugins/p/rollout", rollout).await;
    vec![again(move |round| {
        let tenant = tenant.clone();
        async move {
            let events: Vec<String> = (0..40).map(|number| many_lines(round * 40 + number)).collect();
            tenant.send(events.join("\n")).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })]
}

/// Requests pages with comparisons: deliveries before and after their plugin, and a version with the active one.
async fn diff_pages(arena: Arena) -> Vec<Attack> {
    let tenant = with_plugin(&arena, "a", example("flatten"), json!({})).await;
    let uploaded = tenant.ask(Method::PUT, "./plugins/p?activate=false", guest("passes")).await;
    let events: Vec<String> = (0..50).map(many_lines).collect();
    let accepted = tenant.ask(Method::POST, "./events", events.join("\n")).await;
    let event = format!("./events/{}", accepted["events"][0]["id"].as_str().unwrap());
    let shown = tenant.ask(Method::GET, &event, "").await;
    let page = format!("/t/a/deliveries/{}", shown["deliveries"][0]["id"].as_str().unwrap());
    let compare = format!("./plugins/p/versions/{}/compare", uploaded["sha256"].as_str().unwrap());
    let cookie = tenant.sign_in().await;
    concurrent(8, move |number| {
        let tenant = tenant.clone();
        let page = page.clone();
        let compare = compare.clone();
        let cookie = cookie.clone();
        again(move |_| {
            let tenant = tenant.clone();
            let compare = compare.clone();
            let page = tenant.request(Method::GET, &page).header("cookie", &cookie);
            async move {
                if number < 6 {
                    drop(crate::harness::exchange(page).await);
                } else {
                    tenant.try_ask(Method::POST, &compare, r#"{"events":50}"#).await;
                }
            }
        })
    })
}

/// Returns a plugin with an additional module that is never called and takes seconds to compile.
fn hard_to_compile() -> Vec<u8> {
    const HEADER: usize = 8;
    [&guest("passes")[..], &crate::bad_input::compile_bomb()[HEADER..]].concat()
}

/// Runs two tenants that compile without pause, and measures the uploads of a small plugin of a third one.
async fn compiles(arena: Arena) -> Vec<Attack> {
    let bomb = hard_to_compile();
    let mut attacks = Vec::new();
    for number in 0..2 {
        let tenant = arena.tenant(&format!("a{number}")).await;
        let bomb = bomb.clone();
        attacks.extend(concurrent(4, |lane| {
            let tenant = tenant.clone();
            let bomb = bomb.clone();
            again(move |round| {
                let tenant = tenant.clone();
                let bomb = distinct(&bomb, number * 5_000 + lane * 1_000 + round % 1_000);
                async move {
                    tenant.try_ask(Method::PUT, &format!("./plugins/p{lane}"), bomb).await;
                }
            })
        }));
    }
    let third = arena.tenant("third").await;
    let passes = guest("passes");
    attacks.push(again(move |round| {
        let arena = arena.clone();
        let third = third.clone();
        let component = distinct(&passes, round % 10_000);
        async move {
            let begun = std::time::Instant::now();
            let uploading = third.try_ask(Method::PUT, "./plugins/small", component);
            let timed_out = tokio::time::timeout(Duration::from_secs(8), uploading).await.is_err();
            if round == 0 || timed_out {
                let over = if timed_out { "more than " } else { "" };
                arena.note(format!("a third tenant's upload took {over}{:.1} s", begun.elapsed().as_secs_f64()));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }));
    attacks
}

/// Creates plugins that are compiled again at the next start.
async fn to_compile(arena: Arena) -> Vec<Attack> {
    let tenant = arena.tenant("a").await;
    let bomb = hard_to_compile();
    for number in 0..arena.pick(6, 2) {
        tenant.plugin(&format!("p{number}"), distinct(&bomb, number)).await;
    }
    Vec::new()
}

/// Uploads new versions without end.
async fn versions(arena: Arena) -> Vec<Attack> {
    let tenant = arena.tenant("a").await;
    let flatten = example("flatten");
    concurrent(4, move |lane| {
        let tenant = tenant.clone();
        let flatten = flatten.clone();
        again(move |round| {
            let tenant = tenant.clone();
            let component = distinct(&flatten, lane * 2_000 + round % 2_000);
            async move {
                tenant.try_ask(Method::PUT, &format!("./plugins/p{lane}"), component).await;
            }
        })
    })
}

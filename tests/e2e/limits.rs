//! Precedence of plugin limits: the operator's for all tenants, the operator's for a tenant, the owner's for a subscription. The
//! plugins of one tenant do not slow down another's.

use crate::harness::{Host, Receiver, SECRET, event, example, guest, text, until};
use reqwest::Method;
use serde_json::{Value, json};

/// Returns a plugin's verdict and reason in a host with these settings, config and limits.
async fn judged(host: &Host, plugin: &str, also: Value) -> (String, String) {
    host.plugin("p", if plugin == "flatten" { example(plugin) } else { guest(plugin) }).await;
    let mut run = json!({"event": serde_json::from_str::<Value>(&event("Contact is Created", 1)).unwrap()});
    run.as_object_mut().unwrap().extend(also.as_object().cloned().unwrap());
    let shown = host.post("./plugins/p/dry-run", &run).await;
    (text(&shown, "verdict").to_owned(), shown["reason"]["message"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn tables_and_what_is_handed_over_are_bounded_by_name() {
    let host = Host::start().await;
    #[track_caller]
    fn check((verdict, reason): (String, String), expected: (&str, &str)) {
        assert!(verdict == expected.0 && reason.contains(expected.1), "{verdict}: {reason}");
    }
    fn limits(limits: Value) -> Value {
        json!({"limits": limits})
    }
    check(
        judged(&host, "flatten", limits(json!({"table_elements": 8}))).await,
        ("fault", "limits.table_elements is 8"),
    );
    check(judged(&host, "flatten", limits(json!({"table_elements": 5_000}))).await, ("replace", ""));
    check(judged(&host, "hands_over", json!({})).await, ("fault", "limits.host_call_bytes is 16777216"));
    let more = limits(json!({"host_call_bytes": 100_000_000, "cpu_ms": 1_000}));
    check(judged(&host, "hands_over", more).await, ("drop", "0"));
    check(
        judged(&host, "floods_stdout", limits(json!({"host_call_bytes": 1_000_000}))).await,
        ("fault", "limits.host_call_bytes is 1000000"),
    );
}

#[tokio::test]
async fn the_operator_sets_the_stack() {
    let config = json!({"config": {"depth": "4000"}});
    for (stack, expected) in [("65536", "fault"), ("524288", "pass"), ("4194304", "pass")] {
        let host = Host::with().set(&format!("plugin_stack_bytes={stack}")).start().await;
        let (verdict, reason) = judged(&host, "descends", config.clone()).await;
        assert_eq!(verdict, expected, "{stack}: {reason}");
        assert!(verdict == "pass" || reason.contains("call stack exhausted"), "{reason}");
    }
}

#[tokio::test]
async fn a_tenant_has_separate_maxima() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("allocates", guest("allocates")).await;
    let wish = |limits: Value| json!({"notify_url": receiver.url, "modules": ["Contact"], "plugin": "allocates", "limits": limits});
    host.post("./subscriptions", &wish(json!({"memory_bytes": 100_000_000}))).await;
    let change =
        |limits: Value| host.ask(Method::PATCH, "/v1/tenants/default", json!({"limits_max": limits}).to_string());
    let unknown = change(json!({"memory": 1})).await;
    assert!(
        unknown.status == 422 && unknown.text.contains("\\\"memory\\\" is not a limit; the limits are"),
        "{}",
        unknown.text
    );
    let changed = change(json!({"memory_bytes": 9_000_000})).await.ok();
    assert_eq!(changed["limits_max"], json!({"memory_bytes": 9_000_000}));
    // It applies to earlier subscriptions, and new ones are refused.
    let held = host.attempted(&host.send(event("Contact is Created", 1)).await).await;
    assert!(held["reason"].to_string().contains("memory_bytes is 9000000"), "{held}");
    let refused = host.ask(Method::POST, "./subscriptions", wish(json!({"memory_bytes": 9_000_001})).to_string()).await;
    assert!(refused.status == 422 && refused.text.contains("at most 9000000 is allowed"), "{}", refused.text);
    // Only an admin may change it, and it is kept over a restart.
    let key = host.post("./keys", &json!({"scopes": ["send", "read", "manage"], "label": "own"})).await;
    let own = host
        .ask_as(text(&key, "key"), Method::PATCH, "/v1/tenants/default", json!({"limits_max": {}}).to_string())
        .await;
    assert_eq!(own.status, 403, "{}", own.text);
    let (_, folder) = host.stop().await;
    let host = Host::with().on(folder).start().await;
    assert_eq!(host.get("/v1/tenants/default").await["limits_max"], json!({"memory_bytes": 9_000_000}));
}

#[tokio::test]
async fn a_hostile_tenant_does_not_slow_another() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    for (tenant, plugin) in [("hostile", guest("loops")), ("quiet", example("flatten"))] {
        host.post("/v1/tenants", &json!({"id": tenant})).await;
        host.ask(Method::PUT, &format!("/v1/tenants/{tenant}/plugins/p"), plugin).await.ok();
        // One second of CPU time for each call, the maximum of the host.
        let limits = if tenant == "hostile" { json!({"cpu_ms": 1_000, "wall_ms": 5_000}) } else { json!({}) };
        let body = json!({"notify_url": receiver.url, "modules": ["Contact"], "plugin": "p", "limits": limits, "signing_secret": SECRET, "retry": {"schedule_s": [0]}});
        host.post(&format!("/v1/tenants/{tenant}/subscriptions"), &body).await;
    }
    let send = async |tenant: &str, events: usize| {
        let batch: Vec<String> = (0..events).map(|number| event("Contact is Created", number)).collect();
        let sent = host.ask(Method::POST, &format!("/v1/tenants/{tenant}/events"), batch.join("\n")).await;
        assert_eq!(sent.status, 202, "{}", sent.text);
    };
    let ledger = async |tenant: &str| host.get(&format!("/v1/tenants/{tenant}/ledger")).await;
    send("hostile", 40).await;
    until("the first call to end", async || (ledger("hostile").await["dead"] != 0).then_some(())).await;
    let before = ledger("hostile").await["dead"].as_u64().unwrap();
    send("quiet", 40).await;
    until("the quiet tenant's deliveries", async || (ledger("quiet").await["delivered"] == 40).then_some(())).await;
    let meanwhile = ledger("hostile").await["dead"].as_u64().unwrap() - before;
    // If all threads alternated between the tenants, each of the 40 calls would have waited for a hostile one.
    assert!(meanwhile <= 8, "{meanwhile} calls of a second each ended while 40 quick ones were made");
}

/// Plugins that spin, of as many tenants as would use all permits, do not delay a webhook without a plugin.
#[tokio::test]
async fn plugins_that_spin_do_not_delay_a_webhook_without_one() {
    let host = Host::with().set("attempts_max=256").start().await;
    let receiver = Receiver::start().await;
    let spinning = ["s1", "s2", "s3", "s4", "s5", "s6"];
    for tenant in spinning {
        host.post("/v1/tenants", &json!({"id": tenant})).await;
        host.ask(Method::PUT, &format!("/v1/tenants/{tenant}/plugins/p"), guest("loops")).await.ok();
        let body = json!({
            "notify_url": receiver.url, "modules": ["Contact"], "plugin": "p", "concurrency": 256,
            "limits": {"cpu_ms": 1_000, "wall_ms": 5_000}, "retry": {"schedule_s": [0, 3_600]},
        });
        host.post(&format!("/v1/tenants/{tenant}/subscriptions"), &body).await;
    }
    host.subscription(&receiver.url, json!({})).await;
    for tenant in spinning {
        let batch: Vec<_> = (0..256).map(|number| event("Contact is Created", number)).collect();
        host.ask(Method::POST, &format!("/v1/tenants/{tenant}/events"), batch.join("\n")).await.ok();
    }
    // Number of ended calls. Each takes a second of a core.
    let calls = async || {
        let metrics = host.ask(Method::GET, "/metrics", "").await.text;
        let counts = metrics.lines().filter(|line| line.starts_with("hookloom_plugin_calls_total{"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    until("the plugins to spin", async || (calls().await > 0).then_some(())).await;
    let before = calls().await;
    host.send(event("Contact is Created", 1)).await;
    receiver.expect(1).await;
    let meanwhile = calls().await - before;
    assert!(meanwhile <= 20, "{meanwhile} calls ended before an event was delivered that needs none");
}

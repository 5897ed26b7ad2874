//! Scripts as plugins, from the upload of a source to its deliveries, errors, versions and restarts.

use crate::harness::{ADMIN_KEY, Host, Receiver, client, event, exchange, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const SHORT: &str =
    "export function transform(event) {\n  return replace({ name: event.name, id: event.payload.eventData.id });\n}\n";

/// Uploads a script. Returns status and answer.
pub(crate) async fn upload(host: &Host, name: &str, source: &str) -> (u16, Value) {
    let url = format!("{}/v1/tenants/default/plugins/{name}", host.url);
    let request = client().put(url).header("content-type", "text/javascript; charset=utf-8").body(source.to_owned());
    let reply = exchange(request.header("authorization", format!("Bearer {ADMIN_KEY}"))).await.unwrap();
    (reply.status, reply.json)
}

#[tokio::test]
async fn a_script_judges_events_and_survives_a_restart() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let (status, version) = upload(&host, "short", SHORT).await;
    assert_eq!(status, 200, "{version}");
    assert_eq!(version["report"]["probe"]["verdict"], "replace", "{version}");
    assert_eq!(version["report"]["may_use"], json!(["log", "config", "secrets", "history"]), "{version}");
    assert_eq!(version["report"]["compiled_bytes"], 0, "nothing is compiled for a script: {version}");
    let subscription = json!({"plugin": "short", "limits": {"cpu_ms": 500}});
    host.subscription(&receiver.url, subscription).await;
    host.send(event("Contact is Created", 7)).await;
    let received = receiver.expect(1).await.remove(0);
    assert_eq!(text(&received, "body"), r#"{"name":"Contact is Created","id":7}"#);
    let sha256 = text(&version, "sha256").to_owned();
    let kept = host.ask(Method::GET, &format!("./plugins/short/versions/{sha256}/component"), "").await;
    assert_eq!((kept.text.as_str(), kept.headers["content-type"].to_str().unwrap()), (SHORT, "text/javascript"));
    let (_, folder) = host.stop().await;
    let host = Host::with().on(folder).start().await;
    host.send(event("Contact is Created", 8)).await;
    assert_eq!(text(&receiver.expect(2).await[1], "body"), r#"{"name":"Contact is Created","id":8}"#);
}

#[tokio::test]
async fn a_script_sees_for_how_many_events_of_a_burst_it_is_called() {
    let host = Host::with().turnable().start().await;
    let receiver = Receiver::start().await;
    let source =
        "export const transform = (event) => replace({ settled: event.settled ?? null, at: event.receivedAt })";
    assert_eq!(upload(&host, "burst", source).await.0, 200);
    let settle = json!({"quiet_s": 60, "max_wait_s": 120});
    host.subscription(&receiver.url, json!({"plugin": "burst", "settle": settle, "limits": {"cpu_ms": 500}})).await;
    let shown = async |expected: usize| -> Value {
        let received = receiver.expect(expected).await;
        serde_json::from_str(text(received.last().unwrap(), "body")).unwrap()
    };
    host.send(r#"{"eventName": "Contact is Created", "eventData": {}}"#.to_owned()).await;
    assert_eq!(shown(1).await["settled"], Value::Null, "an event without an id does not settle");
    let first = host.send(event("Contact is Created", 7)).await;
    host.pass(Duration::from_secs(5)).await;
    host.send(event("Contact is Updated", 7)).await;
    let since_ms = host.get(&format!("./events/{first}")).await["deliveries"][0]["settled"]["since_ms"].clone();
    host.pass(Duration::from_secs(60)).await;
    let body = shown(2).await;
    assert_eq!(body["settled"], json!({"events": 2, "since": since_ms}));
    assert!(body["at"].as_i64() > since_ms.as_i64(), "{body}");
}

#[tokio::test]
async fn errors_of_scripts_are_their_authors() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    for (source, part) in [
        ("export function transform(event) {\n  return pass(;\n}", "line 2, column 15: SyntaxError"),
        ("function transform() { return pass() }", "export function transform"),
        ("", "the script is empty"),
    ] {
        let (status, problem) = upload(&host, "wrong", source).await;
        assert_eq!(status, 422, "{source}: {problem}");
        assert!(problem.to_string().contains(part), "{source}: {problem}");
    }
    let fails = "export function transform(event) {\n  return inner(event);\n}\nfunction inner(e) {\n  return e.nothing.here;\n}\n";
    let (status, version) = upload(&host, "fails", fails).await;
    assert_eq!(status, 200, "{version}");
    let reason =
        "line 5, column 10: TypeError: cannot read property 'here' of undefined; in inner (5:10) < transform (2:";
    assert!(text(&version["report"]["probe"], "reason").contains(reason), "{version}");
    host.subscription(&receiver.url, json!({"plugin": "fails", "limits": {"cpu_ms": 500}})).await;
    let delivery = host.attempted(&host.send(event("Contact is Created", 7)).await).await;
    assert!(delivery.to_string().contains(reason), "{delivery}");
}

#[tokio::test]
async fn a_new_script_is_a_new_version() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    upload(&host, "p", SHORT).await;
    host.subscription(&receiver.url, json!({"plugin": "p", "limits": {"cpu_ms": 500}, "config": {"region": "eu"}}))
        .await;
    host.ended(&host.send(event("Contact is Created", 1)).await).await;
    let (status, second) = upload(&host, "p", "export const transform = () => drop(config.region)").await;
    assert_eq!(status, 200, "{second}");
    let id = host.send(event("Contact is Created", 2)).await;
    assert_eq!(host.ended(&id).await["state"], "dropped");
    let versions = host.get("./plugins/p/versions").await;
    assert_eq!(versions.as_array().map(Vec::len), Some(2), "{versions}");
    let first = versions.as_array().unwrap().iter().find(|one| one["active"] == false).unwrap();
    host.ask(Method::POST, &format!("./plugins/p/versions/{}/activate", text(first, "sha256")), "").await.ok();
    host.ended(&host.send(event("Contact is Created", 3)).await).await;
    assert_eq!(text(&receiver.expect(2).await[1], "body"), r#"{"name":"Contact is Created","id":3}"#);
}

#[tokio::test]
async fn only_the_hosts_engine_may_ask_for_a_script() {
    let host = Host::start().await;
    let engine = std::fs::File::open(crate::harness::root().join("plugins/script-engine/engine.wasm.gz")).unwrap();
    let mut component = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(engine), &mut component).unwrap();
    // A custom section makes it another component.
    component.extend([0, 5, 1, b'x', b'y', b'z', b'w']);
    let reply = host.ask(Method::PUT, "./plugins/p", component).await;
    assert_eq!(reply.status, 422, "{}", reply.text);
    assert!(reply.text.contains("hookloom:script/host@1.0.0"), "{}", reply.text);
}

/// Returns the event of a deal with this value.
fn deal(worth: u32) -> String {
    let data = json!({"id": worth, "name": "plane", "milestone": "New", "expected_value": worth});
    json!({"eventName": "Opportunity is Created", "eventData": data}).to_string()
}

#[tokio::test]
async fn the_example_of_the_documentation_filters_deals() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let example = std::fs::read_to_string(crate::harness::root().join("plugins/script-engine/example.js")).unwrap();
    assert_eq!(upload(&host, "deals", &example).await.0, 200);
    host.subscription(&receiver.url, json!({"plugin": "deals", "limits": {"cpu_ms": 500}})).await;
    assert_eq!(host.ended(&host.send(deal(500)).await).await["state"], "dropped");
    host.send(deal(5_000)).await;
    let received = receiver.expect(1).await.remove(0);
    assert_eq!(text(&received, "body"), r#"{"text":"plane: New"}"#);
    assert_eq!(text(&received["headers"], "x-source"), "crm");
}

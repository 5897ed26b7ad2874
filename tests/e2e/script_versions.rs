//! Scripts as versions: in the plugins folder, pushed from the command line, behind a gate, as a canary, replayed, and ejected as a component.

use crate::author::{bad, good};
use crate::harness::{ADMIN_KEY, Host, Receiver, client, event, exchange, guest, text, until};
use crate::scripts::upload;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Returns a script that replaces each event by a text.
fn says(what: &str) -> String {
    format!("export function transform(event) {{\n  return replace({{ says: {what} }});\n}}\n")
}

/// Uploads a script with a query. Returns status and answer.
async fn put(host: &Host, query: &str, source: &str) -> (u16, Value) {
    let url = format!("{}/v1/tenants/default/plugins/p?{query}", host.url);
    let request = client().put(url).header("content-type", "text/javascript").body(source.to_owned());
    let reply = exchange(request.header("authorization", format!("Bearer {ADMIN_KEY}"))).await.unwrap();
    (reply.status, reply.json)
}

/// Returns the plugin `p` from the list once `ready` is true of it.
async fn listed_when(host: &Host, ready: impl Fn(&Value) -> bool) -> Value {
    until("the plugin's file", async || {
        let plugins = host.get("./plugins").await;
        plugins.as_array().unwrap().iter().find(|plugin| plugin["name"] == "p" && ready(plugin)).cloned()
    })
    .await
}

async fn body_of_next(host: &Host, receiver: &Receiver, number: usize) -> String {
    host.ended(&host.send(event("Contact is Created", number)).await).await;
    text(receiver.expect(number).await.last().unwrap(), "body").to_owned()
}

#[tokio::test]
async fn a_script_in_the_plugins_folder_is_followed() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let folder = host.data().join("plugins/default");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("p.js"), says("'one'")).unwrap();
    let first = listed_when(&host, |plugin| plugin["active_sha256"].is_string()).await;
    host.subscription(&receiver.url, json!({"plugin": "p", "limits": {"cpu_ms": 500}})).await;
    assert_eq!(body_of_next(&host, &receiver, 1).await, r#"{"says":"one"}"#);
    // A new content is a new version.
    std::fs::write(folder.join("p.js"), says("'two'")).unwrap();
    listed_when(&host, |plugin| plugin["active_sha256"] != first["active_sha256"]).await;
    assert_eq!(body_of_next(&host, &receiver, 2).await, r#"{"says":"two"}"#);
    // A broken one changes nothing, and its problem has the position.
    std::fs::write(folder.join("p.js"), "export function transform(event) {\n  return pass(;\n}").unwrap();
    let broken = listed_when(&host, |plugin| plugin["file_problem"].is_string()).await;
    assert!(text(&broken, "file_problem").contains("line 2, column 15: SyntaxError"), "{broken}");
    assert_eq!(body_of_next(&host, &receiver, 3).await, r#"{"says":"two"}"#);
    // A plugin has one file.
    std::fs::write(folder.join("p.wasm"), guest("passes")).unwrap();
    listed_when(&host, |plugin| plugin["file_problem"].as_str().is_some_and(|why| why.contains("two files"))).await;
    std::fs::remove_file(folder.join("p.js")).unwrap();
    listed_when(&host, |plugin| plugin["file_problem"].is_null()).await;
    assert!(body_of_next(&host, &receiver, 4).await.contains("eventName"), "the component passes it");
}

#[tokio::test]
async fn a_script_passes_the_gate_a_canary_and_a_replay() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    assert_eq!(upload(&host, "p", &says("event.entityId")).await.0, 200);
    let webhook = host.subscription(&receiver.url, json!({"plugin": "p", "limits": {"cpu_ms": 500}})).await;
    for number in 1..=3 {
        assert_eq!(body_of_next(&host, &receiver, number).await, format!(r#"{{"says":"{number}"}}"#));
    }
    // The gate judges the real events with both versions.
    let (status, fails) = put(&host, "gate=50", &says("event.payload.nothing.here")).await;
    assert_eq!(status, 409, "{fails}");
    assert!(text(&fails, "detail").contains("line 2, column"), "the error is the author's: {fails}");
    let (status, passed) = put(&host, "gate=50", &says("'changed'")).await;
    assert_eq!(status, 200, "{passed}");
    assert_eq!((&passed["comparison"]["changed"], &passed["active"]), (&json!(3), &json!(true)), "{passed}");
    // A canary of all events.
    let (status, canary) = put(&host, "activate=false", &says("'canary'")).await;
    assert_eq!((status, &canary["active"]), (200, &json!(false)), "{canary}");
    let rollout = json!({"kind": "canary", "sha256": canary["sha256"], "percent": 100});
    host.ask(Method::PUT, "./plugins/p/rollout", rollout.to_string()).await.ok();
    assert_eq!(body_of_next(&host, &receiver, 4).await, r#"{"says":"canary"}"#);
    host.ask(Method::DELETE, "./plugins/p/rollout", "").await;
    assert_eq!(body_of_next(&host, &receiver, 5).await, r#"{"says":"changed"}"#);
    // A dry run of a version that is not active.
    let dry = json!({"event": serde_json::from_str::<Value>(&event("Contact is Created", 9)).unwrap(),
                     "version": canary["sha256"], "limits": {"cpu_ms": 500}});
    let shown = host.post("./plugins/p/dry-run", &dry).await;
    assert_eq!(text(&shown, "body"), r#"{"says":"canary"}"#, "{shown}");
    // A replay is judged by the active version.
    let span = json!({"from_ms": 0, "to_ms": 4_102_444_800_000_u64});
    let replayed = host.post(&format!("./subscriptions/{webhook}/replay"), &span).await;
    assert_eq!(replayed["deliveries"], 5, "{replayed}");
    let all = receiver.expect(10).await;
    assert!(all[5..].iter().all(|one| text(one, "body") == r#"{"says":"changed"}"#), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_pushed_and_run_by_the_command_line() {
    let host = Host::start().await;
    let place = TempDir::new().unwrap();
    let target = ["--url", &host.url, "--key", ADMIN_KEY];
    std::fs::write(place.path().join("deals.js"), says("event.name")).unwrap();
    std::fs::write(place.path().join("event.json"), event("Contact is Created", 7)).unwrap();
    assert!(good(place.path(), &[&["push", "deals.js"][..], &target].concat()).contains("active: version"));
    assert_eq!(host.get("./plugins").await[0]["name"], "deals");
    let run = good(place.path(), &["run", "deals.js", "--event", "event.json", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&run).unwrap()["body"], r#"{"says":"Contact is Created"}"#, "{run}");
    std::fs::write(place.path().join("deals.js"), "export function transform() {\n  oh no\n}").unwrap();
    let refused = bad(place.path(), &[&["push", "deals.js"][..], &target].concat());
    assert!(refused.contains("line 2, column"), "{refused}");
}

/// Script with everything that an ejected project must do as a host does: config, log, header, large number, previous event, drop.
const RICH: &str = r#"let calls = 0;
export function transform(event) {
  calls += 1;
  const wanted = config.wanted ?? "any";
  console.log(`${event.name} äß𝄞`, calls);
  const data = event.payload.eventData;
  if (event.module === "Contact") return drop("no-deal", `${wanted}: ${event.entityId}`);
  return replace(
    { big: data.big ?? data.id, copy: { ...data }, before: history.previous() ?? null, at: event.receivedAt },
    { headers: { "x-calls": calls } },
  );
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_ejected_script_goes_the_whole_way() {
    let host = Host::start().await;
    assert_eq!(upload(&host, "rich", RICH).await.0, 200);
    host.plugin("component", guest("passes")).await;
    let place = TempDir::new().unwrap();
    let target = ["--url", &host.url, "--key", ADMIN_KEY];
    let refused = bad(place.path(), &[&["eject", "component"][..], &target].concat());
    assert!(refused.contains("is a component, not a script"), "{refused}");
    assert!(good(place.path(), &[&["eject", "rich"][..], &target].concat()).contains("hookloom plugin build"));
    assert!(bad(place.path(), &[&["eject", "rich"][..], &target].concat()).contains("already exists"));
    let folder = place.path().join("rich");
    assert_eq!(std::fs::read_to_string(folder.join("src/plugin.js")).unwrap(), RICH);
    // Further cases, whose expected results are the script's.
    let big =
        json!({"eventName": "Opportunity is Updated", "eventData": {"id": 3, "name": "é", "expected_value": 0.1}});
    let big = big.to_string().replace("\"id\":3", "\"id\":3,\"big\":9007199254740993");
    let before = event("Opportunity is Created", 3);
    let case = format!(r#"{{"event": {big}, "previous": {before}}}"#);
    std::fs::write(folder.join("golden/big.json"), case).unwrap();
    let case = format!(r#"{{"event": {}, "config": {{"wanted": "deals"}}}}"#, event("Contact is Updated", 4));
    std::fs::write(folder.join("golden/config.json"), case).unwrap();
    good(&folder, &["test", "--component", "src/plugin.js", "--bless"]);
    let blessed = std::fs::read_to_string(folder.join("golden/big.json")).unwrap();
    assert!(blessed.matches("9007199254740993").count() >= 3 && blessed.contains("x-calls"), "{blessed}");
    let config = std::fs::read_to_string(folder.join("golden/config.json")).unwrap();
    assert!(config.contains("no-deal: deals: 4"), "{config}");
    good(&folder, &["build"]);
    let tested = good(&folder, &["test"]);
    assert!(tested.contains("4 cases, 4 right, 0 failed"), "{tested}");
    assert!(good(&folder, &[&["push"][..], &target].concat()).contains("active: version"));
}

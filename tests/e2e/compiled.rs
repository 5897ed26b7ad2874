//! Compiled code: shared by identical bytes, bounded in memory, restored in the background, in turns by tenant.

use crate::bad_input::slow_to_compile;
use crate::harness::{Host, Receiver, event, guest, text, until};
use crate::reload::{metrics, renumbered};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Instant;

/// Returns a metric without labels or with exactly these. 0 if it does not exist yet.
async fn figure(host: &Host, name: &str) -> u64 {
    let text = metrics(host).await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
}

const COMPILED: &str = "hookloom_plugin_compiles_total{result=\"fits\"}";
const UNDER_WAY: &str = "hookloom_plugin_compiles_under_way";
const LOADS: &str = "hookloom_plugin_code_loads_total";
const BYTES: &str = "hookloom_plugin_code_bytes";

/// Returns the part `plugins` of the host's readiness.
async fn plugins_part(host: &Host) -> Value {
    let ready = host.ask_as("", Method::GET, "/readyz", "").await.ok();
    ready["parts"].as_array().unwrap().iter().find(|part| part["part"] == "plugins").unwrap().clone()
}

/// Asserts that the first attempt of a delivery delivered it.
#[track_caller]
fn delivered_at_once(delivery: &Value) {
    assert_eq!(
        (text(delivery, "state"), delivery["attempts"].as_array().unwrap().len()),
        ("delivered", 1),
        "{delivery}"
    );
}

#[tokio::test]
async fn identical_bytes_are_compiled_once_whatever_they_are_called() {
    let host = Host::start().await;
    let first = host.plugin("a", guest("passes")).await;
    host.ask(Method::POST, "/v1/tenants", json!({"id": "other"}).to_string()).await.ok();
    let second = host.plugin("b", guest("passes")).await;
    let third = host.ask(Method::PUT, "/v1/tenants/other/plugins/c", guest("passes")).await.ok();
    for same in [&second, &third] {
        assert_eq!(same["sha256"], first["sha256"]);
        assert_eq!(same["report"]["imports"], first["report"]["imports"]);
    }
    assert_eq!((figure(&host, COMPILED).await, figure(&host, LOADS).await), (1, 1));
    let event: Value = serde_json::from_str(&event("Contact is Created", 1)).unwrap();
    for plugin in ["./plugins/b", "/v1/tenants/other/plugins/c"] {
        let judged = host.post(&format!("{plugin}/dry-run"), &json!({"event": event})).await;
        assert_eq!(judged["verdict"], "pass");
    }
    assert_eq!(figure(&host, LOADS).await, 1, "there is one copy in memory");

    // A version belongs to the tenant that uploaded it, even if others share the code.
    let foreign = host.plugin("foreign", renumbered(&guest("passes"), 1)).await;
    let dry_run = json!({"event": event, "version": foreign["sha256"]}).to_string();
    let refused = host.ask(Method::POST, "/v1/tenants/other/plugins/c/dry-run", dry_run).await;
    assert_eq!(refused.status, 404, "{}", refused.text);
    let pin = json!({"notify_url": "http://127.0.0.1:9/", "modules": ["Contact"], "plugin": format!("c@{}", text(&foreign, "sha256"))});
    let refused = host.ask(Method::POST, "/v1/tenants/other/subscriptions", pin.to_string()).await;
    assert_eq!(refused.status, 422, "{}", refused.text);

    // There is also one copy on disk.
    let (_, folder) = host.stop().await;
    let host = Host::with().on(folder).start().await;
    host.plugin("d", guest("passes")).await;
    assert_eq!(figure(&host, COMPILED).await, 0);
}

#[tokio::test]
async fn two_uploads_of_the_same_bytes_at_the_same_time_compile_once() {
    let host = Host::start().await;
    host.ask(Method::POST, "/v1/tenants", json!({"id": "other"}).to_string()).await.ok();
    let slow = slow_to_compile(1);
    let (one, same) = tokio::join!(
        host.plugin("p", slow.clone()),
        host.ask(Method::PUT, "/v1/tenants/other/plugins/p", slow.clone())
    );
    assert_eq!(one["sha256"], same.ok()["sha256"]);
    assert_eq!(figure(&host, COMPILED).await, 1);
}

#[tokio::test]
async fn code_that_was_not_called_for_long_makes_room_and_comes_back_when_it_is_called() {
    const PLUGINS: usize = 4;
    let host = Host::start().await;
    host.plugin("p", guest("passes")).await;
    let one = figure(&host, BYTES).await;
    assert!(one > 0);

    let host = Host::with().set(&format!("loaded_code_bytes_max={}", 2 * one + one / 2)).start().await;
    let mut receivers = Vec::new();
    for number in 0..PLUGINS {
        let name = format!("p{number}");
        let receiver = Receiver::start().await;
        host.plugin(&name, renumbered(&guest("passes"), number)).await;
        host.subscription(&receiver.url, json!({"plugin": name})).await;
        receivers.push(receiver);
    }
    for number in 0..3 {
        let id = host.send(event("Contact is Created", number)).await;
        let deliveries = host.deliveries_when(&id, |delivery| delivery["state"] != "pending").await;
        assert_eq!(deliveries.len(), PLUGINS);
        deliveries.iter().for_each(delivered_at_once);
        assert!(figure(&host, BYTES).await <= 2 * one + one / 2);
    }
    assert!(figure(&host, LOADS).await > PLUGINS as u64, "some came back");
    assert_eq!(figure(&host, COMPILED).await, PLUGINS as u64);

    // Code that is neither in memory nor on disk is compiled again, and costs no attempt.
    std::fs::remove_dir_all(host.data().join("compiled")).unwrap();
    std::fs::create_dir(host.data().join("compiled")).unwrap();
    let id = host.send(event("Contact is Created", 3)).await;
    let deliveries = host.deliveries_when(&id, |delivery| delivery["state"] != "pending").await;
    deliveries.iter().for_each(delivered_at_once);
    assert!(figure(&host, COMPILED).await > PLUGINS as u64);
}

/// Starts a host with a subscription without a plugin, one with a plugin that takes seconds to compile, and no compiled code, as
/// after a restore or a change of the runtime.
async fn started_without_code(receivers: [&Receiver; 2], functions: u32) -> (Host, Instant) {
    let host = Host::start().await;
    host.plugin("slow", slow_to_compile(functions)).await;
    host.subscription(&receivers[0].url, json!({})).await;
    host.subscription(&receivers[1].url, json!({"plugin": "slow"})).await;
    let compiled = host.data().join("compiled");
    let (_, folder) = host.stop().await;
    std::fs::remove_dir_all(compiled).unwrap();
    let begun = Instant::now();
    (Host::with().on(folder).start().await, begun)
}

#[tokio::test]
async fn a_host_listens_before_its_plugins_are_compiled() {
    let plain = Receiver::start().await;
    let judged = Receiver::start().await;
    let (host, begun) = started_without_code([&plain, &judged], 20).await;
    let part = plugins_part(&host).await;
    assert!(part["ready"] == false && text(&part, "detail").contains("their deliveries wait"), "{part}");
    let id = host.send(event("Contact is Created", 1)).await;
    let accepted = begun.elapsed();
    plain.expect(1).await;
    // An upload does not wait for the compilation of restored versions.
    host.plugin("new", guest("passes")).await;
    let deliveries = host.get(&format!("./events/{id}")).await["deliveries"].clone();
    let waiting = deliveries.as_array().unwrap().iter().find(|one| one["state"] == "pending").cloned();
    let waiting = waiting.expect("the other delivery waits for its plugin");
    let waiting = host.get(&format!("./deliveries/{}", text(&waiting, "id"))).await;
    assert_eq!(waiting["attempts"], json!([]), "waiting is no attempt");
    let subscription = host.get(&format!("./subscriptions/{}", text(&waiting, "subscription"))).await;
    assert_eq!(subscription["lane"]["rests_for"], "plugin");
    assert_eq!(plugins_part(&host).await["ready"], false, "it is still being compiled");

    judged.expect(1).await;
    let deliveries = host.deliveries_when(&id, |delivery| delivery["state"] != "pending").await;
    deliveries.iter().for_each(delivered_at_once);
    until("the plugins", async || (plugins_part(&host).await["ready"] == true).then_some(())).await;
    println!("the first 202 after {accepted:?}, the plugin compiled after {:?}", begun.elapsed());
    until("the log", async || host.log().contains("that had to be compiled again are ready").then_some(())).await;
}

#[tokio::test]
async fn a_stop_waits_for_no_compiler() {
    let plain = Receiver::start().await;
    let judged = Receiver::start().await;
    let (host, _) = started_without_code([&plain, &judged], 16).await;
    let id = host.send(event("Contact is Created", 1)).await;
    plain.expect(1).await;
    // One is compiled for an upload, one for a waiting delivery.
    let refused = {
        let upload = host.ask(Method::PUT, "./plugins/other", renumbered(&slow_to_compile(40), 1));
        tokio::pin!(upload);
        tokio::select! {
            refused = &mut upload => panic!("{refused:?}"),
            () = until("both to be compiled", async || (figure(&host, UNDER_WAY).await == 2).then_some(())) => {}
        }
        host.signal_stop().await;
        upload.await
    };
    assert!(refused.status == 503 && refused.text.contains("the host is stopping"), "{}", refused.text);
    let log = host.folder.path().join("log");
    let (status, folder) = host.stopped().await;
    assert!(status.success());
    let log = std::fs::read_to_string(log).unwrap();
    let after_restart = log.rsplit_once("checked the cache of compiled plugins").unwrap().1;
    assert!(!after_restart.contains("fits=true"), "the stop did not wait for the compiler: {after_restart}");

    let host = Host::with().on(folder).start().await;
    let deliveries = host.deliveries_when(&id, |delivery| delivery["state"] != "pending").await;
    deliveries.iter().for_each(delivered_at_once);
}

async fn upload(host: &Host, tenant: &str, component: Vec<u8>) {
    host.ask(Method::PUT, &format!("/v1/tenants/{tenant}/plugins/p"), component).await.ok();
}

#[tokio::test]
async fn tenants_that_compile_much_leave_others_a_slot() {
    let host = Host::with().set("compile_cpu_s=600").start().await;
    for tenant in ["one", "two", "third"] {
        host.ask(Method::POST, "/v1/tenants", json!({"id": tenant}).to_string()).await.ok();
    }
    let many = (0..6).map(|number| {
        let tenant = if number % 2 == 0 { "one" } else { "two" };
        upload(&host, tenant, renumbered(&slow_to_compile(40), number))
    });
    let many = futures_util::future::join_all(many);
    let others = async {
        until("two to compile", async || (figure(&host, UNDER_WAY).await >= 2).then_some(())).await;
        upload(&host, "third", guest("passes")).await;
        let begun = host.log().matches("compiling a component").count();
        assert_eq!(begun, 3, "each tenant compiles one at a time, and the third's turn came at once");
        assert_eq!(figure(&host, UNDER_WAY).await, 2);
    };
    tokio::select! {
        _ = many => panic!("all were compiled before the third tenant's"),
        () = others => {}
    }
}

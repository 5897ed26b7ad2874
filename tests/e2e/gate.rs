//! Promotion gate: the events that it judges if the plugin has none, and that it fails if nothing was judged.

use crate::harness::{ADMIN_KEY, Host, Receiver, event, example, guest, program, text};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

async fn active(host: &Host) -> Value {
    host.get("./plugins").await[0]["active_sha256"].clone()
}

#[tokio::test]
async fn samples_are_judged_where_nothing_came_yet() {
    let host = Host::start().await;
    let first = text(&host.plugin("p", guest("passes")).await, "sha256").to_owned();
    let good = host.ask(Method::PUT, "./plugins/p?gate=50", example("flatten")).await.ok();
    let comparison = &good["comparison"];
    assert_eq!(comparison["sources"], json!({"subscriptions": 0, "tenant": 0, "samples": 2}));
    assert_eq!(comparison["judged_on"], "2 sample events, because no real events were accepted yet");
    assert!(comparison["new_us_p95"].as_u64() > Some(0) && good["active"] == true, "{good}");
    let bad = host.ask(Method::PUT, "./plugins/p?gate=50", guest("panics")).await;
    assert_eq!(bad.status, 409, "{}", bad.text);
    assert!(text(&bad.json, "detail").contains("it fails on 2 of 2 sample events"), "{}", bad.text);
    assert_eq!(active(&host).await, good["sha256"]);
    let back = host.post(&format!("./plugins/p/versions/{first}/activate?gate=1"), &json!({})).await;
    assert_eq!(back["comparison"]["sources"]["samples"], 2, "{back}");
}

/// A plugin of alerts judges incidents, which are rare.
#[tokio::test]
async fn a_plugin_of_incidents_is_judged_on_a_sample_of_one() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("slack", guest("passes")).await;
    host.subscription(&receiver.url, json!({"modules": ["Incident"], "plugin": "slack"})).await;
    let good = host.ask(Method::PUT, "./plugins/slack?gate=50", example("slack")).await.ok();
    assert_eq!(good["comparison"]["sources"], json!({"subscriptions": 0, "tenant": 0, "samples": 1}), "{good}");
    assert_eq!(active(&host).await, good["sha256"]);
    let bad = host.ask(Method::PUT, "./plugins/slack?gate=50", guest("panics")).await;
    assert!(bad.status == 409 && bad.text.contains("it fails on 1 of 1 sample event"), "{}", bad.text);
}

#[tokio::test]
async fn the_tenants_events_come_before_the_samples() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    for number in 0..3 {
        host.send(event("Contact is Created", number)).await;
    }
    host.send(event("Opportunity is Created", 9)).await;
    // The event of a test delivery is not used.
    let deals = host.subscription(&receiver.url, json!({"modules": ["Deal"]})).await;
    host.ask(Method::POST, &format!("./subscriptions/{deals}/test"), "").await.ok();
    host.plugin("p", guest("passes")).await;
    let unused = host.ask(Method::PUT, "./plugins/p?gate=50", guest("appends")).await.ok();
    assert_eq!(unused["comparison"]["sources"], json!({"subscriptions": 0, "tenant": 4, "samples": 0}), "{unused}");

    // For a plugin that is used for contacts, only contacts are judged.
    host.subscription(&receiver.url, json!({"plugin": "p", "modules": ["Contact"]})).await;
    let none_of_its_own = host.ask(Method::PUT, "./plugins/p?gate=50", guest("passes")).await.ok();
    assert_eq!(none_of_its_own["comparison"]["sources"]["tenant"], 3, "{none_of_its_own}");
    host.ended(&host.send(event("Contact is Created", 4)).await).await;
    let mixed = host.ask(Method::PUT, "./plugins/p?gate=50", guest("appends")).await.ok();
    assert_eq!(mixed["comparison"]["sources"], json!({"subscriptions": 1, "tenant": 3, "samples": 0}));
    assert_eq!(mixed["comparison"]["judged_on"], "the last 4 real events, 3 of them not of a webhook with this plugin");
    let own_only = host.ask(Method::PUT, "./plugins/p?gate=1", guest("passes")).await.ok();
    assert_eq!(own_only["comparison"]["sources"], json!({"subscriptions": 1, "tenant": 0, "samples": 0}));
}

#[tokio::test]
async fn a_gate_that_judged_nothing_fails() {
    let host = Host::start().await;
    // Both fail on every sample, which proves nothing.
    host.plugin("p", guest("bad_config")).await;
    let before = active(&host).await;
    let refused = host.ask(Method::PUT, "./plugins/p?gate=50", guest("invalid_event")).await;
    assert_eq!((refused.status, text(&refused.json, "type")), (409, "urn:hookloom:problem:gate-failed"));
    assert!(text(&refused.json, "detail").contains("nothing shows that it works"), "{}", refused.text);
    assert_eq!(active(&host).await, before);
    for path in ["./plugins/p?gate=0", "./plugins/p?gate=501"] {
        let refused = host.ask(Method::PUT, path, guest("passes")).await;
        assert!(
            refused.status == 400 && refused.text.contains("outside the range 1 to 500"),
            "{path}: {}",
            refused.text
        );
    }
    let sha256 = text(&host.get("./plugins/p/versions").await[0], "sha256").to_owned();
    let none = host.ask(Method::POST, &format!("./plugins/p/versions/{sha256}/activate?gate=0"), "{}").await;
    assert_eq!(none.status, 400, "{}", none.text);
    let none = host.ask(Method::POST, &format!("./plugins/p/versions/{sha256}/compare"), "{\"events\": 0}").await;
    assert_eq!(none.status, 422, "{}", none.text);
}

#[tokio::test]
async fn a_first_version_is_judged_alone() {
    let host = Host::start().await;
    for (program, why) in
        [("panics", "it fails on 2 of 2 sample events"), ("bad_config", "nothing shows that it works")]
    {
        let refused = host.ask(Method::PUT, "./plugins/new?gate=50", guest(program)).await;
        assert!(refused.status == 409 && text(&refused.json, "detail").contains(why), "{}", refused.text);
        assert_eq!(host.get("./plugins").await, json!([]), "nothing was made");
    }
    let made = host.ask(Method::PUT, "./plugins/new?gate=50", guest("passes")).await.ok();
    let comparison = &made["comparison"];
    assert_eq!(
        (&made["active"], &comparison["same"], &comparison["sources"]["samples"]),
        (&json!(true), &json!(2), &json!(2))
    );
}

#[tokio::test]
async fn push_says_what_the_gate_judged() {
    let host = Host::start().await;
    let folder = tempfile::TempDir::new().unwrap();
    let push = async |program_name: &str, gate: &str| {
        let file = folder.path().join("p.wasm");
        std::fs::write(&file, guest(program_name)).unwrap();
        let mut command = Command::new(program());
        command.args(["plugin", "push", file.to_str().unwrap(), "--gate", gate]);
        let output = command.env("HOOKLOOM_URL", &host.url).env("HOOKLOOM_KEY", ADMIN_KEY).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr))
    };
    let (code, message) = push("passes", "50").await;
    assert!(
        code == Some(0) && message.contains("of 2 sample events, because no real events were accepted yet: 2 judged"),
        "{message}"
    );
    assert!(!message.contains("up to 0 µs"), "{message}");
    let (code, message) = push("appends", "50").await;
    assert!(code == Some(0) && message.contains("0 the same, 2 changed, 0 failed"), "{message}");
    let (code, message) = push("panics", "50").await;
    assert!(code == Some(1) && message.contains("not activated"), "{message}");
    assert_eq!(push("passes", "0").await.0, Some(2));
}

//! Sequential test of canaries, from outside: its end, its memory over restarts, and where its threshold is shown.

use crate::harness::{ADMIN_KEY, Host, Receiver, Visitor, event, guest, program, text, until};
use crate::reload::renumbered;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

async fn candidate(host: &Host, component: Vec<u8>) -> String {
    text(&host.ask(Method::PUT, "./plugins/p?activate=false", component).await.ok(), "sha256").to_owned()
}

async fn begin(host: &Host, sha256: &str, percent: u32) -> Value {
    let canary = json!({"kind": "canary", "sha256": sha256, "percent": percent});
    host.ask(Method::PUT, "./plugins/p/rollout", canary.to_string()).await.ok()
}

async fn rollout(host: &Host) -> Value {
    host.get("./plugins/p/rollout").await
}

/// Sends events one after the other, each after the outcome of the previous one.
async fn send_in_turn(host: &Host, numbers: std::ops::Range<usize>) {
    for number in numbers {
        host.ended(&host.send(event("Contact is Created", number)).await).await;
    }
}

#[tokio::test]
async fn a_bad_canary_ends_at_its_tenth_event_and_a_restart_forgets_nothing() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("passes")).await;
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let bad = candidate(&host, guest("panics")).await;
    begin(&host, &bad, 100).await;
    send_in_turn(&host, 0..6).await;
    // A change of the percentage continues the counts.
    begin(&host, &bad, 99).await;
    let before = rollout(&host).await;
    assert_eq!((&before["figures"]["test"]["events"], &before["ended_reason"]), (&json!(6), &Value::Null), "{before}");
    assert_eq!(before["figures"]["test"]["evidence_max"], 1000.0, "{before}");
    begin(&host, &bad, 100).await;
    let (_, folder) = host.stop().await;
    let host = Host::with().on(folder).start().await;
    let after = rollout(&host).await;
    assert_eq!(after["figures"], before["figures"]);
    send_in_turn(&host, 6..9).await;
    assert_eq!(rollout(&host).await["ended_reason"], Value::Null);
    send_in_turn(&host, 9..12).await;
    let ended = rollout(&host).await;
    assert!(text(&ended, "ended_reason").contains("it failed on 10 of 10 events"), "{ended}");
    assert_eq!(
        ended["figures"]["canary"],
        json!({"calls": 10, "faults": 10, "cpu_us_p95": ended["figures"]["canary"]["cpu_us_p95"]})
    );
    assert_eq!(host.ledger().await["delivered"], 12, "it cost no delivery");
    // The result is stored.
    let (_, folder) = host.stop().await;
    let host = Host::with().on(folder).start().await;
    assert_eq!(rollout(&host).await["figures"], ended["figures"]);
}

#[tokio::test]
async fn counts_survive_a_kill_but_for_the_last_second() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("passes")).await;
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let shadow = candidate(&host, guest("appends")).await;
    let body = json!({"kind": "shadow", "sha256": shadow});
    host.ask(Method::PUT, "./plugins/p/rollout", body.to_string()).await.ok();
    send_in_turn(&host, 0..3).await;
    until("three comparisons", async || (rollout(&host).await["figures"]["different"] == 3).then_some(())).await;
    // A background task stores it. Only the file shows when.
    let database = host.data().join("hookloom.db");
    let stored = async || {
        let all = [database.clone(), database.with_file_name("hookloom.db-wal")].map(std::fs::read);
        all.into_iter().flatten().any(|bytes| String::from_utf8_lossy(&bytes).contains("\"different\":3")).then_some(())
    };
    until("the counts in the store", stored).await;
    let host = Host::with().on(host.kill().await).start().await;
    assert_eq!(rollout(&host).await["figures"]["different"], 3);
}

#[tokio::test]
async fn one_event_is_one_piece_of_evidence_and_what_both_fail_on_is_none() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("passes")).await;
    for _ in 0..12 {
        host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    }
    let bad = candidate(&host, guest("panics")).await;
    begin(&host, &bad, 100).await;
    send_in_turn(&host, 1..2).await;
    let figures = rollout(&host).await;
    let test = &figures["figures"]["test"];
    assert_eq!((&test["regressions"], &test["events"], &figures["ended_reason"]), (&json!(1), &json!(1), &Value::Null));
    assert_eq!(figures["figures"]["canary"]["faults"], 12, "{figures}");

    // Another version that fails where the active one fails is no worse. It takes as much time, so that it is not slow either.
    host.plugin("p", guest("invalid_event")).await;
    let other = candidate(&host, renumbered(&guest("invalid_event"), 1)).await;
    begin(&host, &other, 100).await;
    send_in_turn(&host, 2..20).await;
    let figures = rollout(&host).await;
    assert_eq!(
        (&figures["figures"]["test"]["regressions"], &figures["ended_reason"]),
        (&json!(0), &Value::Null),
        "{figures}"
    );
}

#[tokio::test]
async fn the_threshold_is_shown_by_the_page_and_the_command_line() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("passes")).await;
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let bad = candidate(&host, guest("panics")).await;
    let command = async |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.args(["plugin", "rollout", "p"]).args(arguments);
        let output = command.env("HOOKLOOM_URL", &host.url).env("HOOKLOOM_KEY", ADMIN_KEY).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let begun = command(&["--canary", "100", "--version", &bad]).await;
    assert!(begun.contains("canary of version") && begun.contains("under way"), "{begun}");
    send_in_turn(&host, 0..4).await;
    let shown = command(&[]).await;
    for part in ["4 calls, 4 faults", "4 of 4 events failed on the canary alone", "of 1000", "6 more in a row"] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    let page = Visitor::admin(&host).await.see("/t/default/plugins/p").await;
    for part in ["4 events</strong>, with <strong>4 regressions", "reaches 1,000", "6 regressions in a row"] {
        assert!(page.contains(part), "{part:?} is not in {page}");
    }
    let json: Value = serde_json::from_str(&command(&["--json"]).await).unwrap();
    assert_eq!(json["figures"]["test"]["regressions_to_end"], 6, "{json}");
    assert!(command(&["--end"]).await.contains("ended manually"));
    let again = command(&["--shadow", "--version", &bad]).await;
    assert!(again.contains("shadow of version") && again.contains("0 events judged the same"), "{again}");
}

//! Shards that an operator moves: nothing is sent twice, and they stay where they were moved to.

use super::hosts::run_fleet;
use super::trial::Trial;
use crate::harness::{Host, Visitor, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

async fn move_to(host: &Host, shard: u8, to: impl Into<Value>) -> Value {
    let body = json!({"host": to.into()}).to_string();
    host.ask(Method::PUT, &format!("/v1/fleet/shards/{shard}"), body).await.ok()
}

/// Waits until a host owns a shard, and both hosts have the same number.
async fn settled(trial: &Trial, shard: u8, at: i16) {
    until("the shard to move", async || {
        let owners = trial.fleet.owners().await;
        let is_even = owners.len() == 2 && owners.values().all(|shards| shards.len() == 128);
        (is_even && owners[&at].contains(&shard)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_shard_moves_under_load_and_stays_where_it_was_moved_to() {
    let mut trial = Trial::start(2).await;
    let id = trial.subscribe(0, "moved", json!({"ordering": {"on_failure": "block"}})).await;
    let shard = u8::from_str_radix(&id[id.len() - 2..], 16).unwrap();
    trial.endpoint.delay(Duration::from_millis(20));
    trial.send(Duration::from_millis(50));
    trial.more_accepted(10).await;
    let first = if trial.fleet.owners().await[&1].contains(&shard) { 1 } else { 2 };
    for to in [3 - first, first, 3 - first] {
        let moved = move_to(trial.fleet.host(0), shard, to).await;
        assert_eq!((&moved["pinned"], &moved["pinned_to"]), (&json!(true), &json!(to)), "{moved}");
        settled(&trial, shard, to).await;
        // Balancing has had its turn several times.
        trial.more_accepted(30).await;
        settled(&trial, shard, to).await;
    }
    let records = trial.finish("moves by hand").await;
    assert_eq!(records.receipts.len(), records.deliveries.len(), "each exactly once");
}

#[tokio::test]
async fn a_shard_of_a_lost_host_is_balanced_and_goes_back_when_the_host_does() {
    let mut trial = Trial::start(2).await;
    let shard = trial.fleet.owners().await[&1][0];
    move_to(trial.fleet.host(0), shard, 2).await;
    settled(&trial, shard, 2).await;
    trial.fleet.kill(1).await;
    until("the other host to take over", async || (trial.fleet.owners().await.get(&1)?.len() == 256).then_some(()))
        .await;
    let seen = trial.fleet.host(0).get("/v1/fleet").await;
    let of_shard = &seen["shards"][usize::from(shard)];
    assert_eq!((&of_shard["pinned"], &of_shard["pinned_to"]), (&json!(true), &Value::Null), "{of_shard}");
    trial.fleet.restart(1).await;
    settled(&trial, shard, 2).await;
    let seen = trial.fleet.host(0).get("/v1/fleet").await;
    assert_eq!(seen["lost"], json!([]), "it is back");
}

#[tokio::test]
async fn shards_are_moved_by_command_and_page() {
    let trial = Trial::start(2).await;
    let host = trial.fleet.host(0);
    let shard = trial.fleet.owners().await[&1][3];
    let run = |arguments: &[&str]| run_fleet(host, arguments).unwrap();
    let text = shard.to_string();
    let said = run(&["move", &text, "2"]);
    assert!(said.contains(&format!("shard {shard}")) && said.contains("host 2"), "{said}");
    settled(&trial, shard, 2).await;
    assert!(run(&[]).contains(&format!("shard {shard} was moved to host 2")));
    assert_eq!(run(&["move", &text, "2"]), format!("shard {shard} is at host 2, which keeps it\n"));
    assert!(run_fleet(host, &["move", &text, "9"]).unwrap_err().contains("no host with the number 9 runs"));
    assert_eq!(run(&["release", &text]), format!("the hosts balance shard {shard}\n"));
    assert!(!run(&[]).contains("was moved"));
    let mut visitor = Visitor::admin(host).await;
    visitor.see("/fleet").await;
    let page = visitor.follow("/fleet/move", &[("shard", &text), ("host", "1")]).await;
    assert!(page.contains(&format!("hard {shard}")) && page.contains("ost 1 "), "{page}");
    settled(&trial, shard, 1).await;
    assert!(visitor.see("/fleet").await.contains("moved here by hand"));
    for (typed, to, fault) in
        [("300", "1", "0 to 255"), (&*text, "9", "no host with the number 9"), (&*text, "x", "is a number")]
    {
        let refused = visitor.post("/fleet/move", &[("shard", typed), ("host", to)]).await;
        assert!(refused.status == 422 && refused.text.contains(fault), "{}", refused.text);
    }
    let page = visitor.follow("/fleet/move", &[("shard", &text), ("host", "")]).await;
    assert!(page.contains("The hosts balance shard"), "{page}");
    // The log of changes of the host has all moves.
    let log = host.get("/v1/changes").await;
    let moves: Vec<&str> = log["changes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["action"] == "shard.move")
        .map(|one| one["subject"].as_str().unwrap())
        .collect();
    let [to_2, to_1, to_any] = ["host 2", "host 1", "any host"].map(|to| format!("{shard} to {to}"));
    assert_eq!(moves, [&to_any, &to_1, &to_any, &to_2, &to_2]);
}

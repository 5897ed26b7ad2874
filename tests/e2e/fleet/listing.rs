//! Every host lists the hosts that share its database, by REST, command and page, and shows them as metrics.

use super::hosts::{Fleet, run_fleet};
use crate::harness::{Host, Visitor, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn states(fleet: &Value) -> Vec<(i64, &str, u64)> {
    let hosts = fleet["hosts"].as_array().unwrap().iter();
    hosts
        .map(|one| (one["number"].as_i64().unwrap(), one["state"].as_str().unwrap(), one["shards"].as_u64().unwrap()))
        .collect()
}

fn sum(fleet: &Value, list: &str, field: &str) -> u64 {
    fleet[list].as_array().unwrap().iter().map(|one| one[field].as_u64().unwrap()).sum()
}

/// Returns the metrics of the fleet without labels, as a host shows them.
async fn fleet_metrics(host: &Host) -> BTreeMap<String, f64> {
    let text = host.ask(Method::GET, "/metrics", "").await.text;
    let lines = text.lines().filter_map(|line| line.strip_prefix("hookloom_fleet_")?.split_once(' '));
    lines.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

#[tokio::test]
async fn the_hosts_are_listed_with_what_they_own() {
    let mut fleet = Fleet::start(2).await;
    // Nobody listens there, so what is sent stays pending.
    let retry = json!({"retry": {"schedule_s": [1, 2, 2, 2, 2, 2, 3600]}});
    fleet.host(0).subscription("http://127.0.0.1:60009/", retry).await;
    fleet.host(0).send(crate::harness::event("Contact is Created", 1)).await;
    for place in [0, 1] {
        let host = fleet.host(place);
        let seen = until("an attempt to be seen", async || {
            let seen = host.get("/v1/fleet").await;
            let rates = seen["hosts"].as_array()?.iter().filter_map(|one| one["attempts_per_s"].as_f64());
            (rates.sum::<f64>() > 0.0 && sum(&seen, "hosts", "pending") == 1).then_some(seen)
        })
        .await;
        assert_eq!(states(&seen), [(1, "serving", 128), (2, "serving", 128)]);
        let hosts = seen["hosts"].as_array().unwrap();
        let these: Vec<bool> = hosts.iter().map(|one| one["this"].as_bool().unwrap()).collect();
        assert_eq!(these, [place == 0, place == 1]);
        assert_eq!([sum(&seen, "hosts", "subscriptions"), sum(&seen, "shards", "subscriptions")], [1, 1]);
        assert_eq!(seen["shards"].as_array().unwrap().len(), 256);
        assert!(
            hosts.iter().all(|one| one["changes_behind"] == 0 && one["lease_ms"].as_u64().unwrap() <= 5_000),
            "{seen}"
        );
        let metrics = fleet_metrics(host).await;
        let shown = ["hosts", "shards", "shards_without_host", "changes_behind", "takeovers_total"];
        assert_eq!(shown.map(|name| metrics[name]), [2.0, 128.0, 0.0, 0.0, 0.0]);
        assert!(metrics["lease_left_seconds"] > 0.0 && metrics["lease_left_seconds"] <= 5.0, "{metrics:?}");
        assert!(metrics["lease_renewal_seconds_count"] > 0.0, "{metrics:?}");
    }
    let text = run_fleet(fleet.host(0), &[]).unwrap();
    let rows: Vec<&str> = text.lines().collect();
    assert!(rows.len() == 4 && rows[0].starts_with("host   version"), "{text}");
    assert!(rows[1].starts_with("   1*") && rows[2].starts_with("   2 ") && rows[2].contains("serving"), "{text}");
    let mut visitor = Visitor::admin(fleet.host(0)).await;
    let page = visitor.see("/fleet").await;
    assert!(page.contains("(this one)") && page.matches(">128<").count() == 2, "{page}");
    let [first, second] = [fleet.number(0).await.unwrap(), fleet.number(1).await.unwrap()];
    assert_eq!([first, second], [1, 2]);
    // Its lease ends, and then it is taken over.
    fleet.kill(1).await;
    let host = fleet.host(0);
    until("its shards to be taken over", async || {
        (states(&host.get("/v1/fleet").await) == [(1, "serving", 256)]).then_some(())
    })
    .await;
    assert_eq!(host.get("/v1/fleet").await["lost"][0]["number"], 2);
    assert!(run_fleet(host, &[]).unwrap().contains("lost at "));
    assert!(Visitor::admin(host).await.see("/fleet").await.contains("Lost hosts"));
    let metrics = fleet_metrics(host).await;
    assert_eq!(["hosts", "shards", "takeovers_total"].map(|name| metrics[name]), [1.0, 256.0, 1.0]);
}

#[tokio::test]
async fn a_host_with_sqlite_is_alone() {
    let host = Host::with().set("store=").start().await;
    host.subscription("http://127.0.0.1:60009/", json!({})).await;
    let seen = host.get("/v1/fleet").await;
    assert_eq!(states(&seen), [(1, "serving", 256)]);
    assert_eq!((&seen["hosts"][0]["lease_ms"], &seen["hosts"][0]["subscriptions"]), (&Value::Null, &json!(1)));
    assert!(seen["shards"].as_array().unwrap().iter().all(|one| one["host"] == 1));
    let rows = run_fleet(&host, &[]).unwrap();
    assert!(rows.lines().count() == 3 && rows.contains("serving      256"), "{rows}");
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see("/fleet").await;
    assert!(page.contains("for itself") && !page.contains("/fleet/move"), "{page}");
    assert!(!visitor.see("/tenants").await.contains("href=\"/fleet\""));
    assert_eq!(host.ask(Method::PUT, "/v1/fleet/shards/5", json!({"host": 1}).to_string()).await.status, 409);
    let metrics = fleet_metrics(&host).await;
    assert_eq!(["hosts", "shards", "shards_without_host"].map(|name| metrics[name]), [1.0, 256.0, 0.0]);
    assert!(!metrics.contains_key("lease_left_seconds"));
}

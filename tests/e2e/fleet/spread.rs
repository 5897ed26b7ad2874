//! Hosts that start share the work, and any host takes events.

use super::trial::{Trial, print_times};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn hosts_that_start_one_after_the_other_share_the_work() {
    let mut trial = Trial::start(1).await;
    for number in 0..8 {
        trial.subscribe(0, &format!("plain{number}"), json!({})).await;
    }
    trial.subscribe(0, "ordered", json!({"ordering": {"on_failure": "block"}})).await;
    trial.subscribe(0, "limited", json!({"rate_per_s": 20})).await;
    trial.endpoint.delay(Duration::from_millis(20));
    trial.send(Duration::from_millis(300));
    trial.more_accepted(10).await;
    for _ in 0..2 {
        let started_at = trial.now();
        trial.fleet.add().await;
        print_times("shards are spread after a start", vec![trial.fleet.spread().await]);
        trial.more_accepted(20).await;
        let all: Vec<String> = (0..8).map(|number| format!("plain{number}")).collect();
        print_times("longest silence meanwhile", trial.silences(&all, started_at));
    }
    let owners = trial.fleet.owners().await;
    let parts: Vec<usize> = owners.values().map(Vec::len).collect();
    assert!(parts.iter().all(|part| (84..=86).contains(part)), "{parts:?}");
    trial.more_accepted(30).await;
    let records = trial.finish("starts").await;
    assert_eq!(records.receipts.len(), records.deliveries.len(), "each exactly once");
}

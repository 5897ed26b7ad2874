//! Backups of a PostgreSQL database, taken while a host works, and hosts that start on the restored copy: by `pg_dump`, and by a base backup
//! with archived log.
#![expect(clippy::print_stdout, reason = "the tests print how long a restored host waits")]

use crate::harness::{ADMIN_KEY, Host, Postgres, Receiver, event, program, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::Command;

/// Wait before the second attempt. A signature may be older when the clock has been turned that far.
const WAIT: Duration = Duration::from_secs(150);

/// Maximum time after the start of a host with another identity until it attempts what the hosts of the backup owned: their lease of 5 s
/// counts anew, as if they had ended at the start, and the machine is busy.
const GOES_ON_WITHIN: Duration = Duration::from_secs(12);

/// Makes a data folder with a copy of a master key.
fn folder_with_key(key: &Path) -> Arc<TempDir> {
    let folder = Arc::new(TempDir::new().unwrap());
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::copy(key, data.join("master.key")).unwrap();
    folder
}

async fn refused_with_another_key(url: &str) {
    let folder = TempDir::new().unwrap();
    let mut serve = Command::new(program());
    serve.args(["serve", "--listen", "127.0.0.1:0", "--set", &format!("store={url}"), "--data-dir"]);
    let refused = serve.arg(folder.path()).env("HOOKLOOM_ADMIN_KEY", ADMIN_KEY).output().await.unwrap();
    let err = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && err.contains("master.key"), "{err}");
}

/// Returns the number of requests with each `webhook-id`.
fn requests(receiver: &Receiver) -> BTreeMap<String, usize> {
    let mut requests = BTreeMap::new();
    for request in receiver.received() {
        assert_eq!(request["verified"], true, "{request}");
        *requests.entry(text(&request["headers"], "webhook-id").to_owned()).or_insert(0) += 1;
    }
    requests
}

/// Returns the id of the delivery of an event to a webhook.
async fn delivery_of(host: &Host, event: &str, webhook: &str) -> String {
    let found = host.get(&format!("./deliveries?event={event}&subscription={webhook}")).await;
    text(&found["deliveries"][0], "id").to_owned()
}

fn is_delivered(delivery: &Value) -> bool {
    delivery["state"] == "delivered"
}

/// Makes a backup, and sends events to a host meanwhile.
async fn while_events_come_in<T>(host: &Host, backup: impl Future<Output = T>) -> T {
    let mut backup = std::pin::pin!(backup);
    let mut number = 1;
    loop {
        number += 1;
        tokio::select! {
            made = &mut backup => return made,
            _ = host.send(event("Contact is Created", number)) => {}
        }
    }
}

/// Asserts that the host of a backup, in its data folder, goes on with a restored copy without a wait for a lease.
async fn the_same_host_goes_on(store: &str, folder: Arc<TempDir>, pending: &str) {
    let begun = Instant::now();
    let host = Host::with().set(&format!("store={store}")).turnable().on(folder).start().await;
    host.deliveries_when(pending, is_delivered).await;
    println!("a restored delivery arrived {:?} after the start of the same host", begun.elapsed());
    host.drained().await;
    host.ledger().await;
}

#[tokio::test]
async fn a_dump_of_a_database_in_use_is_restored_and_goes_on() {
    let server = Postgres::start().await;
    let store = format!("store={}", server.url());
    let receiver = Receiver::start().await;
    let failing = Receiver::answering("500,200").await;
    let host = Host::with().set(&store).turnable().start().await;
    let plain = host.subscription(&receiver.url, json!({})).await;
    let retried = host.subscription(&failing.url, json!({"retry": {"schedule_s": [0, WAIT.as_secs()]}})).await;
    let before = host.send(event("Contact is Created", 1)).await;
    let settled =
        |one: &Value| is_delivered(one) || (text(one, "subscription") == retried && one["attempts"][0].is_object());
    host.deliveries_when(&before, settled).await;
    let file = host.folder.path().join("backup");
    while_events_come_in(&host, server.dump(&file)).await;
    // After the backup: one event is new, and one delivery arrives.
    let later = host.send(event("Contact is Created", 1_000)).await;
    host.deliveries_when(&later, |one| text(one, "subscription") != plain || is_delivered(one)).await;
    host.pass(WAIT + WAIT / 5).await;
    let first_retried = delivery_of(&host, &before, &retried).await;
    host.deliveries_when(&before, is_delivered).await;
    let key = host.data().join("master.key");
    let clock = std::fs::read_to_string(host.folder.path().join("clock")).unwrap();
    let first_plain = delivery_of(&host, &before, &plain).await;
    let folder = host.kill().await;

    let restored = server.restore("restored", &file).await;
    refused_with_another_key(&restored).await;
    // A host that was not in the backup, as on another machine.
    let new_folder = folder_with_key(&key);
    std::fs::write(new_folder.path().join("clock"), clock).unwrap();
    let begun = Instant::now();
    let setting = format!("store={restored}");
    let restored_host = Host::with().set(&setting).turnable().on(new_folder).start().await;
    restored_host.deliveries_when(&before, is_delivered).await;
    let took = begun.elapsed();
    println!("a restored delivery arrived {took:?} after the start of a new host");
    assert!(took < GOES_ON_WITHIN, "{took:?}");
    restored_host.drained().await;
    assert_eq!(requests(&receiver)[&first_plain], 1, "what was delivered before the backup is not repeated");
    assert_eq!(requests(&failing)[&first_retried], 3, "what was delivered after the backup is repeated");
    let lost = restored_host.ask(Method::GET, &format!("./events/{later}"), "").await;
    assert_eq!(lost.status, 404, "what was accepted after the backup is not in it");
    // New events are accepted, and follow the others.
    let new = restored_host.send(event("Contact is Created", 2_000)).await;
    restored_host.deliveries_when(&new, |one| text(one, "subscription") != plain || is_delivered(one)).await;
    restored_host.ledger().await;
    restored_host.stop().await;

    the_same_host_goes_on(&server.restore("again", &file).await, folder, &before).await;
}

#[tokio::test]
async fn a_base_backup_and_the_archived_log_restore_a_chosen_state() {
    let server = Postgres::start_archiving().await;
    let receiver = Receiver::start().await;
    let host = Host::with().set(&format!("store={}", server.url())).start().await;
    let webhook = host.subscription(&receiver.url, json!({})).await;
    host.post(&format!("./subscriptions/{webhook}/pause"), &json!({"reason": "a test"})).await;
    let first = host.send(event("Contact is Created", 1)).await;
    let backup = while_events_come_in(&host, server.base_backup()).await;
    let in_log = host.send(event("Contact is Created", 1_000)).await;
    server.name_state("chosen").await;
    let later = host.send(event("Contact is Created", 1_001)).await;
    let folder = host.kill().await;

    let recovered = server.recover(backup, "chosen").await;
    let setting = format!("store={}", recovered.url());
    let host = Host::with().set(&setting).on(folder_with_key(&folder.path().join("data/master.key"))).start().await;
    assert_eq!(host.ask(Method::GET, &format!("./events/{later}"), "").await.status, 404);
    host.post(&format!("./subscriptions/{webhook}/resume"), &json!({})).await;
    for id in [&first, &in_log] {
        host.deliveries_when(id, is_delivered).await;
    }
    host.drained().await;
    let received = requests(&receiver);
    assert_eq!(host.ledger().await["delivered"].as_u64().unwrap(), received.len() as u64);
    assert!(received.values().all(|requests| *requests == 1), "{received:?}");
}

//! kill -9 at random moments: no accepted event is lost, and only requests in flight are sent twice.

use crate::harness::{ADMIN_KEY, Host, Receiver, event, example, text};
use rand::RngExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KILLS: usize = 20;
const SENDERS: usize = 8;
const CONCURRENCY: usize = 16;

/// Result of a series of kills.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) accepted: usize,
    pub(crate) received: usize,
    pub(crate) twice: usize,
    pub(crate) lost: usize,
}

#[tokio::test]
async fn killed_at_random_moments_it_loses_nothing() {
    let tally = kill_again_and_again(KILLS, &[]).await;
    println!("{tally:?} in {KILLS} kills");
}

/// Kills a host with these settings under load, this number of times. Nothing may be lost, and only requests in flight may be sent twice.
pub(crate) async fn kill_again_and_again(kills: usize, settings: &[&str]) -> Tally {
    let with = || settings.iter().fold(Host::with(), |host, setting| host.set(setting));
    let receiver = Receiver::start().await;
    let host = with().start().await;
    host.plugin("flatten", example("flatten")).await;
    let also = json!({"plugin": "flatten", "concurrency": CONCURRENCY, "retry": {"schedule_s": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]}});
    host.subscription(&receiver.url, also).await;
    let accepted = Arc::new(Mutex::new(BTreeSet::new()));
    let mut folder = host.kill().await;
    for _ in 0..kills {
        let host = with().on(folder).start().await;
        // It holds after each kill, not only at the end.
        host.ledger().await;
        folder = send_until_killed(host, &accepted).await;
    }

    let host = with().on(folder).start().await;
    host.drained().await;
    let ledger = host.ledger().await;
    assert_eq!(ledger["fan_out"], ledger["delivered"], "{ledger}");

    // Ids, because an exchange of two deliveries would not change the sums.
    let mut received: HashMap<String, usize> = HashMap::new();
    let mut events = BTreeSet::new();
    for request in receiver.expect(usize::try_from(ledger["delivered"].as_u64().unwrap()).unwrap()).await {
        *received.entry(text(&request["headers"], "webhook-id").to_owned()).or_default() += 1;
        events.insert(text(&request["headers"], "hookloom-event-id").to_owned());
    }
    let accepted = accepted.lock().unwrap().clone();
    let lost: Vec<_> = accepted.difference(&events).collect();
    assert!(lost.is_empty(), "lost {lost:?}");
    let ids = received.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(ids, stored(&host).await, "the receiver's ids are the store's");
    let twice: usize = received.values().map(|times| times - 1).sum();
    assert!(twice <= kills * CONCURRENCY, "{twice} were sent twice");
    assert!(accepted.len() > kills, "only {} events were accepted, which proves little", accepted.len());
    Tally { accepted: accepted.len(), received: events.len(), twice, lost: lost.len() }
}

/// Sends from several senders at once, records accepted events, and kills the host at a random moment.
async fn send_until_killed(host: Host, accepted: &Arc<Mutex<BTreeSet<String>>>) -> Arc<tempfile::TempDir> {
    let stop = AtomicBool::new(false);
    let number = AtomicUsize::new(0);
    let sender = async || {
        while !stop.load(Ordering::Relaxed) {
            let body = event("Contact is Updated", number.fetch_add(1, Ordering::Relaxed));
            match host.try_ask(ADMIN_KEY, Method::POST, "./events", body).await {
                Ok(reply) if reply.status == 202 => {
                    accepted.lock().unwrap().insert(text(&reply.json["events"][0], "id").to_owned());
                }
                Ok(reply) => panic!("neither accepted nor cut off: {}", reply.text),
                Err(_) => break,
            }
        }
    };
    let pid = host.process.id().unwrap();
    let killer = async {
        let wait_ms = rand::rng().random_range(5..250);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        let killed = tokio::process::Command::new("kill").args(["-9", &pid.to_string()]).status().await.unwrap();
        assert!(killed.success());
        stop.store(true, Ordering::Relaxed);
    };
    let senders = futures_util::future::join_all((0..SENDERS).map(|_| sender()));
    tokio::join!(senders, killer);
    host.kill().await
}

/// Returns the ids of all deliveries in the store.
async fn stored(host: &Host) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = host.get(&format!("./deliveries?limit=500{cursor}")).await;
        ids.extend(page["deliveries"].as_array().unwrap().iter().map(|one| text(one, "id").to_owned()));
        match &page["cursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => return ids,
        }
    }
}

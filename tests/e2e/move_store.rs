//! `hookloom move-store`: a host on PostgreSQL goes on with what a host on SQLite has left, and moves that are refused.

use crate::harness::{ADMIN_KEY, Host, HostBuilder, PATIENCE, Postgres, Receiver, event, example, program, text};
use crate::repeats::send_once;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// Wait before a second attempt, or before a delayed first one: longer than a host runs before its store is moved, and less than the
/// age of the signatures that a receiver accepts.
const WAIT: Duration = Duration::from_secs(150);

/// Options of a host on SQLite, also where the tests run on PostgreSQL.
fn on_sqlite() -> HostBuilder {
    Host::with().set("store=").turnable()
}

/// Output of a command that has ended.
struct Ended {
    is_ok: bool,
    out: String,
    err: String,
}

async fn hookloom(arguments: &[&str], data: &Path) -> Ended {
    let mut command = Command::new(program());
    command.args(arguments).arg("--data-dir").arg(data).env("HOOKLOOM_ADMIN_KEY", ADMIN_KEY).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }
    Ended { is_ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}

async fn move_store(data: &Path, url: &str) -> Ended {
    hookloom(&["move-store", "--to", url], data).await
}

/// Receivers of the webhooks of a host, each of which leaves its deliveries in another state.
struct Receivers {
    /// Accepts everything.
    accepting: Receiver,
    /// Refuses two requests, whose deliveries have a second attempt.
    failing: Receiver,
    /// Refuses two requests, whose deliveries have no second attempt.
    refusing: Receiver,
    /// Its webhook is paused.
    paused: Receiver,
    /// Its webhook waits before the first attempt.
    delayed: Receiver,
}

impl Receivers {
    async fn start() -> Receivers {
        Receivers {
            accepting: Receiver::start().await,
            failing: Receiver::answering("500,500,200").await,
            refusing: Receiver::answering("500,500,200").await,
            paused: Receiver::start().await,
            delayed: Receiver::start().await,
        }
    }

    /// Returns the number of requests that each event's delivery has caused, by receiver.
    fn requests(&self) -> [Vec<usize>; 5] {
        [&self.accepting, &self.failing, &self.refusing, &self.paused, &self.delayed].map(|receiver| {
            let mut requests = BTreeMap::new();
            for request in receiver.received() {
                assert_eq!(request["verified"], true, "{request}");
                *requests.entry(text(&request["headers"], "webhook-id").to_owned()).or_insert(0) += 1;
            }
            requests.into_values().collect()
        })
    }
}

/// Ids of webhooks.
struct Webhooks {
    accepting: String,
    failing: String,
    refusing: String,
    paused: String,
}

/// Returns the setting of a webhook with the waits before its attempts, in seconds.
fn retry(schedule: &[u64]) -> Value {
    json!({"retry": {"schedule_s": schedule}})
}

impl Webhooks {
    async fn create(host: &Host, receivers: &Receivers) -> Webhooks {
        host.plugin("flatten", example("flatten")).await;
        let wait = WAIT.as_secs();
        host.subscription(&receivers.delayed.url, retry(&[wait])).await;
        let paused = host.subscription(&receivers.paused.url, json!({})).await;
        host.post(&format!("./subscriptions/{paused}/pause"), &json!({"reason": "a test"})).await;
        Webhooks {
            accepting: host.subscription(&receivers.accepting.url, json!({"plugin": "flatten"})).await,
            failing: host.subscription(&receivers.failing.url, retry(&[0, wait])).await,
            refusing: host.subscription(&receivers.refusing.url, retry(&[0])).await,
            paused,
        }
    }

    /// Returns true if no further attempt is due before the wait is over.
    fn is_settled(&self, delivery: &Value) -> bool {
        let webhook = text(delivery, "subscription");
        if webhook == self.failing {
            return delivery["attempts"][0].is_object();
        }
        delivery["state"] != "pending" || (webhook != self.accepting && webhook != self.refusing)
    }
}

const ONCE: &str = "an idempotency key";

/// Lets a host accept two events, one of them with an idempotency key. Returns their ids once no attempt is due.
async fn accept_two(host: &Host, webhooks: &Webhooks) -> [String; 2] {
    let (status, answer) = send_once(host, ONCE, &event("Contact is Created", 1)).await;
    assert_eq!(status, 202, "{answer}");
    let ids = [text(&answer["events"][0], "id").to_owned(), host.send(event("Opportunity is Created", 2)).await];
    for id in &ids {
        host.deliveries_when(id, |delivery| webhooks.is_settled(delivery)).await;
    }
    ids
}

/// Returns the answers of a host about everything that it keeps.
async fn answers(host: &Host) -> BTreeMap<String, Value> {
    let lists = ["events", "deliveries", "subscriptions", "plugins", "plugins/flatten/versions", "keys", "changes"];
    let mut paths: Vec<String> = ["ledger", "usage"].iter().chain(&lists).map(|name| format!("./{name}")).collect();
    paths.extend(["/v1/changes", "/v1/tenants"].map(str::to_owned));
    for list in ["events", "deliveries"] {
        let all = host.get(&format!("./{list}")).await;
        paths.extend(all[list].as_array().unwrap().iter().map(|one| format!("./{list}/{}", text(one, "id"))));
    }
    let mut answers = BTreeMap::new();
    for path in paths {
        let mut answer = host.get(&path).await;
        if path.starts_with("./events/") {
            // It has the times until the next attempts.
            answer.as_object_mut().unwrap().remove("subscriptions");
        }
        answers.insert(path, answer);
    }
    answers
}

/// Returns the status that each attempt of a delivery was answered with, by the number of the attempt.
fn statuses(delivery: &Value) -> Vec<(u64, u64)> {
    let attempts = delivery["attempts"].as_array().unwrap().iter();
    attempts.map(|one| (one["number"].as_u64().unwrap(), one["status"].as_u64().unwrap())).collect()
}

#[tokio::test]
async fn a_host_goes_on_with_a_moved_store() {
    let receivers = Receivers::start().await;
    let host = on_sqlite().start().await;
    let webhooks = Webhooks::create(&host, &receivers).await;
    let key = text(&host.post("./keys", &json!({"scopes": ["read", "send"]})).await, "key").to_owned();
    let events = accept_two(&host, &webhooks).await;
    let (_, folder) = host.stop().await;
    // A host that does nothing shows what the first one wrote at its end as well.
    let host = on_sqlite().on(folder).start().await;
    let before = answers(&host).await;
    let (_, folder) = host.stop().await;

    let server = Postgres::start().await;
    // As an account that may only use its own database.
    let url = server.prepare("deploy/postgresql.sql").await;
    let data = folder.path().join("data");
    let moved = move_store(&data, &url).await;
    assert!(moved.is_ok, "{}{}", moved.out, moved.err);
    assert_eq!(moved.err, "checking the data folder and the database\ncounting and checking\n");
    let rows = |table: &str| moved.out.lines().find_map(|line| line.strip_prefix(table)?.trim().parse::<u64>().ok());
    assert_eq!(
        (rows("events "), rows("deliveries "), rows("attempts ")),
        (Some(2), Some(10), Some(6)),
        "{}",
        moved.out
    );
    assert!(moved.out.contains("every ledger adds up"), "{}", moved.out);
    assert!(moved.out.contains(&format!("Next: set store = \"{url}\"")), "{}", moved.out);
    refuses_the_moved_folder(&data, &url).await;

    let host = Host::with().set(&format!("store={url}")).turnable().on(folder).start().await;
    for (path, answer) in answers(&host).await {
        assert_eq!(Some(&answer), before.get(&path), "{path}");
    }
    assert_eq!(host.ask_as(&key, Method::GET, &format!("./events/{}", events[0]), "").await.status, 200);
    let (status, answer) = send_once(&host, ONCE, &event("Contact is Created", 1)).await;
    assert_eq!((status, text(&answer["events"][0], "id")), (202, &*events[0]), "accepted once");
    assert_eq!(receivers.requests(), [vec![1, 1], vec![1, 1], vec![1, 1], vec![], vec![]]);
    goes_on(&host, &webhooks, &receivers, &events).await;
    let accepted = host.ask_as(&key, Method::POST, "./events", event("Contact is Updated", 3)).await.ok();
    host.deliveries_when(text(&accepted["events"][0], "id"), |delivery| webhooks.is_settled(delivery)).await;
    assert_eq!(receivers.requests()[0], [1, 1, 1]);
}

/// Asserts that no host uses the folder of a moved store without its database, and that the store is not moved again.
async fn refuses_the_moved_folder(data: &Path, url: &str) {
    for refused in
        [hookloom(&["serve", "--listen", "127.0.0.1:0", "--set", "store="], data).await, move_store(data, url).await]
    {
        assert!(!refused.is_ok, "{}", refused.out);
        let parts =
            ["was moved to postgres://hookloom@/hookloom?host=", " UTC: name the database by the setting store"];
        assert!(parts.iter().all(|part| refused.err.contains(part)), "{}", refused.err);
    }
}

/// Lets a host do what the host before it has left, and asserts that nothing is delivered twice.
async fn goes_on(host: &Host, webhooks: &Webhooks, receivers: &Receivers, events: &[String; 2]) {
    // What is due after a wait, which is random up to a tenth longer.
    host.pass(WAIT + WAIT / 5).await;
    receivers.failing.expect(4).await;
    receivers.delayed.expect(2).await;
    // What an operator continues.
    host.post(&format!("./subscriptions/{}/resume", webhooks.paused), &json!({})).await;
    receivers.paused.expect(2).await;
    let of_event = async |webhook: &str| {
        let found = host.get(&format!("./deliveries?event={}&subscription={webhook}", events[0])).await;
        text(&found["deliveries"][0], "id").to_owned()
    };
    let dead = of_event(&webhooks.refusing).await;
    host.post(&format!("./deliveries/{dead}/retry"), &json!({})).await;
    receivers.refusing.expect(3).await;
    host.drained().await;
    let ledger = host.ledger().await;
    assert_eq!((&ledger["fan_out"], &ledger["delivered"], &ledger["dead"]), (&json!(10), &json!(9), &json!(1)));
    let [accepted, failed, mut refused, paused, delayed] = receivers.requests();
    refused.sort_unstable();
    assert_eq!([accepted, failed, refused, paused, delayed], [[1, 1], [2, 2], [1, 2], [1, 1], [1, 1]]);
    for continued in [of_event(&webhooks.failing).await, dead] {
        let delivery = host.get(&format!("./deliveries/{continued}")).await;
        assert_eq!(statuses(&delivery), [(1, 500), (2, 200)], "{delivery}");
    }
}

#[tokio::test]
async fn a_move_that_is_refused_changes_nothing() {
    let server = Postgres::start().await;
    let url = server.prepare("deploy/postgresql.sql").await;
    let host = on_sqlite().start().await;
    let id = host.send(event("Contact is Created", 1)).await;
    let data = host.data();
    let check = async |url: &str, parts: &[&str]| {
        let refused = move_store(&data, url).await;
        assert!(!refused.is_ok, "{}", refused.out);
        assert!(parts.iter().all(|part| refused.err.contains(part)), "{parts:?}: {}", refused.err);
        assert!(!refused.err.contains("hunter2"), "{}", refused.err);
        assert!(data.join("hookloom.db").exists() && !data.join("hookloom.db.moved").exists());
    };
    let process = host.process.id().unwrap();
    check(&url, &[&format!("is in use by the process {process}")]).await;
    let (_, folder) = host.stop().await;
    check("postgres://u:hunter2@127.0.0.1:1/d", &["127.0.0.1:1"]).await;
    check("mysql://u:hunter2@127.0.0.1/d", &["--to", "postgres://USER"]).await;
    check("", &["--to", "setting store"]).await;
    let store = format!("store={url}");
    let refused = hookloom(&["serve", "--listen", "127.0.0.1:0", "--set", &store], &data).await;
    assert!(!refused.is_ok && refused.err.contains("has a store in hookloom.db: move it"), "{}", refused.err);
    // A database that a host uses, and one that a host has used.
    let other = Host::with().set(&format!("store={url}")).start().await;
    check(&url, &["in use by a host"]).await;
    other.stop().await;
    check(&url, &["it has rows already, in", "tenants", "name an empty one"]).await;
    // The database that the setting names, when it is empty.
    let empty = format!("store={}", server.url());
    let moved = hookloom(&["move-store", "--json", "--set", &empty], &data).await;
    assert!(moved.is_ok, "{}", moved.err);
    let report: Value = serde_json::from_str(&moved.out).unwrap();
    assert!(report["tables"].as_array().unwrap().contains(&json!({"table": "events", "rows": 1})), "{report}");
    let host = Host::with().set(&empty).on(folder).start().await;
    assert_eq!(text(&host.get(&format!("./events/{id}")).await, "id"), id);
}

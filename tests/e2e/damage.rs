//! Damaged page of the database: unreadable rows are set apart and reported, and all others are used.

use crate::harness::{Host, Receiver, Visitor, event, program, text, until};
use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::process::Command;

/// Number of events that wait when the page is damaged.
const EVENTS: usize = 600;

const PAGE: u64 = 4_096;

/// Position of a leaf in its tree.
#[derive(Clone, Copy)]
enum Leaf {
    Middle,
    Last,
}

/// Overwrites a leaf of a table or an index, as a failing disk does. Returns the number of its rows or entries.
fn damage(folder: &Arc<TempDir>, tree: &str, leaf: Leaf) -> usize {
    let path = folder.path().join("data/hookloom.db");
    let connection = Connection::open(&path).unwrap();
    let sql = "SELECT pageno, ncell FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' ORDER BY path";
    let mut statement = connection.prepare(sql).unwrap();
    let leaves = statement.query_map([tree], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let leaves: Vec<(u64, usize)> = leaves.map(Result::unwrap).collect();
    let (page, rows) = match leaf {
        Leaf::Middle => leaves[leaves.len() / 2],
        Leaf::Last => leaves[leaves.len() - 1],
    };
    drop(statement);
    drop(connection);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xd0; PAGE as usize], (page - 1) * PAGE).unwrap();
    rows
}

fn events(count: usize) -> String {
    (0..count).map(|number| event("Contact is Created", number) + "\n").collect()
}

/// Returns a stopped host with deliveries that wait for a paused webhook, and their receiver.
async fn with_backlog() -> (Arc<TempDir>, Receiver, String) {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let id = host.subscription(&receiver.url, json!({})).await;
    host.post(&format!("./subscriptions/{id}/pause"), &json!({"reason": "until a page is damaged"})).await;
    host.ask(Method::POST, "./events", events(EVENTS)).await.ok();
    (host.stop().await.1, receiver, id)
}

async fn resume(host: &Host, id: &str) {
    host.post(&format!("./subscriptions/{id}/resume"), &json!({})).await;
}

/// Returns the database part of `/readyz`.
async fn database(host: &Host) -> Value {
    let ready = host.get("/readyz").await;
    let parts = ready["parts"].as_array().unwrap();
    parts.iter().find(|part| part["part"] == "database").unwrap().clone()
}

/// Returns a metric without labels.
async fn metric(host: &Host, name: &str) -> Option<usize> {
    let text = host.ask(Method::GET, "/metrics", "").await.text;
    text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))?.parse().ok())
}

/// Returns the ledger, once its field has this number.
async fn ledger_when(host: &Host, field: &str, number: usize) -> Value {
    until(&format!("{number} {field}"), async || Some(host.ledger().await).filter(|ledger| ledger[field] == number))
        .await
}

/// Checks that a new event is delivered.
async fn goes_on(host: &Host, receiver: &Receiver) {
    let before = receiver.received().len();
    let new = host.send(event("Contact is Created", 9_999)).await;
    assert_eq!(text(&host.ended(&new).await, "state"), "delivered");
    receiver.expect(before + 1).await;
}

async fn hookloom(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(program()).args(arguments).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn data(folder: &Path) -> String {
    folder.join("data").to_str().unwrap().to_owned()
}

#[tokio::test]
async fn events_that_cannot_be_read_are_named_and_the_others_arrive() {
    let (folder, receiver, id) = with_backlog().await;
    let lost = damage(&folder, "events", Leaf::Middle);
    assert!(lost > 3);
    let host = Host::with().on(folder.clone()).start().await;
    resume(&host, &id).await;
    let ledger = ledger_when(&host, "pending", 0).await;
    assert_eq!((&ledger["delivered"], &ledger["dead"]), (&json!(EVENTS - lost), &json!(lost)));
    receiver.expect(EVENTS - lost).await;
    goes_on(&host, &receiver).await;
    // Reported in /readyz, by a metric, in the log and on the page; each delivery has the reason.
    let part = database(&host).await;
    assert_eq!(part["ready"], false);
    assert!(text(&part, "detail").contains(&format!("{lost} rows cannot be read")), "{part}");
    assert_eq!(metric(&host, "hookloom_database_rows_damaged").await, Some(lost));
    let dead = host.get("./deliveries?state=dead").await;
    let dead = dead["deliveries"].as_array().unwrap();
    assert_eq!(dead.len(), lost);
    let page = Visitor::admin(&host).await.see("/t/default").await;
    for delivery in dead {
        assert_eq!(delivery["reason"]["code"], "damaged");
        assert!(page.contains(text(delivery, "event")), "{page}");
        assert!(host.log().contains(text(delivery, "event")));
    }
    until("the damaged table", async || {
        text(&database(&host).await, "detail").contains("damaged pages in events").then_some(())
    })
    .await;
    // A backup succeeds, and ended events are pruned except damaged ones.
    let copy = TempDir::new().unwrap();
    let (well, out, err) =
        hookloom(&["backup", "--data-dir", &data(folder.path()), &data(copy.path()), "--json"]).await;
    assert!(well && out.contains("\"damaged\":[\"events\"]"), "{out} {err}");
    drop(host.stop().await);
    let host = Host::with().set("retention_s=1").on(folder).start().await;
    let pruned = until("what can be pruned", async || {
        Some(host.ledger().await)
            .filter(|ledger| ledger["events"] == lost && ledger["pruned"]["events"] == EVENTS + 1 - lost)
    });
    pruned.await;
    goes_on(&host, &receiver).await;
}

#[tokio::test]
async fn deliveries_that_cannot_be_read_are_named_and_the_others_arrive() {
    let (folder, receiver, id) = with_backlog().await;
    // A row between two leaves is found only through the leaf before it.
    let lost = damage(&folder, "deliveries", Leaf::Middle) + 1;
    assert!(lost > 4);
    let host = Host::with().on(folder.clone()).start().await;
    resume(&host, &id).await;
    receiver.expect(EVENTS - lost).await;
    let ledger = ledger_when(&host, "delivered", EVENTS - lost).await;
    assert_eq!(ledger["pending"], lost);
    goes_on(&host, &receiver).await;
    // Rows are set apart after a check of the whole database has found no damaged index.
    until("every damaged row is counted", async || {
        (metric(&host, "hookloom_database_rows_damaged").await == Some(lost)).then_some(())
    })
    .await;
    assert!(text(&database(&host).await, "detail").contains("delivery "));
    // Lists leave them out. A request for one by its id reports the damage.
    let listed = host.get("./deliveries?limit=100").await;
    assert_eq!(listed["deliveries"].as_array().unwrap().len(), 100);
    let (well, out, _) = hookloom(&["check", "--data-dir", &data(folder.path()), "--json"]).await;
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(!well && report["whole"] == false, "{out}");
    let table = report["tables"].as_array().unwrap().iter().find(|table| table["table"] == "deliveries").unwrap();
    // From the end of the table, the row between two leaves is found through the leaf after it: a rescue keeps it.
    assert_eq!(table["damaged"].as_array().unwrap().len(), lost - 1);
    let damaged = text(&table["damaged"][0], "key").rsplit(' ').next().unwrap().to_owned();
    let shown = host.ask(Method::GET, &format!("./deliveries/{damaged}"), "").await;
    assert_eq!(
        (shown.status, text(&shown.json, "type")),
        (503, "urn:hookloom:problem:database-damaged"),
        "{}",
        shown.text
    );
    // They are remembered over a restart, and nothing waits for them.
    let folder = host.stop().await.1;
    let host = Host::with().on(folder).start().await;
    assert!(text(&database(&host).await, "detail").contains(&format!("{lost} rows cannot be read")));
    goes_on(&host, &receiver).await;
}

#[tokio::test]
async fn a_damaged_index_is_rebuilt_and_nothing_is_lost() {
    for (tree, leaf) in [
        ("deliveries_due", Leaf::Middle),
        ("deliveries_of_subscription", Leaf::Last),
        ("sqlite_autoindex_events_1", Leaf::Last),
    ] {
        let (folder, receiver, id) = with_backlog().await;
        damage(&folder, tree, leaf);
        let host = Host::with().on(folder).start().await;
        resume(&host, &id).await;
        // Requests that need the index are refused until it is rebuilt, and accepted then.
        let number = std::sync::atomic::AtomicUsize::new(10_000);
        let accepted = until("an event is accepted", async || {
            let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let reply = host.ask(Method::POST, "./events", event("Contact is Created", number)).await;
            assert!(matches!(reply.status, 202 | 503), "{tree}: {} {}", reply.status, reply.text);
            (reply.status == 202).then_some(())
        });
        accepted.await;
        let ledger = ledger_when(&host, "pending", 0).await;
        assert_eq!((&ledger["delivered"], &ledger["dead"]), (&json!(EVENTS + 1), &json!(0)), "{tree}");
        receiver.expect(EVENTS + 1).await;
        until("the database is whole", async || (database(&host).await["ready"] == true).then_some(())).await;
        assert!(host.log().contains("a damaged index was rebuilt"), "{tree}: {}", host.log());
        goes_on(&host, &receiver).await;
        let (well, out, err) = hookloom(&["check", "--data-dir", &data(host.folder.path())]).await;
        assert!(well, "{tree}: {out} {err}");
    }
}

#[tokio::test]
async fn outcomes_are_recorded_where_attempts_cannot_be_written() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({})).await;
    host.ask(Method::POST, "./events", events(50)).await.ok();
    ledger_when(&host, "delivered", 50).await;
    let folder = host.stop().await.1;
    damage(&folder, "attempts", Leaf::Last);
    let host = Host::with().on(folder).start().await;
    let id = host.send(event("Contact is Created", 51)).await;
    let delivery = host.ended(&id).await;
    assert_eq!(text(&delivery, "state"), "delivered");
    goes_on(&host, &receiver).await;
    assert_eq!(receiver.received().len(), 52, "each was sent once");
}

#[tokio::test]
async fn a_host_starts_on_a_rescued_store() {
    let (folder, receiver, id) = with_backlog().await;
    let lost = damage(&folder, "events", Leaf::Middle);
    damage(&folder, "deliveries_due", Leaf::Middle);
    let damaged = data(folder.path());
    let rescued = Arc::new(TempDir::new().unwrap());
    let (well, out, err) = hookloom(&["check", "--data-dir", &damaged]).await;
    assert!(!well && out.contains("damaged  table events: some of its pages cannot be read"), "{out} {err}");
    assert!(err.contains("hookloom rescue FOLDER"), "{err}");
    let target = data(rescued.path());
    let (well, out, err) = hookloom(&["rescue", "--data-dir", &damaged, &target, "--json"]).await;
    assert!(well, "{out} {err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["complete"], &report["report"]["deliveries_without_event"]), (&json!(false), &json!(lost)));
    let (well, out, err) = hookloom(&["check", "--data-dir", &target]).await;
    assert!(well && out.contains("intact "), "{out} {err}");
    // Not into an existing folder.
    let (well, _, err) = hookloom(&["rescue", "--data-dir", &damaged, &target]).await;
    assert!(!well && err.contains("cannot be used"), "{err}");
    let host = Host::with().on(rescued).start().await;
    resume(&host, &id).await;
    let ledger = ledger_when(&host, "pending", 0).await;
    assert_eq!((&ledger["delivered"], &ledger["dead"]), (&json!(EVENTS - lost), &json!(lost)));
    goes_on(&host, &receiver).await;
    // A host uses the folder.
    let (well, _, err) = hookloom(&["rescue", "--data-dir", &data(host.folder.path()), &data(folder.path())]).await;
    assert!(!well && err.contains("in use by the process"), "{err}");
}

#[tokio::test]
async fn a_start_that_needs_what_is_damaged_says_what_to_do() {
    let (folder, ..) = with_backlog().await;
    damage(&folder, "subscriptions", Leaf::Last);
    let (well, _, err) = hookloom(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data(folder.path())]).await;
    assert!(!well && err.contains("`hookloom check` says where") && err.contains("`hookloom rescue`"), "{err}");
}

//! Settling: events of one contact that follow each other are delivered once, with the latest state, also after kill -9 at any moment.

use crate::harness::{ADMIN_KEY, Host, Receiver, Visitor, client, text, until};
use rand::RngExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const CONTACTS: usize = 500;
const EDITS: usize = 6;

/// Number of events of a request.
const BATCH: usize = 50;

const CONCURRENCY: usize = 16;

/// Rate of the attempts, so that they are under way during every kill.
const RATE_PER_S: usize = 40;

/// Quiet time. The receiver has the system's clock, and refuses signatures of more than five minutes later.
const QUIET: Duration = Duration::from_secs(240);

/// Number of kills while the deliveries are attempted.
const KILLS_OF_ATTEMPTS: usize = 6;

fn edit(contact: usize, edit: usize) -> String {
    json!({"eventName": "Contact is Updated", "eventData": {"id": 1_000 + contact, "edit": edit}}).to_string()
}

fn settle(quiet_s: u64, max_wait_s: u64) -> Value {
    json!({"quiet_s": quiet_s, "max_wait_s": max_wait_s})
}

async fn started_on(folder: Arc<TempDir>) -> Host {
    Host::with().turnable().on(folder).start().await
}

/// Sends a batch with an idempotency key. Returns false if the host was killed before it answered.
async fn send_once(url: &str, key: &str, body: &str) -> bool {
    let request = client().post(format!("{url}/v1/tenants/default/events")).bearer_auth(ADMIN_KEY);
    match request.header("idempotency-key", key).body(body.to_owned()).send().await {
        Ok(reply) => {
            assert_eq!(reply.status(), StatusCode::ACCEPTED);
            true
        }
        Err(_) => false,
    }
}

/// Sends an edit of every contact to a host that is killed at a random moment meanwhile, and again until all are answered.
async fn edit_all(mut host: Host, number: usize) -> Host {
    let mut left: Vec<usize> = (0..CONTACTS).step_by(BATCH).collect();
    let mut may_kill = true;
    while !left.is_empty() {
        let url = host.url.clone();
        let send = async |first: usize| {
            let body: Vec<String> = (first..first + BATCH).map(|contact| edit(contact, number)).collect();
            send_once(&url, &format!("edit {number} of {first}"), &body.join("\n")).await.then_some(first)
        };
        let sent = futures_util::future::join_all(left.iter().map(|first| send(*first)));
        if std::mem::take(&mut may_kill) {
            let pid = host.process.id().unwrap().to_string();
            let killer = async {
                tokio::time::sleep(Duration::from_millis(rand::rng().random_range(1..60))).await;
                assert!(tokio::process::Command::new("kill").args(["-9", &pid]).status().await.unwrap().success());
            };
            let (answered, ()) = tokio::join!(sent, killer);
            left.retain(|first| !answered.contains(&Some(*first)));
            host = started_on(host.kill().await).await;
        } else {
            let answered = sent.await;
            left.retain(|first| !answered.contains(&Some(*first)));
        }
    }
    host
}

/// Returns the state of every delivery, by its id.
async fn states(host: &Host) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = host.get(&format!("./deliveries?limit=500{cursor}")).await;
        let all = page["deliveries"].as_array().unwrap();
        found.extend(all.iter().map(|one| (text(one, "id").to_owned(), one.clone())));
        match &page["cursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => return found,
        }
    }
}

/// Returns the explanation of an event for the only subscription.
fn explained(event: &Value) -> &str {
    text(&event["subscriptions"][0], "why")
}

/// Kills a host while it attempts deliveries, after some more have arrived.
async fn kill_during_attempts(host: Host, receiver: &Receiver) -> Host {
    let before = receiver.received().len();
    until("more requests", async || (receiver.received().len() > before + CONTACTS / 20).then_some(())).await;
    started_on(host.kill().await).await
}

#[tokio::test]
async fn bursts_arrive_once_although_the_host_is_killed_at_any_moment() {
    let receiver = Receiver::start().await;
    let mut host = Host::with().turnable().start().await;
    let schedule = json!({"schedule_s": [0, 0, 0, 0, 0, 0, 0, 0]});
    let also = json!({"settle": settle(QUIET.as_secs(), 86_400), "concurrency": CONCURRENCY, "rate_per_s": RATE_PER_S, "retry": schedule});
    host.subscription(&receiver.url, also).await;
    for number in 0..EDITS {
        host = edit_all(host, number).await;
        host.ledger().await;
    }
    // While everything waits.
    host = started_on(host.kill().await).await;
    let ledger = host.ledger().await;
    let promised = CONTACTS * EDITS;
    let [fan_out, superseded, pending] =
        ["fan_out", "superseded", "pending"].map(|name| ledger[name].as_u64().unwrap());
    assert_eq!([fan_out, superseded, pending].map(|count| count as usize), [promised, promised - CONTACTS, CONTACTS]);
    assert!(receiver.received().is_empty(), "nothing is due");

    host.pass(QUIET).await;
    for _ in 0..KILLS_OF_ATTEMPTS {
        host = kill_during_attempts(host, &receiver).await;
    }
    host.drained().await;
    let ledger = host.ledger().await;
    assert_eq!(
        (&ledger["delivered"], &ledger["superseded"]),
        (&json!(CONTACTS), &json!(promised - CONTACTS)),
        "{ledger}"
    );

    let received = receiver.expect(CONTACTS).await;
    let mut posts: HashMap<&str, usize> = HashMap::new();
    for request in &received {
        *posts.entry(text(&request["headers"], "webhook-id")).or_default() += 1;
        let body: Value = serde_json::from_str(text(request, "body")).unwrap();
        assert_eq!(body["eventData"]["edit"], EDITS - 1, "the latest state");
    }
    assert_eq!(posts.len(), CONTACTS, "one delivery of each contact");
    let twice = received.len() - posts.len();
    assert!(twice <= KILLS_OF_ATTEMPTS * CONCURRENCY, "{twice} were in flight when the host was killed");
    let states = states(&host).await;
    let delivered: BTreeSet<&str> =
        states.iter().filter(|(_, one)| one["state"] == "delivered").map(|(id, _)| &**id).collect();
    assert_eq!(posts.keys().copied().collect::<BTreeSet<_>>(), delivered);
    assert!(states.values().filter(|one| one["state"] == "delivered").all(|one| one["settled"]["events"] == EDITS));
    println!(
        "{promised} events, {} deliveries, {} POSTs, {twice} of them repeated after a kill",
        posts.len(),
        received.len()
    );
}

#[tokio::test]
async fn a_burst_is_shown_as_a_chain() {
    let receiver = Receiver::start().await;
    let host = Host::with().turnable().start().await;
    host.subscription(&receiver.url, json!({"settle": settle(60, 120)})).await;
    let first = host.send(edit(1, 1)).await;
    let waiting = host.get(&format!("./events/{first}")).await["deliveries"][0].clone();
    assert_eq!((&waiting["state"], &waiting["settling"]), (&json!("pending"), &json!(true)));
    let second = host.send(edit(1, 2)).await;
    let of_second = host.get(&format!("./events/{second}")).await;
    let survivor = of_second["deliveries"][0].clone();
    assert_eq!(
        survivor["settled"],
        json!({"events": 2, "first_event": first, "since_ms": waiting["settled"]["since_ms"]})
    );
    assert!(explained(&of_second).contains("stands for 2 events so far"), "{of_second}");
    let of_first = host.get(&format!("./events/{first}")).await;
    let superseded = &of_first["deliveries"][0];
    assert_eq!((&superseded["state"], &superseded["superseded_by"]), (&json!("superseded"), &survivor["id"]));
    assert!(explained(&of_first).starts_with("superseded by a later event of the same contact"), "{of_first}");
    host.pass(Duration::from_secs(60)).await;
    let delivered = host.ended(&second).await;
    assert_eq!((&delivered["state"], &delivered["settling"]), (&json!("delivered"), &json!(false)));
    assert_eq!(receiver.expect(1).await.len(), 1);
    // The list by state, and a retry of what was superseded.
    let list = host.get("./deliveries?state=superseded").await;
    assert_eq!(list["deliveries"][0]["id"], superseded["id"]);
    let retried = host.ask(Method::POST, &format!("./deliveries/{}/retry", text(superseded, "id")), "").await;
    assert!(retried.status < 300, "{}", retried.text);
    assert_eq!(host.ended(&first).await["superseded_by"], Value::Null);
    receiver.expect(2).await;
}

/// Returns the parts of a chain in its order: event, delivery and state.
fn links(chain: &Value) -> Vec<(&str, &str, &str)> {
    let all = chain["deliveries"].as_array().unwrap_or_else(|| panic!("{chain}"));
    all.iter().map(|one| (text(one, "event"), text(one, "delivery"), text(one, "state"))).collect()
}

#[tokio::test]
async fn the_chain_of_a_burst_is_explained_and_on_its_pages() {
    let receiver = Receiver::start().await;
    let host = Host::with().turnable().start().await;
    host.subscription(&receiver.url, json!({"settle": settle(60, 120)})).await;
    host.subscription(&receiver.url, json!({})).await;
    let mut events = Vec::new();
    for number in 1..=3 {
        events.push(host.send(edit(1, number)).await);
    }
    host.send(edit(2, 1)).await;
    host.pass(Duration::from_secs(60)).await;
    let list = host.get("./deliveries?state=superseded").await;
    assert_eq!(list["deliveries"].as_array().unwrap().len(), 2);
    let superseded = list["deliveries"].as_array().unwrap().iter().find(|one| one["event"] == *events[0]).unwrap();
    let chain_of = async |event: &str| {
        let explained = host.get(&format!("./events/{event}")).await;
        let all = explained["subscriptions"].as_array().unwrap();
        assert_eq!(all.iter().filter(|one| one["settled_chain"].is_null()).count(), 1, "{explained}");
        all.iter().find(|one| one["settled_chain"].is_object()).unwrap().clone()
    };
    let survivor = until("the end", async || {
        let explained = chain_of(&events[2]).await;
        text(&explained, "why").starts_with("delivered").then_some(explained)
    });
    let survivor = survivor.await;
    let chain = &survivor["settled_chain"];
    let found = links(chain);
    assert_eq!(chain["not_listed"], 0);
    assert_eq!(found.iter().map(|link| link.0).collect::<Vec<_>>(), events);
    assert_eq!(found.iter().map(|link| link.2).collect::<Vec<_>>(), ["superseded", "superseded", "delivered"]);
    assert_eq!((found[0].1, found[2].1), (text(superseded, "id"), text(&survivor, "delivery")));
    for event in &events {
        assert_eq!(&chain_of(event).await["settled_chain"], chain, "each delivery has the same chain");
    }

    let mut visitor = Visitor::admin(&host).await;
    let of_delivery = visitor.see(&format!("/t/default/deliveries/{}", found[0].1)).await;
    assert!(of_delivery.contains("<summary>Burst of 3 events</summary>"), "{of_delivery}");
    assert!(of_delivery.contains(": this delivery <span class=\"state superseded\">"), "{of_delivery}");
    let of_event = visitor.see(&format!("/t/default/events/{}", events[1])).await;
    for page in [of_delivery, of_event] {
        let listed: Vec<usize> = events
            .iter()
            .map(|event| page.find(&format!("<li><a href=\"/t/default/events/{event}\">")))
            .map(|found| found.unwrap_or_else(|| panic!("{page}")))
            .collect();
        assert!(listed.is_sorted(), "{page}");
        assert!(page.contains(&format!("<a href=\"/t/default/deliveries/{}\">", found[2].1)), "{page}");
    }
}

#[tokio::test]
async fn a_wrong_setting_is_refused_with_its_position() {
    let host = Host::start().await;
    let check = async |also: Value, pointer: &str| {
        let mut body = json!({"notify_url": "https://hooks.example.com/", "modules": ["Contact"]});
        body.as_object_mut().unwrap().extend(also.as_object().cloned().unwrap());
        let reply = host.ask(Method::POST, "./subscriptions", body.to_string()).await;
        assert_eq!((reply.status, &reply.json["errors"][0]["pointer"]), (422, &json!(pointer)), "{}", reply.text);
    };
    check(json!({"settle": settle(0, 60)}), "/settle/quiet_s").await;
    check(json!({"settle": settle(3_601, 86_400)}), "/settle/quiet_s").await;
    check(json!({"settle": settle(10, 9)}), "/settle/max_wait_s").await;
    check(json!({"settle": settle(10, 86_401)}), "/settle/max_wait_s").await;
    check(json!({"settle": settle(10, 60), "retry": {"schedule_s": [5, 5]}}), "/settle").await;
    let keep = json!({"quiet_s": 10, "max_wait_s": 60, "keep": "first"});
    let body = json!({"notify_url": "https://hooks.example.com/", "modules": ["Contact"], "settle": keep});
    let reply = host.ask(Method::POST, "./subscriptions", body.to_string()).await;
    assert!(reply.status == 422 && reply.text.contains("last"), "{}", reply.text);

    let id = host.subscription("https://hooks.example.com/", json!({"settle": settle(10, 60)})).await;
    let path = format!("./subscriptions/{id}");
    let patched = host.ask(Method::PATCH, &path, json!({"settle": {"quiet_s": 20}}).to_string()).await.ok();
    assert_eq!(patched["settle"], json!({"quiet_s": 20, "max_wait_s": 60, "keep": "last"}));
    let removed = host.ask(Method::PATCH, &path, json!({"settle": null}).to_string()).await.ok();
    assert_eq!(removed["settle"], Value::Null);
}

//! Durability: `202` follows the flush to the disk, shown by delaying the flush, and by failing it.
//!
//! Killing a process proves little, because the system keeps written data. So a small library is loaded between the host and its
//! disk ([`Shim`]).

use crate::harness::{ADMIN_KEY, Host, Receiver, Shim, event, text, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[tokio::test]
async fn no_202_before_the_flush() {
    let shim = Shim::new();
    let host = shim.host().await;
    shim.set("hold");
    let marked = event("Contact is Created", 4_242_424_242);
    let asked = host.ask(Method::POST, "./events", marked);
    tokio::pin!(asked);
    let flushing = until("the flush", async || shim.is("waiting").then_some(()));
    tokio::select! {
        reply = &mut asked => panic!("answered before the flush: {}", reply.text),
        () = flushing => {}
    }
    // The event is written and waits only for the flush; the answer does not come before it.
    let log = std::fs::read(host.data().join("hookloom.db-wal")).unwrap();
    assert!(log.windows(10).any(|window| window == b"4242424242"), "the event is not in the log yet");
    shim.clear("waiting");
    let still_flushing = until("a second look", async || shim.is("waiting").then_some(()));
    tokio::select! {
        reply = &mut asked => panic!("answered before the flush: {}", reply.text),
        () = still_flushing => {}
    }
    shim.clear("hold");
    let reply = asked.await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    assert_eq!(host.ledger().await["events"], 1);
}

#[tokio::test]
async fn a_failing_disk_is_503_and_what_was_accepted_stays() {
    let shim = Shim::new();
    let host = shim.host().await;
    let before = host.send(event("Contact is Created", 1)).await;
    shim.set("fail");
    let refused = host.ask(Method::POST, "./events", event("Contact is Created", 2)).await;
    assert_eq!((refused.status, refused.headers.contains_key("retry-after")), (503, true), "{}", refused.text);
    assert_eq!(text(&refused.json, "type"), "urn:hookloom:problem:store-unavailable");
    let ready = host.ask_as("", Method::GET, "/readyz", "").await;
    assert_eq!(ready.status, 503);
    assert!(text(&ready.json, "detail").starts_with("not ready: store: "), "{}", ready.text);
    assert_eq!(host.ask_as("", Method::GET, "/healthz", "").await.status, 200);
    shim.clear("fail");

    // The host recovers without a restart, and after one every accepted event exists.
    let after = until("an accepted event", async || {
        let reply = host.try_ask(ADMIN_KEY, Method::POST, "./events", event("Contact is Created", 3)).await.unwrap();
        (reply.status == 202).then(|| text(&reply.json["events"][0], "id").to_owned())
    })
    .await;
    let host = Host::with().on(host.kill().await).start().await;
    for id in [before, after] {
        assert_eq!(text(&host.get(&format!("./events/{id}")).await, "id"), id);
    }
}

#[tokio::test]
async fn a_full_disk_is_503_and_ends_without_a_restart() {
    let shim = Shim::new();
    let receiver = Receiver::start().await;
    let host = shim.host().await;
    host.subscription(&receiver.url, json!({})).await;
    let mut accepted = BTreeSet::new();
    for round in 0..3 {
        for number in 0..20 {
            accepted.insert(host.send(event("Contact is Created", round * 100 + number)).await);
        }
        shim.set("full");
        // Several at once, which share the transaction that SQLite itself rolls back.
        let more = (0..20).map(|number| {
            host.try_ask(ADMIN_KEY, Method::POST, "./events", event("Contact is Updated", round * 100 + number))
        });
        for reply in futures_util::future::join_all(more).await {
            let reply = reply.unwrap();
            assert_eq!((reply.status, reply.headers.contains_key("retry-after")), (503, true), "{}", reply.text);
        }
        shim.clear("full");
        let again = until("room again", async || {
            let reply = host.ask(Method::POST, "./events", event("Contact is Created", round)).await;
            (reply.status == 202).then(|| text(&reply.json["events"][0], "id").to_owned())
        });
        accepted.insert(again.await);
    }
    host.drained().await;
    let sent: BTreeSet<String> =
        receiver.received().iter().map(|one| text(&one["headers"], "hookloom-event-id").to_owned()).collect();
    assert_eq!(sent, accepted);
}

const DAY_S: i64 = 86_400;

#[tokio::test]
async fn a_clock_that_jumps_loses_nothing_and_holds_nothing_up() {
    clock_jumps(&[DAY_S, -DAY_S, 0, 30 * DAY_S, 0]).await;
}

/// Sets the clock to each of these shifts under load. Returns the number of shifts.
pub(crate) async fn clock_jumps(shifts: &[i64]) -> usize {
    let shim = Shim::new();
    let receiver = Receiver::answering("500,200").await;
    let host = shim.host().await;
    let retry = json!({"schedule_s": [0, 5, 5, 5, 5], "age_max_s": 5_000_000});
    let ordering = json!({"on_failure": "block"});
    host.subscription(&receiver.url, json!({"retry": retry, "ordering": ordering})).await;
    let mut accepted = Vec::new();
    let mut jumps = 0;
    for (number, shift) in [&[0], shifts].concat().into_iter().enumerate() {
        shim.set_clock(shift);
        for step in 0..10 {
            accepted.push(host.send(event("Contact is Updated", 7_000 + number * 10 + step % 2)).await);
        }
        jumps += usize::from(number > 0);
        until("the jump to be noticed", async || {
            let log = host.log();
            (log.matches("the clock was set forward").count() + log.matches("the clock was set back").count() == jumps)
                .then_some(())
        })
        .await;
    }
    // The failed delivery was due five seconds later, by a clock that has been set back by days since.
    let begun = Instant::now();
    host.drained().await;
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let received = receiver.received();
    let sent: BTreeSet<&str> = received.iter().map(|one| text(&one["headers"], "hookloom-event-id")).collect();
    assert_eq!(sent, accepted.iter().map(String::as_str).collect());
    // After a restart with a clock that was set back, ids still grow, so the order holds.
    shim.set_clock(-DAY_S);
    let (_, folder) = host.stop().await;
    let host = shim.under(Host::with().on(folder)).start().await;
    let after = host.send(event("Contact is Updated", 7_000)).await;
    assert!(accepted.iter().all(|before| *before < after), "{after}");
    let delivery: Value = host.ended(&after).await;
    assert_eq!(text(&delivery, "state"), "delivered");
    jumps
}

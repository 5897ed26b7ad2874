//! Changes that are made at one host are in force at every host when they were answered.

use super::records::SentEvent;
use super::trial::Trial;
use crate::harness::{ADMIN_KEY, Host, Visitor, event, guest, text, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const HOSTS: usize = 3;

/// Sends an event with a number, as the senders of a trial do. Returns its id.
async fn send(host: &Host, number: u64) -> String {
    host.send(SentEvent::new(number, 1, Duration::ZERO).body()).await
}

/// Returns the two other hosts.
fn others(place: usize) -> [usize; 2] {
    [(place + 1) % HOSTS, (place + 2) % HOSTS]
}

#[tokio::test]
async fn a_subscription_exists_everywhere_when_it_was_answered() {
    let mut trial = Trial::under_load(HOSTS, 3, Duration::from_millis(300)).await;
    trial.more_accepted(10).await;
    // The checker misses a delivery for an event that was sent to any host after the answer.
    for round in 0..12 {
        trial.subscribe(round % HOSTS, &format!("later{round}"), json!({})).await;
    }
    for round in 0..9 {
        let hosts = [round % HOSTS, (round + 1) % HOSTS];
        trial.pause(&format!("later{round}"), hosts, Duration::from_millis(700)).await;
    }
    trial.more_accepted(10).await;
    let records = trial.finish("changes under load").await;
    assert_eq!(records.receipts.len(), records.deliveries.len(), "each exactly once");
}

#[tokio::test]
async fn a_deleted_subscription_gets_nothing_from_any_host() {
    let mut trial = Trial::start(HOSTS).await;
    for place in 0..HOSTS {
        let name = format!("gone{place}");
        let id = trial.subscribe(place, &name, json!({})).await;
        for other in others(place) {
            send(trial.fleet.host(other), 1).await;
        }
        until("both events", async || (trial.endpoint.count(|one| one.subscription == name) == 2).then_some(())).await;
        let deleted =
            trial.fleet.host(others(place)[0]).ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await;
        assert_eq!(deleted.status, 204, "{}", deleted.text);
        for sender in 0..HOSTS {
            let event = send(trial.fleet.host(sender), 2).await;
            let event = trial.fleet.host(place).get(&format!("./events/{event}")).await;
            assert_eq!(event["deliveries"], json!([]), "{event}");
        }
    }
}

#[tokio::test]
async fn tenants_and_keys_hold_at_every_host_at_once() {
    let trial = Trial::start(HOSTS).await;
    for place in 0..HOSTS {
        let [second, third] = others(place).map(|other| trial.fleet.host(other));
        let tenant = format!("tenant-{place}");
        trial.fleet.host(place).post("/v1/tenants", &json!({"id": tenant})).await;
        let keys = format!("/v1/tenants/{tenant}/keys");
        let made = second.post(&keys, &json!({"scopes": ["read", "send"], "label": "test"})).await;
        let key = text(&made, "key").to_owned();
        for host in [third, trial.fleet.host(place), second] {
            let path = format!("/v1/tenants/{tenant}/events");
            assert_eq!(host.ask_as(&key, Method::POST, &path, event("Contact is Created", 1)).await.status, 202);
        }
        let revoked = third.ask(Method::DELETE, &format!("{keys}/{}", text(&made, "id")), "").await;
        assert_eq!(revoked.status, 204, "{}", revoked.text);
        for host in [trial.fleet.host(place), second, third] {
            let path = format!("/v1/tenants/{tenant}/events");
            assert_eq!(host.ask_as(&key, Method::GET, &path, "").await.status, 401);
        }
    }
}

#[tokio::test]
async fn a_session_of_one_host_holds_at_the_others() {
    let trial = Trial::start(HOSTS).await;
    let visitor = Visitor::admin(trial.fleet.host(0)).await;
    let client = crate::harness::client_without_redirects();
    for place in 0..HOSTS {
        let page = client.get(format!("{}/t/default", trial.fleet.host(place).url));
        let page = page.header("cookie", visitor.cookie_line()).send().await.unwrap();
        assert_eq!(page.status(), 200, "at host {place}");
        let anonymous = client.get(format!("{}/t/default", trial.fleet.host(place).url)).send().await.unwrap();
        assert_eq!(anonymous.status(), 303, "at host {place}");
    }
}

#[tokio::test]
async fn a_plugin_version_runs_at_every_host_when_it_was_answered() {
    let mut trial = Trial::start(HOSTS).await;
    let first = trial.fleet.host(0).plugin("p", guest("passes")).await["sha256"].clone();
    // Enough for one at each host, nearly always.
    for number in 0..6 {
        trial.subscribe(number % HOSTS, &format!("plugged{number}"), json!({"plugin": "p"})).await;
    }
    let check = async |sender: usize, version: &Value| {
        let event = send(trial.fleet.host(sender), 1).await;
        let reader = trial.fleet.host((sender + 1) % HOSTS);
        let deliveries = reader.deliveries_when(&event, |one| one["state"] != "pending").await;
        assert_eq!(deliveries.len(), 6);
        for delivery in deliveries {
            assert!(delivery.to_string().contains(version.as_str().unwrap()), "not of {version}: {delivery}");
        }
    };
    check(1, &first).await;
    let second = trial.fleet.host(1).plugin("p", guest("logs_entity")).await["sha256"].clone();
    check(2, &second).await;
    let activate = format!("./plugins/p/versions/{}/activate", first.as_str().unwrap());
    trial.fleet.host(2).post(&activate, &json!({})).await;
    check(0, &first).await;
}

#[tokio::test]
async fn operators_act_at_a_host_that_does_not_own_the_subscription() {
    let mut trial = Trial::start(HOSTS).await;
    let id = trial.subscribe(0, "acted", json!({"retry": {"schedule_s": [0, 3_600]}})).await;
    let mut number = 0;
    for place in 0..HOSTS {
        let host = trial.fleet.host(place);
        let received = async |number: u64, count: usize| {
            let seen = async || (trial.endpoint.count(|one| one.number == number) >= count).then_some(());
            until("a request", seen).await;
        };
        // Retried: long before its time.
        number += 1;
        trial.endpoint.answer(404);
        let delivery = host.attempted(&send(host, number).await).await;
        trial.endpoint.answer(200);
        host.post(&format!("./deliveries/{}/retry", text(&delivery, "id")), &json!({})).await;
        received(number, 2).await;
        // Cancelled: also a retry of the whole subscription does not attempt it.
        number += 1;
        trial.endpoint.answer(404);
        let delivery = host.attempted(&send(host, number).await).await;
        trial.endpoint.answer(200);
        let path = format!("./deliveries/{}", text(&delivery, "id"));
        host.post(&format!("{path}/cancel"), &json!({})).await;
        for other in others(place) {
            assert_eq!(trial.fleet.host(other).get(&path).await["state"], "cancelled");
        }
        // Replayed: the event of the cancelled delivery as well.
        let replayed = host
            .post(&format!("./subscriptions/{id}/replay"), &json!({"from_ms": 0, "to_ms": i64::from(u32::MAX) * 1_000}))
            .await;
        assert!(replayed["deliveries"].as_u64() >= Some(number), "{replayed}");
        received(number, 2).await;
        host.drained().await;
        let tested = host
            .ask_as(
                ADMIN_KEY,
                Method::POST,
                &format!("./subscriptions/{id}/test"),
                SentEvent::new(0, 1, Duration::ZERO).body(),
            )
            .await;
        assert!((200..300).contains(&tested.status), "{}", tested.text);
        assert_eq!(trial.fleet.host(others(place)[0]).get(&path).await["state"], "cancelled");
    }
}

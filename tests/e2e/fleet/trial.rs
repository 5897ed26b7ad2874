//! Trial: a fleet, senders, an endpoint, and the records of all of them.

use super::checker::check;
use super::endpoint::Endpoint;
use super::hosts::Fleet;
use super::records::{Disruption, ListedDelivery, Records, SentEvent, Subscribed};
use super::traffic::Traffic;
use crate::harness::{Host, text, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Time after a kill in which requests of the killed host may still arrive.
const ARRIVES_LATE: Duration = Duration::from_millis(200);

/// First number of the events that are sent besides the senders.
const EXTRA_NUMBERS: u64 = 1_000_000;

/// Running trial.
pub(super) struct Trial {
    began: Instant,
    pub(super) fleet: Fleet,
    pub(super) endpoint: Endpoint,
    traffic: Option<Traffic>,
    records: Records,
}

impl Trial {
    /// Starts hosts and an endpoint.
    pub(super) async fn start(hosts: usize) -> Trial {
        Trial::of(Fleet::start(hosts).await).await
    }

    /// Starts an endpoint for a fleet.
    pub(super) async fn of(fleet: Fleet) -> Trial {
        let began = Instant::now();
        let endpoint = Endpoint::start(began).await;
        Trial { began, fleet, endpoint, traffic: None, records: Records::default() }
    }

    /// Starts hosts, with this number of subscriptions and with senders.
    pub(super) async fn under_load(hosts: usize, subscriptions: usize, every: Duration) -> Trial {
        let mut trial = Trial::start(hosts).await;
        trial.subscribe_all(subscriptions).await;
        trial.send(every);
        trial
    }

    /// Starts senders for a fleet, and this number of subscriptions at an endpoint that answers after a while. Returns when events come.
    pub(super) async fn with(fleet: Fleet, subscriptions: usize, every: Duration) -> Trial {
        let mut trial = Trial::of(fleet).await;
        trial.subscribe_all(subscriptions).await;
        trial.endpoint.delay(Duration::from_millis(20));
        trial.send(every);
        trial.more_accepted(20).await;
        trial
    }

    /// Creates subscriptions without limits, at each host in turn.
    pub(super) async fn subscribe_all(&mut self, subscriptions: usize) {
        let places = self.fleet.places();
        for number in 0..subscriptions {
            self.subscribe(places[number % places.len()], &format!("plain{number}"), json!({})).await;
        }
    }

    /// Returns the names of all subscriptions.
    pub(super) fn names(&self) -> Vec<String> {
        self.records.subscriptions.iter().map(|one| one.name.clone()).collect()
    }

    /// Starts senders, each of which sends an event in every interval.
    pub(super) fn send(&mut self, every: Duration) {
        self.traffic = Some(Traffic::start(self.began, self.fleet.urls.clone(), every));
    }

    /// Sends one event to a host, besides the senders. Returns the status of the answer.
    pub(super) async fn send_one(&mut self, place: usize) -> u16 {
        let number = EXTRA_NUMBERS + u64::try_from(self.records.sent.len()).unwrap();
        let mut sent = SentEvent::new(number, number, self.now());
        let reply = self.fleet.host(place).ask(Method::POST, "./events", sent.body()).await;
        if reply.status == 202 {
            sent.accepted = Some((text(&reply.json["events"][0], "id").to_owned(), self.now()));
        } else {
            assert!(reply.headers.contains_key("retry-after"), "{}: {:?}", reply.text, reply.headers);
        }
        self.records.sent.push(sent);
        reply.status
    }

    /// Returns the time since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Creates a subscription to every event at a host. Returns its id.
    pub(super) async fn subscribe(&mut self, place: usize, name: &str, also: Value) -> String {
        let concurrency = also["concurrency"].as_u64().unwrap_or(4);
        let rate_per_s = also["rate_per_s"].as_u64().map(|rate| u32::try_from(rate).unwrap());
        let is_ordered = also["ordering"].is_object();
        let mut settings = also;
        settings["concurrency"] = concurrency.into();
        let id = self.fleet.host(place).subscription(&self.endpoint.url(name), settings).await;
        self.records.subscriptions.push(Subscribed {
            name: name.to_owned(),
            id: id.clone(),
            created_at: self.now(),
            concurrency: usize::try_from(concurrency).unwrap(),
            is_ordered,
            rate_per_s,
            pauses: Vec::new(),
        });
        id
    }

    /// Pauses a subscription at one host for a time, and resumes it at another.
    pub(super) async fn pause(&mut self, name: &str, [at, then]: [usize; 2], lasts: Duration) {
        let place = self.records.subscriptions.iter().position(|one| one.name == name).unwrap();
        let path = format!("./subscriptions/{}", self.records.subscriptions[place].id);
        self.fleet.host(at).post(&format!("{path}/pause"), &json!({"reason": "a test"})).await;
        let from = self.now();
        tokio::time::sleep(lasts).await;
        let to = self.now();
        self.records.subscriptions[place].pauses.push((from, to));
        self.fleet.host(then).post(&format!("{path}/resume"), &json!({})).await;
    }

    /// Records that a host or the database ends or stands still now.
    pub(super) fn disrupted(&mut self) -> Duration {
        let at = self.now();
        self.records.disruptions.push(Disruption { at });
        at
    }

    /// Waits until so many more events were accepted.
    pub(super) async fn more_accepted(&self, more: usize) {
        let accepted = || self.traffic.as_ref().map_or(0, Traffic::accepted);
        let enough = accepted() + more;
        until("more events to be accepted", async || (accepted() >= enough).then_some(())).await;
    }

    /// Returns the names of the subscriptions that a host owns.
    pub(super) async fn owned_by(&self, place: usize) -> Vec<String> {
        let shards = self.fleet.shards(place).await;
        let subscriptions = self.records.subscriptions.iter();
        let owned = subscriptions.filter(|one| shards.contains(&shard_of(&one.id)));
        owned.map(|one| one.name.clone()).collect()
    }

    /// Waits until each of these subscriptions goes on after a kill, and returns how long each took.
    pub(super) async fn goes_on(&self, names: &[String], killed_at: Duration) -> Vec<Duration> {
        let mut took = Vec::new();
        for name in names {
            let begun_at = until(&format!("a request of {name}"), async || {
                let receipts = self.endpoint.receipts();
                let later = receipts.iter().filter(|one| one.begun_at > killed_at + ARRIVES_LATE);
                later.filter(|one| one.subscription == *name).map(|one| one.begun_at).min()
            })
            .await;
            took.push(begun_at - killed_at);
        }
        took
    }

    /// Returns the longest time without a request of each of these subscriptions, of those that end after a moment.
    pub(super) fn silences(&self, names: &[String], after: Duration) -> Vec<Duration> {
        let receipts = self.endpoint.receipts();
        let longest = |name: &String| {
            let mut times: Vec<_> = receipts.iter().filter(|one| one.subscription == *name).collect();
            times.sort_by_key(|one| one.begun_at);
            let gaps = times.windows(2).filter(|pair| pair[1].begun_at > after);
            gaps.map(|pair| pair[1].begun_at - pair[0].begun_at).max().unwrap_or_default()
        };
        names.iter().map(longest).collect()
    }

    /// Stops the senders, waits until everything has ended, and checks the records. Returns them.
    pub(super) async fn finish(mut self, what: &str) -> Records {
        if let Some(traffic) = self.traffic.take() {
            self.records.sent.extend(traffic.stop().await);
        }
        let places = self.fleet.places();
        self.fleet.host(places[0]).drained().await;
        until("the last answers", async || (self.endpoint.count(|one| one.ended_at.is_none()) == 0).then_some(()))
            .await;
        self.records.receipts = self.endpoint.receipts();
        self.records.deliveries = listed(self.fleet.host(places[0])).await;
        let ledger = self.fleet.host(places[0]).ledger().await;
        for place in places {
            assert_eq!(self.fleet.host(place).ledger().await, ledger, "at host {place}");
        }
        let violations = check(&self.records);
        println!("{}", summary(what, violations.len(), &self.records));
        let shown = &violations[..violations.len().min(40)];
        assert!(violations.is_empty(), "{what}: {} violations: {shown:#?}", violations.len());
        self.records
    }
}

fn shard_of(id: &str) -> u8 {
    u8::from_str_radix(&id[id.len() - 2..], 16).unwrap()
}

/// Lists all deliveries of the default tenant.
async fn listed(host: &Host) -> Vec<ListedDelivery> {
    let mut deliveries = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = host.get(&format!("./deliveries?limit=500{cursor}")).await;
        for one in page["deliveries"].as_array().unwrap() {
            let field = |name: &str| text(one, name).to_owned();
            deliveries.push(ListedDelivery {
                id: field("id"),
                event: field("event"),
                subscription: field("subscription"),
                kind: field("kind"),
                state: field("state"),
            });
        }
        let Some(next) = page["cursor"].as_str() else { return deliveries };
        cursor = format!("&cursor={next}");
    }
}

/// Returns a row of the table of `cargo xtask soak fleet`.
fn summary(what: &str, violations: usize, records: &Records) -> String {
    let accepted = records.sent.iter().filter(|one| one.accepted.is_some()).count();
    let unknown: u32 = records.sent.iter().map(|one| one.unknown).sum();
    let refused: u32 = records.sent.iter().map(|one| one.refused).sum();
    let twice: usize = records.subscriptions.iter().map(|one| records.duplicates_of(&one.name)).sum();
    let requests = records.receipts.len();
    let faults = records.disruptions.len();
    format!("| {what} | {violations} | {accepted} | {unknown} | {refused} | {requests} | {twice} | {faults} |")
}

/// Prints the median and the maximum of times. Returns the maximum.
pub(super) fn print_times(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let Some(max) = times.last() else { return Duration::ZERO };
    let middle = times[times.len() / 2];
    println!("{what}: p50 {} ms, max {} ms of {}", middle.as_millis(), max.as_millis(), times.len());
    *max
}

//! Alerts: one message for each incident and one when it is over, by e-mail and to webhooks.

mod kinds;
mod mail;
mod page;

use crate::harness::{Host, HostBuilder, MailReply, MailServer, Receiver, event, example, free_port, text, until};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Longer than the pause between two evaluations.
const EVALUATION: Duration = Duration::from_secs(31);

const RECIPIENT: &str = "ops@example.com";

fn mailing(server: &MailServer) -> HostBuilder {
    let url = format!("smtp_url=smtp://127.0.0.1:{}", server.port());
    Host::with().turnable().set(&url).set("mail_from=alerts@hooks.test")
}

async fn set(host: &Host, settings: Value) {
    let reply = host.ask(Method::PUT, "./alerts", settings.to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

/// Sends events of which each has one attempt, and waits until all have ended.
async fn attempt(host: &Host, count: usize) {
    for number in 0..count {
        let sent = host.send(event("Contact is Created", number)).await;
        host.ended(&sent).await;
    }
}

/// Creates a webhook whose events have one attempt.
async fn webhook(host: &Host, receiver: &Receiver, description: &str) -> String {
    let also = json!({"modules": ["Contact"], "description": description, "retry": {"schedule_s": [0]}});
    host.subscription(&receiver.url, also).await
}

/// Returns the number of evaluations so far.
async fn evaluations(host: &Host) -> u64 {
    let metrics = host.ask(Method::GET, "/metrics", "").await.text;
    let count = metrics.lines().find_map(|line| line.strip_prefix("hookloom_alert_evaluation_seconds_count "));
    count.map_or(0, |count| count.parse().unwrap())
}

/// Turns the clock by a pause, and waits until the host has evaluated its alerts.
async fn evaluate(host: &Host) {
    let before = evaluations(host).await;
    host.pass(EVALUATION).await;
    until("an evaluation", async || (evaluations(host).await > before).then_some(())).await;
}

/// Maximum number of evaluations until an incident opens or closes: the longest window of the rules is 15 minutes.
const EVALUATIONS_MAX: usize = 35;

/// Evaluates until the newest incident is as wanted, and returns all.
async fn incidents_when(host: &Host, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    for _ in 0..EVALUATIONS_MAX {
        evaluate(host).await;
        let all = host.get("./incidents").await;
        if all[0].is_object() && wanted(&all[0]) {
            return all.as_array().cloned().unwrap();
        }
    }
    panic!("no such incident: {}\n{}", host.get("./incidents").await, host.log());
}

fn is_open(incident: &Value) -> bool {
    incident["closed_at_ms"].is_null()
}

fn is_over(incident: &Value) -> bool {
    !is_open(incident)
}

#[tokio::test]
async fn a_failing_webhook_has_one_message_and_one_when_it_is_over() {
    let server = MailServer::start(&[]).await;
    let host = mailing(&server).start().await;
    set(&host, json!({"recipients": [RECIPIENT]})).await;
    let watcher = Receiver::start().await;
    let others = Receiver::start().await;
    // It is up and down, and then it is up.
    let failing = Receiver::answering("500,500,500,500,500,200,500,200,500,200,500,200").await;
    let id = webhook(&host, &failing, "Orders").await;
    host.subscription(&watcher.url, json!({"modules": ["Incident"]})).await;
    host.subscription(&others.url, json!({"modules": ["Deal", "Subscription"]})).await;
    attempt(&host, 5).await;
    let all = incidents_when(&host, is_open).await;
    assert_eq!((all.len(), text(&all[0], "kind"), text(&all[0], "subject")), (1, "webhook-failing", &*id));
    let mail = server.expect(1).await.remove(0);
    assert_eq!(mail.to, RECIPIENT);
    assert_eq!(mail.header("Subject"), "[Hookloom] Webhook \"Orders\" fails: 5 of 5 attempts in 15 minutes failed");
    assert!(mail.header("Message-ID").ends_with("@hooks.test>"), "{}", mail.data);
    assert!(mail.data.replace("=\r\n", "").contains(&id), "{}", mail.data);
    let received = watcher.expect(1).await.remove(0);
    let received: Value = serde_json::from_str(text(&received, "body")).unwrap();
    let kind = text(&received["eventData"], "kind");
    assert_eq!((text(&received, "eventName"), kind), ("Incident is Opened", "webhook-failing"));
    for number in 0..6 {
        host.pass(Duration::from_secs(170)).await;
        let sent = host.send(event("Contact is Created", 10 + number)).await;
        host.attempted(&sent).await;
        evaluate(&host).await;
        let found = host.get("./incidents").await;
        assert!(found.as_array().unwrap().len() == 1 && is_open(&found[0]), "attempt {number}: {found}");
    }
    assert_eq!((server.taken().len(), watcher.received().len()), (1, 1), "flapping sends no more");
    for number in 0..4 {
        host.pass(Duration::from_secs(170)).await;
        let sent = host.send(event("Contact is Created", 20 + number)).await;
        assert_eq!(text(&host.ended(&sent).await, "state"), "delivered");
    }
    let all = incidents_when(&host, is_over).await;
    let mails = server.expect(2).await;
    assert!(mails[1].header("Subject").contains("no longer fails"), "{}", mails[1].data);
    until("both events", async || (watcher.received().len() == 2).then_some(())).await;
    for _ in 0..4 {
        evaluate(&host).await;
    }
    let after = host.get("./incidents").await;
    assert_eq!(after.as_array().map(Vec::len), Some(all.len()), "{after}");
    assert_eq!((server.taken().len(), watcher.received().len(), others.received().len()), (2, 2, 0));
    assert_eq!(text(&after[0]["emails"][0], "state"), "sent");
    host.ledger().await;
}

/// Returns the time of day in UTC, this many minutes from now.
fn time_of_day(minutes: i64) -> String {
    let at = Timestamp::from_second(Timestamp::now().as_second() + minutes * 60).unwrap();
    at.strftime("%H:%M").to_string()
}

#[tokio::test]
async fn quiet_hours_hold_back_what_is_not_critical() {
    let server = MailServer::start(&[]).await;
    let host = mailing(&server).start().await;
    let quiet = json!({"from": time_of_day(-120), "to": time_of_day(120)});
    set(&host, json!({"recipients": [RECIPIENT], "quiet_hours": quiet})).await;
    let failing = Receiver::answering("500").await;
    webhook(&host, &failing, "Orders").await;
    attempt(&host, 5).await;
    let all = incidents_when(&host, is_open).await;
    assert_eq!((text(&all[0], "kind"), &all[0]["opened_notified_at_ms"]), ("webhook-failing", &Value::Null));
    for _ in 0..4 {
        evaluate(&host).await;
    }
    assert_eq!(server.taken().len(), 0);
    // 410 disables a webhook, and nothing arrives until somebody acts.
    let gone = Receiver::answering("410").await;
    webhook(&host, &gone, "Stock").await;
    let sent = host.send(event("Contact is Created", 9)).await;
    host.deliveries_when(&sent, |delivery| delivery["attempts"][0].is_object()).await;
    incidents_when(&host, |one| one["kind"] == "webhook-stopped").await;
    let mail = server.expect(1).await.remove(0);
    assert!(mail.header("Subject").starts_with("[Hookloom] Webhook \"Stock\" is stopped"), "{}", mail.data);
    host.pass(Duration::from_secs(121 * 60)).await;
    evaluate(&host).await;
    let mails = server.expect(2).await;
    assert!(mails[1].header("Subject").starts_with("[Hookloom] Webhook \"Orders\" fails"), "{}", mails[1].data);
    evaluate(&host).await;
    assert_eq!(server.taken().len(), 2);
}

#[tokio::test]
async fn a_killed_host_sends_the_messages_that_it_has_written() {
    let server = MailServer::start(&[MailReply::Silent; 50]).await;
    let host = mailing(&server).start().await;
    set(&host, json!({"recipients": [RECIPIENT]})).await;
    let watcher_port = free_port();
    host.subscription(&format!("http://127.0.0.1:{watcher_port}/"), json!({"modules": ["Incident"]})).await;
    let failing = Receiver::answering("500").await;
    webhook(&host, &failing, "Orders").await;
    attempt(&host, 5).await;
    let all = incidents_when(&host, is_open).await;
    assert_eq!(text(&all[0]["emails"][0], "state"), "pending");
    until("the host to begin with the e-mail", async || (server.connections() > 0).then_some(())).await;
    let folder = host.kill().await;
    let server = MailServer::start(&[]).await;
    let watcher = Receiver::at(watcher_port, crate::harness::SECRET).await;
    let host = mailing(&server).on(folder).start().await;
    until("both messages", async || {
        // Longer than the lease of an e-mail, and than the pauses before the first retries.
        host.pass(Duration::from_secs(130)).await;
        (!server.taken().is_empty() && !watcher.received().is_empty()).then_some(())
    })
    .await;
    for _ in 0..4 {
        host.pass(Duration::from_secs(130)).await;
        evaluate(&host).await;
    }
    assert_eq!(server.taken().len(), 1, "the mail server took none before");
    let ids: BTreeSet<String> =
        watcher.received().iter().map(|one| text(&one["headers"], "webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 1, "one incident is one event");
    let after = host.get("./incidents").await;
    assert_eq!((after.as_array().map(Vec::len), text(&after[0]["emails"][0], "state")), (Some(1), "sent"));
    assert_eq!((&after[0]["id"], &after[0]["opened_event"]), (&all[0]["id"], &all[0]["opened_event"]));
}

#[tokio::test]
async fn a_test_reaches_the_webhooks_of_incidents() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("slack", example("slack")).await;
    let settings = json!({"modules": ["Incident"], "plugin": "slack", "description": "On call"});
    let id = host.subscription(&receiver.url, settings).await;
    host.subscription(&receiver.url, json!({"modules": ["Contact"]})).await;
    let written = host.post("./alerts/test", &json!({})).await;
    assert_eq!((&written["emails"], written["deliveries"].as_array().map(Vec::len)), (&json!([]), Some(1)));
    let made = &written["deliveries"][0];
    assert_eq!((text(made, "subscription"), text(made, "name")), (&*id, "On call"));
    let received = receiver.expect(1).await;
    let body: Value = serde_json::from_str(text(&received[0], "body")).unwrap();
    assert!(text(&body, "text").contains("this is a test, and nothing is wrong"), "{body}");
    assert_eq!(host.get("./incidents").await, json!([]));
    // One that lists other events only is not a webhook of incidents.
    let other = json!({"modules": ["Incident", "Contact"], "events": ["Contact is Created"]});
    host.subscription(&receiver.url, other).await;
    assert_eq!(host.post("./alerts/test", &json!({})).await["deliveries"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn settings_of_alerts_are_checked() {
    let host = Host::start().await;
    let refused = host.ask(Method::PUT, "./alerts", json!({"recipients": [RECIPIENT]}).to_string()).await;
    assert!(refused.status == 422 && refused.text.contains("no mail server"), "{}", refused.text);
    let wrong =
        json!({"share_filling": {"percent": 99}, "quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "x"}});
    let refused = host.ask(Method::PUT, "./alerts", wrong.to_string()).await;
    let pointers: Vec<&str> =
        refused.json["errors"].as_array().unwrap().iter().map(|one| text(one, "pointer")).collect();
    assert_eq!(pointers, ["/share_filling/percent", "/quiet_hours/time_zone"]);
    let mut read = host.get("./alerts").await;
    assert_eq!((&read["email"], &read["intake_silent"]["after_hours"]), (&json!(false), &Value::Null));
    read["intake_silent"]["after_hours"] = json!(12);
    set(&host, read).await;
    assert_eq!(host.get("./alerts").await["intake_silent"]["after_hours"], 12);
    assert_eq!(host.ask(Method::POST, "./alerts/test", "").await.status, 409);
    let log = host.get("./changes").await;
    assert_eq!(text(&log["changes"][0], "action"), "alerts.update");
}

//! Incidents of plugins, the share and the intake, and their events at a receiver.

use super::{EVALUATION, RECIPIENT, attempt, evaluate, incidents_when, is_open, is_over, mailing, set, webhook};
use crate::harness::{Host, MailServer, Receiver, event, guest, text, until};
use serde_json::{Value, json};
use std::time::Duration;

fn body(request: &Value) -> Value {
    serde_json::from_str(text(request, "body")).unwrap()
}

#[tokio::test]
async fn slack_gets_an_incident_as_a_message_signed_and_again_after_a_failure() {
    let host = Host::with().turnable().start().await;
    host.post("./plugins", &json!({"library": "slack"})).await;
    let slack = Receiver::answering("503,200").await;
    let also = json!({"modules": ["Incident"], "plugin": "slack", "retry": {"schedule_s": [0, 0]}});
    host.subscription(&slack.url, also).await;
    let failing = Receiver::answering("500").await;
    let id = webhook(&host, &failing, "Orders <EU>").await;
    attempt(&host, 5).await;
    incidents_when(&host, is_open).await;
    let received = slack.expect(2).await;
    assert_eq!(received[0]["headers"]["webhook-id"], received[1]["headers"]["webhook-id"]);
    let message = body(&received[1]);
    let wrong = "Webhook \"Orders &lt;EU&gt;\" fails: 5 of 5 attempts in 15 minutes failed";
    assert_eq!(text(&message, "text"), format!("Incident: {wrong}"));
    let blocks = message["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 4, "{message}");
    assert!(text(&blocks[2]["text"], "text").starts_with("Look at the answers of the receiver"), "{message}");
    let link = format!("<{}/t/default/webhooks/{id}|Open in Hookloom> - webhook-failing", host.url);
    assert_eq!(text(&blocks[3]["elements"][0], "text"), link);
}

#[tokio::test]
async fn a_faulting_plugin_is_an_incident_until_another_version_judges() {
    let server = MailServer::start(&[]).await;
    let host = mailing(&server).start().await;
    set(&host, json!({"recipients": [RECIPIENT]})).await;
    let receiver = Receiver::start().await;
    let bad = host.plugin("p", guest("panics")).await;
    // Each webhook calls it once, and then waits for another version.
    for number in 0..3 {
        let also = json!({"modules": ["Contact"], "plugin": "p", "description": format!("w{number}")});
        host.subscription(&receiver.url, also).await;
    }
    let sent = host.send(event("Contact is Created", 1)).await;
    host.deliveries_when(&sent, |one| one["attempts"][0].is_object()).await;
    let all = incidents_when(&host, is_open).await;
    let subject = format!("p@{}", text(&bad, "sha256"));
    assert_eq!((text(&all[0], "kind"), text(&all[0], "subject")), ("plugin-faulting", &*subject));
    let mail = server.expect(1).await.remove(0);
    let subject = mail.header("Subject");
    assert!(subject.starts_with("[Hookloom] Plugin p ") && subject.contains("faults: 3 faults in 15"), "{subject}");
    assert_eq!(receiver.received().len(), 0);
    host.plugin("p?activate=true", guest("passes")).await;
    until("the held deliveries", async || (receiver.received().len() == 3).then_some(())).await;
    let all = incidents_when(&host, is_over).await;
    assert_eq!(all.len(), 1, "{all:?}");
    let mails = server.expect(2).await;
    assert!(mails[1].header("Subject").contains("no longer faults"), "{}", mails[1].data);
}

#[tokio::test]
async fn a_filling_share_is_an_incident_of_each_level_until_there_is_room() {
    let server = MailServer::start(&[]).await;
    let host = mailing(&server).set("tenant_events_max=40").set("retention_s=86400").start().await;
    set(&host, json!({"recipients": [RECIPIENT]})).await;
    for number in 0..32 {
        host.send(event("Contact is Created", number)).await;
    }
    let all = incidents_when(&host, is_open).await;
    assert_eq!((all.len(), text(&all[0], "subject"), text(&all[0], "severity")), (1, "warning", "warning"));
    let mail = server.expect(1).await.remove(0);
    assert!(mail.header("Subject").ends_with("fills: 80 % of its events are used"), "{}", mail.data);
    // The event about the first incident counts as well.
    for number in 0..5 {
        host.send(event("Contact is Created", 100 + number)).await;
    }
    let all = incidents_when(&host, |one| one["severity"] == "critical").await;
    assert_eq!((all.len(), text(&all[0], "subject")), (2, "critical"));
    assert!(text(&all[0], "next_step").contains("tenant_events_max"), "{all:?}");
    server.expect(2).await;
    host.pass(Duration::from_secs(90_000)).await;
    let all = incidents_when(&host, is_over).await;
    assert!(all.len() == 2 && all.iter().all(is_over), "{all:?}");
    let mails = server.expect(4).await;
    assert!(mails[3].header("Subject").contains("has room again"), "{}", mails[3].data);
}

#[tokio::test]
async fn a_silent_intake_is_an_incident_until_the_next_event() {
    let host = Host::with().turnable().start().await;
    set(&host, json!({"intake_silent": {"after_hours": 2}})).await;
    let watcher = Receiver::start().await;
    host.subscription(&watcher.url, json!({"modules": ["Incident"]})).await;
    evaluate(&host).await;
    assert_eq!(host.get("./incidents").await, json!([]), "a new tenant is not silent");
    host.send(event("Contact is Created", 1)).await;
    host.pass(Duration::from_secs(2 * 3_600) - 3 * EVALUATION).await;
    evaluate(&host).await;
    assert_eq!(host.get("./incidents").await, json!([]));
    let all = incidents_when(&host, is_open).await;
    assert_eq!((all.len(), text(&all[0], "kind")), (1, "intake-silent"));
    until("the event", async || (!watcher.received().is_empty()).then_some(())).await;
    let opened = body(&watcher.received()[0]);
    assert_eq!(text(&opened["eventData"], "title"), "The intake is silent: no event was accepted for 2 hours");
    host.pass(Duration::from_secs(3_600)).await;
    evaluate(&host).await;
    assert_eq!(host.get("./incidents").await.as_array().unwrap().len(), 1, "its own event ends nothing");
    host.send(event("Contact is Created", 2)).await;
    incidents_when(&host, is_over).await;
    until("both events", async || (watcher.received().len() == 2).then_some(())).await;
    assert_eq!(text(&body(&watcher.received()[1]), "eventName"), "Incident is Closed");
}

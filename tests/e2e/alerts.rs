//! Alerts: one message for each incident and one when it is over, by e-mail and to webhooks.

use crate::harness::{Host, HostBuilder, MailReply, MailServer, Receiver, event, text, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Longer than the pause between two evaluations.
const EVALUATION: Duration = Duration::from_secs(31);

fn mailing(server: &MailServer) -> HostBuilder {
    let url = format!("smtp_url={}", server.url());
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

/// Turns the clock until the newest incident is as wanted, and returns all.
async fn incidents_when(host: &Host, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    until("the incident", async || {
        host.pass(EVALUATION).await;
        let all = host.get("./incidents").await;
        all[0].is_object().then(|| wanted(&all[0])).filter(|is| *is)?;
        all.as_array().cloned()
    })
    .await
}

#[tokio::test]
async fn a_failing_webhook_has_one_message_and_one_when_it_is_over() {
    let server = MailServer::start(&[]).await;
    let host = mailing(&server).start().await;
    set(&host, json!({"recipients": ["ops@example.com"]})).await;
    let watcher = Receiver::start().await;
    let others = Receiver::start().await;
    let failing = Receiver::answering("500,500,500,500,500,200").await;
    let also = json!({"modules": ["Contact"], "description": "Orders", "retry": {"schedule_s": [0]}});
    let id = host.subscription(&failing.url, also).await;
    host.subscription(&watcher.url, json!({"modules": ["Incident"]})).await;
    host.subscription(&others.url, json!({"modules": ["Deal", "Subscription"]})).await;
    attempt(&host, 5).await;
    let all = incidents_when(&host, |one| one["closed_at_ms"].is_null()).await;
    assert_eq!((all.len(), text(&all[0], "kind"), text(&all[0], "subject")), (1, "webhook-failing", &*id));
    let mail = server.expect(1).await.remove(0);
    assert_eq!(mail.to, "ops@example.com");
    assert_eq!(mail.header("Subject"), "[Hookloom] Webhook \"Orders\" fails: 5 of 5 attempts in 15 minutes failed");
    assert!(
        mail.header("Message-ID").ends_with("@hooks.test>") && mail.data.replace("=\r\n", "").contains(&id),
        "{}",
        mail.data
    );
    let received = watcher.expect(1).await.remove(0);
    let received: Value = serde_json::from_str(text(&received, "body")).unwrap();
    assert_eq!(
        (text(&received, "eventName"), text(&received["eventData"], "kind")),
        ("Incident is Opened", "webhook-failing")
    );
    // The receiver recovers. More evaluations send no more.
    until("an attempt that succeeds", async || {
        host.pass(Duration::from_secs(200)).await;
        let sent = host.send(event("Contact is Created", 9)).await;
        (host.ended(&sent).await["state"] == "delivered").then_some(())
    })
    .await;
    let all = incidents_when(&host, |one| !one["closed_at_ms"].is_null()).await;
    let mails = server.expect(2).await;
    assert!(mails[1].header("Subject").contains("no longer fails"), "{}", mails[1].data);
    until("both events", async || (watcher.received().len() == 2).then_some(())).await;
    for _ in 0..4 {
        host.pass(EVALUATION).await;
    }
    let after = host.get("./incidents").await;
    assert_eq!(after.as_array().map(Vec::len), Some(all.len()), "{after}");
    assert_eq!((server.taken().len(), watcher.received().len(), others.received().len()), (2, 2, 0));
    assert_eq!(text(&after[0]["emails"][0], "state"), "sent");
    host.ledger().await;
}

#[tokio::test]
async fn an_email_is_tried_again_until_the_server_accepts_or_refuses_it() {
    let replies = [MailReply::Later, MailReply::DropInData, MailReply::Silent];
    let server = MailServer::start(&replies).await;
    let host = mailing(&server).start().await;
    set(&host, json!({"recipients": ["ops@example.com"]})).await;
    host.post("./alerts/test", &json!({})).await;
    for tries in 1..=replies.len() {
        until("a failed try", async || {
            (host.log().matches("could not be sent; trying again").count() == tries).then_some(())
        })
        .await;
        // Longer than the pause after the third one.
        host.pass(Duration::from_secs(130)).await;
    }
    let mail = server.expect(1).await.remove(0);
    assert!(mail.header("Subject").contains("Test of the alerts") && mail.data.contains("/t/default"), "{}", mail.data);
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");

    let refusing = MailServer::start(&[MailReply::Never]).await;
    let host = mailing(&refusing).start().await;
    set(&host, json!({"recipients": ["ops@example.com"]})).await;
    host.post("./alerts/test", &json!({})).await;
    until("the end", async || host.log().contains("is given up").then_some(())).await;
    assert!(host.log().contains("no such mailbox"), "{}", host.log());
    assert_eq!(refusing.taken().len(), 0);
}

#[tokio::test]
async fn a_killed_host_sends_what_it_has_not_sent() {
    let silent = [MailReply::Silent; 50];
    let server = MailServer::start(&silent).await;
    let host = mailing(&server).start().await;
    set(&host, json!({"recipients": ["ops@example.com"]})).await;
    host.post("./alerts/test", &json!({})).await;
    let folder = host.kill().await;
    let server = MailServer::start(&[]).await;
    let host = mailing(&server).on(folder).start().await;
    until("the e-mail", async || {
        host.pass(Duration::from_secs(130)).await;
        server.taken().first().cloned()
    })
    .await;
    for _ in 0..3 {
        host.pass(Duration::from_secs(130)).await;
    }
    assert_eq!(server.taken().len(), 1);
}

#[tokio::test]
async fn settings_of_alerts_are_checked() {
    let host = Host::start().await;
    let refused = host.ask(Method::PUT, "./alerts", json!({"recipients": ["ops@example.com"]}).to_string()).await;
    assert!(refused.status == 422 && refused.text.contains("no mail server"), "{}", refused.text);
    let wrong =
        json!({"share_filling": {"percent": 99}, "quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "x"}});
    let refused = host.ask(Method::PUT, "./alerts", wrong.to_string()).await;
    let refused: Value = serde_json::from_str(&refused.text).unwrap();
    let pointers: Vec<&str> = refused["errors"].as_array().unwrap().iter().map(|one| text(one, "pointer")).collect();
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

//! Page of alerts: by its forms alone, and in a browser.

use super::{RECIPIENT, attempt, evaluate, incidents_when, is_open, is_over, mailing, set, time_of_day, webhook};
use crate::browser::sign_in;
use crate::harness::{Browser, Host, MailServer, Receiver, Role, Visitor};
use serde_json::{Value, json};
use std::time::Duration;

const PAGE: &str = "/t/default/alerts";

/// Fields of the form, as a browser sends them for default settings.
const DEFAULTS: [(&str, &str); 9] = [
    ("webhook_failing", "on"),
    ("failed_percent", "50"),
    ("failed_min", "5"),
    ("webhook_stopped", "on"),
    ("plugin_faulting", "on"),
    ("faults_min", "3"),
    ("share_filling", "on"),
    ("percent", "80"),
    ("time_zone", "UTC"),
];

/// Submits the form with these fields before the default ones.
async fn submit(visitor: &mut Visitor<'_>, fields: &[(&str, &str)]) -> crate::harness::Page {
    visitor.get(PAGE).await;
    visitor.post(PAGE, &[fields, &DEFAULTS].concat()).await
}

#[tokio::test]
async fn the_form_sets_alerts_and_shows_each_fault_at_its_field() {
    let server = MailServer::start(&[]).await;
    let host = mailing(&server).start().await;
    let mut visitor = Visitor::admin(&host).await;
    let fresh = visitor.see(PAGE).await;
    assert!(fresh.contains("Nothing is wrong") && !fresh.contains("Send a test message"), "{fresh}");
    let wrong = [("recipients", "ops"), ("failed_percent", "5"), ("from", "22:00"), ("time_zone", "Mars")];
    let refused = submit(&mut visitor, &wrong).await;
    assert_eq!(refused.status, 422);
    for field in ["recipients", "to"] {
        assert!(refused.text.contains(&format!("id=\"{field}-error\"")), "{field}: {}", refused.text);
    }
    assert!(refused.text.contains(">ops</textarea>") && refused.text.contains("value=\"Mars\""), "{}", refused.text);
    let refused = submit(&mut visitor, &[("failed_percent", "5"), ("percent", "99")]).await;
    assert!(refused.text.contains("5 is not in 20 to 100"), "{}", refused.text);
    assert!(refused.text.contains("99 is not in 10 to 94"), "{}", refused.text);
    assert_eq!(host.get("./alerts").await["recipients"], json!([]), "nothing was saved");

    let fields = [("recipients", "ops@example.com\r\nme@example.com"), ("failed_percent", "30"), ("after_hours", "6")];
    let quiet = [("from", "22:00"), ("to", "07:00"), ("time_zone", "Europe/Berlin")];
    let saved = submit(&mut visitor, &[&fields[..], &quiet].concat()).await;
    assert_eq!((saved.status, &*saved.location), (303, PAGE));
    let read = host.get("./alerts").await;
    assert_eq!(read["recipients"], json!(["ops@example.com", "me@example.com"]));
    assert_eq!(
        (&read["webhook_failing"]["failed_percent"], &read["intake_silent"]["after_hours"]),
        (&json!(30), &json!(6))
    );
    let expected = json!({"from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin", "except_critical": false});
    assert_eq!(read["quiet_hours"], expected);
    visitor.get(PAGE).await;
    let tested = visitor.follow(&format!("{PAGE}/test"), &[]).await;
    assert!(tested.contains("2 test messages are on the way."), "{tested}");
    server.expect(2).await;
}

#[tokio::test]
async fn incidents_are_shown_with_what_helps_and_what_was_sent() {
    let host = Host::with().turnable().start().await;
    let quiet = json!({"from": time_of_day(-120), "to": time_of_day(120)});
    set(&host, json!({ "quiet_hours": quiet })).await;
    let watcher = Receiver::start().await;
    host.subscription(&watcher.url, json!({"modules": ["Incident"], "description": "Pager"})).await;
    let failing = Receiver::answering("500,500,500,500,500,200").await;
    let id = webhook(&host, &failing, "Orders").await;
    attempt(&host, 5).await;
    incidents_when(&host, is_open).await;
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see(PAGE).await;
    assert!(page.contains("Webhook &#34;Orders&#34; fails: 5 of 5 attempts in 15 minutes failed"), "{page}");
    assert!(page.contains("Held back until the quiet hours end."), "{page}");
    assert!(
        page.contains(&format!("href=\"/t/default/webhooks/{id}\" aria-label=\"Open the webhook: Webhook")),
        "{page}"
    );
    assert!(page.contains(">Pager</a>") && page.contains("This host has no mail server"), "{page}");
    set(&host, json!({})).await;
    evaluate(&host).await;
    let page = visitor.see(PAGE).await;
    assert!(page.contains("Sent: 1 event</span>"), "{page}");
    host.pass(Duration::from_secs(700)).await;
    attempt(&host, 1).await;
    incidents_when(&host, is_over).await;
    let page = visitor.see(PAGE).await;
    assert!(page.contains("Nothing is wrong") && page.contains(">Sent: 2 events</td>"), "{page}");
    assert!(page.contains("Webhook &#34;Orders&#34; no longer fails"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sets_alerts_and_goes_from_an_incident_to_the_webhook() {
    let server = MailServer::start(&[]).await;
    let host = mailing(&server).start().await;
    let browser = Browser::desktop(&host).await;
    sign_in(&browser, &host).await;
    browser.click_named(Role::Link, "Alerts").await;
    browser.until_at(PAGE).await;
    browser.look("alerts-nothing").await;
    browser.fill("#recipients", "ops").await;
    browser.click_named(Role::Button, "Save the alerts").await;
    browser.wait_for_text("#recipients-error", "is not an e-mail address").await;
    browser.look("alerts-refused").await;
    browser.fill("#recipients", RECIPIENT).await;
    browser.fill("#failed_min", "4").await;
    browser.click_named(Role::Button, "Save the alerts").await;
    browser.wait_for_text(".flash", "The alerts were saved.").await;
    browser.click_named(Role::Button, "Send a test message").await;
    browser.wait_for_text(".flash", "1 test message is on the way.").await;
    assert!(server.expect(1).await[0].header("Subject").contains("Test of the alerts"));
    browser.click_named(Role::Link, "Add a webhook of incidents").await;
    browser.wait("input[name=modules][value=Incident]:checked").await;
    // The open page shows incidents as they come.
    browser.open(PAGE).await;
    browser.wait("body[data-watching]").await;

    let failing = Receiver::answering("500").await;
    let id = webhook(&host, &failing, "Orders").await;
    let gone = Receiver::answering("410").await;
    webhook(&host, &gone, "Stock").await;
    for number in 0..4 {
        let sent = host.send(crate::harness::event("Contact is Created", number)).await;
        host.deliveries_when(&sent, |one: &Value| one["attempts"][0].is_object()).await;
    }
    incidents_when(&host, |one| is_open(one) && one["kind"] == "webhook-stopped").await;
    server.expect(3).await;
    evaluate(&host).await;
    browser.wait_for_text(".incident.critical h3", "Webhook \"Stock\" is stopped").await;
    browser.wait_for_text(".incident.warning h3", "Webhook \"Orders\" fails").await;
    browser.look("alerts-open").await;
    let phone = Browser::phone_in_the_dark(&host).await;
    sign_in(&phone, &host).await;
    phone.open(PAGE).await;
    phone.look("alerts-open").await;
    phone.close().await;
    browser.click(".incident.warning a.button").await;
    browser.until_at(&format!("/t/default/webhooks/{id}")).await;
    browser.close().await;
}

//! Page of one webhook: its last day, its settings in plain words, and a form with every setting of the REST body.

use crate::browser::sign_in;
use crate::harness::{Browser, Host, Receiver, SECRET, Visitor, event, example, text, until};
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// Returns the tag of a form's field.
#[track_caller]
fn tag(page: &str, id: &str) -> String {
    let (before, rest) = page.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {page}"));
    before[before.rfind('<').unwrap()..].to_owned() + rest.split('>').next().unwrap()
}

/// Returns the value of a fact of a page.
#[track_caller]
fn fact<'a>(page: &'a str, name: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("<dt>{name}</dt><dd>")).unwrap_or_else(|| panic!("no {name} in {page}"));
    rest.split("</dd>").next().unwrap()
}

/// All settings of the folded parts: name of the field, text, pointer and JSON of the setting.
fn settings() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    vec![
        ("set.retry.schedule_s", "0, 5 s, 5 min", "/retry/schedule_s", json!([0, 5, 300])),
        ("set.retry.age_max_s", "2 d", "/retry/age_max_s", json!(172_800)),
        ("set.disable_after_s", "0 s", "/disable_after_s", json!(0)),
        ("set.timeout_ms", "2,500", "/timeout_ms", json!(2_500)),
        ("set.concurrency", "7", "/concurrency", json!(7)),
        ("set.rate_per_s", "50", "/rate_per_s", json!(50)),
        ("set.ordering.on_failure", "skip-after", "/ordering/on_failure", json!("skip-after")),
        ("set.ordering.attempts", "4", "/ordering/attempts", json!(4)),
        ("set.headers", "x-team = sales\nx-key: {{secret:TOKEN}}", "/headers/x-key", json!("{{secret:TOKEN}}")),
        ("set.traceparent", "yes", "/traceparent", json!(true)),
        ("set.on_plugin_fault", "pass", "/on_plugin_fault", json!("pass")),
        ("set.reuse.calls", "100", "/reuse/calls", json!(100)),
        ("set.reuse.idle_s", "5 min", "/reuse/idle_s", json!(300)),
        ("set.limits.cpu_ms", "70", "/limits/cpu_ms", json!(70)),
        ("set.url_hosts", "b.example\nc.example", "/url_hosts", json!(["b.example", "c.example"])),
        ("set.url_allow_http", "yes", "/url_allow_http", json!(true)),
        ("set.transport.client_certificate", "", "/transport/client_certificate", Value::Null),
    ]
}

#[tokio::test]
async fn every_setting_is_edited_in_the_form() {
    let host = Host::start().await;
    let mut visitor = Visitor::admin(&host).await;
    let base = [("notify_url", "http://127.0.0.1:9999/"), ("modules", "Deal"), ("plugin", "")];
    let secrets = [("secrets", "TOKEN = hunter2"), ("signing_secret", SECRET)];
    let wanted = settings();
    let fields: Vec<(&str, &str)> = wanted.iter().map(|(name, text, ..)| (*name, *text)).collect();
    visitor.see("/t/default/webhooks/new").await;
    let page = visitor.follow("/t/default/webhooks", &[&base[..], &secrets, &fields].concat()).await;
    assert!(page.contains(SECRET) && !page.contains("hunter2"), "{page}");
    let made = host.get("./subscriptions").await[0].clone();
    for (name, _, pointer, expected) in &wanted {
        assert_eq!(made.pointer(pointer), Some(expected), "{name}: {made}");
    }
    assert_eq!((&made["secrets"], &made["limits"]["wall_ms"]), (&json!(["TOKEN"]), &json!(500)));

    // The page has them in plain words.
    for (name, value) in [
        ("Requests", "at most 7 at once, each with 2,500 ms for its answer, at most 50 begin in a second"),
        ("Retries", "3 attempts, the further ones after 5 s, 5 min; a delivery older than 2 d is given up"),
        ("Disabled by failures", "never"),
        ("Headers", "x-key, x-team"),
        ("At present", "no deliveries since the host started"),
    ] {
        assert_eq!(fact(&page, name), value);
    }
    assert!(!page.contains("reaker") && !page.contains("<dt>Lane"), "{page}");

    // What the form shows is saved as it was.
    let own = format!("/t/default/webhooks/{}", text(&made, "id"));
    let shown: Vec<(&str, String)> = wanted.iter().map(|(name, text, ..)| (*name, (*text).to_owned())).collect();
    let page = visitor.see(&own).await;
    assert!(tag(&page, "set.retry.schedule_s").contains("value=\"0 s, 5 s, 5 min\""), "{page}");
    assert!(tag(&page, "set.limits.cpu_ms").contains("value=\"70\" placeholder=\"50\""), "{page}");
    assert!(tag(&page, "set.limits.wall_ms").contains("value=\"\" placeholder=\"500\""), "{page}");
    let again: Vec<(&str, &str)> = shown.iter().map(|(name, text)| (*name, text.as_str())).collect();
    visitor.follow(&own, &[&base[..], &again].concat()).await;
    let mut edited = host.get("./subscriptions").await[0].clone();
    edited["config_generation"] = made["config_generation"].clone();
    assert_eq!(edited, made);

    // A form without the fields keeps the settings; blank fields are defaults, and a checked secret goes.
    visitor.follow(&own, &base).await;
    assert_eq!(host.get("./subscriptions").await[0]["retry"], made["retry"]);
    let blank: Vec<(&str, &str)> = wanted.iter().map(|(name, ..)| (*name, "")).collect();
    visitor.follow(&own, &[&base[..], &blank, &[("forget_secrets", "TOKEN")]].concat()).await;
    let plain = host.get("./subscriptions").await[0].clone();
    let other = json!({"notify_url": "http://127.0.0.1:9999/", "modules": ["Deal"]});
    let default = host.post("./subscriptions", &other).await;
    for (name, _, pointer, _) in wanted.iter().filter(|(_, _, pointer, _)| *pointer != "/headers/x-key") {
        assert_eq!(plain.pointer(pointer), default.pointer(pointer), "{name}: {plain}");
    }
    assert_eq!((&plain["secrets"], &plain["headers"]), (&json!([]), &json!({})));
}

#[tokio::test]
async fn faults_of_folded_settings_stand_at_their_fields() {
    let host = Host::start().await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/webhooks/new").await;
    let base = [("notify_url", "http://127.0.0.1:9999/"), ("modules", "Deal")];
    for (name, value, fault) in [
        ("set.timeout_ms", "5", "a deadline is 1000 to 30000 ms"),
        ("set.timeout_ms", "soon", "is not a whole number"),
        ("set.concurrency", "0", "1 to 256 requests may be under way at once"),
        ("set.rate_per_s", "20000", "1 to 10000 requests may begin in a second"),
        ("set.retry.schedule_s", "0, soon", "is not a duration: write 30 s, 5 min, 2 h or 5 d"),
        ("set.retry.age_max_s", "99 d", "age_max_s is 1 to 5184000 (60 days)"),
        ("set.disable_after_s", "91 d", "at most 7776000 (90 days); 0 means never"),
        ("set.headers", "x-a", "is not a pair: write key = value"),
        ("set.headers", "host = a", "host"),
        ("set.reuse.calls", "1", "calls is 2 to 100000"),
        ("set.limits.memory_bytes", "4000000000", "limits.memory_bytes is 4000000000"),
        ("set.url_hosts", "https://b.example/", "is not a host name"),
        ("set.transport.proxy", "nonsense", ""),
        ("secrets", "TOKEN", "a line is not a pair: write NAME = value"),
        ("signing_secret", "short", ""),
    ] {
        let refused = visitor.post("/t/default/webhooks", &[&base[..], &[(name, value)]].concat()).await;
        assert_eq!(refused.status, 422, "{name}: {}", refused.text);
        assert!(tag(&refused.text, name).contains("aria-invalid=\"true\""), "{name}: {}", refused.text);
        let (_, error) = refused.text.split_once(&format!("id=\"{name}-error\">")).expect(name);
        assert!(error.split("</p>").next().unwrap().contains(fault), "{name}: {}", refused.text);
        assert!(refused.text.contains("<details class=\"fold\" open>"), "{name}: {}", refused.text);
        let is_secret = ["secrets", "signing_secret"].contains(&name);
        assert_eq!(refused.text.contains("Secrets are not shown again"), is_secret, "{name}");
        assert!(!is_secret || !refused.text.contains(&format!("value=\"{value}\"")), "{}", refused.text);
    }
    assert_eq!(host.get("./subscriptions").await, json!([]));
}

#[tokio::test]
async fn a_page_shows_the_last_day_and_the_newest_deliveries() {
    let host = Host::start().await;
    host.plugin("flatten", example("flatten")).await;
    let receiver = Receiver::answering("200,500,200").await;
    let also = json!({"description": "Mine", "retry": {"schedule_s": [0, 600]}});
    let id = host.subscription(&receiver.url, also).await;
    let mut last = String::new();
    for number in 0..12 {
        last = host.send(event("Contact is Created", number)).await;
        host.attempted(&last).await;
    }
    let visitor = Mutex::new(Visitor::admin(&host).await);
    let page = until("the figures", async || {
        let page = visitor.lock().await.see(&format!("/t/default/webhooks/{id}")).await;
        page.contains("aria-label=\"Attempts of the last day: 11 delivered, 1 failed, 0 dropped\"").then_some(page)
    });
    let page = page.await;
    for part in ["degraded", "91.67 %", "<dd>11</dd>", "<dd>1</dd>", "Contact is Created", "Contact 11", "under way"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert_eq!(page.matches("<td data-label=\"Made\">").count(), 10, "{page}");
    assert!(page.contains(&format!("/t/default/deliveries?subscription={id}")), "{page}");
    host.post(&format!("./subscriptions/{id}/pause"), &json!({"reason": "back at two"})).await;
    let paused = visitor.lock().await.see(&format!("/t/default/webhooks/{id}")).await;
    assert!(paused.contains("<p class=\"lead\">back at two</p>"), "{paused}");
    assert_eq!(text(&host.ended(&last).await, "state"), "delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn folded_settings_are_for_everybody_on_every_screen() {
    let host = Host::start().await;
    let receiver = Receiver::answering("200,500,200").await;
    let id = host.subscription(&receiver.url, json!({"description": "Mine", "retry": {"schedule_s": [0, 600]}})).await;
    for number in 0..4 {
        let sent = host.send(event("Contact is Created", number)).await;
        host.attempted(&sent).await;
    }
    for browser in [Browser::desktop(&host).await, Browser::phone_in_the_dark(&host).await] {
        sign_in(&browser, &host).await;
        browser.open(&format!("/t/default/webhooks/{id}")).await;
        browser.script("document.querySelectorAll('details.fold').forEach((one) => { one.open = true; })").await;
        browser.look("webhook-settings").await;
        browser.fill("[id='set.timeout_ms']", "5").await;
        browser.click("#webhook-form button.primary").await;
        browser.wait("[id='set.timeout_ms-error']").await;
        let focused = browser.script("return document.activeElement.id").await;
        assert_eq!(focused, json!("set.timeout_ms"));
        browser.look("webhook-settings-refused").await;
        browser.close().await;
    }
}

//! Forms of pages: a reload submits nothing again, and faults are shown at their fields.

use crate::harness::{Browser, Host, Receiver, Visitor, event, example, guest, text};
use reqwest::Method;
use serde_json::json;

/// Fields of a form, by name.
type Fields<'a> = &'a [(&'a str, &'a str)];

/// Returns the target of the redirect after a form that must have been accepted.
#[track_caller]
fn redirected(page: &crate::harness::Page) -> String {
    assert_eq!(page.status, 303, "{}", page.text);
    page.location.clone()
}

#[tokio::test]
async fn every_form_that_is_accepted_ends_in_a_redirect() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("passes")).await;
    let second =
        text(&host.ask(Method::PUT, "./plugins/p?activate=false", guest("appends")).await.ok(), "sha256").to_owned();
    let bin = text(&host.post("./bins", &json!({"name": "b"})).await, "id").to_owned();
    host.ask(Method::POST, &format!("/bins/{bin}/x"), "{}").await.ok();
    let request = text(&host.get(&format!("./bins/{bin}/requests")).await["requests"][0], "id").to_owned();
    let webhook = host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/webhooks").await;
    let fields = [("notify_url", receiver.url.as_str()), ("modules", "Contact"), ("test", "yes")];
    let own = format!("/t/default/webhooks/{webhook}");
    let span = [("from", "2020-01-01T00:00:00"), ("to", "2199-01-01T00:00:00"), ("preview", "yes")];
    let compare = [("sha256", second.as_str()), ("how", "compare"), ("percent", "5")];
    let forms: [(String, Fields<'_>, &str); 10] = [
        ("/t/default/webhooks".into(), &fields, "whsec_"),
        (own.clone(), &fields, "Preferences saved successfully"),
        (format!("{own}/test"), &[], "configured properly"),
        (format!("{own}/rotate"), &[], "whsec_"),
        (format!("{own}/replay"), &span, "would be delivered again"),
        (format!("{own}/redrive"), &[("preview", "yes")], "would be attempted again"),
        ("/t/default/plugins/p/try".into(), &compare, "2 changed"),
        ("/t/default/plugins/p/dry-run".into(), &[("pick", "sample:Contact")], "It passes unchanged."),
        ("/t/default/access/keys".into(), &[("label", "k"), ("scopes", "read")], "hlk_"),
        (format!("/t/default/bins/{bin}/{request}/replay"), &[("url", receiver.url.as_str())], "It answered 200"),
    ];
    for (path, fields, shown) in forms {
        let location = redirected(&visitor.post(&path, fields).await);
        let page = visitor.see(&location).await;
        assert!(page.contains(shown), "{path} does not show {shown:?}: {page}");
        let again = visitor.see(&location).await;
        for once in ["secret", "once", "tested", "compared", "result"] {
            assert!(!again.contains(&format!("id=\"{once}\"")), "{path} shows {once} twice");
        }
    }
    assert_eq!(host.get("./subscriptions").await.as_array().unwrap().len(), 2, "one was made by the form");
}

#[tokio::test]
async fn a_note_is_for_the_session_that_sent_the_form() {
    let host = Host::start().await;
    let mut one = Visitor::admin(&host).await;
    let mut other = Visitor::admin(&host).await;
    one.see("/t/default/access").await;
    let made = one.post("/t/default/access/keys", &[("label", "k"), ("scopes", "read")]).await;
    let location = redirected(&made);
    assert!(!other.see(&location).await.contains("id=\"once\""), "another session");
    assert!(!one.see("/t/default/access").await.contains("id=\"once\""), "another page");
    assert!(one.see(&location).await.contains("hlk_"));
}

#[tokio::test]
async fn faults_are_shown_at_their_fields_and_input_is_kept() {
    let host = Host::start().await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/webhooks").await;
    let fields =
        [("notify_url", "https://a_b.example/"), ("plugin", "nowhere"), ("config", "no pair"), ("description", "kept")];
    let refused = visitor.post("/t/default/webhooks", &[fields[0], fields[1], fields[3], ("modules", "Deal")]).await;
    assert_eq!(refused.status, 422);
    let field = |id: &str| {
        let (_, rest) =
            refused.text.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("{id}: {}", refused.text));
        rest.split('>').next().unwrap().to_owned()
    };
    assert!(
        field("plugin").contains("aria-invalid=\"true\"") && field("plugin").contains("plugin-error"),
        "{}",
        refused.text
    );
    assert!(refused.text.contains("id=\"plugin-error\">there is no plugin &"), "{}", refused.text);
    assert!(!field("description").contains("aria-invalid") && field("description").contains("value=\"kept\""));
    let config = visitor.post("/t/default/webhooks", &fields).await;
    assert!(
        config.text.contains("id=\"config-error\"") && config.text.contains(">no pair</textarea>"),
        "{}",
        config.text
    );
    let tenant = visitor.post("/tenants", &[("id", "Not A Name")]).await;
    assert!(
        tenant.status == 422 && tenant.text.contains("value=\"Not A Name\" aria-invalid=\"true\""),
        "{}",
        tenant.text
    );
    let key = visitor.post("/t/default/access/keys", &[("label", "kept")]).await;
    assert!(
        key.status == 422 && key.text.contains("value=\"kept\"") && key.text.contains("id=\"key-problem\""),
        "{}",
        key.text
    );
    let upload = visitor.post("/t/default/plugins", &[("name", "Not A Name")]).await;
    assert!(upload.status == 422 && upload.text.contains("value=\"Not A Name\" aria-invalid"), "{}", upload.text);
    // A page that answers a form has no live updates, because its address belongs to another page.
    let bin = text(&host.post("./bins", &json!({"name": "b"})).await, "id").to_owned();
    let page = visitor.post(&format!("/t/default/bins/{bin}"), &[("colour", "x")]).await;
    assert!(page.status == 422 && page.text.contains("data-live=\"\""), "{}", page.text);
    assert!(!visitor.see(&format!("/t/default/bins/{bin}")).await.contains("data-live=\"\""));
}

#[tokio::test]
async fn a_test_delivery_and_the_next_attempt_are_shown_as_they_are() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let tested = host.subscription(&receiver.url, json!({"description": "tested"})).await;
    host.subscription(&receiver.url, json!({"description": "the other"})).await;
    let test = host.ask(Method::POST, &format!("./subscriptions/{tested}/test"), "").await.ok();
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see(&format!("/t/default/events/{}", text(&test, "event"))).await;
    assert!(
        page.contains("a test of this subscription, attempted once: delivered by attempt 1, answered 200"),
        "{page}"
    );
    assert!(page.contains("the event was made for a test delivery of another subscription"), "{page}");
    let delivery = visitor.see(&format!("/t/default/deliveries/{}", text(&test, "id"))).await;
    assert!(delivery.contains("a test of this subscription") && !delivery.contains("Next attempt"), "{delivery}");
    assert!(delivery.contains("connect ") && !delivery.contains("with TLS"), "{delivery}");

    // A due delivery that cannot be attempted shows no time in the past.
    host.post(&format!("./subscriptions/{tested}/pause"), &json!({"reason": "lunch"})).await;
    let event = host.send(event("Contact is Created", 1)).await;
    let pending = host.get(&format!("./events/{event}")).await;
    let own = |one: &&serde_json::Value| one["subscription"] == json!(tested);
    let waiting = pending["deliveries"].as_array().unwrap().iter().find(own).unwrap().clone();
    let page = visitor.see(&format!("/t/default/deliveries/{}", text(&waiting, "id"))).await;
    let (_, next) = page.split_once("Next attempt</dt>").unwrap();
    let next = next.split("</dd>").next().unwrap();
    assert!(next.contains("when the webhook is resumed") && !next.contains("<time"), "{next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_focuses_faults_and_shows_signs_at_their_lines() {
    let host = Host::start().await;
    host.plugin("flatten", example("flatten")).await;
    let browser = Browser::desktop(&host).await;
    let link = host.post("/v1/sign-in-links", &json!({})).await;
    browser.open(text(&link, "path")).await;
    browser.click("button.primary").await;
    browser.wait("nav [aria-current=page]").await;
    browser.open("/t/default/webhooks/new").await;
    browser.fill("#notify_url", "http://127.0.0.1:9999/").await;
    browser.click("input[name=modules][value=Contact]").await;
    browser.fill("#plugin", "nowhere").await;
    browser.click("#webhook-form button.primary").await;
    browser.wait("#plugin-error").await;
    assert_eq!(browser.script("return document.activeElement.id").await, json!("plugin"));
    browser.look("webhook-refused").await;
    browser.fill("#plugin", "flatten").await;
    browser.click("#webhook-form button.primary").await;
    browser.wait("#secret").await;
    assert_eq!(browser.script("return location.search").await, json!(""), "the note's name is gone");
    // A reload creates no second one.
    browser.script("location.reload()").await;
    browser.wait("#edit").await;
    assert_eq!(host.get("./subscriptions").await.as_array().unwrap().len(), 1);

    browser.open("/t/default/plugins/flatten").await;
    browser.click("form[action*='dry-run'] button.primary").await;
    browser.wait("#result .diff").await;
    assert_eq!(browser.script("return document.activeElement.id").await, json!("result"));
    let on_own_lines = "return [...document.querySelectorAll('.diff pre > span')].filter((line) => {\
        const sign = line.querySelector('span'), style = getComputedStyle(sign);\
        return style.display !== 'inline' || line.getBoundingClientRect().height > 1.9 * parseFloat(getComputedStyle(line).lineHeight) && line.textContent.length < 60;\
        }).length";
    assert_eq!(browser.script(on_own_lines).await, json!(0));
    assert!(
        browser.script("return document.querySelectorAll('.diff pre > span > span').length").await.as_u64() > Some(5)
    );
    browser.close().await;
}

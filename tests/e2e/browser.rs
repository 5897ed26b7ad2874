//! Pages in a real browser (Chromium by WebDriver): actions by clicks, at desktop and phone width, light and dark; no serious
//! accessibility fault by axe-core; screenshots into `target/screenshots`.

use crate::fleet::hosts::Fleet;
use crate::harness::{Browser, Host, Receiver, event, example, guest, text, until};
use fantoccini::key::Key;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Writes a component to a file, to be chosen in a form.
fn file(folder: &TempDir, name: &str, component: &[u8]) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, component).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Signs in by a link.
pub(crate) async fn sign_in(browser: &Browser, host: &Host) {
    let link = host.post("/v1/sign-in-links", &json!({})).await;
    browser.open(text(&link, "path")).await;
    browser.click("button.primary").await;
    browser.wait("nav [aria-current=page]").await;
}

async fn upload(browser: &Browser, component: &str, name: &str, how: &str) {
    browser.open("/t/default/plugins").await;
    browser.fill("#component", component).await;
    browser.fill("#name", name).await;
    browser.fill("#how", how).await;
    browser.click("form[data-upload] button.primary").await;
    browser.until_at(&format!("/t/default/plugins/{name}")).await;
}

/// Creates a bin, sees its requests live, and makes it the receiver of a webhook. Returns the bin's id.
async fn bin_and_webhook(browser: &Browser, host: &Host) -> String {
    browser.open("/t/default/bins").await;
    browser.fill("#name", "Live bin").await;
    browser.click("form.card button.primary").await;
    browser.wait("body[data-watching=yes]").await;
    let bin = browser.path().await.rsplit('/').next().unwrap().to_owned();
    host.ask_as("", Method::PUT, &format!("/bins/{bin}/over/here"), "{\"came\": \"in\"}").await;
    // The request appears without an action.
    browser.wait_for_text("[data-region=requests]", "/over/here").await;
    browser.click("form[action$='/subscribe'] button").await;
    browser.wait_for_text(".flash", "are sent to the bin").await;
    bin
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_goes_the_whole_way() {
    let host = Host::start().await;
    goes_the_whole_way(Browser::desktop(&host).await, &host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_goes_the_whole_way_on_a_phone() {
    let host = Host::start().await;
    goes_the_whole_way(Browser::phone_in_the_dark(&host).await, &host).await;
}

async fn goes_the_whole_way(browser: Browser, host: &Host) {
    let folder = TempDir::new().unwrap();
    sign_in(&browser, host).await;
    let bin = bin_and_webhook(&browser, host).await;
    let webhook = browser.path().await;

    upload(&browser, &file(&folder, "flatten.wasm", &example("flatten")), "flatten", "activate").await;
    browser.wait_for_text("main", "active").await;
    browser.click("form[action*='dry-run'] button.primary").await;
    browser.wait_for_text("#result", "replace").await;
    browser.look("plugin-dry-run").await;

    browser.open(&webhook).await;
    browser.fill("#plugin", "flatten").await;
    browser.click("input[name=test]").await;
    browser.click("#edit ~ form button.primary").await;
    browser.wait_for_text("#tested", "configured properly: it answered 200").await;
    browser.look("webhook-saved-and-tested").await;

    upload(&browser, &file(&folder, "passes.wasm", &guest("passes")), "flatten", "add").await;
    let active = async || text(&host.get("./plugins").await[0], "active_sha256").to_owned();
    let first = active().await;
    for goes_back in [false, true] {
        browser.click("button[name=how][value=activate]").await;
        until("the version that was clicked", async || ((active().await == first) == goes_back).then_some(())).await;
        browser.wait_for_text(".flash", "It is used from the next attempt on.").await;
    }

    let id = host.send(event("Contact is Created", 1)).await;
    assert_eq!(text(&host.ended(&id).await, "state"), "delivered");
    let newest = host.get(&format!("./bins/{bin}/requests")).await;
    browser.open(&format!("/t/default/bins/{bin}/{}", text(&newest["requests"][0], "id"))).await;
    browser.wait_for_text("#beforeafter ~ .diff", "contact.created").await;
    browser.wait_for_text("dl.facts", "verified with the webhook").await;
    browser.look("bin-before-and-after").await;
    retry_by_button(&browser, host).await;
    browser.close().await;
}

/// Retries a dead delivery by its button, and checks that the page shows the success by itself.
async fn retry_by_button(browser: &Browser, host: &Host) {
    let receiver = Receiver::answering("500,200").await;
    host.subscription(&receiver.url, json!({"retry": {"schedule_s": [0]}, "description": "fails at first"})).await;
    let id = host.send(event("Opportunity is Created", 2)).await;
    host.deliveries_when(&id, |delivery| delivery["state"] != "pending").await;
    browser.open("/t/default/deliveries?state=dead").await;
    browser.click("[data-region=deliveries] a").await;
    browser.wait_for_text("dl.facts .state", "dead").await;
    browser.click("form[action$='/retry'] button").await;
    browser.wait_for_text("dl.facts .state", "delivered").await;
    browser.look("delivery-retried").await;
}

/// Creates content for every page.
async fn furnish(host: &Host) -> Vec<(&'static str, String)> {
    host.plugin("flatten", example("flatten")).await;
    host.plugin("unused", guest("passes")).await;
    let bin = text(&host.post("./bins", &json!({"name": "Orders", "colour": 4})).await, "id").to_owned();
    let notify_url = format!("{}/bins/{bin}/", host.url);
    let webhook = host.subscription(&notify_url, json!({"plugin": "flatten", "description": "To the bin"})).await;
    let receiver = Receiver::answering("500").await;
    host.subscription(&receiver.url, json!({"retry": {"schedule_s": [0]}, "description": "Always fails"})).await;
    let mut last = String::new();
    for number in 0..12 {
        last = host.send(event("Contact is Created", number)).await;
        host.deliveries_when(&last, |delivery| delivery["state"] != "pending").await;
    }
    host.post("./keys", &json!({"scopes": ["read"], "label": "dashboard"})).await;
    let seen = host.get(&format!("./events/{last}")).await;
    let request = host.get(&format!("./bins/{bin}/requests")).await;
    let request = text(&request["requests"][0], "id");
    vec![
        ("overview", "/t/default".into()),
        ("webhooks", "/t/default/webhooks".into()),
        ("webhook-new", "/t/default/webhooks/new".into()),
        ("webhook", format!("/t/default/webhooks/{webhook}")),
        ("deliveries", "/t/default/deliveries".into()),
        ("delivery", format!("/t/default/deliveries/{}", text(&seen["deliveries"][0], "id"))),
        ("event", format!("/t/default/events/{last}")),
        ("plugins", "/t/default/plugins".into()),
        ("plugin", "/t/default/plugins/flatten".into()),
        ("bins", "/t/default/bins".into()),
        ("bin", format!("/t/default/bins/{bin}")),
        ("request", format!("/t/default/bins/{bin}/{request}")),
        ("alerts", "/t/default/alerts".into()),
        ("access", "/t/default/access".into()),
        ("plugin-unused", "/t/default/plugins/unused".into()),
        ("tenants", "/tenants".into()),
        ("host-alone", "/fleet".into()),
        ("tenant-deletion", "/tenants/default/delete".into()),
        ("api", "/api".into()),
        ("design", "/design".into()),
        ("book", "/docs/".into()),
        ("book-page", "/docs/reference/limits.html".into()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_for_everybody_on_every_screen() {
    let host = Host::start().await;
    let pages = furnish(&host).await;
    for browser in [Browser::desktop(&host).await, Browser::phone_in_the_dark(&host).await] {
        browser.open("/sign-in").await;
        browser.look("sign-in").await;
        sign_in(&browser, &host).await;
        for (name, path) in &pages {
            browser.open(path).await;
            browser.look(name).await;
        }
        browser.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_has_a_menu_and_asks_before_it_deletes() {
    let host = Host::start().await;
    let webhook = host.subscription("http://127.0.0.1:60009/", json!({"description": "Nobody listens"})).await;
    let browser = Browser::phone_in_the_dark(&host).await;
    sign_in(&browser, &host).await;
    browser.open("/t/default").await;
    let is_open = async || browser.script("return document.querySelector('#menu').checkVisibility()").await;
    assert_eq!(is_open().await, json!(false));
    browser.click("button[popovertarget=menu]").await;
    assert_eq!(is_open().await, json!(true));
    browser.look("menu").await;
    browser.press(Key::Escape).await;
    assert_eq!(is_open().await, json!(false));
    browser.click("button[popovertarget=menu]").await;
    browser.click(".nav a[href$='/webhooks']").await;
    browser.until_at("/t/default/webhooks").await;

    let count = async || host.get("./subscriptions").await.as_array().unwrap().len();
    browser.open(&format!("/t/default/webhooks/{webhook}")).await;
    browser.click("form[action$='/delete'] button").await;
    browser.wait_for_text(".dialog", "Delete this webhook?").await;
    browser.look("confirmation").await;
    browser.click(".dialog button:first-child").await;
    // A dialog says that it is closed in a task of its own, and goes then.
    let dialog = async || browser.script("return document.querySelector('.dialog')").await;
    until("the dialog to go", async || dialog().await.is_null().then_some(())).await;
    assert_eq!(count().await, 1);
    browser.click("form[action$='/delete'] button").await;
    browser.click(".dialog button.danger").await;
    browser.until_at("/t/default/webhooks").await;
    assert_eq!(count().await, 0);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_for_everybody_on_every_screen() {
    let mut fleet = Fleet::start(3).await;
    let host = fleet.host(0);
    for number in 0..24 {
        host.subscription("http://127.0.0.1:60009/", json!({"description": format!("Nobody listens {number}")})).await;
    }
    host.send(event("Contact is Created", 1)).await;
    fleet.kill(2).await;
    until("the third host to be lost", async || (fleet.owners().await.len() == 2).then_some(())).await;
    fleet.spread().await;
    let host = fleet.host(0);
    let shard = fleet.owners().await[&1][7].to_string();
    for browser in [Browser::desktop(host).await, Browser::phone_in_the_dark(host).await] {
        sign_in(&browser, host).await;
        browser.open("/fleet").await;
        browser.fill("#shard", &shard).await;
        browser.fill("#host", "2").await;
        browser.click("form[action='/fleet/move'] button.primary").await;
        browser.wait_for_text(".flash", &format!("hard {shard}")).await;
        until("the shard to move", async || fleet.owners().await[&2].contains(&shard.parse().unwrap()).then_some(()))
            .await;
        browser.open("/fleet").await;
        browser.wait_for_text("[aria-labelledby=shards]", "moved here by hand").await;
        browser.look("hosts").await;
        browser.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyboard_is_enough() {
    let host = Host::start().await;
    let browser = Browser::desktop(&host).await;
    sign_in(&browser, &host).await;
    browser.open("/t/default/webhooks/new").await;
    let focused = async || browser.script("return document.activeElement.textContent.trim()").await;
    browser.press(Key::Tab).await;
    assert_eq!(focused().await, json!("Skip to content"));
    browser.press(Key::Enter).await;
    assert_eq!(browser.script("return document.activeElement.id").await, json!("main"));
    // Everything that can be clicked can be reached by keyboard from the content on.
    let mut reached: Vec<Value> = Vec::new();
    for _ in 0..60 {
        browser.press(Key::Tab).await;
        reached.push(
            browser.script("return document.activeElement.name || document.activeElement.textContent.trim()").await,
        );
    }
    for wanted in ["notify_url", "modules", "plugin", "config", "test", "Save"] {
        assert!(reached.contains(&json!(wanted)), "{wanted} cannot be reached: {reached:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_runs_nothing_that_a_bin_answers() {
    let host = Host::start().await;
    let bin = async |kind: &str, body: &str| {
        let reply = json!({"body": body, "headers": {"content-type": kind}});
        text(&host.post("./bins", &json!({"reply": reply})).await, "id").to_owned()
    };
    let script = bin("text/javascript", "window.foreign = true").await;
    let style = bin("text/css", "body { border-top: 7px solid red }").await;
    let browser = Browser::desktop(&host).await;
    sign_in(&browser, &host).await;
    browser.open("/t/default").await;
    // The page's scripts run.
    browser.wait("body[data-watching=yes]").await;
    assert_eq!(browser.script("return document.styleSheets[0].cssRules.length > 0").await, json!(true));
    let add = format!(
        "window.refused = []; addEventListener('securitypolicyviolation', (event) => refused.push(event.effectiveDirective));\
         const script = document.createElement('script'); script.src = '/bins/{script}/a.js'; document.head.append(script);\
         const style = document.createElement('link'); style.rel = 'stylesheet'; style.href = '/bins/{style}/a.css'; document.head.append(style);\
         navigator.serviceWorker?.register('/bins/{script}/a.js').catch(() => {{}});"
    );
    browser.script(&add).await;
    let refused = until("both to be refused", async || {
        let refused = browser.script("return window.refused").await;
        let has = |name: &str| refused.as_array().unwrap().iter().any(|one| one.as_str().unwrap().starts_with(name));
        (has("script-src") && has("style-src")).then_some(refused)
    });
    refused.await;
    assert_eq!(browser.script("return window.foreign ?? false").await, json!(false));
    assert_eq!(browser.script("return getComputedStyle(document.body).borderTopWidth").await, json!("0px"));
    for id in [&script, &style] {
        let came = host.get(&format!("./bins/{id}/requests")).await;
        assert_eq!(came["requests"].as_array().unwrap().len(), 0, "it was not even asked for");
    }
    browser.close().await;
}

//! Portal in a real browser: in frames of a platform's site, and on every screen.

use crate::harness::{Browser, Host, HostBuilder, Receiver, Site, Visitor, event, text};
use serde_json::{Value, json};
use tempfile::TempDir;

const LOGO: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 24 24\" width=\"24\" height=\"24\">\
    <rect width=\"24\" height=\"24\" rx=\"6\" fill=\"#6d28d9\"/><path d=\"M7 17 12 6l5 11M9 13h6\" fill=\"none\" \
    stroke=\"#fff\" stroke-width=\"2\" stroke-linecap=\"round\" stroke-linejoin=\"round\"/></svg>";

/// Returns the options of a host with the brand of a platform.
fn branded(folder: &TempDir) -> HostBuilder {
    let logo = folder.path().join("logo.svg");
    std::fs::write(&logo, LOGO).unwrap();
    let host = Host::with().set("portal_name=\"Acme CRM\"").set("portal_colour=\"#6d28d9\"");
    host.set(&format!("portal_logo_file={:?}", logo.display().to_string()))
}

async fn link(host: &Host, terms: Value) -> String {
    text(&host.post("./portal-links", &terms).await, "path").to_owned()
}

/// Enters the frame of the platform's page, when it shows an element.
async fn enter(browser: &Browser, css: &str) {
    browser.enter_frame("#portal", css).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_shows_the_portal_in_a_frame() {
    let site = Site::start().await;
    let folder = TempDir::new().unwrap();
    // Browsers reach the host by TLS, as far as it knows: a cookie in a frame of another site needs that.
    let host = branded(&folder).set(&format!("portal_origins=[{:?}]", site.origin));
    let host = host.set("public_url=\"https://hooks.example.com\"").start().await;
    let return_url = format!("{}/settings", site.origin);
    let path = link(&host, json!({"return_url": return_url})).await;
    let browser = Browser::desktop(&host).await;
    browser.visit(&site.with_frame(&format!("{}{path}", host.url))).await;
    enter(&browser, ".portal .empty").await;
    browser.look("portal-in-a-frame").await;
    browser.click(".empty a.primary").await;
    enter(&browser, "#notify_url").await;
    let receiver = Receiver::start().await;
    browser.fill("#notify_url", &receiver.url).await;
    browser.click("input[name=modules][value=Contact]").await;
    browser.click(".form-foot button.primary").await;
    enter(&browser, "#secret").await;
    assert_eq!(host.get("./subscriptions").await.as_array().unwrap().len(), 1);
    browser.click("form[action$='/pause'] button").await;
    enter(&browser, ".flash").await;
    browser.wait_for_text(".flash", "It is paused").await;
    // The way back leaves the frame.
    browser.click(".portal-tools a").await;
    browser.leave_frame().await;
    browser.until_at_url(&return_url).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_cannot_show_the_portal_nor_the_console() {
    let [site, stranger] = [Site::start().await, Site::start().await];
    let folder = TempDir::new().unwrap();
    let host = branded(&folder).set(&format!("portal_origins=[{:?}]", site.origin));
    let host = host.set("public_url=\"https://hooks.example.com\"").start().await;
    let path = link(&host, json!({})).await;
    let browser = Browser::desktop(&host).await;
    for (site, path) in [(&stranger, path.as_str()), (&site, "/sign-in"), (&site, "/docs/")] {
        browser.visit(&site.with_frame(&format!("{}{path}", host.url))).await;
        browser.wait_for_frame_fault("#portal").await;
    }
    browser.close().await;
    let token = path.split_once("token=").unwrap().1;
    let page = Visitor::new(&host).post("/portal/sign-in", &[("token", token)]).await;
    assert_eq!(page.status, 303, "the link was not used");
}

/// Creates webhooks and deliveries. Returns the paths of the pages with their names.
async fn furnish(host: &Host) -> Vec<(&'static str, String)> {
    let [good, bad] = [Receiver::start().await, Receiver::answering("500").await];
    let webhook = host.subscription(&good.url, json!({"description": "Data warehouse"})).await;
    let failing = json!({"retry": {"schedule_s": [0]}, "description": "Billing"});
    host.subscription(&bad.url, failing).await;
    let mut last = String::new();
    for number in 0..8 {
        last = host.send(event("Contact is Created", number)).await;
        host.deliveries_when(&last, |delivery| delivery["state"] != "pending").await;
    }
    let seen = host.get(&format!("./events/{last}")).await;
    vec![
        ("webhooks", "/portal/webhooks".into()),
        ("webhook", format!("/portal/webhooks/{webhook}")),
        ("webhook-new", "/portal/webhooks/new".into()),
        ("deliveries", "/portal/deliveries".into()),
        ("delivery", format!("/portal/deliveries/{}", text(&seen["deliveries"][0], "id"))),
        ("event", format!("/portal/events/{last}")),
        ("event-types", "/portal/event-types".into()),
        ("no-page", "/portal/nothing".into()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_portal_is_for_everybody_on_every_screen() {
    let folder = TempDir::new().unwrap();
    let host = branded(&folder).set("portal_origins=[\"https://app.example.com\"]").start().await;
    let pages = furnish(&host).await;
    for browser in [Browser::desktop(&host).await, Browser::phone_in_the_dark(&host).await] {
        browser.open("/portal/webhooks").await;
        browser.look("portal-without-a-session").await;
        browser.open(&link(&host, json!({"return_url": "https://app.example.com/settings"})).await).await;
        browser.until_at("/portal/webhooks").await;
        for (name, path) in &pages {
            browser.open(path).await;
            browser.look(&format!("portal-{name}")).await;
        }
        browser.open("/portal/webhooks").await;
        browser.click("form[action='/portal/sign-out'] button").await;
        browser.wait_for_text("h1", "You are signed out").await;
        browser.look("portal-signed-out").await;
        browser.open(&link(&host, json!({"read_only": true})).await).await;
        browser.until_at("/portal/webhooks").await;
        for (name, path) in pages.iter().filter(|(name, _)| ["webhooks", "webhook", "deliveries"].contains(name)) {
            browser.open(path).await;
            browser.look(&format!("portal-read-only-{name}")).await;
        }
        browser.close().await;
    }
}

//! The tutorial `docs/tutorial/agile-crm.md` with the mouse, in a real browser, up to a verified receiver.
//!
//! The pictures of the tutorial are taken on the way, into `target/tutorial`. The words of each page are compared with those of the
//! page on the committed picture (`tests/fixtures/tutorial`): a picture that is out of date is a fault. A picture itself is not
//! compared, since fonts differ between machines.

use crate::harness::{
    Browser, Host, Receiver, check_pictures, fault_of_picture, fixture, free_port, root, text, until,
};
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;

/// The pages of the tutorial, one after the other.
struct Tour {
    browser: Browser,
    /// Names of the pictures so far.
    pictures: BTreeSet<String>,
    faults: Vec<String>,
}

impl Tour {
    /// Takes a picture that ends below an element, and compares the words of that part of the page.
    async fn picture(&mut self, name: &str, last: &str) {
        let shown = self.browser.script(&format!("return {TEXT_UP_TO}({})", json!(last))).await;
        self.browser.picture(name, last).await;
        self.faults.extend(fault_of_picture("tutorial", name, shown.as_str().unwrap()));
        self.pictures.insert(format!("{name}.png"));
    }
}

/// Function of the browser that returns the visible texts of a page down to the end of an element, without times and headers.
const TEXT_UP_TO: &str = "((css) => {
    const end = document.querySelector(css).getBoundingClientRect().bottom;
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        const varies = element.closest('time, pre') || element.closest('dd')?.previousElementSibling?.textContent === 'Time';
        if (element.checkVisibility() && element.getBoundingClientRect().top < end) {
            found.push(varies ? '…' : texts.currentNode.textContent);
        }
    }
    return found.join(' ');
})";

/// Returns the pictures that the tutorial shows.
fn shown_pictures() -> BTreeSet<String> {
    let page = std::fs::read_to_string(root().join("docs/tutorial/agile-crm.md")).unwrap();
    page.split("](images/").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorial_goes_from_agile_crm_to_a_verified_receiver_by_clicks() {
    let host = Host::start().await;
    let mut tour = Tour { browser: Browser::desktop(&host).await, pictures: BTreeSet::new(), faults: Vec::new() };
    let link = host.post("/v1/sign-in-links", &json!({})).await;
    tour.browser.open(text(&link, "path")).await;
    tour.browser.click("button.primary").await;
    tour.browser.wait("nav [aria-current=page]").await;

    tour.browser.open("/t/default/access").await;
    tour.browser.fill("#token-label", "Agile CRM").await;
    tour.browser.click("form[action$='/access/tokens'] button.primary").await;
    tour.browser.wait("#once").await;
    let address = tour.browser.script("return document.querySelector('#once').innerText").await;
    let path = address.as_str().unwrap().strip_prefix(&host.url).unwrap().to_owned();
    // As a host at its usual address shows it.
    tour.browser.script("once.innerText = once.innerText.replace(location.host, '127.0.0.1:8420')").await;
    tour.picture("address", ".once").await;

    let port = free_port();
    tour.browser.open("/t/default/webhooks/new").await;
    tour.browser.fill("#notify_url", "http://127.0.0.1:9000/").await;
    for module in ["Contact", "Deal"] {
        tour.browser.click(&format!("input[name=modules][value={module}]")).await;
    }
    tour.browser.fill("#description", "My receiver").await;
    // A module that is ticked is counted a moment later.
    tour.browser.wait_for_text("[data-part=summary]", "No such event has come yet.").await;
    tour.picture("new-webhook", "form.card button.primary").await;
    tour.browser.fill("#notify_url", &format!("http://127.0.0.1:{port}/")).await;
    tour.browser.click("form.card button.primary").await;
    tour.browser.wait("#secret").await;
    tour.picture("webhook-created", ".once").await;
    let secret = tour.browser.script("return document.querySelector('#secret').innerText").await;
    let receiver = Receiver::at(port, secret.as_str().unwrap()).await;

    tour.browser.click("form[action$='/test'] button").await;
    tour.browser.wait_for_text("#tested", "configured properly: it answered 200").await;
    tour.picture("tested", "#tested").await;

    let sent = host.ask_as("", Method::POST, &path, fixture("guide/contact_created.json")).await;
    assert_eq!(sent.status, 202, "{}", sent.text);
    receiver.expect(2).await;
    until("the delivery", async || (host.ledger().await["delivered"] == 2).then_some(())).await;
    tour.browser.open("/t/default/deliveries").await;
    tour.browser.click("[data-region=deliveries] a").await;
    tour.browser.wait_for_text(".timeline", "delivered").await;
    tour.picture("delivery", ".timeline").await;
    tour.browser.close().await;

    assert_eq!(tour.pictures, shown_pictures(), "the pictures of the tutorial are these");
    check_pictures("tutorial", "docs/tutorial/images", &tour.faults);
}

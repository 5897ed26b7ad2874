//! List of the webhooks: health, success and last delivery of each, search, filters, pages.

use crate::browser::sign_in;
use crate::harness::{Browser, Host, Receiver, Visitor, event, text, until};
use serde_json::json;
use tokio::sync::Mutex;

const WEBHOOKS: &str = "/t/default/webhooks";

/// Returns the row of a webhook, found by its name, as text without tags.
#[track_caller]
fn row(page: &str, name: &str) -> String {
    let row = page.split("<tr>").find(|row| row.contains(&format!(">{name}</a>")));
    let row = row.unwrap_or_else(|| panic!("no {name} in {page}")).split("</tr>").next().unwrap();
    let texts = row.split('<').map(|part| part.split_once('>').map_or("", |(_, text)| text).trim());
    texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Returns the names of the webhooks of a page, in their order.
fn names(page: &str) -> Vec<String> {
    let links = page.split("<a class=\"title\"").skip(1);
    links.map(|rest| rest.split_once('>').unwrap().1.split('<').next().unwrap().to_owned()).collect()
}

/// Makes a webhook of each health.
async fn furnish(host: &Host) {
    let well = Receiver::start().await;
    let ill = Receiver::answering("500").await;
    host.subscription(&well.url, json!({"description": "Works", "filter": {"fields": {"id": {"$gte": 0}}}})).await;
    host.subscription(&ill.url, json!({"description": "Fails", "retry": {"schedule_s": [0]}})).await;
    let half = Receiver::answering("200,500,200").await;
    host.subscription(&half.url, json!({"description": "Fails at times", "retry": {"schedule_s": [0]}})).await;
    host.subscription(&well.url, json!({"description": "Deals only", "modules": ["Deal"]})).await;
    let paused = host.subscription(&well.url, json!({"description": "At lunch"})).await;
    host.post(&format!("./subscriptions/{paused}/pause"), &json!({"reason": "back at two"})).await;
    let gone = Receiver::answering("410").await;
    host.subscription(&gone.url, json!({"description": "Gone"})).await;
    for number in 0..3 {
        let sent = host.send(event("Contact is Created", number)).await;
        let of_paused = |one: &serde_json::Value| one["subscription"] == json!(paused);
        host.deliveries_when(&sent, |one| of_paused(one) || one["state"] != "pending").await;
    }
}

#[tokio::test]
async fn a_list_tells_the_health_of_each_webhook() {
    let host = Host::start().await;
    furnish(&host).await;
    let visitor = Mutex::new(Visitor::admin(&host).await);
    // The figures of an attempt are counted after its outcome was recorded.
    let page = until("the figures", async || {
        let page = visitor.lock().await.see(WEBHOOKS).await;
        let counted = ["100.00 %", "66.67 %", "0.00 %"].iter().all(|success| page.contains(success));
        counted.then_some(page)
    });
    let page = page.await;
    assert_eq!(names(&page), ["Works", "Fails", "Fails at times", "Deals only", "At lunch", "Gone"]);
    for (name, parts) in [
        ("Works", &["healthy", "100.00 %", "Contact, Deal (filtered)"][..]),
        ("Fails", &["failing", "0.00 %", "none"]),
        ("Fails at times", &["degraded", "66.67 %"]),
        ("Deals only", &["idle", "–", "none", "Deal"]),
        ("At lunch", &["paused", "back at two", "3"]),
        ("Gone", &["disabled", "410"]),
    ] {
        let row = row(&page, name);
        assert!(parts.iter().all(|part| row.contains(part)), "{parts:?} are not in {row}");
        assert!(!row.contains("active"), "{row}");
        assert_eq!(
            row.contains(" ago") || row.contains("just now"),
            ["Works", "Fails at times"].contains(&name),
            "{row}"
        );
    }
    assert!(page.contains(">failing (1)</option>") && page.contains(">healthy (1)</option>"), "{page}");
}

#[tokio::test]
async fn a_receiver_whose_breaker_is_open_has_a_time_of_the_next_try() {
    let host = Host::start().await;
    let ill = Receiver::answering("500").await;
    let id = host.subscription(&ill.url, json!({"description": "Down", "retry": {"schedule_s": [0, 600]}})).await;
    for number in 0..10 {
        host.send(event("Contact is Created", number)).await;
    }
    let visitor = Mutex::new(Visitor::admin(&host).await);
    let row = until("the breaker", async || {
        let page = visitor.lock().await.see(&format!("{WEBHOOKS}?health=waiting")).await;
        page.contains("after failures, next try").then(|| row(&page, "Down"))
    });
    let row = row.await;
    assert!(row.contains("waiting after failures, next try in ") || row.contains("just now"), "{row}");
    assert!(
        ["open", "half-open"].contains(&text(&host.get(&format!("./subscriptions/{id}")).await["lane"], "breaker"))
    );
}

#[tokio::test]
async fn a_search_and_filters_find_webhooks_and_pages_show_all_of_them() {
    let host = Host::start().await;
    let mut made = Vec::new();
    for number in 0..120 {
        let name = format!("Number {number:03}");
        let module = if number % 2 == 0 { "Contact" } else { "Deal" };
        let url = format!("http://127.0.0.1:9999/hooks/{}?key=secret", number % 7);
        host.subscription(&url, json!({"description": name, "modules": [module]})).await;
        made.push(name);
    }
    let mut visitor = Visitor::admin(&host).await;
    let mut seen = Vec::new();
    let mut path = WEBHOOKS.to_owned();
    for (first, last) in [(1, 50), (51, 100), (101, 120)] {
        let page = visitor.see(&path).await;
        assert!(page.contains(&format!("{first} to {last} of 120")) && !page.contains("secret"), "{page}");
        seen.extend(names(&page));
        let next = page.split_once("rel=\"next\" href=\"").map(|(_, rest)| rest.split('"').next().unwrap().to_owned());
        path = format!("{WEBHOOKS}{}", next.unwrap_or_default().replace("&#38;", "&").replace("&amp;", "&"));
    }
    assert_eq!(seen, made, "each once, in the order of creation");
    assert_eq!(path, WEBHOOKS, "the last page has no next one");
    for (query, expected) in [
        ("?q=number+007", &["Number 007"][..]),
        ("?q=HOOKS/3+number+01", &["Number 010", "Number 017", "Number 101"]),
        ("?q=er+01&module=Contact", &["Number 010", "Number 012", "Number 014", "Number 016", "Number 018"]),
        ("?q=number+011&health=idle", &["Number 011"]),
        ("?q=number+011&health=failing", &[]),
        ("?q=nothing", &[]),
    ] {
        let page = visitor.see(&format!("{WEBHOOKS}{query}")).await;
        assert_eq!(names(&page), expected, "{query}");
        assert_eq!(page.contains("No webhook matches"), expected.is_empty(), "{query}");
    }
    // The filters stay on the next page, and a page behind the last one is the last one.
    let deals = visitor.see(&format!("{WEBHOOKS}?module=Deal&q=number")).await;
    assert!(deals.contains("1 to 50 of 60") && deals.contains("q=number") && deals.contains("module=Deal"), "{deals}");
    assert!(visitor.see(&format!("{WEBHOOKS}?page=99")).await.contains("101 to 120 of 120"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_for_everybody_on_every_screen() {
    let host = Host::start().await;
    furnish(&host).await;
    for browser in [Browser::desktop(&host).await, Browser::phone_in_the_dark(&host).await] {
        sign_in(&browser, &host).await;
        browser.open(WEBHOOKS).await;
        browser.look("webhook-list").await;
        browser.fill("#q", "fails").await;
        browser.click("form.filters button").await;
        browser.wait("#q[value='fails']").await;
        assert_eq!(browser.script("return document.querySelectorAll('tbody tr').length").await, json!(2));
        browser.open(&format!("{WEBHOOKS}?q=nothing")).await;
        browser.look("webhook-list-empty").await;
        browser.close().await;
    }
}

//! Overview: what needs attention with its action, tiles that lead to lists, the cost of plugins; and the first steps.

use crate::browser::sign_in;
use crate::harness::{Browser, Host, Receiver, Role, Visitor, event, example, guest, root, text, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const OVERVIEW: &str = "/t/default";
const FIRST_STEPS: &str = "/t/default/first-steps";

/// Returns the sentences, urgencies and links of what needs attention.
fn attention(page: &str) -> Vec<[String; 3]> {
    let (_, list) = page.split_once("id=\"attention\"").unwrap();
    let (list, _) = list.split_once("</section>").unwrap();
    let items = list.split("<li class=\"").skip(1).map(|item| {
        let urgency = item.split('"').next().unwrap().to_owned();
        let sentence = item.split("<p>").nth(1).unwrap().split('<').next().unwrap().trim().to_owned();
        let link = item.split("href=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        [urgency, sentence.replace("&#34;", "\"").replace("&#39;", "'"), link]
    });
    items.collect()
}

/// Returns the number on a tile, and its link.
fn tile(page: &str, name: &str) -> (String, String) {
    let (_, tile) = page.split_once(&format!("<dt>{name}</dt>")).unwrap();
    let (_, tile) = tile.split_once("href=\"").unwrap();
    let (href, tile) = tile.split_once('"').unwrap();
    let number = tile.split('>').nth(1).unwrap().split('<').next().unwrap();
    (number.to_owned(), href.replace("&#38;", "&"))
}

/// Switches off every alert, so that nothing is an incident.
async fn without_alerts(host: &Host) {
    let off = json!({"on": false});
    let settings =
        json!({"webhook_failing": off, "webhook_stopped": off, "plugin_faulting": off, "share_filling": off});
    host.ask(Method::PUT, "./alerts", settings.to_string()).await.ok();
}

/// Creates a webhook of contacts whose events have one attempt.
async fn webhook(host: &Host, receiver: &Receiver, description: &str, plugin: Option<&str>) -> String {
    let settings =
        json!({"modules": ["Contact"], "description": description, "retry": {"schedule_s": [0]}, "plugin": plugin});
    host.subscription(&receiver.url, settings).await
}

/// Sends events one after the other, each when the earlier one was attempted or ended at each webhook that is not paused.
async fn send(host: &Host, count: usize) {
    let webhooks = host.get("./subscriptions").await;
    let is_paused =
        |id: &Value| webhooks.as_array().unwrap().iter().any(|one| one["id"] == *id && one["state"] == "paused");
    for number in 0..count {
        let sent = host.send(event("Contact is Created", number)).await;
        let is_ready = |one: &Value| {
            one["attempts"][0].is_object() || one["state"] != "pending" || is_paused(&one["subscription"])
        };
        host.deliveries_when(&sent, is_ready).await;
    }
}

#[tokio::test]
async fn what_needs_attention_comes_first_with_its_action() {
    let host = Host::start().await;
    without_alerts(&host).await;
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see(OVERVIEW).await;
    assert!(page.contains("Nothing needs attention.") && attention(&page).is_empty(), "{page}");

    let failing = Receiver::answering("500").await;
    let gone = Receiver::answering("410").await;
    let fine = Receiver::start().await;
    host.plugin("p", guest("panics")).await;
    let failing = webhook(&host, &failing, "Orders", None).await;
    let gone = webhook(&host, &gone, "Stock", None).await;
    let holding = webhook(&host, &fine, "Sheets", Some("p")).await;
    let paused = webhook(&host, &fine, "Billing", None).await;
    host.post(&format!("./subscriptions/{paused}/pause"), &json!({"reason": "moves"})).await;
    send(&host, 3).await;
    let address = host.post("./intake-tokens", &json!({"label": "crm"})).await;
    let refused = host.ask_as("", Method::POST, text(&address, "path"), "no JSON").await;
    assert!((400..500).contains(&refused.status), "{}", refused.text);
    until("the webhook to be disabled", async || {
        let one = host.get(&format!("./subscriptions/{gone}")).await;
        (text(&one, "state") == "disabled").then_some(())
    })
    .await;

    let page = visitor.see(OVERVIEW).await;
    let found = attention(&page);
    let urgencies: Vec<&str> = found.iter().map(|one| one[0].as_str()).collect();
    assert_eq!(urgencies, ["critical", "warning", "warning", "warning", "info"], "{found:?}");
    let of = |part: &str| found.iter().find(|one| one[1].contains(part)).unwrap_or_else(|| panic!("{part}: {found:?}"));
    assert_eq!(of("Webhook \"Stock\" is disabled")[2], format!("/t/default/webhooks/{gone}"));
    assert!(found[0][1].contains("Stock"), "{found:?}");
    assert_eq!(
        of("Webhook \"Orders\" fails: 3 of 3 attempts in the last day failed.")[2],
        format!("/t/default/webhooks/{failing}")
    );
    assert!(!found.iter().any(|one| one[1].contains("Sheets")), "its plugin is shown: {found:?}");
    assert!(of("of plugin p faulted")[1].contains("3 times within two hours"), "{found:?}");
    assert_eq!(of("of plugin p faulted")[2], "/t/default/plugins/p");
    assert_eq!(of("1 request to the intake was refused in the last day")[2], "/t/default/rejected");
    assert_eq!(
        of("Webhook \"Billing\" is paused (moves), and 3 deliveries wait.")[2],
        format!("/t/default/webhooks/{paused}")
    );
    for [_, sentence, link] in &found {
        assert_eq!(visitor.get(link).await.status, 200, "{sentence}: {link}");
    }
    // Another tenant has nothing of it.
    host.post("/v1/tenants", &json!({"id": "other"})).await;
    assert!(visitor.see("/t/other").await.contains("Nothing needs attention."));
    // What is repaired is gone.
    for id in [&failing, &gone, &holding] {
        host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await;
    }
    host.post(&format!("./subscriptions/{paused}/resume"), &json!({})).await;
    host.ask(Method::DELETE, "./plugins/p", "").await;
    let found = attention(&visitor.see(OVERVIEW).await);
    assert!(found.len() == 1 && found[0][1].contains("refused"), "{found:?}");
}

#[tokio::test]
async fn the_list_is_bounded_and_a_webhook_with_an_incident_is_in_it_once() {
    let host = Host::with().turnable().start().await;
    let gone = Receiver::answering("410").await;
    let id = webhook(&host, &gone, "Stock", None).await;
    send(&host, 1).await;
    until("an incident", async || {
        host.pass(Duration::from_secs(31)).await;
        (host.get("./incidents").await[0].is_object()).then_some(())
    })
    .await;
    for number in 0..9 {
        let paused = webhook(&host, &gone, &format!("Mirror {number}"), None).await;
        host.post(&format!("./subscriptions/{paused}/pause"), &json!({"reason": "moves"})).await;
    }
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see(&format!("{OVERVIEW}?span=day")).await;
    let found = attention(&page);
    assert_eq!(found.len(), 8, "{found:?}");
    assert!(found[0][1].starts_with("Webhook \"Stock\" is stopped") && found[0][2].ends_with(&id), "{found:?}");
    assert!(found[1..].iter().all(|one| one[1].contains("is paused")), "{found:?}");
    assert!(page.contains("href=\"?span=day&amp;attention=all\">and 2 more</a>"), "{page}");
    let all = visitor.see(&format!("{OVERVIEW}?span=day&attention=all")).await;
    assert!(attention(&all).len() == 10 && !all.contains(" more</a>"), "{all}");
}

/// Returns the item of a canary that was taken back.
async fn back(visitor: &mut Visitor<'_>) -> Option<[String; 3]> {
    let found = attention(&visitor.see(OVERVIEW).await);
    found.into_iter().find(|one| one[1].contains("was taken back"))
}

#[tokio::test]
async fn a_canary_that_was_taken_back_needs_attention_until_it_is_activated() {
    let host = Host::start().await;
    without_alerts(&host).await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("passes")).await;
    webhook(&host, &receiver, "Orders", Some("p")).await;
    let bad = host.ask(Method::PUT, "./plugins/p?activate=false", guest("panics")).await.ok();
    let canary = json!({"kind": "canary", "sha256": bad["sha256"], "percent": 100});
    host.ask(Method::PUT, "./plugins/p/rollout", canary.to_string()).await.ok();
    let mut visitor = Visitor::admin(&host).await;
    assert_eq!(back(&mut visitor).await, None);
    send(&host, 10).await;
    until("the end of the canary", async || {
        host.get("./plugins/p/rollout").await["ended_reason"].is_string().then_some(())
    })
    .await;
    let [urgency, sentence, link] = back(&mut visitor).await.unwrap();
    assert_eq!((urgency.as_str(), link.as_str()), ("warning", "/t/default/plugins/p"));
    assert!(
        sentence.contains("of plugin p was taken back: ") && sentence.contains("it failed on 10 of 10 events"),
        "{sentence}"
    );
    let activate = format!("./plugins/p/versions/{}/activate", text(&bad, "sha256"));
    host.post(&activate, &json!({})).await;
    assert_eq!(back(&mut visitor).await, None);
}

/// Returns the number of deliveries on a page of their list.
async fn listed(visitor: &mut Visitor<'_>, href: &str) -> usize {
    // The head of the table has a box as well.
    visitor.see(href).await.matches("class=\"choose\"").count().saturating_sub(1)
}

#[tokio::test]
async fn tiles_count_a_span_and_lead_to_lists() {
    let host = Host::start().await;
    let fine = Receiver::start().await;
    let failing = Receiver::answering("500").await;
    host.plugin("flatten", example("flatten")).await;
    host.plugin("pass", guest("passes")).await;
    webhook(&host, &fine, "Orders", Some("flatten")).await;
    webhook(&host, &failing, "Stock", None).await;
    let paused = host.subscription(&fine.url, json!({"description": "Billing", "plugin": ["pass", "flatten"]})).await;
    host.post(&format!("./subscriptions/{paused}/pause"), &json!({"reason": "moves"})).await;
    send(&host, 4).await;
    // An event of no webhook is accepted as well.
    host.send(event("Opportunity is Created", 1)).await;
    let mut visitor = Visitor::admin(&host).await;
    for span in ["hour", "day", "week"] {
        let page = visitor.see(&format!("{OVERVIEW}?span={span}")).await;
        let all = tile(&page, "Accepted");
        let numbers = ["Accepted", "Delivered", "Failing", "Waiting"].map(|name| tile(&page, name).0);
        assert_eq!(numbers, ["5", "4", "4", "5"], "{span}");
        assert!(
            page.contains("aria-label=\"Events and attempts: 5 accepted, 4 delivered, 4 failed, 0 dropped\""),
            "{page}"
        );
        assert_eq!(listed(&mut visitor, &all.1).await, 13, "{}", all.1);
        for (name, expected) in [("Delivered", 4), ("Waiting", 5)] {
            let href = tile(&page, name).1;
            assert_eq!(listed(&mut visitor, &href).await, expected, "{href}");
        }
        assert!(page.contains("id=\"failing\"") && tile(&page, "Failing").1 == "#failing");
    }
    // Each plugin of a chain has its own row.
    host.post(&format!("./subscriptions/{paused}/resume"), &json!({})).await;
    host.drained().await;
    let page = visitor.see(OVERVIEW).await;
    let (_, cost) = page.split_once("id=\"cost\"").unwrap();
    let (cost, _) = cost.split_once("</section>").unwrap();
    let row = |name: &str| {
        let (_, row) = cost.split_once(&format!("/plugins/{name}\">")).unwrap();
        let cells = row.split("</tr>").next().unwrap().split("class=\"number\">").skip(1);
        cells.map(|cell| cell.split('<').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((row("flatten")[0].as_str(), row("pass")[0].as_str()), ("9", "5"), "{cost}");
    let shares: Vec<f64> =
        ["flatten", "pass"].iter().map(|name| row(name)[5].trim_end_matches(" %").parse().unwrap()).collect();
    assert!((shares.iter().sum::<f64>() - 100.0).abs() < 0.2, "{cost}");
    assert!(cost.contains("CPU time, last hour"), "{cost}");
}

/// Returns the number of steps that count as done, and of all marks of done steps.
async fn done(visitor: &mut Visitor<'_>) -> (usize, usize) {
    let page = visitor.see(FIRST_STEPS).await;
    let (_, count) = page.split_once("is verified. ").unwrap();
    (count.split(' ').next().unwrap().parse().unwrap(), page.matches(">done</span>").count())
}

#[tokio::test]
async fn the_first_steps_follow_from_what_there_is_and_do_not_return() {
    let host = Host::with().set("retention_s=3600").turnable().start().await;
    let mut visitor = Visitor::admin(&host).await;
    assert_eq!(done(&mut visitor).await, (0, 0));
    let token = visitor.post("/t/default/access/tokens", &[("label", "Agile CRM")]).await;
    assert_eq!(token.status, 303, "{}", token.text);
    assert_eq!(done(&mut visitor).await, (1, 1));
    visitor.follow("/t/default/samples", &[("event", "Contact is Created")]).await;
    assert_eq!(done(&mut visitor).await, (2, 2));
    assert!(visitor.see(FIRST_STEPS).await.contains(">The newest event</a>"));
    let receiver = Receiver::start().await;
    host.plugin("flatten", example("flatten")).await;
    let id = webhook(&host, &receiver, "Orders", Some("flatten")).await;
    assert_eq!(done(&mut visitor).await, (3, 4), "a transform is optional");
    let overview = visitor.see(OVERVIEW).await;
    assert!(overview.contains("3 of 4 done") && overview.contains(&format!("href=\"{FIRST_STEPS}\"")), "{overview}");
    let sent = visitor.post("/t/default/samples", &[("event", "Contact is Created")]).await;
    host.ended(sent.location.rsplit('/').next().unwrap()).await;
    assert_eq!(done(&mut visitor).await, (4, 5));
    assert!(!visitor.see(OVERVIEW).await.contains("id=\"first-steps\""));

    // Neither a week, after which nothing of it is stored, nor the end of the webhook brings them back.
    host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await;
    until("the events to be pruned", async || {
        host.pass(Duration::from_secs(2 * 86_400)).await;
        (host.ledger().await["events"] == 0).then_some(())
    })
    .await;
    // The session has ended meanwhile.
    let mut visitor = Visitor::admin(&host).await;
    assert!(!visitor.see(OVERVIEW).await.contains("id=\"first-steps\""));
    assert_eq!(done(&mut visitor).await.0, 3, "the webhook is gone");
}

/// Letters as templates escape them, the ampersand last.
const ESCAPED: [(&str, &str); 5] = [("&#34;", "\""), ("&#60;", "<"), ("&#62;", ">"), ("&#39;", "'"), ("&#38;", "&")];

#[tokio::test]
async fn the_first_steps_show_the_code_of_each_language() {
    let host = Host::start().await;
    let mut visitor = Visitor::admin(&host).await;
    let folder = root().join("host/hookloom/assets/snippets");
    for (name, file) in [
        ("node", "verify.mjs"),
        ("python", "verify.py"),
        ("go", "verify.go"),
        ("ruby", "verify.rb"),
        ("php", "verify.php"),
        ("rust", "verify.rs"),
    ] {
        let page = visitor.see(&format!("{FIRST_STEPS}?lang={name}")).await;
        let (_, shown) = page.split_once("<pre tabindex=\"0\"").unwrap();
        let (_, shown) = shown.split_once("<code>").unwrap();
        let (shown, _) = shown.split_once("</code>").unwrap();
        let shown = ESCAPED.iter().fold(shown.to_owned(), |text, (escaped, letter)| text.replace(escaped, letter));
        assert_eq!(shown, std::fs::read_to_string(folder.join(file)).unwrap(), "{name}");
    }
    assert!(visitor.see(&format!("{FIRST_STEPS}?lang=cobol")).await.contains("verify.mjs"));
}

/// Makes something of each kind that the page shows.
async fn furnish(host: &Host) {
    without_alerts(host).await;
    let fine = Receiver::start().await;
    let failing = Receiver::answering("500").await;
    let gone = Receiver::answering("410").await;
    host.plugin("flatten", example("flatten")).await;
    host.plugin("redact", example("redact")).await;
    host.plugin("broken", guest("panics")).await;
    webhook(host, &fine, "Warehouse", Some("flatten")).await;
    host.subscription(&fine.url, json!({"description": "Mirror", "plugin": ["redact", "flatten"]})).await;
    webhook(host, &failing, "Orders", None).await;
    webhook(host, &gone, "Old shop", None).await;
    webhook(host, &fine, "Sheets", Some("broken")).await;
    let paused = webhook(host, &fine, "Billing service of the northern branch", None).await;
    host.post(&format!("./subscriptions/{paused}/pause"), &json!({"reason": "moves"})).await;
    send(host, 12).await;
    let address = host.post("./intake-tokens", &json!({"label": "crm"})).await;
    host.ask_as("", Method::POST, text(&address, "path"), "no JSON").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_what_is_wrong_and_goes_to_it() {
    let host = Host::start().await;
    for browser in [Browser::desktop(&host).await, Browser::phone_in_the_dark(&host).await] {
        sign_in(&browser, &host).await;
        browser.open(OVERVIEW).await;
        browser.wait_for_text("main", "Nothing needs attention.").await;
        browser.look("overview-first").await;
        browser.open(FIRST_STEPS).await;
        browser.look("first-steps").await;
        browser.click_named(Role::Link, "Go").await;
        browser.wait_for_text("main", "package receiver").await;
        browser.look("first-steps-go").await;
        browser.close().await;
    }
    furnish(&host).await;
    for browser in [Browser::desktop(&host).await, Browser::phone_in_the_dark(&host).await] {
        sign_in(&browser, &host).await;
        browser.open(&format!("{OVERVIEW}?span=day")).await;
        browser.wait_for_text(".attention", "is disabled").await;
        browser.look("overview-attention").await;
        for (number, css) in [".columns", "#failing", "#cost"].into_iter().enumerate() {
            browser.script(&format!("document.querySelector('{css}').scrollIntoView()")).await;
            browser.look(&format!("overview-below-{number}")).await;
        }
        browser.script("scrollTo(0, 0)").await;
        browser.click(".attention .critical a, .attention li.critical a").await;
        browser.wait_for_text("h1", "Old shop").await;
        browser.open(OVERVIEW).await;
        browser.click(".numbers a[href*='state=pending']").await;
        browser.wait_for_text("h1", "Deliveries").await;
        browser.close().await;
    }
}

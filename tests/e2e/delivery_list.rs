//! List of deliveries: event and contact or deal of each, search, next attempts, and actions on several at once.

use crate::browser::sign_in;
use crate::harness::{Browser, Host, Receiver, Visitor, event, text};
use serde_json::{Value, json};

const DELIVERIES: &str = "/t/default/deliveries";

/// Returns an event of a deal.
fn deal(id: u32, name: &str) -> String {
    json!({"eventName": "Opportunity is Created", "eventData": {"id": id, "name": name}}).to_string()
}

/// Returns the rows of a page as text without tags, in their order.
fn rows(page: &str) -> Vec<String> {
    let body = page.split_once("<tbody>").map_or("", |(_, rest)| rest.split("</tbody>").next().unwrap());
    fn text(row: &str) -> String {
        let texts = row.split('<').map(|part| part.split_once('>').map_or("", |(_, text)| text).trim());
        texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
    }
    body.split("</tr>").map(text).filter(|row| !row.is_empty()).collect()
}

/// Returns the only delivery of an event.
async fn delivery_of(host: &Host, event: &str) -> Value {
    host.get(&format!("./events/{event}")).await["deliveries"][0].clone()
}

#[tokio::test]
async fn a_row_has_the_event_its_entity_and_the_next_attempt() {
    let host = Host::start().await;
    let failing = Receiver::answering("500").await;
    let also = json!({"description": "Fails", "modules": ["Contact"], "retry": {"schedule_s": [0, 3600]}});
    host.subscription(&failing.url, also).await;
    let paused = host.subscription(&failing.url, json!({"description": "At lunch", "modules": ["Deal"]})).await;
    host.post(&format!("./subscriptions/{paused}/pause"), &json!({"reason": "back at two"})).await;
    let contact = host.send(event("Contact is Created", 57)).await;
    host.attempted(&contact).await;
    host.send(deal(9, "boat")).await;
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see(DELIVERIES).await;
    let rows = rows(&page);
    assert_eq!(rows.len(), 2, "{page}");
    assert!(rows[0].contains("Opportunity is Created Deal 9 At lunch pending"), "{rows:?}");
    assert!(rows[0].contains("Next attempt when the webhook is resumed"), "{rows:?}");
    assert!(rows[1].contains("Contact is Created Contact 57 Fails pending 1"), "{rows:?}");
    assert!(rows[1].contains("Next attempt in ") && rows[1].contains("the receiver answered 500"), "{rows:?}");
}

#[tokio::test]
async fn deliveries_are_found_by_entity_text_and_time() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({"description": "All", "modules": ["Contact", "Deal"]})).await;
    let mut sent = Vec::new();
    for body in [deal(57, "plane"), deal(58, "O'Hara & sons"), event("Contact is Created", 57)] {
        let id = host.send(body).await;
        host.ended(&id).await;
        sent.push(id);
    }
    let mut visitor = Visitor::admin(&host).await;
    for (query, expected) in [
        ("", &["Contact 57", "Deal 58", "Deal 57"][..]),
        ("?entity=57", &["Contact 57", "Deal 57"]),
        ("?entity=Deal+57", &["Deal 57"]),
        ("?entity=deal+57&state=dead", &[]),
        ("?text=O%27Hara+%26", &["Deal 58"]),
        ("?text=o%27hara", &[]),
        ("?text=eventName&entity=57", &["Contact 57", "Deal 57"]),
        ("?text=plane&state=delivered", &["Deal 57"]),
        ("?from=2020-01-01T00:00&to=2199-01-01T00:00:00", &["Contact 57", "Deal 58", "Deal 57"]),
        ("?to=2020-01-01T00:00", &[]),
        ("?from=2199-01-01T00:00", &[]),
        ("?from=2020-01-01T00:00&text=plane", &["Deal 57"]),
        ("?to=2020-01-01T00:00&entity=57", &[]),
    ] {
        let page = visitor.see(&format!("{DELIVERIES}{query}")).await;
        let found: Vec<String> = rows(&page);
        let fits = found.iter().zip(expected).all(|(row, entity)| row.contains(entity));
        assert!(found.len() == expected.len() && fits, "{query}: {found:?}");
        assert_eq!(page.contains("newest 5,000 events"), query.contains("text="), "{query}: {page}");
    }
    let of_event = visitor.see(&format!("{DELIVERIES}?event={}&entity=57", sent[0])).await;
    assert_eq!(rows(&of_event).len(), 1);
    for (query, field, fault) in [
        ("?from=yesterday", "from", "is not a time"),
        ("?from=2024-01-02T00:00&to=2024-01-01T00:00", "to", "the end must be later than the beginning"),
    ] {
        let page = visitor.get(&format!("{DELIVERIES}{query}")).await;
        assert_eq!(page.status, 422, "{}", page.text);
        let (_, error) = page.text.split_once(&format!("id=\"{field}-error\">")).unwrap();
        assert!(error.split("</p>").next().unwrap().contains(fault), "{}", page.text);
    }
}

#[tokio::test]
async fn a_search_is_paged_with_its_conditions() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    for number in 0..3 {
        host.subscription(&receiver.url, json!({"description": format!("Copy {number}")})).await;
    }
    for number in 0..20 {
        host.send(event("Contact is Created", number % 2)).await;
    }
    host.drained().await;
    let mut visitor = Visitor::admin(&host).await;
    for (query, expected) in [("?state=delivered", 60), ("?entity=1", 30), ("?text=Contact&from=2020-01-01T00:00", 60)]
    {
        let mut found = 0;
        let mut path = format!("{DELIVERIES}{query}");
        loop {
            let page = visitor.see(&path).await;
            found += rows(&page).len();
            let Some((_, next)) = page.split_once("rel=\"next\" href=\"") else { break };
            path = format!("{DELIVERIES}{}", next.split('"').next().unwrap().replace("&#38;", "&"));
            let name = query.split('=').next().unwrap();
            assert!(path.contains(&name[1..]), "{path} keeps {query}");
        }
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test]
async fn several_are_attempted_again_or_cancelled_at_once() {
    let host = Host::start().await;
    let receiver = Receiver::answering("500,500,200").await;
    let id = host.subscription(&receiver.url, json!({"retry": {"schedule_s": [0]}})).await;
    let mut dead = Vec::new();
    for number in 0..2 {
        let sent = host.send(event("Contact is Created", number)).await;
        dead.push(host.ended(&sent).await);
    }
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see(&format!("{DELIVERIES}?state=dead&entity=1")).await;
    assert!(page.contains("name=\"here\" value=\"state=dead&#38;entity=1\""), "{page}");
    let ids: Vec<&str> = dead.iter().map(|one| text(one, "id")).collect();

    // Both are delivered now, and the page is the one of before.
    let here = ("here", "state=dead&entity=1&note=x&evil=1");
    let again = [("action", "retry"), ("id", ids[0]), ("id", ids[1]), ("id", ids[0]), here];
    let done = visitor.post(DELIVERIES, &again).await;
    assert_eq!((done.status, done.location.as_str()), (303, "/t/default/deliveries?state=dead&entity=1"));
    assert!(visitor.see(&done.location).await.contains("2 deliveries are attempted again."));
    receiver.expect(4).await;
    host.drained().await;

    // One of three can be cancelled; the others are named with the reason.
    host.post(&format!("./subscriptions/{id}/pause"), &json!({"reason": "x"})).await;
    let waiting = host.send(event("Contact is Created", 3)).await;
    let waiting = text(&delivery_of(&host, &waiting).await, "id").to_owned();
    let nowhere = "00000000-0000-7000-8000-000000000001";
    let fields = [("action", "cancel"), ("id", ids[0]), ("id", waiting.as_str()), ("id", nowhere)];
    let page = visitor.follow(DELIVERIES, &fields).await;
    assert!(page.contains("1 delivery was cancelled.") && page.contains("2 deliveries were not cancelled:"), "{page}");
    let (_, refused) = page.split_once("id=\"refused\"").unwrap();
    let refused = refused.split("</ul>").next().unwrap();
    assert!(refused.contains(ids[0]) && refused.contains("it is no longer pending"), "{refused}");
    assert!(refused.contains(nowhere) && !refused.contains(&waiting), "{refused}");
    assert!(!visitor.see(DELIVERIES).await.contains("id=\"refused\""), "told once");

    // Each has its entry in the log of changes, as the single action has.
    let changes = host.get("./changes").await;
    let actions = changes["changes"].as_array().unwrap().iter().map(|change| text(change, "action"));
    let of_deliveries: Vec<&str> = actions.filter(|action| action.starts_with("delivery.")).collect();
    assert_eq!(of_deliveries, ["delivery.cancel", "delivery.retry", "delivery.retry"], "{changes}");

    // Nothing chosen, an unknown action, too many, and a form of another site.
    let none = visitor.follow(DELIVERIES, &[("action", "retry")]).await;
    assert!(none.contains("No delivery is chosen."), "{none}");
    assert_eq!(visitor.post(DELIVERIES, &[("action", "delete"), ("id", ids[0])]).await.status, 404);
    let many: Vec<String> = (0..51).map(|number| format!("00000000-0000-7000-8000-0000000000{number:02}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|id| ("id", id.as_str())).collect();
    assert_eq!(visitor.post(DELIVERIES, &[&many[..], &[("action", "retry")]].concat()).await.status, 422);
    *visitor.csrf() = "wrong".to_owned();
    assert_eq!(visitor.post(DELIVERIES, &fields).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_are_for_everybody_on_every_screen() {
    let host = Host::start().await;
    let receiver = Receiver::answering("500").await;
    let also = json!({"description": "Fails", "modules": ["Contact", "Deal"], "retry": {"schedule_s": [0]}});
    host.subscription(&receiver.url, also).await;
    host.subscription(&receiver.url, json!({"description": "Tries again", "retry": {"schedule_s": [0, 3600]}})).await;
    for body in [event("Contact is Created", 57), deal(9, "boat"), event("Contact is Updated", 57)] {
        let sent = host.send(body).await;
        host.deliveries_when(&sent, |one| one["attempts"][0].is_object()).await;
    }
    for browser in [Browser::desktop(&host).await, Browser::phone_in_the_dark(&host).await] {
        sign_in(&browser, &host).await;
        browser.open(&format!("{DELIVERIES}?from=2020-01-01T00:00")).await;
        browser.wait("body[data-watching=yes]").await;
        browser.look("deliveries-searched").await;
        browser.open(&format!("{DELIVERIES}?state=dead")).await;
        browser.wait("body[data-watching=yes]").await;
        browser.script("document.querySelectorAll('input[name=id]').forEach((one) => one.click())").await;
        let chosen = "return document.querySelectorAll('input[name=id]:checked').length";
        assert_eq!(browser.script(chosen).await, json!(3));
        browser.click("button[name=action][value=cancel]").await;
        browser.wait_for_text("#refused", "3 deliveries were not cancelled").await;
        browser.look("deliveries-refused").await;
        browser.close().await;
    }
}

//! Event names and filter in the form of a webhook: as JSON without scripts, as rows beside it with them, and the events that match.

use crate::harness::{Browser, Host, Receiver, Visitor, text};
use reqwest::Method;
use serde_json::{Value, json};

/// Returns an event of a deal.
fn deal(id: u32, name: &str, probability: u32) -> String {
    json!({"eventName": "Opportunity is Created", "eventData": {"id": id, "name": name, "probability": probability}})
        .to_string()
}

/// Sends the deals that the tests try filters on. Returns their ids, oldest first.
async fn send_deals(host: &Host) -> Vec<String> {
    let mut sent = Vec::new();
    for (id, name, probability) in [(1, "deal plane", 95), (2, "deal boat", 20), (3, "deal car", 75)] {
        sent.push(host.send(deal(id, name, probability)).await);
    }
    sent
}

/// Returns the text of an element of a page, found by a part of its tag.
#[track_caller]
fn element(page: &str, tag: &str, end: &str) -> String {
    let (_, rest) = page.split_once(tag).unwrap_or_else(|| panic!("no {tag} in {page}"));
    let (_, rest) = rest.split_once('>').unwrap();
    let inner = rest.split(end).next().unwrap();
    inner.replace("&#34;", "\"").replace("&#39;", "'").replace("&lt;", "<").replace("&#62;", ">").replace("&amp;", "&")
}

/// Returns the JSON in the form of a page.
#[track_caller]
fn json_of(page: &str) -> Value {
    let shown = element(page, "id=\"filter\"", "</textarea>");
    serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"))
}

/// Returns the tag of an element with its attributes.
#[track_caller]
fn tag(page: &str, id: &str) -> String {
    let (before, rest) = page.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {page}"));
    let from = before.rfind('<').unwrap();
    before[from..].to_owned() + rest.split('>').next().unwrap()
}

#[tokio::test]
async fn a_form_without_scripts_chooses_events_and_filters_them() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/webhooks").await;
    let filter = r#"{"fields": {"probability": {"$gte": 75.50}, "name": "deal plane"}}"#;
    let base = [("notify_url", receiver.url.as_str()), ("modules", "Contact"), ("modules", "Deal")];
    let choice = [("events", "Opportunity is Created"), ("events", "Contact is Updated")];
    let fields = [&base[..], &choice, &[("filter", filter), ("filter_from", "json")]].concat();
    let page = visitor.follow("/t/default/webhooks", &fields).await;
    let made = &host.get("./subscriptions").await[0];
    assert_eq!(made["events"], json!(["Opportunity is Created", "Contact is Updated"]));
    assert_eq!(made["filter"].to_string(), r#"{"fields":{"probability":{"$gte":75.50},"name":"deal plane"}}"#);

    // The page shows both, in words and in the form.
    assert!(page.contains("Opportunity is Created, Contact is Updated"), "{page}");
    let shown = element(&page, "id=\"filtered\"", "</dd>");
    assert_eq!(shown, "only if <code>probability is at least 75.50</code><br>and <code>name is deal plane</code>");
    assert_eq!(json_of(&page), made["filter"]);
    assert!(page.contains("value=\"Contact is Updated\" checked"), "{page}");
    assert!(!page.contains("value=\"Contact is Created\" checked"), "{page}");
    assert!(visitor.see("/t/default/webhooks").await.contains("(filtered)"));

    // An event that is refused is explained with the condition and the value.
    let refused = host.send(deal(2, "deal boat", 20)).await;
    let page = visitor.see(&format!("/t/default/events/{refused}")).await;
    let why = element(&page, "data-label=\"Why\"", "</td>");
    assert_eq!(why, "not matched: its filter refuses the event: /fields/probability/$gte 75.50 met 20");

    // An empty field is no filter, and no box is all events.
    let own = format!("/t/default/webhooks/{}", text(made, "id"));
    visitor.see(&own).await;
    let page = visitor.follow(&own, &[&base[..], &[("filter", " "), ("filter_from", "json")]].concat()).await;
    let made = &host.get("./subscriptions").await[0];
    assert_eq!((&made["events"], &made["filter"]), (&json!([]), &Value::Null));
    assert!(page.contains("all events of Contact, Deal") && !page.contains("id=\"filtered\""), "{page}");
}

/// Returns the fields of a row.
fn row<'a>(field: &'a str, operator: &'a str, value: &'a str) -> [(&'a str, &'a str); 3] {
    [("row.field", field), ("row.operator", operator), ("row.value", value)]
}

#[tokio::test]
async fn rows_of_a_form_are_saved_as_the_json_that_is_equal_to_them() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/webhooks").await;
    let base =
        [("notify_url", receiver.url.as_str()), ("modules", "Deal"), ("filter", "not read"), ("filter_from", "rows")];
    let rows = [
        row("probability", "$gte", "75"),
        row("", "$eq", ""),
        row("name", "$in", "deal plane, \"75\", 12345678901234567890"),
        row("note", "absent", "ignored"),
    ];
    let page = visitor.follow("/t/default/webhooks", &[&base[..], &rows.concat()].concat()).await;
    let made = &host.get("./subscriptions").await[0];
    let expected = r#"{"fields":{"probability":{"$gte":75},"name":{"$in":["deal plane","75",12345678901234567890]},"note":{"$exist":false}}}"#;
    assert_eq!(made["filter"].to_string(), expected);
    assert_eq!(json_of(&page), made["filter"]);

    // A row with a fault is shown again, with all that was typed.
    let faulty = [row("probability", "$gte", "75"), row("name", "$startsWith", "")];
    let refused = visitor.post("/t/default/webhooks", &[&base[..], &faulty.concat()].concat()).await;
    assert_eq!(refused.status, 422);
    assert!(element(&refused.text, "id=\"filter-error\"", "</p>").starts_with("condition 2: write a value"));
    assert!(refused.text.contains("name=\"row.field\" list=\"filter-fields\" aria-label=\"Field\" placeholder=\"Field\" value=\"name\" aria-invalid=\"true\""), "{}", refused.text);
    assert!(refused.text.contains("name=\"filter_from\" value=\"rows\""));
    assert_eq!(host.get("./subscriptions").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn faults_of_a_filter_stand_at_its_field() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/webhooks").await;
    let cases = [
        ("{\"fields\":", "this is not JSON: EOF"),
        (r#"{"fields": {"stage": {"$is": 1}}}"#, "/fields/stage/$is: there is no operator"),
        (r#"{"fields": {"stage": {"$regex": "("}}}"#, "/fields/stage/$regex: not a regular expression"),
        ("[]", "an object with conditions is needed here, not a list"),
    ];
    for (filter, fault) in cases {
        for count in ["", "yes"] {
            let fields = [
                ("notify_url", receiver.url.as_str()),
                ("modules", "Contact"),
                ("description", "kept"),
                ("filter", filter),
                ("filter_from", "json"),
                ("count", count),
            ];
            let refused = visitor.post("/t/default/webhooks", &fields).await;
            assert_eq!(refused.status, 422, "{filter}: {}", refused.text);
            let error = element(&refused.text, "id=\"filter-error\"", "</p>");
            assert!(error.starts_with(fault), "{filter}: {error}");
            assert!(tag(&refused.text, "filter").contains("aria-invalid=\"true\""), "{filter}");
            assert_eq!(element(&refused.text, "id=\"filter\"", "</textarea>"), filter, "the text is kept");
            assert!(tag(&refused.text, "description").contains("value=\"kept\""));
        }
    }
    let foreign = [
        ("notify_url", receiver.url.as_str()),
        ("modules", "Contact"),
        ("events", "Opportunity is Created"),
        ("filter", ""),
    ];
    let refused = visitor.post("/t/default/webhooks", &foreign).await;
    assert_eq!(refused.status, 422);
    assert!(element(&refused.text, "id=\"events-error\"", "</p>").contains("which is not in modules"));
    assert!(
        refused.text.contains("value=\"Opportunity is Created\" checked aria-invalid=\"true\""),
        "{}",
        refused.text
    );
    assert_eq!(host.get("./subscriptions").await, json!([]));
}

#[tokio::test]
async fn a_count_shows_what_matches_and_keeps_all_input() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let sent = send_deals(&host).await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/webhooks").await;
    let filter = r#"{ "fields": {"probability": {"$gte": 75}} }"#;
    let fields = [
        ("notify_url", receiver.url.as_str()),
        ("modules", "Deal"),
        ("events", "Opportunity is Created"),
        ("filter", filter),
        ("filter_from", "json"),
        ("description", "kept"),
        ("config", "a = b"),
        ("count", "yes"),
    ];
    let page = visitor.post("/t/default/webhooks", &fields).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let (_, counted) = page.text.split_once("data-part=\"summary\"").unwrap();
    assert!(counted.contains("2 of 3 events so far match."), "{counted}");
    let (matching, refused) = counted.split_once("<details>").unwrap();
    for (event, is_in) in [(&sent[0], true), (&sent[1], false), (&sent[2], true)] {
        assert_eq!(matching.contains(&format!("/t/default/events/{event}")), is_in, "{matching}");
        assert_eq!(refused.contains(&format!("/t/default/events/{event}")), !is_in, "{refused}");
    }
    assert!(matching.contains("Opportunity is Created") && matching.contains("Deal 3") && matching.contains("<time"));
    assert_eq!(
        element(refused, "data-label=\"Condition and value\"><code", "</code>"),
        "/fields/probability/$gte 75 met 20"
    );
    assert_eq!(element(&page.text, "id=\"filter\"", "</textarea>"), filter);
    assert!(page.text.contains("value=\"Opportunity is Created\" checked") && page.text.contains("a = b"));
    assert!(tag(&page.text, "description").contains("kept") && tag(&page.text, "notify_url").contains(&receiver.url));
    assert!(page.text.contains("<option value=\"probability\">"), "fields are suggested: {}", page.text);
    assert_eq!(host.get("./subscriptions").await, json!([]), "nothing was saved");

    // A webhook that has an event name which the tenant does not accept any more can be counted and saved.
    host.event_type("Order is Paid").await;
    let id = host.subscription(&receiver.url, json!({"modules": ["Deal"], "events": ["Order is Paid"]})).await;
    host.ask(Method::DELETE, "./event-types/Order%20is%20Paid", "").await;
    let own = format!("/t/default/webhooks/{id}");
    assert!(visitor.see(&own).await.contains("value=\"Order is Paid\" checked"));
    let fields =
        [("notify_url", receiver.url.as_str()), ("modules", "Deal"), ("events", "Order is Paid"), ("filter", "")];
    let page = visitor.post(&own, &[&fields[..], &[("count", "yes")]].concat()).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains("0 of 3 events so far match.") && page.text.contains("events do not include"));
    assert_eq!(visitor.post(&own, &fields).await.status, 303);

    // Without a module, the events of all are counted. The script gets its part of the page.
    let part = visitor.post("/t/default/webhooks", &[("filter", filter), ("count", "yes"), ("part", "filter")]).await;
    assert!(part.text.contains("2 of 3 events so far match. No module is chosen"), "{}", part.text);
    assert!(
        !part.text.contains("<main") && part.text.trim_start().starts_with("<fieldset data-filter>"),
        "{}",
        part.text
    );
}

/// Sets a field as a person would who replaces its text.
async fn write(browser: &Browser, css: &str, value: &str) {
    let script = format!(
        "const field = document.querySelector({}); field.focus(); field.value = {};\
         field.dispatchEvent(new Event('input', {{bubbles: true}}))",
        json!(css),
        json!(value)
    );
    browser.script(&script).await;
}

/// Waits until the JSON of the form has a value.
async fn until_json(browser: &Browser, wanted: &Value) {
    crate::harness::until("the JSON to follow", async || {
        let shown = browser.script("return document.querySelector('#filter').value").await;
        let shown: Value = serde_json::from_str(shown.as_str().unwrap()).unwrap_or_default();
        (shown == *wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_json_follow_each_other_while_one_types() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    send_deals(&host).await;
    let id = host.subscription(&receiver.url, json!({"modules": ["Deal"], "description": "Big deals"})).await;
    for browser in [Browser::desktop(&host).await, Browser::phone_in_the_dark(&host).await] {
        let link = host.post("/v1/sign-in-links", &json!({})).await;
        browser.open(text(&link, "path")).await;
        browser.click("button.primary").await;
        browser.wait("nav [aria-current=page]").await;
        browser.open(&format!("/t/default/webhooks/{id}")).await;
        rows_become_json(&browser).await;
        json_becomes_rows(&browser).await;
        // What was typed last is saved, even before the pause is over.
        let type_and_save = "const value = document.querySelector('[name=\"row.value\"]'); value.value = 'deal boat';
            value.dispatchEvent(new Event('input', {bubbles: true}));
            document.querySelector('#edit ~ form button.primary').click()";
        browser.script(type_and_save).await;
        browser.wait_for_text("#filtered", "name is deal boat").await;
        let saved = host.get(&format!("./subscriptions/{id}")).await;
        assert_eq!(saved["filter"], json!({"fields": {"name": "deal boat"}}));
        browser.script("scrollTo(0, 0)").await;
        browser.look("webhook-filtered").await;
        host.ask(Method::PATCH, &format!("./subscriptions/{id}"), json!({"filter": null}).to_string()).await.ok();
        browser.close().await;
    }
}

/// Holds the next answer of the host back until `release()`.
const HOLD_ANSWER: &str = "const get = window.fetch; window.fetch = async (...of) => {
    const answer = await get(...of);
    window.fetch = get;
    document.documentElement.dataset.held = 'yes';
    await new Promise((go) => { window.release = go; });
    return answer;
}";

/// Writes conditions as rows. Leaves one.
async fn rows_become_json(browser: &Browser) {
    // The fields of recent events are suggested from the first visit on.
    browser.click("[name='row.field']").await;
    browser.wait("#filter-fields option[value=probability]").await;
    browser.wait_for_text("[data-part=summary]", "3 of 3 events so far match.").await;
    browser.fill("[name='row.field']", "probability").await;
    browser.fill("[name='row.operator']", "$gte").await;
    browser.fill("[name='row.value']", "75").await;
    browser.wait_for_text("[data-part=summary]", "2 of 3 events").await;
    until_json(browser, &json!({"fields": {"probability": {"$gte": 75}}})).await;
    browser.wait_for_text("[data-part=matching]", "Deal 3").await;
    assert_eq!(browser.script("return document.activeElement.name").await, json!("row.value"), "the focus stays");
    browser.click("[data-add]").await;
    browser.fill("li:nth-child(2) [name='row.field']", "name").await;
    browser.fill("li:nth-child(2) [name='row.operator']", "$contains").await;
    browser.fill("li:nth-child(2) [name='row.value']", "plane").await;
    until_json(browser, &json!({"fields": {"probability": {"$gte": 75}, "name": {"$contains": "plane"}}})).await;
    browser.wait_for_text("[data-part=summary]", "1 of 3 events so far matches.").await;
    browser.click("details summary").await;
    browser.wait_for_text("[data-part=matching]", "/fields/probability/$gte 75 met 20").await;
    browser.script("document.querySelector('[data-filter]').scrollIntoView()").await;
    browser.look("webhook-filter").await;

    // A row without its value is a fault at its fields; the JSON stays.
    browser.fill("li:nth-child(2) [name='row.operator']", "$startsWith").await;
    write(browser, "li:nth-child(2) [name='row.value']", "").await;
    browser.wait("li:nth-child(2) [name='row.value'][aria-invalid]").await;
    browser.wait_for_text("#filter-error", "condition 2: write a value").await;
    browser.look("webhook-filter-refused").await;
    browser.click("li:nth-child(2) [data-remove]").await;
    until_json(browser, &json!({"fields": {"probability": {"$gte": 75}}})).await;
}

/// Writes filters as JSON, with and without rows. Leaves one with a row.
async fn json_becomes_rows(browser: &Browser) {
    write(browser, "#filter", r#"{"fields": {"name": "deal car", "id": {"$changed": true}}}"#).await;
    browser.wait("li:nth-child(2) [name='row.value'][hidden]").await;
    let rows = "return [...document.querySelectorAll('.conditions input, .conditions select')].map((one) => one.value)";
    assert_eq!(browser.script(rows).await, json!(["name", "$eq", "deal car", "id", "changed", ""]));
    // Somebody is in a row before the answer about the JSON has come.
    browser.script(HOLD_ANSWER).await;
    write(browser, "#filter", r#"{"fields": {"name": "deal tram"}}"#).await;
    browser.wait("[data-held]").await;
    browser.script("document.querySelector(\"[name='row.value']\").focus(); release()").await;
    browser.wait_for_text("[data-part=summary]", "0 of 3 events").await;
    let focused = browser.script("return [document.activeElement.name, document.activeElement.value]").await;
    assert_eq!(focused, json!(["row.value", "deal tram"]), "the cursor stays in the row");
    write(browser, "#filter", r#"{"$not": {"fields": {"name": "deal car"}}}"#).await;
    browser.wait_for_text("[data-part=list]", "This filter says more than rows").await;
    browser.wait_for_text("[data-part=summary]", "2 of 3 events").await;
    browser.look("webhook-filter-as-json").await;
    write(browser, "#filter", r#"{"fields": {"#).await;
    browser.wait_for_text("#filter-error", "this is not JSON").await;
    write(browser, "#filter", r#"{"fields": {"name": "deal plane"}}"#).await;
    browser.wait_for_text("[data-part=summary]", "1 of 3 events").await;
}

//! Page of a plugin: actions of its versions, canaries with their percentage and progress, dry runs beside the code, and comparisons in
//! groups.

use crate::browser::sign_in;
use crate::harness::{Browser, Host, Receiver, Visitor, event, example, guest, text, until};
use crate::scripts::upload;
use fantoccini::key::Key;
use reqwest::Method;
use serde_json::{Value, json};

const PAGE: &str = "/t/default/plugins/p";

/// Script that judges the events 1 to 7 in different ways.
const FIRST: &str = r#"export function transform(event) {
  const id = event.payload.eventData.id;
  if (id === 5) throw new Error("five");
  if (id === 2) return drop("two");
  return replace({ id }, { headers: { "x-version": "first" } });
}
"#;

/// Script that differs from the first one on each event but 1, on each in another way.
const SECOND: &str = r#"export function transform(event) {
  const id = event.payload.eventData.id;
  if (id === 2) return drop("second");
  if (id === 3) return replace({ id, second: true }, { headers: { "x-version": "first" } });
  if (id === 4) return replace({ id }, { headers: { "x-version": "second" } });
  if (id === 6) throw new Error("six");
  if (id === 7) return drop("seven");
  return replace({ id }, { headers: { "x-version": "first" } });
}
"#;

/// Uploads a component as a further version, and returns its sha256.
async fn candidate(host: &Host, component: Vec<u8>) -> String {
    let version = host.ask(Method::PUT, "./plugins/p?activate=false", component).await.ok();
    text(&version, "sha256").to_owned()
}

/// Uploads the two scripts, lets the first one judge the events 1 to 7, and returns the sha256 of the second one.
async fn seven_events(host: &Host, receiver: &Receiver) -> String {
    assert_eq!(upload(host, "p", FIRST).await.0, 200);
    let first = text(&host.get("./plugins").await[0], "active_sha256").to_owned();
    host.subscription(&receiver.url, json!({"plugin": "p", "limits": {"cpu_ms": 500}})).await;
    for number in 1..=7 {
        host.attempted(&host.send(event("Contact is Created", number)).await).await;
    }
    let (status, second) = upload(host, "p", SECOND).await;
    assert_eq!(status, 200, "{second}");
    host.post(&format!("./plugins/p/versions/{first}/activate"), &json!({})).await;
    text(&second, "sha256").to_owned()
}

/// Returns the text of a page without its markup, with one blank between words.
fn words(page: &str) -> String {
    let parts = page.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
    parts.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_comparison_is_grouped_by_the_kind_of_difference() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let second = seven_events(&host, &receiver).await;
    let compare = format!("./plugins/p/versions/{second}/compare");
    let compared = host.post(&compare, &json!({"events": 7})).await;
    let each_once = json!({"new-fault": 1, "fault-gone": 1, "verdict": 1, "body": 1, "request": 1, "reason": 1});
    assert_eq!((&compared["kinds"], &compared["same"]), (&each_once, &json!(1)), "{compared}");
    assert_eq!((&compared["failed"], &compared["changed"]), (&json!(1), &json!(5)), "{compared}");
    let differences = compared["differences"].as_array().unwrap();
    let mut kinds: Vec<(&str, &str)> =
        differences.iter().map(|one| (text(one, "entity_id"), text(one, "kind"))).collect();
    kinds.sort_unstable();
    let expected =
        [("2", "reason"), ("3", "body"), ("4", "request"), ("5", "fault-gone"), ("6", "new-fault"), ("7", "verdict")];
    assert_eq!(kinds, expected);
    let header = differences.iter().find(|one| one["kind"] == "request").unwrap();
    assert_eq!(header["diff"], json!(["- x-version: first", "+ x-version: second"]));
    assert_eq!((text(header, "event_name"), text(header, "module")), ("Contact is Created", "Contact"));

    let mut visitor = Visitor::admin(&host).await;
    visitor.see(PAGE).await;
    let page = visitor.follow(&format!("{PAGE}/try"), &[("sha256", &second), ("how", "compare")]).await;
    assert!(page.contains("Of the last 7 real events: 1 the same, 5 changed, 1 failed, 0 skipped."), "{page}");
    let groups: Vec<String> = page.split("<details class=\"fold group\"").skip(1).map(words).collect();
    let names = [
        "same result",
        "new fault",
        "other verdict",
        "other body",
        "other headers or URL",
        "other reason",
        "fault gone",
    ];
    assert_eq!(groups.len(), names.len(), "{groups:?}");
    for (group, name) in groups.iter().zip(names) {
        assert!(group.contains(&format!("{name} 1 event ")), "{name}: {group}");
    }
    assert!(groups[1].contains("replace fault") && groups[1].contains("Contact 6"), "{}", groups[1]);
    let id = text(header, "event");
    assert!(page.contains(&format!("href=\"/t/default/events/{id}\"")), "{page}");
    assert!(visitor.see(&format!("/t/default/events/{id}")).await.contains("Contact"));
}

#[tokio::test]
async fn a_comparison_shows_ten_events_of_each_kind() {
    let host = Host::start().await;
    host.plugin("p", guest("passes")).await;
    let lines: String = (0..25).map(|number| event("Contact is Created", number) + "\n").collect();
    host.ask(Method::POST, "./events", lines).await.ok();
    let other = candidate(&host, guest("appends")).await;
    let compared = host.post(&format!("./plugins/p/versions/{other}/compare"), &json!({"events": 500})).await;
    assert_eq!((&compared["kinds"]["verdict"], &compared["changed"]), (&json!(25), &json!(25)), "{compared}");
    assert_eq!(compared["differences"].as_array().unwrap().len(), 10);
    let mut visitor = Visitor::admin(&host).await;
    visitor.see(PAGE).await;
    let page = visitor.follow(&format!("{PAGE}/try"), &[("sha256", &other), ("how", "compare")]).await;
    assert!(words(&page).contains("other verdict 25 events") && page.contains("The first 10 are shown."), "{page}");
}

#[tokio::test]
async fn a_canary_asks_for_its_percentage_and_keeps_what_was_typed() {
    let host = Host::start().await;
    let active = text(&host.plugin("p", guest("passes")).await, "sha256").to_owned();
    let other = candidate(&host, example("flatten")).await;
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see(PAGE).await;
    assert!(page.contains(&format!("href=\"{PAGE}?canary={other}#canary\"")), "{page}");
    assert!(!page.contains("id=\"percent\""), "nothing is asked before");
    let form = visitor.see(&format!("{PAGE}?canary={other}")).await;
    assert!(form.contains("name=\"percent\"") && form.contains("value=\"5\""), "{form}");
    let begin = format!("{PAGE}/try");
    for (percent, fault) in
        [("150", "more than 0 and at most 100 percent"), ("0", "more than 0"), ("many", "enter a number")]
    {
        let refused = visitor.post(&begin, &[("sha256", &other), ("how", "canary"), ("percent", percent)]).await;
        assert_eq!(refused.status, 422, "{}", refused.text);
        let (_, field) = refused.text.split_once("id=\"percent\"").unwrap();
        let field = field.split("</div>").next().unwrap();
        assert!(field.contains(&format!("value=\"{percent}\"")) && field.contains("aria-invalid=\"true\""), "{field}");
        assert!(field.contains("aria-describedby=\"percent-error percent-hint\"") && field.contains(fault), "{field}");
    }
    assert_eq!(host.ask(Method::GET, "./plugins/p/rollout", "").await.status, 404, "none of them began");
    let page = visitor.follow(&begin, &[("sha256", &other), ("how", "canary"), ("percent", "12.5 %")]).await;
    assert!(page.contains("The canary judges 12.5 % of the events from now on."), "{page}");
    assert_eq!(host.get("./plugins/p/rollout").await["percent"], 12.5);
    let change = visitor.see(&format!("{PAGE}?canary={other}")).await;
    assert!(change.contains("value=\"12.5\"") && change.contains("Change the percentage"), "{change}");
    for wrong in [active.as_str(), "nothing"] {
        assert_eq!(visitor.get(&format!("{PAGE}?canary={wrong}")).await.status, 409, "{wrong}");
    }
    visitor.see(PAGE).await;
    assert_eq!(visitor.post(&begin, &[("sha256", "nothing"), ("how", "shadow")]).await.status, 404);
}

/// Begins a canary of all events, and returns the page.
async fn begin(visitor: &mut Visitor<'_>, sha256: &str) -> String {
    let fields = [("sha256", sha256), ("how", "canary"), ("percent", "100")];
    visitor.follow(&format!("{PAGE}/try"), &fields).await
}

#[tokio::test]
async fn a_canary_shows_its_progress_its_threshold_and_its_end() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let active = text(&host.plugin("p", guest("passes")).await, "sha256").to_owned();
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let good = candidate(&host, example("flatten")).await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see(PAGE).await;
    let early = words(&begin(&mut visitor, &good).await);
    for part in [
        "under way",
        &format!("Compared with {}", &active[..12]),
        "It judged 0 events , with 0 regressions (0.0 %;",
        "Events before it can end: 0 of 10",
        "Evidence of faults: 0.0 of 1,000",
        "when one of the two reaches 1,000, but not before 10 events. 10 regressions in a row would do it now.",
        "Promote",
        "Stop the canary",
    ] {
        assert!(early.contains(part), "{part:?} is not in {early}");
    }
    assert!(visitor.see("/t/default/plugins").await.contains("canary of 100 %"), "the list of plugins has it too");
    host.ended(&host.send(event("Contact is Created", 1)).await).await;
    assert_eq!(host.get("./plugins/p/rollout").await["figures"]["test"]["events_min"], 10);
    let page = words(&visitor.see(PAGE).await);
    assert!(page.contains("It judged 1 event , with 0 regressions") && page.contains("end: 1 of 10"), "{page}");

    let promote = [("sha256", good.as_str()), ("how", "activate")];
    let promoted = words(&visitor.follow(&format!("{PAGE}/try"), &promote).await);
    assert!(promoted.contains(&format!("Canary of {} promoted", &good[..12])), "{promoted}");
    assert!(!promoted.contains("Stop the canary") && !promoted.contains("Compared with"), "{promoted}");

    let bad = candidate(&host, guest("panics")).await;
    begin(&mut visitor, &bad).await;
    let lines: String = (0..40).map(|number| event("Contact is Created", number) + "\n").collect();
    host.ask(Method::POST, "./events", lines).await.ok();
    host.drained().await;
    until("the end of the canary", async || {
        Some(host.get("./plugins/p/rollout").await).filter(|rollout| rollout["ended_reason"].is_string())
    })
    .await;
    let page = words(&visitor.see(PAGE).await);
    for part in ["taken back", "Its fault rate is 100.0 %", "1,000", "(100.0 %;"] {
        assert!(page.contains(part), "{part:?} is not in {page}");
    }
    begin(&mut visitor, &bad).await;
    let stopped = words(&visitor.follow(&format!("{PAGE}/end-rollout"), &[]).await);
    assert!(stopped.contains("stopped Ended manually."), "{stopped}");
}

#[tokio::test]
async fn each_version_has_the_actions_that_it_can_take() {
    let host = Host::start().await;
    let active = text(&host.plugin("p", guest("passes")).await, "sha256").to_owned();
    let other = candidate(&host, example("flatten")).await;
    let page = Visitor::admin(&host).await.see(PAGE).await;
    let row = |sha256: &str| {
        let (_, row) = page.split_once(&format!("title=\"{sha256}\"")).unwrap();
        row.split("</tr>").next().unwrap().to_owned()
    };
    let of_active = row(&active);
    assert!(of_active.contains("Dry run") && of_active.contains("/component\" download=\"p-"), "{of_active}");
    for none in ["value=\"activate\"", "Canary", "Compare", "delete-version"] {
        assert!(!of_active.contains(none), "{none}: {of_active}");
    }
    let of_other = row(&other);
    for part in ["value=\"activate\"", "Canary …", "value=\"shadow\"", "value=\"compare\"", "Download", "Delete …"]
    {
        assert_eq!(of_other.matches(part).count(), 1, "{part}: {of_other}");
    }
    let places =
        ["<details class=\"menu\"", "Run it", "Look at it", "Remove", "</details>"].map(|part| of_other.find(part));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "the groups stand in the menu: {places:?}");
}

#[tokio::test]
async fn a_dry_run_stands_beside_the_report_or_the_script() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let second = seven_events(&host, &receiver).await;
    let mut visitor = Visitor::admin(&host).await;
    #[track_caller]
    fn part(page: &str) -> String {
        page.split_once("id=\"dry\"").unwrap().1.split("id=\"delete\"").next().unwrap().to_owned()
    }
    let shown = part(&visitor.see(PAGE).await);
    assert!(shown.contains("Source of the script") && shown.contains("first") && !shown.contains("second"), "{shown}");
    let shown = part(&visitor.see(&format!("{PAGE}?version={second}")).await);
    assert!(shown.contains("second") && shown.contains(&format!("value=\"{second}\" selected")), "{shown}");
    // The result stands on the same page, beside the version that judged.
    let third = third_event(&host).await;
    let fields = [("pick", third.as_str()), ("version", second.as_str())];
    let judged = part(&visitor.follow(&format!("{PAGE}/dry-run"), &fields).await);
    assert!(judged.contains("id=\"result\"") && judged.contains("&#34;second&#34;: true"), "{judged}");
    assert!(
        judged.contains(&format!("value=\"{second}\" selected")) && judged.contains("Source of the script"),
        "{judged}"
    );

    host.plugin("component", guest("passes")).await;
    let shown = part(&visitor.see("/t/default/plugins/component").await);
    assert!(shown.contains("<dt>May use</dt>") && !shown.contains("Source of the script"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_for_everybody_on_every_screen() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let second = seven_events(&host, &receiver).await;
    let menu = format!("tr:has(code[title='{second}']) details.menu");
    for browser in [Browser::desktop(&host).await, Browser::phone_in_the_dark(&host).await] {
        sign_in(&browser, &host).await;
        browser.open(PAGE).await;
        // The menu opens and closes by keyboard, and the focus returns to it.
        let is_open = async || browser.script(&format!("return document.querySelector(\"{menu}\").open")).await;
        browser.script(&format!("document.querySelector(\"{menu} > summary\").focus()")).await;
        browser.press(Key::Enter).await;
        assert_eq!(is_open().await, json!(true));
        browser.look("plugin-menu").await;
        browser.press(Key::Tab).await;
        browser.press(Key::Escape).await;
        assert_eq!(is_open().await, json!(false));
        let focused = browser.script("return document.activeElement.textContent").await;
        assert_eq!(focused, json!("More"));

        browser.click(&format!("{menu} > summary")).await;
        browser.click(&format!("{menu} button[value=compare]")).await;
        browser.wait_for_text("section[aria-labelledby=compared]", "other verdict").await;
        browser
            .script("document.querySelectorAll('.group, .group details').forEach((one) => { one.open = true; })")
            .await;
        browser.script("document.querySelector('#compared').scrollIntoView()").await;
        browser.look("plugin-compared").await;

        browser.click("section[aria-labelledby=compared] a[href$='#canary']").await;
        browser.fill("#percent", "150").await;
        browser.click("button[value=canary]").await;
        browser.wait_for_text("#percent-error", "at most 100").await;
        browser.script("document.querySelector('#canary').scrollIntoView()").await;
        browser.look("plugin-canary-refused").await;
        browser.fill("#percent", "100").await;
        browser.click("button[value=canary]").await;
        browser.wait_for_text("section[aria-labelledby=rollout]", "under way").await;
        for number in [1, 6] {
            host.attempted(&host.send(event("Contact is Created", number)).await).await;
        }
        // The page follows by itself.
        browser.wait_for_text("section[aria-labelledby=rollout]", "It judged 2 events, with 1 regression").await;
        browser.script("document.querySelector('#rollout').scrollIntoView({block: 'center'})").await;
        browser.look("plugin-canary").await;

        let third = third_event(&host).await;
        browser.fill("#pick", &third).await;
        browser.fill("#version", &second).await;
        browser.click("form[action$='/dry-run'] button.primary").await;
        browser.wait_for_text("#result", "replace").await;
        browser.script("document.querySelector('#dry').scrollIntoView()").await;
        browser.look("plugin-dry-run-beside").await;
        browser.click("form[action$='/end-rollout'] button").await;
        browser.wait_for_text("section[aria-labelledby=rollout]", "Ended manually.").await;
        browser.close().await;
    }
}

/// Returns the id of the event 3.
async fn third_event(host: &Host) -> String {
    let events: Value = host.get("./events?limit=50").await;
    let third = events["events"].as_array().unwrap().iter().find(|one| one["entity_id"] == "3").unwrap();
    text(third, "id").to_owned()
}

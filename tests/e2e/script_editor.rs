//! Scripts that are tried before they are stored: by REST, on the page without scripts, and in a browser.

use crate::harness::{Browser, Host, Visitor, client, event, exchange, guest, text};
use crate::scripts::upload;
use fantoccini::key::Key;
use reqwest::Method;
use serde_json::{Value, json};

const TRY: &str = "./scripts/try";

/// Returns a trial of a script on a contact.
fn trial(source: &str) -> Value {
    let event: Value = serde_json::from_str(&event("Contact is Created", 7)).unwrap();
    json!({"source": source, "event": event, "limits": {"cpu_ms": 500}})
}

async fn try_script(host: &Host, trial: &Value) -> (u16, Value) {
    let reply = host.ask(Method::POST, TRY, trial.to_string()).await;
    (reply.status, reply.json)
}

#[tokio::test]
async fn a_script_is_judged_without_being_stored() {
    let host = Host::start().await;
    let source = "export function transform(event) {\n  console.log(config.region);\n  return replace({ id: event.entityId, before: history.previous()?.payload.eventData.id });\n}";
    let mut wanted = trial(source);
    wanted["config"] = json!({"region": "eu", "regoin": "us"});
    wanted["previous"] = serde_json::from_str(&event("Contact is Updated", 6)).unwrap();
    let (status, shown) = try_script(&host, &wanted).await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!((text(&shown, "verdict"), text(&shown, "body")), ("replace", r#"{"id":"7","before":6}"#), "{shown}");
    assert!(shown["log"][0].as_str().unwrap().ends_with("eu"), "{shown}");
    assert_eq!(shown["unread_config"], json!(["regoin"]), "{shown}");
    assert!(shown["cost"]["cpu_us"].as_u64().unwrap() > 0 && shown["script_error"].is_null(), "{shown}");
    assert_eq!(host.get("./plugins").await, json!([]), "nothing is stored");
    // The sha256 is that of the version which an upload of this source would make.
    assert_eq!(upload(&host, "p", source).await.1["sha256"], shown["plugin_sha256"]);
}

#[tokio::test]
async fn errors_of_a_tried_script_have_their_position() {
    let host = Host::start().await;
    for (source, line, column, message) in [
        ("export function transform(event) {\n  return pass(;\n}", 2, 15, "SyntaxError"),
        ("const a = 1;\nnowhere.at;\nexport const transform = () => pass()", 2, 1, "nowhere is not defined"),
        (
            "export const transform = () =>\n  inner();\nfunction inner() {\n  throw new TypeError('no')\n}",
            4,
            13,
            "TypeError: no",
        ),
    ] {
        let (status, shown) = try_script(&host, &trial(source)).await;
        assert_eq!((status, text(&shown, "verdict")), (200, "fault"), "{source}: {shown}");
        assert_eq!(text(&shown["reason"], "code"), "plugin-script", "{shown}");
        let error = &shown["script_error"];
        assert!(text(error, "message").contains(message), "{error}");
        assert_eq!((error["line"].as_u64(), error["column"].as_u64()), (Some(line), Some(column)), "{source}: {error}");
    }
}

#[tokio::test]
async fn a_trial_is_bounded_and_only_for_who_may_manage() {
    let host = Host::start().await;
    let (status, shown) = try_script(&host, &trial("export const transform = () => { for (;;); }")).await;
    assert_eq!((status, text(&shown["reason"], "code")), (200, "plugin-timeout"), "{shown}");
    let large = format!("export const transform = () => pass() // {}", "x".repeat(1 << 20));
    for (source, part) in [(large.as_str(), "plugin-too-large"), (" \n", "plugin-empty")] {
        let (status, problem) = try_script(&host, &trial(source)).await;
        assert_eq!(status, 422, "{problem}");
        assert!(text(&problem, "type").ends_with(part), "{problem}");
    }
    let mut wanted = trial("export const transform = () => pass()");
    wanted["limits"] = json!({"cpu_ms": 3_600_000});
    let (status, problem) = try_script(&host, &wanted).await;
    assert_eq!((status, text(&problem["errors"][0], "pointer")), (422, "/limits"), "{problem}");
    wanted["limits"] = json!({});
    wanted["event"] = json!({"eventName": "Nobody knows it", "eventData": {}});
    assert_eq!(try_script(&host, &wanted).await.0, 422);
    let reader = text(&host.post("./keys", &json!({"scopes": ["read"], "label": "r"})).await, "key").to_owned();
    let refused = host.ask_as(&reader, Method::POST, "/v1/tenants/default/scripts/try", wanted.to_string()).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
}

#[tokio::test]
async fn the_editor_works_without_scripts() {
    let host = Host::start().await;
    let id = host.send(event("Contact is Updated", 41)).await;
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see("/t/default/scripts").await;
    assert!(page.contains("export function transform(event)") && page.contains(&id), "{page}");
    let source = "\nexport function transform(event) {\r\n  return replace({ id: event.payload.eventData.id });\r\n}";
    let fields = [("do", "try"), ("pick", id.as_str()), ("source", source)];
    let tried = visitor.follow("/t/default/scripts", &fields).await;
    assert!(tried.contains("<h3>replace</h3>") && tried.contains("&#34;id&#34;: 41"), "{tried}");
    let broken = [("do", "try"), ("pick", "sample:Deal"), ("source", "export function transform() {\n  return oh\n}")];
    let faulty = visitor.follow("/t/default/scripts", &broken).await;
    assert!(faulty.contains("Line 2, column 10:") && faulty.contains("oh"), "{faulty}");
    assert!(faulty.contains("return oh"), "the script is still there");
    // Without a name, nothing is lost.
    let unnamed = visitor.post("/t/default/scripts", &[("do", "save"), ("source", source)]).await;
    assert_eq!(unnamed.status, 422, "{}", unnamed.text);
    assert!(unnamed.text.contains("event.payload.eventData.id"), "{}", unnamed.text);
    let saved = visitor.follow("/t/default/scripts", &[("do", "save"), ("name", "ids"), ("source", source)]).await;
    assert!(saved.contains("The script is the active version."), "{saved}");
    // A further version is added, and the active one stays.
    let page = visitor.see("/t/default/scripts/ids").await;
    assert!(page.contains("Script of ids") && page.contains("event.payload.eventData.id"), "{page}");
    let other = "export const transform = () => pass()";
    let fields = [("do", "save"), ("plugin", "ids"), ("how", "add"), ("source", other)];
    let added = visitor.follow("/t/default/scripts", &fields).await;
    assert!(added.contains("The script is a new version."), "{added}");
    let versions = host.get("./plugins/ids/versions").await;
    assert_eq!(versions.as_array().unwrap().len(), 2);
    let fields = [("do", "save"), ("plugin", "ids"), ("how", "gate"), ("source", other)];
    assert!(visitor.follow("/t/default/scripts", &fields).await.contains("The script is the active version."));
    let fails =
        [("do", "save"), ("plugin", "ids"), ("how", "gate"), ("source", "export const transform = () => nothing")];
    let refused = visitor.post("/t/default/scripts", &fails).await;
    assert_eq!(refused.status, 409, "the gate keeps it inactive: {}", refused.text);
    assert!(refused.text.contains("was kept but not activated"), "{}", refused.text);
}

#[tokio::test]
async fn only_scripts_are_edited() {
    let host = Host::start().await;
    host.plugin("component", guest("passes")).await;
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.get("/t/default/scripts/component").await;
    assert_eq!(page.status, 404, "{}", page.text);
    assert!(page.text.contains("is a component, not a script"), "{}", page.text);
    assert_eq!(visitor.get("/t/default/scripts/nowhere").await.status, 404);
}

#[tokio::test]
async fn the_editors_file_is_sent_compressed_and_once() {
    let host = Host::start().await;
    let ask = async |header: (&str, &str)| {
        exchange(client().get(format!("{}/assets/editor.js", host.url)).header(header.0, header.1)).await.unwrap()
    };
    let plain = ask(("accept-encoding", "identity")).await;
    assert_eq!(plain.status, 200);
    assert!(plain.text.contains("Marijn Haverbeke"), "licences are part of it");
    assert!(plain.headers.get("content-encoding").is_none());
    let packed = ask(("accept-encoding", "gzip")).await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    let tag = packed.headers["etag"].to_str().unwrap();
    assert_eq!(ask(("if-none-match", tag)).await.status, 304);
}

async fn sign_in(browser: &Browser, host: &Host) {
    let link = host.post("/v1/sign-in-links", &json!({})).await;
    browser.open(text(&link, "path")).await;
    browser.click("button.primary").await;
    browser.wait("nav [aria-current=page]").await;
}

/// Replaces the text of the editor by keys.
async fn write(browser: &Browser, source: &str) {
    let editor = browser.wait(".cm-content").await;
    editor.click().await.unwrap();
    editor.send_keys(&format!("{}a{}", char::from(Key::Control), char::from(Key::Null))).await.unwrap();
    editor.send_keys(source).await.unwrap();
}

/// Collects what the policy of the page refuses from now on, in `window.refused`.
async fn watch_refusals(browser: &Browser) {
    // Where keys replace several lines, the browser itself puts style attributes into the lines, which the policy refuses.
    let refused = "window.refused = []; addEventListener('securitypolicyviolation', (event) => {
        const isBrowsers = event.effectiveDirective === 'style-src-attr' && event.target.closest?.('.cm-content');
        if (!isBrowsers) refused.push(`${event.effectiveDirective} ${event.blockedURI}`);
    })";
    browser.script(refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_writes_a_script() {
    let host = Host::start().await;
    for number in 0..5 {
        host.send(event("Contact is Updated", number)).await;
    }
    let deal = json!({"id": 9, "name": "plane", "milestone": "Won", "expected_value": 5_000});
    host.send(json!({"eventName": "Opportunity is Updated", "eventData": deal}).to_string()).await;
    let browser = Browser::desktop(&host).await;
    sign_in(&browser, &host).await;
    browser.open("/t/default/plugins").await;
    browser.click("a[href$='/scripts']").await;
    // The script to begin with is judged at once, on the newest event.
    browser.wait_for_text("#result", "plane: Won").await;
    browser.look("script-new").await;
    watch_refusals(&browser).await;
    assert_eq!(browser.script("return getComputedStyle(document.querySelector('.cm-scroller')).display").await, "flex");

    browser.click("input[value='sample:Contact']").await;
    browser.wait_for_text("#result", "It passes unchanged.").await;
    write(&browser, "export function transform(event) { return drop(\"typed\"").await;
    browser.wait_for_text("#result h3", "Drop").await;
    browser.wait_for_text("#result", "typed").await;
    write(&browser, "export function transform(event) {\nreturn event.nothing.here").await;
    browser.wait(".cm-lint-marker-error").await;
    browser.wait_for_text("#result .script-error", "Line 2, column").await;
    let mark = "return getComputedStyle(document.querySelector('.cm-lint-marker-error')).backgroundColor";
    assert_eq!(browser.script(mark).await, "rgb(168, 21, 43)", "the mark is visible");
    browser.wait_for_text("#judged", "cannot read property 'here' of undefined").await;
    assert_eq!(browser.script("return window.refused").await, json!([]));
    browser.look("script-error").await;
    // axe-core sets style attributes.
    browser.script("window.refused = []").await;

    // Tab indents; after Escape it leaves.
    let is_inside = async || browser.script("return document.activeElement.classList.contains('cm-content')").await;
    browser.press(Key::Tab).await;
    assert_eq!(is_inside().await, json!(true));
    browser.press(Key::Escape).await;
    browser.press(Key::Tab).await;
    assert_eq!(is_inside().await, json!(false));

    write(&browser, "export const transform = (event) => replace({ id: event.entityId }").await;
    browser.wait_for_text("#result h3", "Replace").await;
    assert_eq!(browser.script("return window.refused").await, json!([]));
    browser.fill("#name", "typed").await;
    browser.click("button[value=save]").await;
    browser.until_at("/t/default/plugins/typed").await;
    browser.wait_for_text(".flash", "The script is the active version.").await;
    browser.click("a[href$='/scripts/typed']").await;
    browser.wait_for_text("#result h3", "Replace").await;
    browser.wait_for_text(".cm-content", "event.entityId").await;
    browser.look("script-of-a-plugin").await;
    browser.close().await;
    on_a_phone(&host).await;
}

/// Looks at the three parts below each other, dark.
async fn on_a_phone(host: &Host) {
    let phone = Browser::phone_in_the_dark(host).await;
    sign_in(&phone, host).await;
    phone.open("/t/default/scripts").await;
    phone.wait_for_text("#result", "plane: Won").await;
    phone.look("script-new").await;
    phone.script("document.querySelector('#result').scrollIntoView()").await;
    phone.look("script-new-result").await;
    phone.close().await;
}

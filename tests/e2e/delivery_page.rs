//! Page of one delivery: its body as it was sent, a comparison in one column or two, and its request as a command of curl.

use crate::browser::sign_in;
use crate::harness::{Browser, Host, Receiver, Visitor, event, example, guest, text, until};
use reqwest::Method;
use serde_json::json;
use std::process::Command;

/// Returns the text of the command of a page.
#[track_caller]
fn command(page: &str) -> String {
    let (_, part) = page.split_once("id=\"curl\"").unwrap_or_else(|| panic!("no command in {page}"));
    let inner = part.split_once("<pre tabindex=\"0\">").unwrap().1.split("</pre>").next().unwrap();
    inner.replace("&#34;", "\"").replace("&#39;", "'").replace("&#60;", "<").replace("&#62;", ">").replace("&#38;", "&")
}

#[tokio::test]
async fn a_command_sends_the_same_request_again() {
    let host = Host::start().await;
    let bin = text(&host.post("./bins", &json!({})).await, "id").to_owned();
    let url = format!("{}/bins/{bin}/in?key=hunter2", host.url);
    let also = json!({"headers": {"x-key": "{{secret:KEY}}"}, "secrets": {"KEY": "hunter3"}});
    host.subscription(&url, also).await;
    let body = r#"{"eventName": "Contact is Created", "eventData": {"id": 7, "name": "O'Hara $HOME `id` \"x\" \\"}}"#;
    let sent = host.send(body).await;
    let delivery = host.ended(&sent).await;
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see(&format!("/t/default/deliveries/{}", text(&delivery, "id"))).await;
    assert!(page.contains("Attempt 1 sent this body: it is made again from the event"), "{page}");
    assert!(page.contains("Add the values of these headers: x-key.") && !page.contains("hunter"), "{page}");
    let command = command(&page);
    assert!(command.contains("-H 'webhook-signature: v1,") && !command.contains("does not fit"), "{command}");

    let output = Command::new("bash").args(["-c", &command]).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    let requests = host.get(&format!("./bins/{bin}/requests")).await;
    let [second, first] = [0, 1].map(|index| &requests["requests"][index]);
    assert_eq!((&second["body"], &second["method"]), (&first["body"], &json!("POST")));
    assert_eq!(text(first, "body"), body);
    fn signature(request: &serde_json::Value) -> serde_json::Value {
        let headers = request["headers"].as_array().unwrap().clone();
        headers.into_iter().find(|header| header[0] == "webhook-signature").unwrap()
    }
    assert_eq!(signature(second), signature(first));
}

#[tokio::test]
async fn a_body_of_another_version_is_not_taken_for_the_one_that_was_sent() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", example("flatten")).await;
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let sent = host.send(event("Contact is Created", 1)).await;
    let delivery = host.ended(&sent).await;
    let path = format!("/t/default/deliveries/{}", text(&delivery, "id"));
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see(&path).await;
    assert!(page.contains("Attempt 1 sent this body") && page.contains("<span class=\"del\">"), "{page}");
    let split = visitor.see(&format!("{path}?view=split")).await;
    assert!(split.contains("<div class=\"sides\"") && split.contains("<code class=\"add\">"), "{split}");
    assert!(split.contains("?view=split#body\" aria-current=\"true\""), "{split}");
    host.ask(Method::PUT, "./plugins/p?activate=true", guest("passes")).await.ok();
    let page = visitor.see(&path).await;
    assert!(page.contains("Attempt 1 sent another body, of which only the sha256 is kept"), "{page}");
    assert!(page.contains("The signature is that of the body that was sent, and does not fit this one."), "{page}");
}

#[tokio::test]
async fn a_fault_is_told_once_at_its_attempt() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("p", guest("traps")).await;
    host.subscription(&receiver.url, json!({"plugin": "p"})).await;
    let sent = host.send(event("Contact is Created", 1)).await;
    let delivery = host.attempted(&sent).await;
    let fault = text(&delivery["attempts"][0]["reason"], "message").to_owned();
    let page = Visitor::admin(&host).await.see(&format!("/t/default/deliveries/{}", text(&delivery, "id"))).await;
    let (before, timeline) = page.split_once("<h2>Timeline</h2>").unwrap();
    let timeline = timeline.split("id=\"body\"").next().unwrap();
    let first_line = fault.lines().next().unwrap();
    let escaped = first_line.replace('&', "&#38;").replace('<', "&#60;").replace('"', "&#34;").replace('\'', "&#39;");
    assert_eq!(timeline.matches(&escaped).count(), 1, "{escaped}: {timeline}");
    assert!(before.matches(&escaped).count() <= 1, "{escaped}: {before}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_is_for_everybody_on_every_screen() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("flatten", example("flatten")).await;
    host.subscription(&receiver.url, json!({"plugin": "flatten", "description": "Mine"})).await;
    let sent = host.send(event("Contact is Created", 1)).await;
    let delivery = host.ended(&sent).await;
    let path = format!("/t/default/deliveries/{}", text(&delivery, "id"));
    for browser in [Browser::desktop(&host).await, Browser::phone_in_the_dark(&host).await] {
        sign_in(&browser, &host).await;
        browser.open(&path).await;
        browser.click("a[href='?view=split#body']").await;
        browser.wait(".split .sides").await;
        browser.script("document.querySelectorAll('details').forEach((one) => { one.open = true; })").await;
        browser.look("delivery-side-by-side").await;
        browser.click("a[href='?view=unified#body']").await;
        until("one column", async || {
            browser.script("return document.querySelector('.split')").await.is_null().then_some(())
        })
        .await;
        browser.close().await;
    }
}

//! Pages that lead from one step to the next, without scripts: sample events, a bin as receiver, a script for a webhook.

use crate::harness::{Host, Receiver, Visitor, text};
use serde_json::{Value, json};

const WEBHOOKS: &str = "/t/default/webhooks";

#[tokio::test]
async fn a_sample_is_an_event_like_others() {
    let host = Host::start().await;
    let mut visitor = Visitor::admin(&host).await;
    let overview = visitor.see("/t/default").await;
    assert!(overview.contains("First steps") && overview.contains("Create an address"), "{overview}");
    for name in ["Contact is Created", "Contact is Updated", "Opportunity is Created", "Opportunity is Updated"] {
        let page = visitor.follow("/t/default/samples", &[("event", name)]).await;
        assert!(page.contains(&format!("<h1>{name}</h1>")) && page.contains("There was no webhook yet."), "{page}");
    }
    assert_eq!(host.get("./events").await["events"].as_array().map_or(0, Vec::len), 4);
    assert_eq!(visitor.post("/t/default/samples", &[("event", "Contact is Deleted")]).await.status, 404);
    // The first delivery ends the first steps.
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({})).await;
    assert!(visitor.see("/t/default").await.contains("First steps"));
    let sent = visitor.post("/t/default/samples", &[("event", "Contact is Created")]).await;
    host.ended(sent.location.rsplit('/').next().unwrap()).await;
    assert!(!visitor.see("/t/default").await.contains("First steps"));
}

#[tokio::test]
async fn a_bin_receives_for_a_webhook_that_is_not_saved_yet() {
    let host = Host::start().await;
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see(&format!("{WEBHOOKS}/new?module=Deal")).await;
    assert!(page.contains("value=\"Deal\" checked") && !page.contains("value=\"Contact\" checked"), "{page}");
    let wanted = [("modules", "Deal"), ("description", "Mine"), ("receive", "here")];
    for _ in 0..2 {
        let filled = visitor.post(WEBHOOKS, &wanted).await;
        assert!(filled.status == 200 && filled.text.contains("/bins/"), "{}", filled.text);
        assert!(filled.text.contains("value=\"Mine\"") && filled.text.contains("value=\"Deal\" checked"));
        let bins = host.get("./bins").await;
        assert_eq!(bins.as_array().map(Vec::len), Some(1), "a reload makes no other bin: {bins}");
    }
    assert_eq!(host.get("./subscriptions").await, json!([]));
    let url = format!("{}/bins/{}/", host.url, text(&host.get("./bins").await[0], "id"));
    let id = host.subscription(&url, json!({"modules": ["Deal"]})).await;
    visitor.post(WEBHOOKS, &wanted).await;
    assert_eq!(host.get("./bins").await.as_array().map(Vec::len), Some(2), "the first one is in use");

    let sent = visitor.post("/t/default/samples", &[("event", "Opportunity is Created")]).await;
    let delivery = host.ended(sent.location.rsplit('/').next().unwrap()).await;
    assert_eq!(text(&delivery, "state"), "delivered", "{delivery}");
    let page = visitor.see(&format!("/t/default/deliveries/{}", text(&delivery, "id"))).await;
    assert!(page.contains("What the receiver got"), "{page}");
    assert!(visitor.see(&format!("{WEBHOOKS}/{id}")).await.contains("Its receiver is a bin"));
}

#[tokio::test]
async fn a_script_for_a_webhook_returns_to_its_form() {
    let host = Host::start().await;
    let config = json!({"modules": ["Deal"], "config": {"region": "eu"}});
    let id = host.subscription("http://127.0.0.1:9999/", config).await;
    let mut visitor = Visitor::admin(&host).await;
    let editor = visitor.see(&format!("/t/default/scripts?webhook={id}")).await;
    assert!(
        editor.contains(&format!("name=\"webhook\" value=\"{id}\"")) && editor.contains("value=\"script\""),
        "{editor}"
    );
    let source = "export const transform = () => pass()";
    let fields = [("do", "save"), ("name", "script"), ("webhook", id.as_str()), ("source", source)];
    let saved = visitor.post("/t/default/scripts", &fields).await;
    assert_eq!(saved.location, format!("{WEBHOOKS}/{id}?plugin=script"));
    let page = visitor.see(&saved.location).await;
    assert!(page.contains("Save with script") && page.contains("region = eu"), "{page}");
    let kept = host.get(&format!("./subscriptions/{id}")).await;
    assert_eq!(kept["plugin"], Value::Null, "nothing is saved yet");
    for (plugin, part) in [("nowhere", "id=\"added\""), ("<b>", "<b>")] {
        assert!(!visitor.see(&format!("{WEBHOOKS}/{id}?plugin={plugin}")).await.contains(part), "{plugin}");
    }
    // The next script has another name, and a plugin offers the webhooks that do not use it.
    assert!(visitor.see("/t/default/scripts").await.contains("value=\"script-2\""));
    assert!(visitor.see("/t/default/plugins/script").await.contains(&format!("/webhooks/{id}?plugin=script")));
    let added = visitor.see(&format!("{WEBHOOKS}/new?plugin=script")).await;
    assert!(added.contains("name=\"plugin\" list=\"plugins\" value=\"script\""), "{added}");
}

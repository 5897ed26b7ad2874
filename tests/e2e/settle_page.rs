//! Settling in the form of a webhook.

use crate::harness::{Host, Receiver, Visitor, text};
use serde_json::{Value, json};

#[tokio::test]
async fn the_form_sets_changes_and_removes_settling() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/webhooks").await;
    let base = [("notify_url", receiver.url.as_str()), ("modules", "Contact")];
    let with = |times: &[(&'static str, &'static str)]| [&base[..], times].concat();

    let page = visitor.follow("/t/default/webhooks", &with(&[("quiet_s", "10"), ("max_wait_s", "60")])).await;
    let made = &host.get("./subscriptions").await[0];
    assert_eq!(made["settle"], json!({"quiet_s": 10, "max_wait_s": 60, "keep": "last"}));
    assert!(page.contains("until 10 s without another, at most 60 s"), "{page}");
    assert!(page.contains("name=\"quiet_s\" inputmode=\"numeric\" size=\"6\" value=\"10\""), "{page}");

    // Faults stand at the fields, and input is kept.
    let own = format!("/t/default/webhooks/{}", text(made, "id"));
    for (times, fault) in [
        ([("quiet_s", "ten"), ("max_wait_s", "60")], "the quiet time is a whole number of seconds"),
        ([("quiet_s", "20"), ("max_wait_s", "")], "the longest wait is a whole number of seconds"),
        ([("quiet_s", "20"), ("max_wait_s", "19")], "the longest wait is quiet_s to 86400 s"),
    ] {
        let refused = visitor.post(&own, &with(&times)).await;
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert!(refused.text.contains(&format!("id=\"settle-error\">{fault}")), "{fault}: {}", refused.text);
        assert!(refused.text.contains(&format!("value=\"{}\" aria-invalid=\"true\"", times[0].1)), "{}", refused.text);
    }

    // A form without the fields keeps the setting; blank fields remove it.
    visitor.follow(&own, &base).await;
    assert_eq!(host.get("./subscriptions").await[0]["settle"]["quiet_s"], 10);
    let page = visitor.follow(&own, &with(&[("quiet_s", " "), ("max_wait_s", "")])).await;
    assert_eq!(host.get("./subscriptions").await[0]["settle"], Value::Null);
    assert!(!page.contains("<dt>Settles</dt>"), "{page}");
}

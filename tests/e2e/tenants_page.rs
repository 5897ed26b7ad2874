//! Pages of tenants: usage against limits, search, the limits of one tenant, and its deletion after a count.

use crate::browser::sign_in;
use crate::harness::{Browser, Host, Visitor, event, guest, text, until};
use reqwest::Method;
use serde_json::json;

/// Returns a part of a page as text without tags. Spaces are single.
fn words(part: &str) -> String {
    let texts = part.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
    texts.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Creates a tenant with webhooks to nobody, two of them paused with what waits, and a plugin.
async fn acme(host: &Host) {
    host.post("/v1/tenants", &json!({"id": "acme"})).await;
    host.post("/v1/tenants/acme/keys", &json!({"scopes": ["send"]})).await;
    host.ask(Method::PUT, "/v1/tenants/acme/plugins/p", guest("passes")).await.ok();
    for number in 0..2 {
        let webhook = json!({"notify_url": "http://127.0.0.1:9999/", "modules": ["Contact"], "description": format!("W {number}")});
        let made = host.post("/v1/tenants/acme/subscriptions", &webhook).await;
        host.post(&format!("/v1/tenants/acme/subscriptions/{}/pause", text(&made, "id")), &json!({"reason": "lunch"}))
            .await;
    }
    for number in 0..3 {
        host.ask(Method::POST, "/v1/tenants/acme/events", event("Contact is Created", number)).await.ok();
    }
}

#[tokio::test]
async fn a_list_has_the_usage_of_each_tenant() {
    let host = Host::with().set("tenant_events_max=3").start().await;
    acme(&host).await;
    for number in 0..60 {
        host.post("/v1/tenants", &json!({"id": format!("t-{number:02}")})).await;
    }
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see("/tenants").await;
    let row = page.split("<tr>").find(|row| row.contains(">acme</a>")).unwrap().split("</tr>").next().unwrap();
    assert!(
        row.contains("<meter class=\"full\" aria-label=\"Events stored\" min=\"0\" max=\"3\" value=\"3\">"),
        "{row}"
    );
    let told = words(row);
    assert!(told.starts_with("acme 3 of 3 (100 %)") && told.contains("of 20.0 GiB (under 1 %) 2 1 6"), "{told}");
    assert_eq!(page.matches("class=\"button small danger\"").count(), 50, "a page of tenants");
    let next = page.split_once("rel=\"next\" href=\"").unwrap().1.split('"').next().unwrap();
    assert_eq!(visitor.see(&format!("/tenants{next}")).await.matches("class=\"button small danger\"").count(), 12);
    let found = visitor.see("/tenants?q=CM").await;
    assert!(found.contains(">acme</a>") && !found.contains(">t-01</a>"), "{found}");
    assert!(visitor.see("/tenants?q=nowhere").await.contains("No tenant matches"));
    let own = host.post("./keys", &json!({"scopes": ["manage"], "label": ""})).await;
    let mut tenant = Visitor::with_key(&host, text(&own, "key")).await;
    for path in ["/tenants", "/tenants/default", "/tenants/acme/delete"] {
        assert_eq!(tenant.get(path).await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn limits_of_a_tenant_are_changed_with_faults_at_their_fields() {
    let host = Host::start().await;
    acme(&host).await;
    let mut visitor = Visitor::admin(&host).await;
    assert_eq!(visitor.get("/tenants/nowhere").await.status, 404);
    let page = visitor.see("/tenants/acme").await;
    for part in [
        "Events stored",
        "tenant_events_max",
        "3 of ",
        "Webhooks",
        "2 of 10,000",
        "Plugins",
        "1 of 1,000",
        "are refused with 507",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let fields = [("cpu_ms", "0"), ("wall_ms", "soon"), ("deny", "203.0.113.0/24\nnowhere"), ("only", "")];
    let refused = visitor.post("/tenants/acme", &fields).await;
    assert_eq!(refused.status, 422);
    for part in [
        "id=\"limit-cpu_ms-error\">cpu_ms is 0, so no plugin could run<",
        "id=\"limit-wall_ms-error\">&#34;soon&#34; is not a whole number<",
        "id=\"deny-error\">&#34;nowhere&#34; is not a range",
        "value=\"soon\"",
    ] {
        assert!(refused.text.contains(part), "{part} is not in {}", refused.text);
    }
    assert_eq!(host.get("/v1/tenants/acme").await["limits_max"], json!({}), "nothing was changed");
    let fields = [("cpu_ms", "20"), ("memory_bytes", "1,048,576"), ("deny", "203.0.113.0/24\n192.0.2.1"), ("only", "")];
    let page = visitor.follow("/tenants/acme", &fields).await;
    assert!(page.contains("The limits were saved.") && page.contains("2 limits are lower"), "{page}");
    let now = host.get("/v1/tenants/acme").await;
    assert_eq!(now["limits_max"], json!({"cpu_ms": 20, "memory_bytes": 1_048_576}));
    assert_eq!(now["egress"], json!({"deny": ["203.0.113.0/24", "192.0.2.1/32"], "only": []}));
    visitor.see("/tenants/acme").await;
    visitor.follow("/tenants/acme", &[("cpu_ms", "20"), ("deny", ""), ("only", "")]).await;
    assert_eq!(host.get("/v1/tenants/acme").await["limits_max"], json!({"cpu_ms": 20}), "a blank one is the host's");
    *visitor.csrf() = "wrong".to_owned();
    assert_eq!(visitor.post("/tenants/acme", &[("cpu_ms", "10")]).await.status, 403);
    let log = words(&Visitor::admin(&host).await.see("/t/default/changes?of=host&kind=tenants").await);
    let saved = "changed the refused addresses, plugin limit cpu_ms and plugin limit memory_bytes of the tenant acme";
    assert!(log.contains(saved), "{log}");
}

#[tokio::test]
async fn a_tenant_is_deleted_after_a_count_and_by_its_name() {
    let host = Host::start().await;
    acme(&host).await;
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see("/tenants/acme/delete").await;
    assert!(page.contains("<strong>2 webhooks, 3 events, 6 pending deliveries, 1 key and 1 plugin</strong>"), "{page}");
    let told = words(&page);
    assert!(told.contains("Pending deliveries 6 They are not sent."), "{told}");
    for wrong in ["", "acne", "ACME"] {
        let refused = visitor.post("/tenants/acme/delete", &[("confirm", wrong)]).await;
        assert_eq!(refused.status, 422, "{wrong:?}");
        assert!(
            refused.text.contains("type acme to delete it") && refused.text.contains("6 pending deliveries"),
            "{}",
            refused.text
        );
    }
    assert_eq!(host.get("/v1/tenants").await.as_array().unwrap().len(), 2);
    let list = visitor.follow("/tenants/acme/delete", &[("confirm", "acme")]).await;
    assert!(list.contains("The tenant acme is being deleted.") && !list.contains(">acme</a>"), "{list}");
    until("the rest to be deleted", async || {
        (host.ask(Method::GET, "/v1/tenants/acme/deletion", "").await.status == 404).then_some(())
    })
    .await;
    let log = words(&visitor.see("/t/default/changes?of=host").await);
    assert!(log.contains("deleted the tenant acme with 2 webhooks and 3 events"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_for_everybody_on_every_screen() {
    let host = Host::with().set("tenant_events_max=4").start().await;
    acme(&host).await;
    for browser in [Browser::desktop(&host).await, Browser::phone_in_the_dark(&host).await] {
        sign_in(&browser, &host).await;
        browser.open("/tenants").await;
        browser.look("tenants").await;
        browser.open("/tenants/acme").await;
        browser.look("tenant").await;
        browser.fill("#limit-cpu_ms", "0").await;
        browser.click("form.card button.primary").await;
        browser.wait_for_text("#limit-cpu_ms-error", "no plugin could run").await;
        browser.script("document.querySelector('#limits').scrollIntoView()").await;
        browser.look("tenant-limits").await;
        browser.open("/tenants/acme/delete").await;
        browser.fill("#confirm", "acne").await;
        browser.click("button.danger.solid").await;
        browser.wait_for_text("#problem", "type acme").await;
        browser.look("tenant-deletion").await;
        browser.close().await;
    }
}

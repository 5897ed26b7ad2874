//! Bins: what they store, answer and show, and to whom.

use crate::harness::{Host, Receiver, SECRET, Visitor, event, example, text, until};
use reqwest::Method;
use serde_json::{Value, json};

async fn bin(host: &Host, settings: Value) -> String {
    text(&host.post("./bins", &settings).await, "id").to_owned()
}

async fn requests(host: &Host, bin: &str) -> Vec<Value> {
    host.get(&format!("./bins/{bin}/requests")).await["requests"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_bin_keeps_what_it_was_sent_within_its_bounds() {
    let host = Host::start().await;
    let id = bin(&host, json!({"requests_max": 2, "body_bytes_max": 4})).await;
    assert_eq!(id.len(), 22);
    for (method, path, body) in
        [(Method::POST, "", "gone"), (Method::PUT, "/a/b?c=d&c=e", "cut off"), (Method::DELETE, "/", "")]
    {
        let reply = host.ask_as("", method, &format!("/bins/{id}{path}"), body).await;
        assert_eq!((reply.status, reply.text.as_str()), (200, "ok"));
    }
    let kept = requests(&host, &id).await;
    let seen: Vec<_> = kept
        .iter()
        .map(|one| (text(one, "method"), text(one, "path"), text(one, "query"), text(one, "body")))
        .collect();
    assert_eq!(seen, [("DELETE", "/", "", ""), ("PUT", "/a/b", "c=d&c=e", "cut ")]);
    assert_eq!(
        (&kept[1]["bytes"], &kept[1]["truncated"], &kept[1]["remote"]),
        (&json!(7), &json!(true), &json!("127.0.0.1"))
    );
    let found = host.get(&format!("./bins/{id}/requests?search=C%3DD")).await;
    assert_eq!(found["requests"].as_array().unwrap().len(), 1);
    let exported = host.ask(Method::GET, &format!("./bins/{id}/export"), "").await;
    assert!(exported.headers["content-disposition"].to_str().unwrap().contains(".json"));
    assert_eq!(exported.json.as_array().unwrap().len(), 2);
    host.ask(Method::DELETE, &format!("./bins/{id}/requests/{}", text(&kept[0], "id")), "").await.ok();
    assert_eq!(requests(&host, &id).await.len(), 1);
    host.ask(Method::DELETE, &format!("./bins/{id}/requests"), "").await.ok();
    assert!(requests(&host, &id).await.is_empty());
    host.ask(Method::DELETE, &format!("./bins/{id}"), "").await.ok();
    assert_eq!(host.ask_as("", Method::POST, &format!("/bins/{id}"), "").await.status, 404);
}

#[tokio::test]
async fn a_bin_answers_by_its_settings_and_no_browser_runs_it() {
    let host = Host::start().await;
    let reply = json!({"statuses": [500, 500, 201], "body": "<script>", "headers": {"content-type": "text/html"}});
    let id = bin(&host, json!({"reply": reply})).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = host.ask_as("", Method::POST, &format!("/bins/{id}/"), "").await;
        assert_eq!(
            (answer.text.as_str(), answer.headers["content-security-policy"].to_str().unwrap()),
            ("<script>", "sandbox; default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
        );
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [500, 500, 201, 500]);
    let slow = bin(&host, json!({"reply": {"delay_ms": 300}})).await;
    let begun = std::time::Instant::now();
    host.ask_as("", Method::GET, &format!("/bins/{slow}"), "").await;
    assert!(begun.elapsed().as_millis() >= 300);
    let headers = json!({"Clear-Site-Data": "\"cookies\"", "content-type": "text/plain"});
    let settings = json!({"ttl_s": 1, "reply": {"statuses": [], "headers": headers}});
    let refused = host.ask(Method::POST, "./bins", settings.to_string()).await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json["errors"].as_array().unwrap().len(), 3, "{}", refused.text);
}

#[tokio::test]
async fn a_bin_shows_no_session_and_marks_incomplete_bodies() {
    let host = Host::start().await;
    let id = bin(&host, json!({})).await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.get(&format!("/bins/{id}/")).await;
    assert!(!requests(&host, &id).await[0].to_string().contains("hls_"), "the pages' cookie went into a bin");
    // Half of a body, and nothing more.
    let address = host.url.strip_prefix("http://").unwrap();
    let mut sender = tokio::net::TcpStream::connect(address).await.unwrap();
    let half = format!("POST /bins/{id}/ HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf");
    tokio::io::AsyncWriteExt::write_all(&mut sender, half.as_bytes()).await.unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut sender).await.unwrap();
    let came = until("the half", || async {
        let came = requests(&host, &id).await;
        (came.len() == 2).then(|| came[0].clone())
    })
    .await;
    assert_eq!((text(&came, "body"), &came["truncated"], &came["bytes"]), ("half", &json!(true), &json!(4)));
}

#[tokio::test]
async fn a_bin_holds_no_more_than_sixteen_mebibytes() {
    let host = Host::start().await;
    let id = bin(&host, json!({"body_bytes_max": 4 << 20, "requests_max": 1_000})).await;
    for _ in 0..6 {
        host.ask_as("", Method::POST, &format!("/bins/{id}/"), vec![b'x'; 4 << 20]).await;
    }
    assert_eq!(requests(&host, &id).await.len(), 3, "the oldest went");
}

#[tokio::test]
async fn a_bin_is_private_and_shows_a_delivery_before_and_after_its_plugin() {
    let host = Host::start().await;
    host.plugin("flatten", example("flatten")).await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/bins").await;
    let page = visitor.post("/t/default/bins", &[("name", "mine")]).await;
    let id = page.location.rsplit('/').next().unwrap().to_owned();
    let subscribed = visitor.post(&format!("/t/default/bins/{id}/subscribe"), &[]).await;
    let subscription = subscribed.location.rsplit('/').next().unwrap().to_owned();
    let mut settings = host.get(&format!("./subscriptions/{subscription}")).await;
    settings["plugin"] = json!("flatten");
    let write = json!({"notify_url": settings["notify_url"], "modules": settings["modules"], "plugin": "flatten"});
    host.ask(Method::PUT, &format!("./subscriptions/{subscription}"), write.to_string()).await.ok();
    let rotation = json!({"signing_secret": SECRET, "overlap_s": 0});
    host.post(&format!("./subscriptions/{subscription}/rotate-secret"), &rotation).await;
    let event = host.send(event("Contact is Created", 1)).await;
    assert_eq!(text(&host.ended(&event).await, "state"), "delivered");
    let received = requests(&host, &id).await;
    let path = format!("/t/default/bins/{id}/{}", text(&received[0], "id"));
    let page = visitor.see(&path).await;
    for part in [
        "Before and after the plugin",
        "<dd>verified with the webhook",
        "class=\"del\"",
        "class=\"add\"",
        "at attempt 1",
        "curl --globoff",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    // The same headers with another body do not verify, and another request is recognised as such.
    let headers = received[0]["headers"].as_array().unwrap();
    let header = |name: &str| headers.iter().find(|pair| pair[0] == name).unwrap()[1].as_str().unwrap().to_owned();
    let forged = crate::harness::client()
        .post(format!("{}/bins/{id}/", host.url))
        .header("webhook-id", header("webhook-id"))
        .header("webhook-timestamp", header("webhook-timestamp"))
        .header("webhook-signature", header("webhook-signature"))
        .body("forged");
    forged.send().await.unwrap();
    let newest = requests(&host, &id).await;
    assert!(
        visitor
            .see(&format!("/t/default/bins/{id}/{}", text(&newest[0], "id")))
            .await
            .contains("NOT verified with the webhook")
    );
    // After a replay, the signature still verifies: body, id and time are the same.
    let receiver = Receiver::start().await;
    let again = visitor.follow(&format!("{path}/replay"), &[("url", &receiver.url)]).await;
    assert!(again.contains("It answered 200"), "{again}");
    assert_eq!(receiver.expect(1).await[0]["verified"], true);
    let refused = visitor.follow(&format!("{path}/replay"), &[("url", "http://10.0.0.1/")]).await;
    assert!(refused.contains("No answer: "), "the address guard: {refused}");
    host.post("/v1/tenants", &json!({"id": "other"})).await;
    assert_eq!(host.ask(Method::GET, &format!("/v1/tenants/other/bins/{id}/requests"), "").await.status, 404);
}

#[tokio::test]
async fn a_row_has_event_status_type_and_signature() {
    let host = Host::start().await;
    let reply = json!({"statuses": [500, 201]});
    let id = bin(&host, json!({"reply": reply})).await;
    host.plugin("flatten", example("flatten")).await;
    let url = format!("{}/bins/{id}/in", host.url);
    host.subscription(&url, json!({"plugin": "flatten", "retry": {"schedule_s": [0, 0]}})).await;
    host.ended(&host.send(event("Contact is Created", 57)).await).await;
    let rows = rows_of(&host, &id).await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    for (row, status) in rows.iter().zip(["201", "500"]) {
        // The event is found by its id: the body is not an event any more.
        for part in ["Contact is Created", "Contact 57", &format!(">{status}</span>"), "application/json", ">verified<"]
        {
            assert!(row.contains(part), "{part} is not in {row}");
        }
    }
    let kept = requests(&host, &id).await;
    assert_eq!((&kept[0]["answered"], &kept[1]["answered"]), (&json!(201), &json!(500)));
    let page = Visitor::admin(&host).await.see(&format!("/t/default/bins/{id}/{}", text(&kept[0], "id"))).await;
    assert!(page.contains("/t/default/events/") && page.contains("<dt>Type</dt><dd>application/json"), "{page}");
    assert!(page.contains("<dt>Answered</dt><dd><span class=\"state ok\">201</span>"), "{page}");

    // A request of somebody else, one with a signature that does not fit, and one that is too long.
    host.ask_as("", Method::POST, &format!("/bins/{id}/"), event("Opportunity is Updated", 9)).await;
    let own = &kept[0]["headers"];
    let mut forged = crate::harness::client().post(&url).body("forged");
    for pair in own.as_array().unwrap().iter().filter(|pair| pair[0].as_str() != Some("content-length")) {
        if ["webhook-id", "webhook-timestamp", "webhook-signature", "hookloom-event-id"]
            .contains(&pair[0].as_str().unwrap())
        {
            forged = forged.header(pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        }
    }
    forged.send().await.unwrap();
    let rows = rows_of(&host, &id).await;
    assert!(rows[0].contains(">not verified<") && rows[0].contains("Contact 57"), "{}", rows[0]);
    assert!(rows[1].contains("Opportunity is Updated") && rows[1].contains("Deal 9"), "{}", rows[1]);
    assert!(!rows[1].contains("verified"), "{}", rows[1]);
}

/// Returns the rows of a bin's page.
async fn rows_of(host: &Host, bin: &str) -> Vec<String> {
    let page = Visitor::admin(host).await.see(&format!("/t/default/bins/{bin}")).await;
    let (_, table) = page.split_once("<tbody>").unwrap();
    let table = table.split("</tbody>").next().unwrap();
    table.split("<tr>").skip(1).map(str::to_owned).collect()
}

#[tokio::test]
async fn no_page_leads_to_a_bin_of_another_tenant() {
    let host = Host::start().await;
    let id = bin(&host, json!({})).await;
    host.post("/v1/tenants", &json!({"id": "other"})).await;
    let webhook = json!({"notify_url": format!("{}/bins/{id}/", host.url), "modules": ["Contact"]});
    let foreign = host.post("/v1/tenants/other/subscriptions", &webhook).await;
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see(&format!("/t/other/webhooks/{}", text(&foreign, "id"))).await;
    assert!(page.contains(&id) && !page.contains("Its receiver is a bin"), "{page}");
}

#[tokio::test]
async fn a_bin_does_not_speak_for_the_host() {
    let host = Host::start().await;
    for name in
        ["WWW-Authenticate", "Accept-CH", "Set-Cookie", "Link", "Access-Control-Allow-Origin", "X-Accel-Redirect"]
    {
        let headers = json!({name: "x", "retry-after": "7"});
        let refused = host.ask(Method::POST, "./bins", json!({"reply": {"headers": headers}}).to_string()).await;
        assert!(refused.status == 422 && refused.text.contains(name), "{}", refused.text);
    }
    let headers = json!({"retry-after": "7", "X-Bin-Test": "yes", "content-type": "text/javascript"});
    let id = bin(&host, json!({"reply": {"headers": headers, "statuses": [401]}})).await;
    let answer = host.ask_as("", Method::GET, &format!("/bins/{id}/a.js"), "").await;
    let names: Vec<&str> = answer.headers.keys().map(http::HeaderName::as_str).collect();
    for name in &names {
        let expected = [
            "cache-control",
            "content-length",
            "content-security-policy",
            "content-type",
            "date",
            "retry-after",
            "x-bin-test",
            "x-content-type-options",
            "x-request-id",
        ];
        assert!(expected.contains(name), "{name} of {names:?}");
    }
    assert!(answer.status == 401 && answer.headers["x-bin-test"] == "yes", "{answer:?}");
}

//! Event types: the list with its counts, those of a tenant's own by REST and on the page, and what intake accepts because of them.

use crate::harness::{ADMIN_KEY, Host, Receiver, Reply, Visitor, event, text};
use reqwest::Method;
use serde_json::{Value, json};

const NAME: &str = "Ticket is Created";
const PATH: &str = "./event-types/Ticket%20is%20Created";

async fn put(host: &Host, path: &str, body: &Value) -> Reply {
    host.ask(Method::PUT, path, body.to_string()).await
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| text(one, "name")).collect()
}

#[tokio::test]
async fn events_of_an_own_type_are_accepted_from_then_on_and_counted() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({"modules": ["Deal"]})).await;
    assert_eq!(host.ask(Method::POST, "./events", event(NAME, 1)).await.status, 422);

    let schema = json!({"type": "object", "properties": {"id": {"type": "integer"}}});
    let body = json!({"module": "Deal", "description": "A ticket was opened.", "schema": schema});
    let made = put(&host, PATH, &body).await.ok();
    assert_eq!((text(&made, "name"), text(&made, "origin"), &made["schema"]), (NAME, "custom", &schema));
    host.send(event(NAME, 1)).await;
    host.send(event(NAME, 2)).await;
    host.send(event("Contact is Created", 3)).await;
    receiver.expect(2).await;

    let all = host.get("./event-types").await;
    let expected = [
        "Contact is Created",
        "Contact is Updated",
        "Incident is Closed",
        "Incident is Opened",
        "Opportunity is Created",
        "Opportunity is Updated",
        "Subscription is Disabled",
        "Subscription is Paused",
        NAME,
    ];
    assert_eq!(names(&all), expected);
    let counts: Vec<u64> = all.as_array().unwrap().iter().map(|one| one["recent_events"].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 0, 0, 0, 0, 0, 0, 0, 2]);
    assert!(all[0]["last_received_at_ms"].as_i64() > Some(0) && all[1]["last_received_at_ms"].is_null(), "{all}");

    // The answer of GET can be edited and sent back.
    let mut read = host.get(PATH).await;
    assert_eq!(read["recent_events"], 2);
    read["description"] = json!("A support ticket was opened.");
    let changed = put(&host, PATH, &read).await.ok();
    assert_eq!(text(&changed, "description"), "A support ticket was opened.");

    assert_eq!(host.ask(Method::DELETE, PATH, "").await.status, 204);
    assert_eq!(host.ask(Method::DELETE, PATH, "").await.status, 404);
    assert_eq!(host.ask(Method::GET, PATH, "").await.status, 404);
    assert_eq!(host.ask(Method::POST, "./events", event(NAME, 4)).await.status, 422);
    let kept = host.get("./events?name=Ticket%20is%20Created").await;
    assert_eq!(kept["events"].as_array().unwrap().len(), 2, "accepted events stay");
    host.ledger().await;
}

#[tokio::test]
async fn an_event_type_that_does_not_fit_is_refused_with_its_position() {
    let host = Host::start().await;
    let module = json!({"module": "Deal"});
    let long = format!("./event-types/{}", "x".repeat(201));
    let cases = [
        ("./event-types/Contact%20is%20Created", module.clone(), "", "an event name of Agile CRM"),
        ("./event-types/Subscription%20is%20Paused", module.clone(), "", "an event name of the host"),
        ("./event-types/a%0Ab", module.clone(), "", "without control characters"),
        (&long, module.clone(), "", "1 to 200 bytes"),
        (PATH, json!({"module": "Subscription"}), "/module", "made by the host only"),
        (PATH, json!({"module": "Deal", "description": "x".repeat(1_001)}), "/description", "at most 1000 bytes"),
        (PATH, json!({"module": "Deal", "schema": {"x": "x".repeat(300_000)}}), "", "at most 256 KiB"),
    ];
    for (path, body, pointer, detail) in cases {
        let refused = put(&host, path, &body).await;
        assert_eq!(refused.status, 422, "{path}: {}", refused.text);
        let fault = &refused.json["errors"][0];
        assert_eq!(text(fault, "pointer"), pointer, "{path}");
        assert!(text(fault, "detail").contains(detail), "{path}: {}", refused.text);
    }
    for body in [json!({}), json!({"module": "Lead"}), json!({"module": "Deal", "schema": true})] {
        assert_eq!(put(&host, PATH, &body).await.status, 422, "{body}");
    }
    let renamed = put(&host, PATH, &json!({"module": "Deal", "name": "Another"})).await;
    assert!(renamed.status == 422 && renamed.text.contains("it is not the name in the path"), "{}", renamed.text);
    let both = json!({"event_types": {"Fits": {"module": "Deal"}, "a/b": {"module": "Subscription"}}});
    let refused = host.ask(Method::PATCH, "/v1/tenants/default", both.to_string()).await;
    assert_eq!(text(&refused.json["errors"][0], "pointer"), "/event_types/a~1b/module", "{}", refused.text);
    assert_eq!(names(&host.get("./event-types").await).len(), 8, "nothing was changed");
}

#[tokio::test]
async fn a_tenants_managers_keep_their_own_event_types() {
    let host = Host::start().await;
    let manager = text(&host.post("./keys", &json!({"scopes": ["manage"]})).await, "key").to_owned();
    let reader = text(&host.post("./keys", &json!({"scopes": ["read"]})).await, "key").to_owned();
    let body = json!({"module": "Deal"}).to_string();
    assert_eq!(host.ask_as(&manager, Method::PUT, PATH, body.clone()).await.status, 200);
    assert_eq!(host.ask_as(&reader, Method::PUT, PATH, body).await.status, 403);
    assert_eq!(host.ask_as(&reader, Method::GET, "./event-types", "").await.status, 200);
    let changes = host.get("/v1/changes").await;
    let first = &changes["changes"][0];
    assert_eq!(text(first, "action"), "tenant.update", "{changes}");
    assert_eq!(first["after"]["event_types"], json!({"Ticket is Created": {"module": "Deal"}}));
}

#[tokio::test]
async fn the_page_adds_describes_and_removes() {
    let host = Host::start().await;
    let mut visitor = Visitor::new(&host);
    visitor.post("/sign-in", &[("key", ADMIN_KEY)]).await;
    let page = "/t/default/event-types";
    assert!(visitor.see(page).await.contains("Opportunity is Updated"));
    let fields =
        [("name", NAME), ("module", "Deal"), ("description", "A <b>ticket</b>"), ("schema", "{\"type\": \"object\"}")];
    let added = visitor.post(page, &fields).await;
    assert_eq!((added.status, added.location.as_str()), (303, page));
    let shown = visitor.see(page).await;
    assert!(
        shown.contains("A &#60;b&#62;ticket") && shown.contains("Remove the event type Ticket is Created"),
        "{shown}"
    );
    let edit = visitor.see("/t/default/event-types?edit=Ticket%20is%20Created").await;
    assert!(edit.contains("Edit Ticket is Created</h2>"), "{edit}");
    let wrong = visitor.post(page, &[("name", NAME), ("module", "Deal"), ("schema", "{"), ("edit", "yes")]).await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.text.contains("is not a JSON object"), "{}", wrong.text);
    let taken = visitor.post(page, &[("name", "Contact is Created"), ("module", "Deal")]).await;
    assert!(taken.status == 422 && taken.text.contains("an event name of Agile CRM"), "{}", taken.text);
    let removed = visitor.post("/t/default/event-types/remove", &[("name", NAME)]).await;
    assert_eq!(removed.status, 303);
    assert_eq!(names(&host.get("./event-types").await).len(), 8);
}

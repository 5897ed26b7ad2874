//! Rules for every REST route: answers can be written back, unknown parameters are refused, and every answer has a request id.

use crate::harness::{ADMIN_KEY, Host, Receiver, Reply, Visitor, event, example, exchange, text};
use reqwest::Method;
use serde_json::{Value, json};

/// Checks a problem document.
#[track_caller]
fn refused(reply: &Reply, status: u16, part: &str) {
    assert_eq!(reply.status, status, "{}", reply.text);
    assert!(text(&reply.json, "detail").contains(part), "{part:?} is not in {}", reply.text);
}

/// Reads, writes the answer back with `method`, and checks that nothing has changed.
async fn read_and_write_back(host: &Host, method: Method, path: &str, changing: &[&str]) {
    let before = host.get(path).await;
    let after = host.ask(method, path, before.to_string()).await.ok();
    let without = |mut value: Value| {
        changing.iter().for_each(|name| drop(value.as_object_mut().unwrap().remove(*name)));
        value
    };
    assert_eq!(without(host.get(path).await), without(before), "{path}");
    assert!(after.is_object(), "{after}");
}

#[tokio::test]
async fn answers_can_be_written_back() {
    let host = Host::start().await;
    host.plugin("flatten", example("flatten")).await;
    let also = json!({
        "secrets": {"crm": "s3cret", "proxy": "p"}, "plugin": ["flatten"], "config": {"a": "b"}, "rate_per_s": 5,
        "headers": {"x-crm": "{{secret:crm}}"}, "ordering": {"on_failure": "skip-after", "attempts": 3},
        "reuse": {"calls": 10}, "retry": {"schedule_s": [1, 2]}, "limits": {"cpu_ms": 20},
    });
    let full = host.subscription("https://hooks.example.com/crm", also).await;
    let plain = host.subscription("https://bücher.example/crm", json!({})).await;
    for id in [&full, &plain] {
        read_and_write_back(&host, Method::PUT, &format!("./subscriptions/{id}"), &["config_generation", "lane"]).await;
    }
    host.post(&format!("./subscriptions/{full}/pause"), &json!({"reason": "r"})).await;
    read_and_write_back(&host, Method::PUT, &format!("./subscriptions/{full}"), &["config_generation"]).await;
    read_and_write_back(&host, Method::PATCH, &format!("./subscriptions/{full}"), &["config_generation"]).await;
    let made =
        host.post("./subscriptions", &json!({"notify_url": "https://hooks.example.com/", "modules": ["Deal"]})).await;
    let path = format!("./subscriptions/{}", text(&made, "id"));
    host.ask(Method::PUT, &path, made.to_string()).await.ok();
    let bin =
        text(&host.post("./bins", &json!({"name": "b", "reply": {"statuses": [500, 200]}})).await, "id").to_owned();
    host.ask(Method::POST, &format!("/bins/{bin}/"), "x").await;
    read_and_write_back(&host, Method::PUT, &format!("./bins/{bin}"), &[]).await;
    host.post("/v1/tenants", &json!({"id": "acme", "limits_max": {"cpu_ms": 20}})).await;
    read_and_write_back(&host, Method::PATCH, "/v1/tenants/acme", &[]).await;
    let version =
        text(&host.ask(Method::PUT, "./plugins/flatten?activate=false", example("redact")).await.ok(), "sha256")
            .to_owned();
    for rollout in
        [json!({"kind": "canary", "sha256": version, "percent": 5.0}), json!({"kind": "shadow", "sha256": version})]
    {
        host.ask(Method::PUT, "./plugins/flatten/rollout", rollout.to_string()).await.ok();
        read_and_write_back(&host, Method::PUT, "./plugins/flatten/rollout", &["started_at_ms", "figures"]).await;
    }
}

#[tokio::test]
async fn a_field_that_only_the_host_changes_is_not_changed_in_silence() {
    let host = Host::start().await;
    let id = host.subscription("https://hooks.example.com/", json!({"secrets": {"a": "1"}})).await;
    let path = format!("./subscriptions/{id}");
    let read = host.get(&path).await;
    let with = |name: &str, value: Value| {
        let mut changed = read.clone();
        changed[name] = value;
        changed.to_string()
    };
    let put = async |body: String| host.ask(Method::PUT, &path, body).await;
    refused(&put(with("state", json!("paused"))).await, 422, "/state: cannot be changed here: POST …/pause");
    refused(&put(with("id", json!("019a2136-faad-7301-9607-05cad38ff3d4"))).await, 422, "/id: cannot be changed here");
    for names in [json!([]), json!(["a", "b"]), json!(["b"])] {
        refused(&put(with("secrets", names)).await, 422, "a list of names can only repeat the names that are there");
    }
    refused(&put(with("notify_ulr", json!("x"))).await, 422, "unknown field `notify_ulr`");
    refused(&put(with("secrets", json!(5))).await, 422, "secrets: invalid type");
    refused(&host.ask(Method::POST, "./subscriptions", read.to_string()).await, 422, "unknown field");
    let bin = host.post("./bins", &json!({})).await;
    let other = json!({"id": "AAAAAAAAAAAAAAAAAAAAAA"}).to_string();
    refused(
        &host.ask(Method::PUT, &format!("./bins/{}", text(&bin, "id")), other).await,
        422,
        "/id: cannot be changed",
    );
    refused(&host.ask(Method::PATCH, "/v1/tenants/default", json!({"id": "x"}).to_string()).await, 422, "/id");
    assert_eq!(host.get(&path).await["config_generation"], read["config_generation"], "nothing was changed");
}

#[tokio::test]
async fn a_subscription_is_changed_by_a_merge_patch() {
    let host = Host::start().await;
    let also = json!({
        "description": "d", "config": {"a": "1", "b": "2"}, "headers": {"x-a": "1"}, "timeout_ms": 5_000, "concurrency": 4,
        "secrets": {"one": "1", "two": "2"}, "retry": {"schedule_s": [1, 2, 3]}, "rate_per_s": 9,
    });
    let id = host.subscription("https://hooks.example.com/", also).await;
    let path = format!("./subscriptions/{id}");
    let before = host.get(&path).await;
    let patch = async |body: Value| host.ask(Method::PATCH, &path, body.to_string()).await;
    let body = json!({
        "config": {"a": null, "c": "3"}, "timeout_ms": null, "rate_per_s": null, "secrets": {"two": null, "three": "3"},
        "modules": ["Deal"],
    });
    let changed = patch(body).await.ok();
    assert_eq!(changed["config"], json!({"b": "2", "c": "3"}));
    assert_eq!((&changed["timeout_ms"], &changed["rate_per_s"]), (&json!(15_000), &json!(null)), "defaults");
    assert_eq!((&changed["secrets"], &changed["modules"]), (&json!(["one", "three"]), &json!(["Deal"])));
    for stays in ["description", "headers", "concurrency", "retry", "notify_url", "signing_keys", "id"] {
        assert_eq!(changed[stays], before[stays], "{stays}");
    }
    refused(&patch(json!({"notify_url": null})).await, 422, "missing field `notify_url`");
    refused(&patch(json!({"modules": []})).await, 422, "/modules");
    refused(&patch(json!({"colour": 1})).await, 422, "unknown field `colour`");
    refused(&patch(json!({"state": "paused"})).await, 422, "/state: cannot be changed here");
    refused(&patch(json!({"signing_secret": null})).await, 422, "/signing_secret: cannot be removed");
    refused(&patch(json!([{"op": "replace", "path": "/description", "value": "x"}])).await, 422, "expected a map");
    refused(&patch(json!("text")).await, 422, "expected a map");
    let same = patch(json!({})).await.ok();
    assert_eq!(same["config"], changed["config"]);
    let reader = host.post("./keys", &json!({"scopes": ["read"]})).await;
    let denied = host.ask_as(text(&reader, "key"), Method::PATCH, &path, "{}").await;
    assert_eq!(denied.status, 403);
}

#[tokio::test]
async fn unknown_query_parameters_are_refused_on_every_route() {
    let host = Host::start().await;
    let document = host.get("/openapi.json").await;
    let mut routes = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let concrete = path
            .replace("{t}", "default")
            .replace("{name}", "flatten")
            .replace("{sha256}", &"0".repeat(64))
            .replace("{id}", "019a2136-faad-7301-9607-05cad38ff3d4")
            .replace("{request}", "019a2136-faad-7301-9607-05cad38ff3d4");
        for (method, operation) in methods.as_object().unwrap() {
            if !path.starts_with("/v1/") {
                continue;
            }
            routes += 1;
            let method: Method = method.to_uppercase().parse().unwrap();
            let ask = async |query: &str| host.ask(method.clone(), &format!("{concrete}?{query}"), "{}").await;
            refused(&ask("limt=5").await, 400, "the parameter \"limt\" is unknown");
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            for parameter in parameters.filter(|one| one["in"] == "query") {
                let name = text(parameter, "name");
                let schema = &parameter["schema"];
                for (edge, change) in [("minimum", -1), ("maximum", 1)] {
                    let Some(edge) = schema[edge].as_i64() else { continue };
                    let reply = ask(&format!("{name}={}", edge + change)).await;
                    assert_eq!(reply.status, 400, "{method} {concrete} {name}: {}", reply.text);
                }
                if name == "limit" {
                    assert_eq!((&schema["minimum"], &schema["maximum"]), (&json!(1), &json!(500)), "{concrete}");
                    refused(&ask("limit=501").await, 400, "limit: 501 is outside the range 1 to 500");
                    refused(&ask("limit=many").await, 400, "limit");
                    refused(&ask("limit=5&limit=6").await, 400, "limit");
                }
            }
        }
    }
    assert!(routes > 50, "{routes}");
    assert_eq!(host.get("/v1/tenants").await.as_array().unwrap().len(), 1, "nothing was changed");
    let wrong_key = host.ask_as("hlk_wrong", Method::GET, "./bins?limt=5", "").await;
    assert_eq!(wrong_key.status, 401, "who has no key learns nothing else");
    host.plugin("flatten", example("flatten")).await;
    let version = host.ask(Method::PUT, "./plugins/flatten?activate=false", example("redact")).await.ok();
    let compare = format!("./plugins/flatten/versions/{}/compare", text(&version, "sha256"));
    let compared = host.ask(Method::POST, &compare, json!({"events": 501}).to_string()).await;
    refused(&compared, 422, "501 is outside the range 1 to 500");
}

#[tokio::test]
async fn events_are_listed() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({"modules": ["Deal"]})).await;
    let mut sent = Vec::new();
    for number in 0..5 {
        let name = if number % 2 == 0 { "Contact is Created" } else { "Opportunity is Updated" };
        sent.push(host.send(event(name, number)).await);
    }
    sent.reverse();
    fn ids(page: &Value) -> Vec<String> {
        page["events"].as_array().unwrap().iter().map(|event| text(event, "id").to_owned()).collect()
    }
    let all = host.get("./events").await;
    assert_eq!((ids(&all), &all["cursor"]), (sent.clone(), &json!(null)));
    let first = &all["events"][0];
    assert_eq!(first["name"], "Contact is Created");
    assert_eq!((&first["module"], &first["entity_id"], &first["fan_out"]), (&json!("Contact"), &json!("4"), &json!(0)));
    assert_eq!(first["bytes"], json!(event("Contact is Created", 4).len()));
    assert_eq!(all["events"][1]["fan_out"], json!(1));
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = host.get(&format!("./events?limit=2{cursor}")).await;
        seen.extend(ids(&page));
        let Some(next) = page["cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, sent);
    let listed = async |query: &str| ids(&host.get(&format!("./events?{query}")).await);
    assert_eq!(listed("module=Deal").await, [sent[1].clone(), sent[3].clone()]);
    assert_eq!(listed("name=Opportunity%20is%20Updated&limit=1").await, [sent[1].clone()]);
    assert_eq!(listed("entity_id=3").await, [sent[1].clone()]);
    assert_eq!(listed("entity_id=3&module=Contact").await, Vec::<String>::new());
    let third = host.get(&format!("./events/{}", sent[2])).await["received_at_ms"].as_i64().unwrap();
    assert!(listed(&format!("from_ms={}", third - 1)).await.contains(&sent[0]));
    assert_eq!(listed("to_ms=1000").await, Vec::<String>::new());
    assert_eq!(listed(&format!("from_ms={}", third + 86_400_000)).await, Vec::<String>::new());
    host.post("/v1/tenants", &json!({"id": "other"})).await;
    assert_eq!(host.get("/v1/tenants/other/events").await["events"], json!([]), "another tenant's");
    let sender = host.post("./keys", &json!({"scopes": ["send"]})).await;
    assert_eq!(host.ask_as(text(&sender, "key"), Method::GET, "./events", "").await.status, 403);
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let host = Host::start().await;
    let bin = host.post("./bins", &json!({})).await;
    let bin = text(&bin, "path");
    let mut ids = std::collections::BTreeSet::new();
    for (method, path, status) in [
        (Method::GET, "/healthz", 200),
        (Method::GET, "/v1/tenants/default", 200),
        (Method::GET, "/nowhere", 404),
        (Method::DELETE, "/healthz", 405),
        (Method::GET, "./deliveries?limit=0", 400),
        (Method::POST, "./subscriptions", 422),
        (Method::POST, "/in/hlt_none", 404),
        (Method::GET, "/sign-in", 200),
        (Method::GET, "/t/default/none", 404),
        (Method::GET, "/assets/app.css", 200),
        (Method::GET, "/openapi.json", 200),
        (Method::POST, bin, 200),
    ] {
        let reply = host.ask(method.clone(), path, "{}").await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        let id = reply.headers["x-request-id"].to_str().unwrap().to_owned();
        assert!(id.len() == 36 && ids.insert(id.clone()), "{path}: {id}");
    }
    let none = host.ask_as("", Method::GET, "./events", "").await;
    assert!(none.status == 401 && none.headers.contains_key("x-request-id"));
    let page = Visitor::new(&host).get("/t/default").await;
    assert!(page.status == 303 && page.headers.contains_key("x-request-id"));
    let http = crate::harness::client();
    let with_id = async |id: &str| {
        let request = http.get(format!("{}/nowhere", host.url)).header("x-request-id", id);
        exchange(request).await.unwrap().headers["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(with_id("Root=1-67891233-abcdef").await, "Root=1-67891233-abcdef", "the client's own");
    assert_eq!(with_id("not fit for a log").await.len(), 36);
    assert_eq!(with_id(&"x".repeat(129)).await.len(), 36);
}

#[tokio::test]
async fn a_repetition_is_marked() {
    let host = Host::start().await;
    let http = crate::harness::client();
    let send = async |key: Option<&str>| {
        let request = http.post(format!("{}/v1/tenants/default/events", host.url)).bearer_auth(ADMIN_KEY);
        let request = request.body(event("Contact is Created", 1));
        let request = if let Some(key) = key { request.header("idempotency-key", key) } else { request };
        exchange(request).await.unwrap()
    };
    fn marked(reply: &Reply) -> Option<String> {
        reply.headers.get("idempotent-replayed").map(|value| value.to_str().unwrap().to_owned())
    }
    let first = send(Some("k")).await;
    assert_eq!((first.status, marked(&first)), (202, None));
    let second = send(Some("k")).await;
    assert_eq!((second.status, marked(&second).as_deref()), (202, Some("true")));
    assert_eq!(first.json, second.json);
    assert_ne!(first.headers["x-request-id"], second.headers["x-request-id"], "another request all the same");
    assert_eq!(marked(&send(None).await), None);
}

#[tokio::test]
async fn limits_are_reported() {
    let host = Host::with().set("connections_max=64").start().await;
    let reply = host.ask(Method::GET, "./ledger", "").await;
    // Six eighths of the connections, half of which one tenant can have.
    assert_eq!(reply.headers["ratelimit-policy"], "\"requests\";q=24;qu=\"concurrent-requests\"");
    assert_eq!(reply.headers["ratelimit"], "\"requests\";r=23");
    for path in ["/healthz", "/nowhere"] {
        assert!(!host.ask(Method::GET, path, "").await.headers.contains_key("ratelimit"), "{path} has no limit");
    }
    for failures in 1..=12 {
        let page = Visitor::new(&host).post("/sign-in", &[("key", "hlk_guess")]).await;
        assert_eq!(page.headers["ratelimit-policy"], "\"sign-in\";q=10;w=300");
        let left = page.headers["ratelimit"].to_str().unwrap().to_owned();
        assert!(left.starts_with(&format!("\"sign-in\";r={};t=", 10_u32.saturating_sub(failures))), "{left}");
    }
}

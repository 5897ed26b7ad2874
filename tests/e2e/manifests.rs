//! Manifests of plugins: of every example plugin, in the answers of REST and the command line, and in the check of configurations.

use crate::harness::{ADMIN_KEY, Browser, Host, Visitor, event, example, guest, program, text};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tokio::process::Command;
use wasm_encoder::{CustomSection, Section as _};

const EXAMPLES: [&str; 12] = [
    "flatten",
    "redact",
    "slack",
    "deal-filter",
    "reshape",
    "route",
    "normalise",
    "units",
    "changes",
    "guard",
    "enrich",
    "wrap",
];

/// Returns a guest that passes every event, with the bytes of a manifest.
fn passing(manifest: &[u8]) -> Vec<u8> {
    let mut component = guest("passes");
    CustomSection { name: "hookloom:manifest".into(), data: manifest.into() }.append_to(&mut component);
    component
}

/// Returns a guest that passes every event, with a manifest of one required key.
fn with_key(key: &str, schema: Value) -> Vec<u8> {
    let config = json!({"type": "object", "properties": {key: schema}, "required": [key]});
    passing(json!({"title": "T", "description": "D", "config": config}).to_string().as_bytes())
}

fn subscription(plugin: Value, config: Value) -> String {
    json!({"notify_url": "http://127.0.0.1:9999/", "modules": ["Contact"], "plugin": plugin, "config": config})
        .to_string()
}

/// Returns a value of a schema as the text of a config.
fn text_of(schema: &Value, value: &Value) -> String {
    let separator = if schema["x-separator"] == "line" { "\n" } else { ", " };
    fn item(value: &Value) -> String {
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }
    match value {
        Value::Array(items) => items.iter().map(item).collect::<Vec<_>>().join(separator),
        one => item(one),
    }
}

#[tokio::test]
async fn every_example_has_a_manifest_that_holds() {
    let host = Host::start().await;
    for name in EXAMPLES {
        let uploaded = host.plugin(name, example(name)).await;
        let manifest = &uploaded["report"]["manifest"];
        assert!(!text(manifest, "title").is_empty() && !text(manifest, "description").is_empty(), "{name}: {uploaded}");
        let none = Map::new();
        let properties = manifest["config"]["properties"].as_object().unwrap_or(&none);
        let mut defaults = Map::new();
        let mut examples = Map::new();
        for (key, schema) in properties {
            assert!(!text(schema, "description").is_empty(), "{name}: {key}");
            let default = &schema["default"];
            let shown =
                [default, &schema["examples"][0], &schema["oneOf"][0]["const"], &schema["const"], &schema["enum"][0]];
            let example = shown.into_iter().find(|value| !value.is_null());
            let example = example.unwrap_or_else(|| panic!("{name}: {key} has neither a default nor an example"));
            examples.insert(key.clone(), text_of(schema, example).into());
            if !default.is_null() {
                defaults.insert(key.clone(), text_of(schema, default).into());
            }
        }
        for config in [&defaults, &examples] {
            host.ask(Method::POST, "./subscriptions", subscription(json!(name), json!(config))).await.ok();
        }
        let dry_run = json!({"event": manifest["sample_event"], "config": defaults});
        let judged = host.post(&format!("./plugins/{name}/dry-run"), &dry_run).await;
        assert!(["pass", "replace", "drop"].contains(&text(&judged, "verdict")), "{name}: {judged}");
    }
    let listed = host.get("./plugins?limit=50").await;
    assert!(listed.as_array().unwrap().iter().all(|plugin| plugin["title"].is_string()), "{listed}");
    assert_eq!(host.get("./plugins/wrap/versions").await[0]["report"]["manifest"]["title"], "Envelope");
}

#[tokio::test]
async fn a_config_is_checked_when_it_is_written() {
    let host = Host::start().await;
    host.plugin("deal-filter", example("deal-filter")).await;
    host.plugin("passes", guest("passes")).await;
    let refused = async |method: Method, path: &str, body: String, pointer: &str, part: &str| {
        let answer = host.ask(method, path, body).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        assert_eq!(answer.json["errors"][0]["pointer"], pointer, "{}", answer.text);
        assert!(text(&answer.json["errors"][0], "detail").contains(part), "{}", answer.text);
    };
    fn with(config: Value) -> String {
        subscription(json!("deal-filter"), config)
    }
    let too_much = "the plugin deal-filter: 101 is greater than the maximum of 100";
    let unfit = with(json!({"min_probability": "101"}));
    refused(Method::POST, "./subscriptions", unfit.clone(), "/config/min_probability", too_much).await;
    let no_number = with(json!({"min_value": "much"}));
    refused(Method::POST, "./subscriptions", no_number, "/config/min_value", "\"much\" is not a number").await;
    // A chain is checked by each of its plugins, and a plugin without a manifest accepts everything.
    let chain = subscription(json!(["passes", "deal-filter"]), json!({"min_probability": "101", "x": "y"}));
    refused(Method::POST, "./subscriptions", chain, "/config/min_probability", too_much).await;
    host.ask(Method::POST, "./subscriptions", subscription(json!("passes"), json!({"min_probability": "many"})))
        .await
        .ok();

    let good = with(json!({"min_probability": " 75 ", "milestones": "Won\nProposal, Lost", "min_value": ""}));
    let made = host.ask(Method::POST, "./subscriptions", good).await.ok();
    assert_eq!(made["config"]["min_probability"], " 75 ", "the config stays as it was written");
    let path = format!("./subscriptions/{}", text(&made, "id"));
    refused(Method::PUT, &path, unfit, "/config/min_probability", too_much).await;
    let patch = json!({"config": {"min_probability": "101"}}).to_string();
    refused(Method::PATCH, &path, patch, "/config/min_probability", too_much).await;
    assert_eq!(host.get(&path).await["config"], made["config"]);
}

#[tokio::test]
async fn a_version_that_does_not_fit_the_configs_in_use_is_reported() {
    let host = Host::start().await;
    let first = host.plugin("p", guest("passes")).await;
    let made = host.ask(Method::POST, "./subscriptions", subscription(json!("p"), json!({}))).await.ok();
    let id = text(&made, "id").to_owned();
    let stricter = with_key("url/key", json!({"type": "string"}));
    let gated = host.ask(Method::PUT, "./plugins/p?gate=5", stricter.clone()).await;
    assert_eq!((gated.status, text(&gated.json, "type")), (409, "urn:hookloom:problem:gate-failed"), "{}", gated.text);
    assert!(gated.text.contains(&id), "{}", gated.text);
    assert_eq!(host.get("./plugins").await[0]["active_sha256"], first["sha256"]);

    // Without a gate, the answer warns.
    let forced = host.ask(Method::PUT, "./plugins/p", stricter).await.ok();
    let warning =
        format!("the config of the subscription {id} does not fit this version: /config/url~1key: is required");
    assert_eq!((&forced["active"], &forced["warnings"]), (&json!(true), &json!([warning])));
    let back = host.post(&format!("./plugins/p/versions/{}/activate", text(&first, "sha256")), &json!({})).await;
    assert_eq!(back["warnings"], Value::Null);
    let again = host.post(&format!("./plugins/p/versions/{}/activate", text(&forced, "sha256")), &json!({})).await;
    assert_eq!(again["warnings"], json!([warning]));

    // The pinned version decides, not the active one, and the others get the config that they need.
    let pinned = format!("p@{}", text(&first, "sha256"));
    host.ask(Method::POST, "./subscriptions", subscription(json!(pinned), json!({}))).await.ok();
    let refused = host.ask(Method::POST, "./subscriptions", subscription(json!("p"), json!({}))).await;
    assert_eq!((refused.status, &refused.json["errors"][0]["pointer"]), (422, &json!("/config/url~1key")));
    let patch = json!({"config": {"url/key": "x"}}).to_string();
    host.ask(Method::PATCH, &format!("./subscriptions/{id}"), patch).await.ok();
    let fits =
        host.post(&format!("./plugins/p/versions/{}/activate?gate=5", text(&forced, "sha256")), &json!({})).await;
    assert_eq!(fits["warnings"], Value::Null);
    let sent = host.send(event("Contact is Created", 1)).await;
    for delivery in host.deliveries_when(&sent, |delivery| delivery["attempts_made"] != 0).await {
        assert_eq!(text(&delivery["attempts"][0], "verdict"), "pass", "{delivery}");
    }
}

#[tokio::test]
async fn hostile_manifests_are_refused_in_words() {
    let host = Host::start().await;
    fn manifest(schema: Value) -> Vec<u8> {
        let config = json!({"type": "object", "properties": {"k": schema}});
        json!({"title": "T", "description": "D", "config": config}).to_string().into_bytes()
    }
    let deep = format!("{{\"title\":\"T\",\"description\":\"D\",\"config\":{}", "[".repeat(20_000));
    let cases: [(Vec<u8>, &str); 9] = [
        (vec![b'x'; 10 << 20], "more than 32768 bytes"),
        (deep.into_bytes(), "not readable as JSON"),
        (b"\xff\xfe".to_vec(), "not readable as JSON"),
        (b"{}".to_vec(), "missing field `title`"),
        (manifest(json!({"$ref": "#/properties/k"})), "/config/properties/k/$ref"),
        (manifest(json!({"$ref": "https://attacker.example/"})), "/config/properties/k/$ref"),
        (manifest(json!({"type": "object"})), "/config/properties/k/type"),
        (manifest(json!({"type": "string", "pattern": "(\\w{100}){1000}"})), "/config/properties/k/pattern"),
        (json!({"title": "\u{1b}[31mT", "description": "D"}).to_string().into_bytes(), "/title: is one line"),
    ];
    for (bytes, part) in cases {
        let refused = host.ask(Method::PUT, "./plugins/hostile", passing(&bytes)).await;
        assert_eq!(
            (refused.status, text(&refused.json, "type")),
            (422, "urn:hookloom:problem:plugin-manifest"),
            "{}",
            refused.text
        );
        assert!(text(&refused.json, "detail").contains(part), "{}", refused.text);
    }
    let mut twice = passing(b"{}");
    CustomSection { name: "hookloom:manifest".into(), data: b"{}".into() }.append_to(&mut twice);
    let refused = host.ask(Method::PUT, "./plugins/hostile", twice).await;
    assert!(refused.text.contains("several parts of the component have a manifest"), "{}", refused.text);
    // Backtracking would take exponential time here.
    host.plugin("slow", passing(&manifest(json!({"type": "string", "pattern": "^(a+)+$"})))).await;
    let config = json!({"k": format!("{}b", "a".repeat(30_000))});
    let refused = host.ask(Method::POST, "./subscriptions", subscription(json!("slow"), config)).await;
    assert_eq!((refused.status, &refused.json["errors"][0]["pointer"]), (422, &json!("/config/k")), "{}", refused.text);
}

#[tokio::test]
async fn the_command_line_shows_what_an_author_wrote() {
    let host = Host::start().await;
    host.plugin("deal-filter", example("deal-filter")).await;
    host.plugin("passes", guest("passes")).await;
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.arg("plugin").args(arguments).env("HOOKLOOM_URL", &host.url).env("HOOKLOOM_KEY", ADMIN_KEY);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = run(&["list"]).await;
    assert!(listed.contains("deal-filter  Deal filter: Passes only deals that are likely"), "{listed}");
    assert!(listed.contains("passes  no manifest"), "{listed}");
    let shown = run(&["show", "deal-filter"]).await;
    for part in [
        "active   version ",
        "Deal filter\n",
        "\nmin_probability (number)\n",
        "  from 0 to 100\n",
        "  example: Proposal, Won\n",
    ] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    assert!(run(&["show", "passes"]).await.contains("has no manifest"));
}

#[tokio::test]
async fn the_form_of_a_webhook_has_a_field_for_each_key() {
    let host = Host::start().await;
    host.plugin("deal-filter", example("deal-filter")).await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/webhooks").await;
    let fields = [("notify_url", "http://127.0.0.1:9999/"), ("modules", "Deal"), ("plugin", "deal-filter")];
    // The button draws the fields, and saves nothing.
    let drawn = visitor.post("/t/default/webhooks", &[&fields[..], &[("fields", "yes")]].concat()).await;
    for part in
        ["name=\"config.min_probability\"", "<legend>Deal filter</legend>", "From 0 to 100.", "value=\"deal-filter\""]
    {
        assert!(drawn.status == 200 && drawn.text.contains(part), "{part}: {}", drawn.text);
    }
    assert_eq!(host.get("./subscriptions").await, json!([]));
    let bad = [&fields[..], &[("config.min_probability", "101"), ("config", "other = 1")]].concat();
    let refused = visitor.post("/t/default/webhooks", &bad).await;
    assert_eq!(refused.status, 422);
    assert!(refused.text.contains("101 is greater than the maximum of 100"), "{}", refused.text);
    assert!(refused.text.contains("id=\"config-1-error\"") && refused.text.contains("other = 1"), "{}", refused.text);
    let good = [
        ("config.min_probability", "75"),
        ("config.milestones", "Won\r\nProposal"),
        ("config.min_value", ""),
        ("config", "other = 1"),
    ];
    assert_eq!(visitor.post("/t/default/webhooks", &[&fields[..], &good[..]].concat()).await.status, 303);
    let made = host.get("./subscriptions").await[0].clone();
    assert_eq!(made["config"], json!({"min_probability": "75", "milestones": "Won\nProposal", "other": "1"}));
    let page = visitor.see(&format!("/t/default/webhooks/{}", text(&made, "id"))).await;
    assert!(page.contains("value=\"75\"") && page.contains("other = 1"), "{page}");
    let plugin = visitor.see("/t/default/plugins/deal-filter").await;
    for part in ["Passes only deals that are likely", "<code>min_probability</code>", "Deals of a smaller value"] {
        assert!(plugin.contains(part), "{part}: {plugin}");
    }
}

#[tokio::test]
async fn the_fields_in_a_browser() {
    let host = Host::start().await;
    host.plugin("redact", example("redact")).await;
    host.plugin("route", example("route")).await;
    let receiver = json!({"plugin": ["redact", "route"], "config": {"emails": "keep", "otherwise": "drop"}});
    let id = host.subscription("http://127.0.0.1:9999/", receiver).await;
    let link = host.post("/v1/sign-in-links", &json!({})).await;
    let desktop = Browser::desktop(&host).await;
    desktop.open(text(&link, "path")).await;
    desktop.click("button.primary").await;
    desktop.wait("nav [aria-current=page]").await;
    desktop.open(&format!("/t/default/webhooks/{id}")).await;
    desktop.wait("fieldset.config").await;
    desktop.look("webhook-fields").await;
    desktop.open("/t/default/plugins/redact").await;
    desktop.look("plugin-manifest").await;
    let phone = Browser::phone_in_the_dark(&host).await;
    let link = host.post("/v1/sign-in-links", &json!({})).await;
    phone.open(text(&link, "path")).await;
    phone.click("button.primary").await;
    phone.wait("nav [aria-current=page]").await;
    phone.open(&format!("/t/default/webhooks/{id}")).await;
    phone.look("webhook-fields-phone").await;
    phone.open("/t/default/plugins/redact").await;
    phone.look("plugin-manifest-phone").await;
}

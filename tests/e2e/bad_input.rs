//! Bad input gets a problem document with fault, position and remedy, never a 500, and no event is lost.

use crate::harness::{Host, Reply, event, guest, text};
use reqwest::Method;
use serde_json::{Value, json};

#[track_caller]
fn problem(reply: &Reply, status: u16, code: &str, detail: &str) {
    assert_eq!(reply.status, status, "{}", reply.text);
    assert_eq!(reply.headers["content-type"], "application/problem+json", "{}", reply.text);
    assert_eq!(reply.json["type"], format!("urn:hookloom:problem:{code}"), "{}", reply.text);
    assert_eq!(reply.json["status"], status);
    assert!(text(&reply.json, "detail").contains(detail), "{}", reply.text);
}

#[tokio::test]
async fn invalid_events() {
    let host = Host::start().await;
    let deep = format!(
        "{{\"eventName\":\"Contact is Created\",\"eventData\":{{\"a\":{}{}}}}}",
        "[".repeat(200),
        "]".repeat(200)
    );
    let large =
        format!("{{\"eventName\":\"Contact is Created\",\"eventData\":{{\"a\":\"{}\"}}}}", "x".repeat(256 << 10));
    let cases: [(Vec<u8>, u16, &str, &str); 12] = [
        (b"".to_vec(), 400, "not-an-event", "the body is empty"),
        (b"{\"eventName\": oops}".to_vec(), 400, "not-an-event", "expected value at byte 14"),
        (b"{\"eventName\":\"Contact is Created\"".to_vec(), 400, "not-an-event", "EOF while parsing"),
        (b"\xef\xbb\xbf{}".to_vec(), 400, "not-an-event", "byte order mark"),
        (b"{\"eventName\":\"\xff\"}".to_vec(), 400, "not-an-event", "not UTF-8: the byte at offset 14"),
        (b"[1]".to_vec(), 400, "not-an-event", "item 1"),
        (b"{\"eventName\":\"Contact is Created\",\"eventData\":[]}".to_vec(), 400, "not-an-event", "not an object"),
        (
            b"{\"eventName\":\"Contact is Created\",\"eventData\":{},\"x\":1}".to_vec(),
            400,
            "not-an-event",
            "unexpected key \"x\"",
        ),
        (b"{\"eventName\":\"a\",\"eventName\":\"b\",\"eventData\":{}}".to_vec(), 400, "not-an-event", "occurs twice"),
        (deep.into_bytes(), 400, "not-an-event", "deeper than 127 levels at byte"),
        (large.into_bytes(), 413, "event-too-large", "accepts at most 262144"),
        (
            event("Contact is Deleted", 1).into_bytes(),
            422,
            "unknown-event-name",
            "\"Contact is Deleted\" is not accepted",
        ),
    ];
    for (body, status, code, detail) in cases {
        let reply = host.ask(Method::POST, "./events", body).await;
        problem(&reply, status, code, detail);
        assert!(reply.json["remedy"].is_string(), "{}", reply.text);
    }
    let offset = host.ask(Method::POST, "./events", "{\"eventName\": oops}").await;
    assert_eq!(offset.json["offset"], 14);
    assert_eq!(host.ledger().await["events"], 0, "nothing of it was accepted");
}

#[tokio::test]
async fn a_batch_is_all_or_nothing_and_names_the_place() {
    let host = Host::start().await;
    let good = event("Contact is Created", 1);
    for (body, place) in [
        (format!("{good}\n{{\"eventName\":1}}\n"), "line 2"),
        (format!("[{good},{{}}]"), "item 2"),
        (format!("{good}\n{good}\n{}", event("Nope", 1)), "line 3"),
    ] {
        let reply = host.ask(Method::POST, "./events", body).await;
        assert!((400..500).contains(&reply.status) && text(&reply.json, "detail").contains(place), "{}", reply.text);
    }
    let many = vec![good.as_str(); 10_001].join("\n");
    problem(&host.ask(Method::POST, "./events", many).await, 413, "too-many-events", "more than 10000 events");
    assert_eq!(host.ledger().await["events"], 0);
}

#[tokio::test]
async fn an_extra_event_name_is_accepted_once_an_admin_lists_it() {
    let host = Host::start().await;
    let deleted = crate::harness::fixture("ext_contact_deleted.json");
    let path = text(&host.post("./intake-tokens", &json!({})).await, "path").to_owned();
    let refused = host.ask_as("", Method::POST, &path, deleted.clone()).await;
    problem(&refused, 422, "unknown-event-name", "Contact is Deleted");

    // Agile CRM does not send it again: it was kept, and is submitted once the name is allowed.
    let id = text(&refused.json, "rejected_request").to_owned();
    let kept = host.get(&format!("./rejected-requests/{id}")).await;
    assert_eq!((text(&kept, "body"), &kept["truncated"]), (deleted.as_str(), &json!(false)));
    let again = format!("./rejected-requests/{id}/resubmit");
    problem(&host.ask(Method::POST, &again, "").await, 422, "unknown-event-name", "Contact is Deleted");
    let change = json!({"event_types": {"Contact is Deleted": {"module": "Contact"}}});
    host.ask(Method::PATCH, "/v1/tenants/default", change.to_string()).await.ok();
    assert_eq!(host.ask(Method::POST, &again, "").await.status, 202);
    assert_eq!(host.get("./rejected-requests").await, json!([]));
    assert_eq!(host.ledger().await["events"], 1);
}

#[tokio::test]
async fn what_the_vendor_sends_is_kept_up_to_the_cap() {
    let host = Host::with().set("event_bytes_max=1000").start().await;
    let path = text(&host.post("./intake-tokens", &json!({})).await, "path").to_owned();
    problem(&host.ask_as("", Method::POST, &path, "no json").await, 400, "not-an-event", "at byte");
    let huge = host.ask_as("", Method::POST, &path, "x".repeat(100_000)).await;
    let id = text(&huge.json, "rejected_request");
    let kept = host.get(&format!("./rejected-requests/{id}")).await;
    assert_eq!((&kept["truncated"], &kept["bytes"]), (&json!(true), &json!(1_000)));
    problem(
        &host.ask(Method::POST, &format!("./rejected-requests/{id}/resubmit"), "").await,
        409,
        "truncated",
        "only the beginning",
    );
    assert_eq!(host.get("./rejected-requests").await.as_array().unwrap().len(), 2);
    problem(&host.ask_as("", Method::POST, "/in/hlt_unknown", "{}").await, 404, "no-token", "does not exist");
}

/// Returns subscriptions with one fault each, its position, and a part of its description.
fn faulty_subscriptions() -> Vec<(Value, &'static str, &'static str)> {
    vec![
        (
            json!({"notify_url": "https://hooks.example.com/", "modules": []}),
            "/modules",
            "Please select at least one option.",
        ),
        (json!({"notify_url": "hooks.example.com", "modules": ["Deal"]}), "/notify_url", "cannot be read"),
        (json!({"notify_url": "ftp://hooks.example.com/", "modules": ["Deal"]}), "/notify_url", "not http or https"),
        (json!({"notify_url": "http://127.0.0.1/", "modules": ["Deal"]}), "/notify_url", "loopback"),
        (json!({"notify_url": "http://[::ffff:10.0.0.1]/", "modules": ["Deal"]}), "/notify_url", "IPv4-mapped"),
        (json!({"notify_url": "http://169.254.169.254/latest", "modules": ["Deal"]}), "/notify_url", "metadata"),
        (json!({"notify_url": "https://u:p@hooks.example.com/", "modules": ["Deal"]}), "/notify_url", "credentials"),
        (json!({"notify_url": "https://hooks.example.com:6379/", "modules": ["Deal"]}), "/notify_url", "port 6379"),
        (
            json!({"notify_url": "https://hooks.example.com/", "modules": ["Deal"], "plugin": "none"}),
            "/plugin",
            "there is no plugin \"none\"",
        ),
        (
            json!({"notify_url": "https://hooks.example.com/", "modules": ["Deal"], "limits": {"cpu_ms": 5000}}),
            "/limits",
            "at most 1000",
        ),
        (
            json!({"notify_url": "https://hooks.example.com/", "modules": ["Deal"], "retry": {"schedule_s": []}}),
            "/retry",
            "empty",
        ),
        (
            json!({"notify_url": "https://hooks.example.com/", "modules": ["Deal"], "headers": {"Host": "x"}}),
            "/headers/Host",
            "set by the host",
        ),
        (
            json!({"notify_url": "https://hooks.example.com/", "modules": ["Deal"], "signing_secret": "x"}),
            "/signing_secret",
            "whsec_",
        ),
        (
            json!({"notify_url": "https://hooks.example.com/", "modules": ["Deal"], "timeout_ms": 1}),
            "/timeout_ms",
            "1000 to 30000",
        ),
    ]
}

#[tokio::test]
async fn invalid_subscriptions() {
    let host = Host::with().guarded().start().await;
    for (body, pointer, detail) in faulty_subscriptions() {
        let reply = host.ask(Method::POST, "./subscriptions", body.to_string()).await;
        problem(&reply, 422, "invalid-fields", detail);
        assert_eq!(reply.json["errors"][0]["pointer"], pointer, "{}", reply.text);
    }
    for (body, detail) in [
        ("{\"notify_url\":\"https://a.example/\",\"modules\":[\"Task\"]}", "unknown variant `Task`"),
        ("{\"notify_url\":\"https://a.example/\",\"modules\":[\"Deal\"],\"colour\":1}", "unknown field `colour`"),
        ("{\"modules\":[\"Deal\"]}", "missing field `notify_url`"),
        ("nonsense", "does not fit"),
    ] {
        problem(&host.ask(Method::POST, "./subscriptions", body).await, 422, "invalid-body", detail);
    }
    // An edit is checked like a new subscription.
    let good = json!({"notify_url": "https://hooks.example.com/", "modules": ["Deal"]});
    let id = text(&host.post("./subscriptions", &good).await, "id").to_owned();
    let bad = json!({"notify_url": "http://localhost/", "modules": ["Deal"]});
    problem(
        &host.ask(Method::PUT, &format!("./subscriptions/{id}"), bad.to_string()).await,
        422,
        "invalid-fields",
        "means this machine",
    );
}

#[tokio::test]
async fn an_invalid_component_changes_nothing() {
    let host = Host::with().set("component_bytes_max=1000000").start().await;
    let good = host.plugin("p", guest("passes")).await;
    let whole = guest("passes");
    let core = b"\0asm\x01\0\0\0".to_vec();
    let unknown_import = unknown_import();
    let cases: [(Vec<u8>, u16, &str, &str); 7] = [
        (Vec::new(), 422, "plugin-empty", "the file is empty"),
        (b"hello".to_vec(), 422, "plugin-not-wasm", "not a WebAssembly file"),
        (b"(component)".to_vec(), 422, "plugin-text", "WebAssembly text"),
        (core, 422, "plugin-core-module", "core WebAssembly module"),
        (whole[..whole.len() / 2].to_vec(), 422, "plugin-invalid", "broken"),
        (unknown_import, 422, "plugin-missing-export", "does not export hookloom:plugin/transform@1.0.0"),
        (vec![0; 1_000_001], 413, "body-too-large", "larger than this route accepts"),
    ];
    for (component, status, code, detail) in cases {
        let reply = host.ask(Method::PUT, "./plugins/p", component).await;
        problem(&reply, status, code, detail);
    }
    problem(
        &host.ask(Method::PUT, "./plugins/Bad_Name", guest("passes")).await,
        422,
        "invalid-fields",
        "1 to 64 of a-z",
    );
    let versions = host.get("./plugins/p/versions").await;
    assert_eq!((versions.as_array().unwrap().len(), &versions[0]["sha256"]), (1, &good["sha256"]));
}

#[tokio::test]
async fn unknown_imports_of_a_component_are_named() {
    let host = Host::start().await;
    // A valid component, with the name of one import replaced by one that no host offers.
    let mut component = guest("passes");
    let from = b"wasi:cli/environment@";
    let to = b"wasi:cli/environmenx@";
    let places: Vec<usize> =
        (0..component.len() - from.len()).filter(|at| &component[*at..at + from.len()] == from).collect();
    assert!(!places.is_empty());
    for at in places {
        component[at..at + from.len()].copy_from_slice(to);
    }
    for name in ["wasi:cli", "wasi:xyz"] {
        let mut component = component.clone();
        let at = component.windows(21).position(|window| window == to).unwrap();
        component[at..at + 8].copy_from_slice(name.as_bytes());
        let reply = host.ask(Method::PUT, "./plugins/p", component).await;
        assert_eq!(reply.status, 422, "{}", reply.text);
        assert!(text(&reply.json, "detail").contains(&format!("{name}/environmenx")), "{}", reply.text);
        assert!(reply.json["remedy"].is_string());
    }
}

/// Returns a component without exports.
fn unknown_import() -> Vec<u8> {
    b"\0asm\x0d\0\x01\0".to_vec()
}

#[tokio::test]
async fn odd_requests() {
    let host = Host::start().await;
    problem(&host.ask(Method::GET, "/nowhere", "").await, 404, "no-route", "nothing at /nowhere");
    problem(&host.ask(Method::DELETE, "/healthz", "").await, 405, "no-method", "does not support DELETE");
    problem(&host.ask(Method::GET, "./events/not-an-id", "").await, 404, "not-found", "no such");
    problem(&host.ask(Method::GET, "./deliveries?state=lost", "").await, 400, "invalid-query", "lost");
    problem(&host.ask(Method::GET, "./deliveries?colour=red", "").await, 400, "invalid-query", "colour");
    problem(&host.ask(Method::GET, "/v1/tenants/nobody/ledger", "").await, 404, "not-found", "no tenant nobody");
    problem(
        &host.ask(Method::POST, "/v1/tenants", "{\"id\":\"Bad Id\"}").await,
        422,
        "invalid-fields",
        "is not a tenant id",
    );
    problem(&host.ask(Method::POST, "/v1/tenants", "{\"id\":\"default\"}").await, 409, "conflict", "exists already");
    let document: Value = host.ask_as("", Method::GET, "/openapi.json", "").await.ok();
    assert_eq!(document["openapi"].as_str().map(|version| &version[..2]), Some("3."));
    assert_eq!(
        host.ask_as("", Method::GET, "/readyz", "").await.ok()["switched_off"],
        json!(["address guard for loopback"])
    );
}

/// Returns a component with so much code that compiling it takes long: one core module of long functions.
pub(crate) fn compile_bomb() -> Vec<u8> {
    long_functions(40)
}

/// Returns a plugin that passes everything, and takes as long to compile as this number of long functions.
pub(crate) fn slow_to_compile(functions: u32) -> Vec<u8> {
    // Any component may have further sections after its head.
    [&guest("passes")[..], &long_functions(functions)[8..]].concat()
}

/// Returns a component of one core module with this number of functions.
fn long_functions(count: u32) -> Vec<u8> {
    use wasm_encoder::{
        CodeSection, Component, Function, FunctionSection, Module, ModuleSection, TypeSection, ValType,
    };
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I32]);
    let mut functions = FunctionSection::new();
    let mut code = CodeSection::new();
    for seed in 0..count {
        functions.function(0);
        let mut body = Function::new([(200, ValType::I32)]);
        let mut instructions = body.instructions();
        for step in 0..20_000_u32 {
            let from = (step * 7 + seed) % 200;
            let to = (step * 13 + seed) % 200;
            instructions.local_get(from).local_get(to).i32_mul().i32_const(step as i32).i32_xor().local_set(to);
        }
        instructions.local_get(3).end();
        code.function(&body);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&code);
    let mut component = Component::new();
    component.section(&ModuleSection(&module));
    component.finish()
}

#[tokio::test]
async fn a_component_that_is_too_hard_to_compile_is_refused_and_the_host_lives() {
    let host = Host::with().set("compile_cpu_s=1").start().await;
    let refused = host.ask(Method::PUT, "./plugins/bomb", compile_bomb()).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("more than 1 s of CPU time (compile_cpu_s)"), "{}", refused.text);
    assert!(refused.text.contains("make the component smaller"), "{}", refused.text);
    let host = Host::with().set("compile_memory_bytes=90000000").start().await;
    let refused = host.ask(Method::PUT, "./plugins/bomb", compile_bomb()).await;
    assert!(refused.status == 422 && refused.text.contains("compile_memory_bytes (90000000)"), "{}", refused.text);
    assert_eq!(host.get("./plugins").await, json!([]));
}

#[tokio::test]
async fn a_file_of_forty_mebibytes_is_refused_at_every_door() {
    let host = Host::start().await;
    let large = [&guest("passes")[..], &vec![0; 40 << 20]].concat();
    let refused = host.ask(Method::PUT, "./plugins/p", large.clone()).await;
    problem(&refused, 413, "body-too-large", "larger than this route accepts");
    let folder = host.data().join("plugins/default");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("p.wasm"), &large).unwrap();
    let plugin = crate::harness::until("what is wrong", async || {
        Some(host.get("./plugins").await[0].clone()).filter(|plugin| plugin["file_problem"].is_string())
    })
    .await;
    assert!(text(&plugin, "file_problem").contains("component_bytes_max is 20971520"), "{plugin}");
    let file = folder.join("p.wasm");
    let checked = tokio::process::Command::new(crate::harness::program()).args(["plugin", "check"]).arg(&file).output();
    let checked = checked.await.unwrap();
    let message = String::from_utf8(checked.stderr).unwrap();
    assert!(checked.status.code() == Some(1) && message.contains("a host takes 20971520 by default"), "{message}");
}

#[tokio::test]
async fn a_component_of_another_contract_is_refused_with_the_sdk_to_use() {
    let host = Host::start().await;
    let mut component = guest("passes");
    let from = b"hookloom:plugin/transform@1.0.0";
    let to = b"hookloom:plugin/transform@2.0.0";
    let places: Vec<usize> =
        (0..component.len() - from.len()).filter(|at| &component[*at..at + from.len()] == from).collect();
    assert!(!places.is_empty());
    for at in places {
        component[at..at + from.len()].copy_from_slice(to);
    }
    let refused = host.ask(Method::PUT, "./plugins/p", component).await;
    let message = "this plugin was built for hookloom:plugin@2.0.0; this host speaks 1.0.0";
    problem(&refused, 422, "plugin-contract-version", message);
    assert!(text(&refused.json, "remedy").starts_with("rebuild with sdk 1.x"), "{}", refused.text);
}

#[tokio::test]
async fn a_batch_has_a_size_and_a_wrong_line_is_named() {
    let host = Host::start().await;
    let line = event("Contact is Created", 1);
    let most = vec![line.as_str(); 10_000].join("\n");
    let accepted = host.ask(Method::POST, "./events", most).await;
    assert_eq!((accepted.status, accepted.json["events"].as_array().unwrap().len()), (202, 10_000));
    let large = vec![line.as_str(); (16 << 20) / line.len() + 1].join("\n");
    problem(&host.ask(Method::POST, "./events", large).await, 413, "body-too-large", "larger than this route accepts");

    let deep =
        format!(r#"{{"eventName":"Contact is Created","eventData":{}1{}}}"#, r#"{"a":"#.repeat(200), "}".repeat(200));
    let unknown = event("Contact is Eaten", 1);
    let huge =
        event("Contact is Created", 1).replace("\"properties\":[]", &format!("\"note\":\"{}\"", "x".repeat(300_000)));
    for (bad, message) in [("{broken", "line 4"), (&deep, "line 4"), (&unknown, "line 4"), (&huge, "line 4")] {
        // A blank line counts as a line, as in an editor.
        let batch = [&line, "", &line, bad, &line].join("\n");
        let refused = host.ask(Method::POST, "./events", batch).await;
        assert!(refused.status >= 400 && text(&refused.json, "detail").contains(message), "{}", refused.text);
        let array = format!("[{line},{line},{line},{bad},{line}]");
        let refused = host.ask(Method::POST, "./events", array).await;
        let message = if bad == "{broken" { "at byte" } else { "item 4" };
        assert!(refused.status >= 400 && text(&refused.json, "detail").contains(message), "{}", refused.text);
    }
    let first = host.ask(Method::POST, "./events", format!("{{broken\n{line}")).await;
    assert!(text(&first.json, "detail").starts_with("line 1: "), "{}", first.text);
    assert_eq!(host.ledger().await["events"], 10_000, "all or nothing");
}

//! OpenAPI document in tools: a validator accepts it, and generated clients work with a running host.

use crate::harness::{ADMIN_KEY, Host, fixture, fixtures, program, root, target, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::Command;

/// Returns the path of a program that `cargo xtask test` installs.
fn tool(path: &str) -> PathBuf {
    let path = root().join("target/tools").join(path);
    assert!(path.is_file(), "{} is missing; run the tests by `cargo xtask test`", path.display());
    path
}

/// Runs a program in a folder and returns its output.
async fn run(command: &mut Command, folder: &Path) -> String {
    let output = command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// Starts a host, and writes its document into a folder.
async fn host_with_document() -> (Host, TempDir) {
    let host = Host::start().await;
    let folder = TempDir::new().unwrap();
    let document = host.ask_as("", Method::GET, "/openapi.json", "").await;
    assert_eq!(document.status, 200);
    std::fs::write(folder.path().join("openapi.json"), document.text).unwrap();
    (host, folder)
}

/// The document in the tree, which is the one that the program prints and serves.
const IN_THE_TREE: &str = "docs/reference/openapi.json";

#[tokio::test]
async fn the_document_in_the_tree_is_the_programs() {
    let printed = run(Command::new(program()).arg("openapi"), &root()).await;
    let stands = std::fs::read_to_string(root().join(IN_THE_TREE)).unwrap_or_default();
    // Not `assert_eq!`: it would print both.
    assert!(stands == printed, "{IN_THE_TREE} is not the program's: cargo run -- openapi > {IN_THE_TREE}");
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert!(Host::start().await.get("/openapi.json").await == printed, "a host serves another document");
}

#[tokio::test]
async fn a_validator_accepts_the_document() {
    let (host, folder) = host_with_document().await;
    let said = run(Command::new(tool("openapi/bin/openapi-spec-validator")).arg("openapi.json"), folder.path()).await;
    assert!(said.contains("OK"), "{said}");
    let document = host.get("/openapi.json").await;
    assert_eq!(document["servers"][0]["url"], "/");
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for (status, answer) in operation["responses"].as_object().unwrap() {
                assert!(!text(answer, "description").is_empty(), "{method} {path} {status}");
                assert!(answer["headers"]["X-Request-Id"].is_object(), "{method} {path} {status}");
            }
        }
    }
}

#[tokio::test]
async fn a_python_client_works() {
    let (host, folder) = host_with_document().await;
    let config = "content_type_overrides:\n  application/wasm: application/octet-stream\n  text/javascript: application/octet-stream\n  application/x-ndjson: application/octet-stream\npost_hooks: []\n";
    std::fs::write(folder.path().join("client.yaml"), config).unwrap();
    let mut generator = Command::new(tool("openapi/bin/openapi-python-client"));
    generator.args(["generate", "--path", "openapi.json", "--config", "client.yaml", "--fail-on-warning"]);
    run(generator.args(["--meta", "none", "--output-path", "hookloom_client"]), folder.path()).await;
    let mut client = Command::new(tool("openapi/bin/python"));
    client.arg(fixtures().join("openapi/client.py")).env("PYTHONPATH", folder.path()).args([&host.url, ADMIN_KEY]);
    let component = target().join("wasm32-wasip2/guest/flatten.wasm");
    assert!(run(client.arg(component), folder.path()).await.contains("ok"));
}

#[tokio::test]
async fn a_typescript_client_works() {
    let (host, folder) = host_with_document().await;
    let modules = tool("openapi-typescript/node_modules/openapi-typescript/package.json");
    let modules = modules.ancestors().nth(2).unwrap();
    std::os::unix::fs::symlink(modules, folder.path().join("node_modules")).unwrap();
    let node = |script: &str| {
        let mut command = Command::new("node");
        command.arg(modules.join(script));
        command
    };
    let mut generator = node("openapi-typescript/bin/cli.js");
    run(generator.args(["openapi.json", "-o", "hookloom.d.ts"]), folder.path()).await;
    std::fs::write(folder.path().join("client.ts"), fixture("openapi/client.ts")).unwrap();
    std::fs::write(folder.path().join("package.json"), "{\"type\": \"module\"}").unwrap();
    let options = ["--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"];
    run(node("typescript/bin/tsc").args(options).arg("client.ts"), folder.path()).await;
    let said = run(Command::new("node").args(["client.js", &host.url, ADMIN_KEY]), folder.path()).await;
    assert!(said.contains("ok"), "{said}");
}

/// Returns the id of a rejected request to an intake address.
async fn rejected_request(host: &Host, address: &str) -> String {
    assert_eq!(host.ask(Method::POST, address, "no event").await.status, 400);
    text(&host.get("./rejected-requests").await[0], "id").to_owned()
}

#[tokio::test]
async fn the_examples_of_bodies_are_accepted() {
    let host = Host::start().await;
    host.plugin("flatten", crate::harness::example("flatten")).await;
    let version =
        host.ask(Method::PUT, "./plugins/flatten?activate=false", crate::harness::example("redact")).await.ok();
    let sha256 = text(&version, "sha256").to_owned();
    let bin = text(&host.post("./bins", &json!({})).await, "id").to_owned();
    let token = text(&host.post("./intake-tokens", &json!({})).await, "path").to_owned();
    let document = host.get("/openapi.json").await;
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let content = operation["requestBody"]["content"].as_object().into_iter().flatten();
            let Some((_, content)) =
                content.into_iter().find(|(kind, _)| kind.ends_with("/json") || kind.ends_with("+json"))
            else {
                continue;
            };
            let example = &content["examples"]["typical"]["value"];
            assert!(!example.is_null(), "{method} {path} has no example");
            // Otherwise the test would wait for a receiver, or need a second host.
            if path.ends_with("/test") || path.ends_with("/requests/{request}/replay") || path.starts_with("/v1/fleet")
            {
                continue;
            }
            let subscription = host.subscription("https://hooks.example.com/", json!({})).await;
            let rejected = rejected_request(&host, &token).await;
            let id = if path.contains("/bins/") {
                &bin
            } else if path.contains("/rejected-requests/") {
                &rejected
            } else {
                &subscription
            };
            let concrete = path
                .replace("{t}", "default")
                .replace("{name}", "flatten")
                .replace("{sha256}", &sha256)
                .replace("{id}", id)
                .replace("/in/{token}", &token);
            let example = match example["sha256"] {
                Value::Null => example.to_string(),
                _ => example.to_string().replace(text(example, "sha256"), &sha256),
            };
            let reply = host.ask(method.to_uppercase().parse().unwrap(), &concrete, example).await;
            assert!((200..300).contains(&reply.status), "{method} {concrete}: {}", reply.text);
            tried += 1;
        }
    }
    assert!(tried >= 15, "{tried}");
}

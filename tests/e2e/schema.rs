//! OpenAPI document and the running host: schemathesis sends requests of every shape that the document allows, and some that it
//! does not, and checks every answer.

use crate::harness::{ADMIN_KEY, Host, example, root};
use std::process::Stdio;
use tokio::process::Command;

/// Path to which `cargo xtask test` installs schemathesis.
const PROGRAM: &str = "target/tools/schemathesis/bin/schemathesis";

#[tokio::test]
async fn every_answer_is_as_the_document_says() {
    let host = Host::start().await;
    host.plugin("flatten", example("flatten")).await;
    let folder = tempfile::TempDir::new().unwrap();
    // Most requests should be about existing things.
    let known = "[parameters]\n\"path.t\" = \"default\"\n\"path.name\" = \"flatten\"\n";
    std::fs::write(folder.path().join("schemathesis.toml"), known).unwrap();
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    let output = Command::new(root().join(PROGRAM))
        .args([
            "run",
            &format!("{}/openapi.json", host.url),
            "--checks",
            checks,
            "--phases",
            "examples,coverage,fuzzing",
        ])
        .args(["--max-examples", "10", "--seed", "1", "--generation-deterministic", "--continue-on-failure"])
        // It cannot create components; invalid ones are tested in bad_input.rs.
        .args(["--exclude-path", "/v1/tenants/{t}/plugins/{name}"])
        // Otherwise the request would wait for a receiver.
        .args(["--exclude-path-regex", "/test$|/replay$"])
        .args(["--header", &format!("Authorization: Bearer {ADMIN_KEY}"), "--request-timeout", "20"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .await
        .expect("schemathesis; `cargo xtask test` installs it");
    let message = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{message}{}", String::from_utf8_lossy(&output.stderr));
}

//! The OpenAPI document against the running host: schemathesis makes requests of every shape that the document allows, and some
//! that it does not, and checks every answer against it.

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
    // Most of it shall be about things that are there.
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
        // It cannot make components; what is wrong with those is tried in bad_input.rs.
        .args(["--exclude-path", "/v1/tenants/{t}/plugins/{name}"])
        // A receiver's answer would be waited for.
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

//! Components whose bytes changed on disk: detected at a load, a download and a backup, and repaired by an upload.

use crate::harness::{Host, Receiver, event, example, program, text, until};
use reqwest::Method;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::process::Command;

/// Changes one bit of a component in a database file.
fn flip_a_bit(database: &Path, component: &[u8]) {
    let mut bytes = std::fs::read(database).unwrap();
    // Part of the component that does not cross the end of a page.
    let found = component
        .windows(64)
        .skip(5_000)
        .step_by(1_000)
        .find_map(|piece| bytes.windows(piece.len()).position(|window| window == piece));
    bytes[found.expect("the component is in the file")] ^= 1;
    std::fs::write(database, bytes).unwrap();
}

async fn backup(host: &Host, to: &Path) -> (Option<i32>, String) {
    let output = Command::new(program()).args(["backup", "--json", "--data-dir"]).arg(host.data()).arg(to).output();
    let output = output.await.unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code(), said)
}

/// Starts a host whose only component is damaged and not compiled. Returns the sha256 of the uploaded component as well.
async fn damaged(receiver: &Receiver) -> (Host, String) {
    let host = Host::start().await;
    let sha256 = text(&host.plugin("flatten", example("flatten")).await, "sha256").to_owned();
    host.subscription(&receiver.url, json!({"plugin": "flatten"})).await;
    let (_, folder) = host.stop().await;
    let data = folder.path().join("data");
    flip_a_bit(&data.join("hookloom.db"), &example("flatten"));
    std::fs::remove_dir_all(data.join("compiled")).unwrap();
    (Host::with().on(folder).start().await, sha256)
}

#[tokio::test]
async fn a_damaged_component_is_noticed_and_healed_by_an_upload() {
    let receiver = Receiver::start().await;
    let (host, sha256) = damaged(&receiver).await;
    // Load: the waiting delivery loses no attempt.
    until("the damage", async || host.log().contains("is damaged in the store").then_some(())).await;
    let waiting = host.send(event("Contact is Created", 1)).await;
    let part = async || {
        let ready = host.ask_as("", Method::GET, "/readyz", "").await.ok();
        ready["parts"].as_array().unwrap().iter().find(|part| part["part"] == "plugins").cloned().unwrap()
    };
    until("readiness to say so", async || (part().await["ready"] == false).then_some(())).await;
    // Download.
    let path = format!("./plugins/flatten/versions/{sha256}/component");
    let refused = host.ask(Method::GET, &path, "").await;
    assert_eq!((refused.status, text(&refused.json, "type")), (503, "urn:hookloom:problem:component-damaged"));
    assert!(text(&refused.json, "remedy").contains("upload the same file again"), "{}", refused.text);
    // Backup: everything else is copied, and a host starts on it.
    let backups = Arc::new(TempDir::new().unwrap());
    let (code, said) = backup(&host, &backups.path().join("data")).await;
    assert!(code == Some(1) && said.contains("damaged in the store") && said.contains(&sha256), "{code:?} {said}");
    let copy = Host::with().on(backups).start().await;
    assert_eq!(text(&copy.get(&format!("./events/{waiting}")).await, "id"), waiting);
    drop(copy);

    let healed = host.plugin("flatten", example("flatten")).await;
    assert_eq!(text(&healed, "sha256"), sha256);
    let delivery = host.ended(&waiting).await;
    assert_eq!(
        (text(&delivery, "state"), delivery["attempts"].as_array().unwrap().len()),
        ("delivered", 1),
        "{delivery}"
    );
    assert_eq!(host.ask(Method::GET, &path, "").await.text.len(), String::from_utf8_lossy(&example("flatten")).len());
    let folder = TempDir::new().unwrap();
    let (code, said) = backup(&host, &folder.path().join("b")).await;
    assert!(code == Some(0) && said.contains("\"damaged_components\":[]"), "{code:?} {said}");
    assert_eq!(part().await["ready"], true);
}

#[tokio::test]
async fn an_upload_of_the_same_bytes_heals_also_what_is_still_compiled() {
    let host = Host::start().await;
    let sha256 = text(&host.plugin("flatten", example("flatten")).await, "sha256").to_owned();
    let (_, folder) = host.stop().await;
    flip_a_bit(&folder.path().join("data/hookloom.db"), &example("flatten"));
    let host = Host::with().on(folder).start().await;
    let path = format!("./plugins/flatten/versions/{sha256}/component");
    assert_eq!(host.ask(Method::GET, &path, "").await.status, 503);
    host.ask(Method::PUT, "./plugins/flatten?activate=false", example("flatten")).await.ok();
    assert_eq!(host.ask(Method::GET, &path, "").await.status, 200);
}

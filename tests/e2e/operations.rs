//! Interfaces for operators besides the API: process metrics, health checks, and secrets for an import.

use crate::harness::{ADMIN_KEY, Host, event, program, root, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

#[tokio::test]
async fn figures_of_the_process_are_those_of_the_kernel() {
    let host = Host::start().await;
    let metrics = async || host.ask(Method::GET, "/metrics", "").await.text;
    fn value(metrics: &str, name: &str) -> f64 {
        let line =
            metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    }
    let before = metrics().await;
    for (name, kind) in [
        ("process_cpu_seconds_total", "counter"),
        ("process_resident_memory_bytes", "gauge"),
        ("process_virtual_memory_bytes", "gauge"),
        ("process_open_fds", "gauge"),
        ("process_max_fds", "gauge"),
        ("process_threads", "gauge"),
        ("process_start_time_seconds", "gauge"),
    ] {
        assert_eq!(before.matches(&format!("# TYPE {name} {kind}\n")).count(), 1, "{name}");
    }
    let pid = host.process.id().unwrap();
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let resident_kib = statm.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4.0;
    let told_kib = value(&before, "process_resident_memory_bytes") / 1024.0;
    assert!(told_kib > resident_kib * 0.5 && told_kib < resident_kib * 2.0, "{told_kib} instead of {resident_kib} KiB");
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let age_s = now_s - value(&before, "process_start_time_seconds");
    assert!((0.0..600.0).contains(&age_s), "{age_s}");
    for number in 0..50 {
        host.send(event("Contact is Created", number)).await;
    }
    let after = metrics().await;
    let cpu = |metrics: &str| value(metrics, "process_cpu_seconds_total");
    assert!(cpu(&after) > cpu(&before), "the CPU time grows");
    assert!(value(&after, "process_open_fds") >= 3.0);
}

#[tokio::test]
async fn the_health_check_of_containers_tells_ready_from_gone() {
    let host = Host::start().await;
    async fn health(url: &str) -> (Option<i32>, String) {
        let output = Command::new(program()).arg("health").env("HOOKLOOM_URL", url).output().await.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
    assert_eq!(health(&host.url).await.0, Some(0));
    let url = host.url.clone();
    drop(host);
    let (code, message) = health(&url).await;
    assert!(code == Some(1) && message.contains("error"), "{message}");
    // Files that call the command use an existing one, and nothing that the image does not have.
    for (file, wanted) in [
        ("deploy/Dockerfile", "CMD [\"hookloom\", \"health\"]"),
        ("deploy/compose.yaml", "test: [\"CMD\", \"hookloom\", \"health\"]"),
        ("deploy/compose.yaml", "condition: service_healthy"),
    ] {
        assert!(std::fs::read_to_string(root().join(file)).unwrap().contains(wanted), "{file}");
    }
}

async fn import(host: &Host, tenant: &str, file: &str, secrets: &str, stdin: &str) -> (bool, String) {
    let mut command = Command::new(program());
    command.args(["import", "--url", &host.url, "--tenant", tenant, file, "--secrets", secrets, "--json"]);
    command.env("HOOKLOOM_KEY", ADMIN_KEY).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[tokio::test]
async fn an_import_takes_its_secrets_from_a_file_of_their_own_or_from_stdin() {
    let host = Host::start().await;
    let also = json!({"secrets": {"token": "s3cr3t-of-the-first"}, "headers": {"x-token": "{{secret:token}}"}});
    host.subscription("http://127.0.0.1:9999/a", also.clone()).await;
    host.subscription("http://127.0.0.1:9999/b", also).await;
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let file = path("tenant.json");
    let secrets = path("secrets.json");
    let export = ["export", "--url", &host.url, "--key", ADMIN_KEY, "--out", &file];
    assert!(Command::new(program()).args(export).status().await.unwrap().success());
    let before = std::fs::read(&file).unwrap();

    std::fs::write(&secrets, json!({"secrets": {"tokn": "v4lue-that-is-hidden"}}).to_string()).unwrap();
    let (well, message) = import(&host, "b", &file, &secrets, "").await;
    assert!(!well && message.contains("no webhook of the export uses the secret"), "{message}");
    assert!(message.contains("token") && !message.contains("v4lue"), "{message}");
    assert_eq!(host.get("/v1/tenants").await.as_array().unwrap().len(), 1, "nothing was made");

    let own = json!({
        "secrets": {"token": "another-value-0123"},
        "webhooks": [{"notify_url": "http://127.0.0.1:9999/b", "signing_secret": crate::harness::SECRET}],
    });
    std::fs::write(&secrets, own.to_string()).unwrap();
    let (well, message) = import(&host, "b", &file, &secrets, "").await;
    assert!(well, "{message}");
    let made: Value = serde_json::from_str(message.lines().next().unwrap()).unwrap();
    assert_eq!(text(&made["subscriptions"][1], "signing_secret"), crate::harness::SECRET, "{made}");
    let there = host.get("/v1/tenants/b/subscriptions").await;
    assert_eq!(there[0]["secrets"], json!(["token"]), "{there}");

    let (well, message) = import(&host, "c", &file, "-", &own.to_string()).await;
    assert!(well, "{message}");
    let (well, message) = import(&host, "d", &file, "-", "{\"secrets\": {\"token\": 7}}").await;
    assert!(!well && message.contains("not a file of secrets"), "{message}");
    assert_eq!(std::fs::read(&file).unwrap(), before, "the export itself holds no secret");
}

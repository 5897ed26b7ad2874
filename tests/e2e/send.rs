//! Command `hookloom send` with several files and invalid lines.

use crate::harness::{ADMIN_KEY, Host, Receiver, event, fixtures, program};
use serde_json::Value;
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Exit code, stdout and stderr.
type Done = (Option<i32>, String, String);

async fn send(host: &Host, arguments: &[&str], stdin: &str) -> Done {
    let mut command = Command::new(program());
    command.arg("send").args(arguments).env("HOOKLOOM_URL", &host.url).env("HOOKLOOM_KEY", ADMIN_KEY);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn file(name: &str) -> String {
    fixtures().join(name).to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_file_that_is_refused_or_missing_does_not_keep_the_others() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, serde_json::json!({})).await;
    let files = [
        file("guide/contact_created.json"),
        file("zapier_flat_contact.json"),
        "/nowhere/event.json".to_owned(),
        file("burst_duplicate.json"),
    ];
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let (code, out, err) = send(&host, &files, "").await;
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("accepted as") && out.contains(", 1 delivery\n"), "{out}");
    assert!(out.contains("3 events accepted, 3 deliveries"), "{out}");
    assert!(err.contains("zapier_flat_contact.json: ") && err.contains("/nowhere/event.json: "), "{err}");
    assert!(err.contains("4 events accepted, 4 deliveries; 2 refused or not readable"), "{err}");
    receiver.expect(4).await;
    let (code, out, _) = send(&host, &[files[0], files[3]], "").await;
    assert!(code == Some(0) && out.contains("2 files: 4 events accepted, 4 deliveries"), "{out}");
    let (code, _, err) = send(&host, &[&files[..], &["--json"]].concat(), "").await;
    let failures: Vec<Value> = err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        code == Some(1) && failures.len() == 3 && failures[0]["source"].as_str().unwrap().contains("zapier"),
        "{err}"
    );
}

#[tokio::test]
async fn of_lines_only_the_bad_ones_stay_behind() {
    let host = Host::start().await;
    fn good(number: usize) -> String {
        event("Contact is Created", number)
    }
    let lines = format!("{}\n{{\"nonsense\": 1}}\n\n{}\nnot json\n{}\n", good(1), good(2), good(3));
    let (code, out, err) = send(&host, &[], &lines).await;
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("stdin, line 2: ") && err.contains("stdin, line 5: "), "{err}");
    assert!(err.contains("3 events accepted, 0 deliveries; 2 refused or not readable"), "{err}");
    for line in [1, 4, 6] {
        assert!(out.contains(&format!("stdin, line {line}: accepted as ")), "{out}");
    }
}

#[tokio::test]
async fn a_fault_that_concerns_every_event_ends_the_command() {
    let host = Host::start().await;
    let one = file("guide/contact_created.json");
    let other = file("guide/contact_updated.json");
    let (code, _, err) = send(&host, &[&one, &other, "--key", "wrong"], "").await;
    assert!(code == Some(1) && err.contains("unknown or revoked"), "{err}");
    assert!(err.contains("0 events accepted, 0 deliveries; broken off; 1 file not sent"), "{err}");
    let (code, _, err) = send(&host, &[&one, &other, "--url", "http://127.0.0.1:9"], "").await;
    assert!(code == Some(1) && err.contains("1 file not sent"), "{err}");
}

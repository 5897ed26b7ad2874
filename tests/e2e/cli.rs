//! Command line: output and exit codes.

use crate::harness::{ADMIN_KEY, Host, Receiver, event, fixtures, program};
use serde_json::{Value, json};
use std::process::{Output, Stdio};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let folder = TempDir::new().unwrap();
    Command::new(program())
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(folder.path())
        .output()
        .await
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn the_demo_shows_everything_and_ends_well() {
    // In an empty folder, and without a toolchain.
    let demo = run(&["demo"], &[("PATH", "")]).await;
    let shown = out(&demo);
    assert!(demo.status.success(), "{shown}{}", err(&demo));
    for part in [
        "event 1: Contact is Created",
        "event 4: Opportunity is Updated",
        "drop (probability 95 < 97)",
        "the same 431 bytes",
        "j***@alien.comm",
        "4 events, 8 deliveries promised = 7 delivered + 1 dropped + 0 dead + 0 pending",
        "all as it should be",
        "hookloom serve",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    assert_eq!(shown.matches("verified by the receiver").count(), 7);
    assert!(!shown.contains('\u{1b}'), "colour, but no terminal");
}

#[tokio::test]
async fn send_takes_files_and_ndjson() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.subscription(&receiver.url, json!({})).await;
    let key = [("HOOKLOOM_KEY", ADMIN_KEY), ("HOOKLOOM_URL", host.url.as_str())];
    fn file(name: &str) -> String {
        fixtures().join(name).to_str().unwrap().to_owned()
    }
    let sent = run(&["send", &file("guide/contact_created.json"), &file("burst_duplicate.json")], &key).await;
    assert!(sent.status.success(), "{}", err(&sent));
    assert!(
        out(&sent).contains("accepted as") && out(&sent).contains("3 events accepted, 3 deliveries"),
        "{}",
        out(&sent)
    );

    let mut child = Command::new(program())
        .args(["send", "--json"])
        .envs(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = format!("{}\n{}\n", event("Contact is Created", 1), event("Contact is Updated", 2));
    child.stdin.take().unwrap().write_all(lines.as_bytes()).await.unwrap();
    let sent = child.wait_with_output().await.unwrap();
    let answer: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!(answer["events"].as_array().unwrap().len(), 2);
    receiver.expect(6).await;

    let refused = run(&["send", &file("zapier_flat_contact.json")], &key).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("unexpected key"), "{}", err(&refused));
    let no_key = run(&["send", "--key", "wrong", &file("guide/contact_created.json")], &key[1..]).await;
    assert!(err(&no_key).contains("unknown or revoked"), "{}", err(&no_key));
}

#[tokio::test]
async fn the_contract_is_printed_as_it_stands() {
    let wit = run(&["plugin", "wit"], &[]).await;
    let stands = std::fs::read_to_string(fixtures().join("../../wit/plugin.wit")).unwrap();
    assert_eq!(out(&wit), stands);
}

#[tokio::test]
async fn settings_are_printed_with_their_sources() {
    let config = run(&["config", "--json", "--set", "stop_grace_s=7"], &[("HOOKLOOM_LOG", "debug")]).await;
    let entries: Vec<Value> = serde_json::from_slice(&config.stdout).unwrap();
    let entry = |name: &str| entries.iter().find(|entry| entry["name"] == name).unwrap();
    assert_eq!((&entry("stop_grace_s")["value"], &entry("stop_grace_s")["source"]), (&json!("7"), &json!("flag")));
    assert_eq!(entry("log")["source"], "HOOKLOOM_LOG");
    assert_eq!(entry("listen")["source"], "default");
    let wrong = run(&["config"], &[("HOOKLOOM_COLOUR", "red")]).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(err(&wrong).contains("HOOKLOOM_COLOUR names no setting"), "{}", err(&wrong));
}

#[tokio::test]
async fn usage_faults_and_refused_starts() {
    assert_eq!(run(&["frobnicate"], &[]).await.status.code(), Some(2));
    assert_eq!(run(&["--help"], &[]).await.status.code(), Some(0));
    let open = run(&["serve", "--listen", "0.0.0.0:0"], &[]).await;
    assert_eq!(open.status.code(), Some(1));
    assert!(err(&open).contains("behind_proxy"), "{}", err(&open));
    let short = run(&["serve", "--listen", "127.0.0.1:0"], &[("HOOKLOOM_ADMIN_KEY", "short")]).await;
    assert!(err(&short).contains("fewer than 24 characters") && !err(&short).contains("short\""), "{}", err(&short));
}

/// Returns the characters that control a terminal: control characters, except line ends.
fn obeyed(text: &str) -> Vec<char> {
    fn hidden(letter: &char) -> bool {
        matches!(letter, '\u{200e}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}')
    }
    text.chars().filter(|letter| (letter.is_control() && *letter != '\n') || hidden(letter)).collect()
}

#[tokio::test]
async fn a_sender_cannot_imitate_the_output_of_a_receiver() {
    for json in [false, true] {
        let mut receiver = Command::new(program());
        receiver.args(["receive", "--secret", crate::harness::SECRET]).args(json.then_some("--json"));
        let mut receiver = receiver.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(receiver.stdout.take().unwrap()).lines();
        let first = lines.next_line().await.unwrap().unwrap();
        let url = first.split(['"', ' ']).find(|word| word.starts_with("http://")).unwrap().to_owned();
        let body = "{}\nsignature verified\r\n\u{1b}[1A\u{1b}[2Ksignature verified\u{9b}2J\u{202e}\u{2028}signature verified\rsignature verified";
        let sent = crate::harness::client().post(format!("{url}signature%20verified"));
        let sent = sent.header("webhook-id", "a, signature verified").header("webhook-timestamp", "1");
        sent.header("webhook-signature", "v1,\u{9b}x").body(body).send().await.unwrap();
        drop(receiver.kill().await);
        let mut shown = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            shown.push(line);
        }
        assert!(obeyed(&shown.join("\n")).is_empty(), "{shown:?}");
        if json {
            let request: Value = serde_json::from_str(&shown[0]).unwrap();
            assert_eq!((&request["body"], &request["verified"]), (&json!(body), &json!(false)));
            continue;
        }
        assert!(shown.iter().any(|line| line.starts_with("SIGNATURE REFUSED")), "{shown:?}");
        for line in shown.iter().filter(|line| line.contains("signature verified")) {
            assert!(
                line.starts_with("| ") || line.starts_with("webhook-id "),
                "{line:?} looks like the receiver's own word"
            );
        }
    }
}

#[tokio::test]
async fn answers_and_files_of_strangers_do_not_reach_the_terminal() {
    let hostile = "x\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\rerror: no";
    // A host whose answer has characters that control a terminal.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let problem = json!({"detail": format!("{hostile}\nsignature verified"), "remedy": hostile}).to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = format!("HTTP/1.1 422 X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", problem.len());
            let mut asked = vec![0; 64 << 10];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut asked).await;
            let _ = stream.write_all((head + &problem).as_bytes()).await;
        }
    });
    let key = [("HOOKLOOM_KEY", ADMIN_KEY), ("HOOKLOOM_URL", url.as_str())];
    let event = fixtures().join("guide/contact_created.json");
    let event = event.to_str().unwrap();
    let folder = TempDir::new().unwrap();
    let broken = folder.path().join("tenant.json");
    let plugin = json!({"name": hostile, "sha256": "", "component": ""});
    std::fs::write(&broken, json!({"hookloom_export": 1, "plugins": [plugin]}).to_string()).unwrap();
    std::fs::write(
        folder.path().join("hookloom-plugin.toml"),
        format!("name = {}\nbuild = []\ncomponent = \"c\"", json!("x\u{202e}y")),
    )
    .unwrap();
    let delivery = "01920000-0000-7000-8000-000000000000";
    for arguments in [
        &["send", event][..],
        &["send", "--json", event],
        &["export"],
        &["sign-in-link"],
        &["import", "--tenant", "t", broken.to_str().unwrap()],
        &["plugin", "replay", delivery],
        &["plugin", "check", folder.path().to_str().unwrap()],
    ] {
        let output = run(arguments, &key).await;
        assert!(!output.status.success(), "{arguments:?}");
        let shown = out(&output) + &err(&output);
        assert!(obeyed(&shown).is_empty(), "{arguments:?}: {shown:?}");
        assert!(!shown.lines().any(|line| line.starts_with("signature verified")), "{shown:?}");
    }
}

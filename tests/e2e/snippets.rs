//! Code that verifies signatures, which the page *First steps* and the documentation show: each language judges real deliveries of the
//! host, and requests that were changed on the way.
//!
//! # Limits
//! A language whose interpreter or compiler is missing fails: `cargo xtask test` installs Debian's.

use crate::harness::{Host, Receiver, SECRET, fixtures, root, target, text};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

#[expect(unreachable_pub, reason = "the code that users copy is public")]
#[path = "../../host/hookloom/assets/snippets/verify.rs"]
mod verify;

/// Secret after a rotation.
const NEW_SECRET: &str = "whsec_bmV3IHNlY3JldCBmb3IgdGhlIHNuaXBwZXRz";

/// Request, and whether code with this secret must find it signed.
struct SignedCase {
    name: &'static str,
    secret: &'static str,
    headers: BTreeMap<String, String>,
    body: String,
    is_signed: bool,
}

impl SignedCase {
    fn of(name: &'static str, secret: &'static str, request: &Value, is_signed: bool) -> SignedCase {
        let headers: &Map<String, Value> = request["headers"].as_object().unwrap();
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        SignedCase { name, secret, headers, body: text(request, "body").to_owned(), is_signed }
    }

    /// Returns the same request with a header that was changed, or removed. It is not signed any more.
    fn with_header(&self, name: &'static str, header: &str, value: Option<&str>) -> SignedCase {
        let mut headers = self.headers.clone();
        headers.remove(header);
        headers.extend(value.map(|value| (header.to_owned(), value.to_owned())));
        SignedCase { name, headers, body: self.body.clone(), is_signed: false, ..*self }
    }

    fn header(&self, name: &str) -> &str {
        &self.headers[name]
    }

    /// Returns the line of the file of cases.
    fn line(&self) -> String {
        json!({"secret": self.secret, "headers": self.headers, "body": self.body}).to_string()
    }
}

/// Delivers events of a host, and returns what its receiver got, as cases.
async fn cases() -> Vec<SignedCase> {
    let host = Host::with().turnable().start().await;
    let receiver = Receiver::start().await;
    let id = host.subscription(&receiver.url, json!({})).await;
    let event = r#"{"eventName":"Contact is Created","eventData":{"id":1,"name":"Ærøskøbing 東京\n","properties":[]}}"#;
    host.ended(&host.send(event).await).await;
    let rotation = json!({"signing_secret": NEW_SECRET, "overlap_s": 3_600});
    host.post(&format!("./subscriptions/{id}/rotate-secret"), &rotation).await;
    host.ended(&host.send(event).await).await;
    let received = receiver.expect(2).await;
    // The host signs with a time that is not yet.
    host.pass(Duration::from_secs(600)).await;
    host.send(event).await;
    let early = crate::harness::until("the third request", async || receiver.received().get(2).cloned()).await;
    assert_eq!(early["verified"], false, "{early}");
    let genuine = SignedCase::of("as it was sent", SECRET, &received[0], true);
    let rotated = SignedCase::of("with the old one of two secrets", SECRET, &received[1], true);
    assert_eq!(rotated.header("webhook-signature").split(' ').count(), 2, "{:?}", rotated.headers);
    let mut all = vec![
        SignedCase::of("ten minutes early", SECRET, &early, false),
        SignedCase::of("with the new one of two secrets", NEW_SECRET, &received[1], true),
        SignedCase::of("with another secret", NEW_SECRET, &received[0], false),
        SignedCase {
            name: "with another body",
            body: format!("{} ", genuine.body),
            is_signed: false,
            ..genuine.with_header("", "x", None)
        },
        SignedCase {
            name: "without a body",
            body: String::new(),
            is_signed: false,
            ..genuine.with_header("", "x", None)
        },
    ];
    all.extend(changed(&genuine));
    all.extend([genuine, rotated]);
    all
}

/// Returns a request with headers that were changed on the way.
fn changed(genuine: &SignedCase) -> Vec<SignedCase> {
    let [id, timestamp, signature] = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let signed = genuine.header(signature).to_owned();
    let time: u64 = genuine.header(timestamp).parse().unwrap();
    let wrong = format!("v1,{} {}", "A".repeat(44), signed.replacen("v1,", "v1a,", 1));
    let with_others = format!("v1,short v2,{} {signed} v1,", "A".repeat(44));
    let mut cases = vec![
        genuine.with_header("with another id", id, Some("0198c0de-7e57-7000-8000-000000000001")),
        genuine.with_header("without an id", id, None),
        genuine.with_header("a second later", timestamp, Some(&(time + 1).to_string())),
        genuine.with_header("of an hour ago", timestamp, Some(&(time - 3_600).to_string())),
        genuine.with_header("without a time", timestamp, None),
        genuine.with_header("with an empty time", timestamp, Some("")),
        genuine.with_header("with a word as time", timestamp, Some("soon")),
        genuine.with_header("with a time that is too large", timestamp, Some(&"9".repeat(5_000))),
        genuine.with_header("with a negative time", timestamp, Some(&format!("-{time}"))),
        genuine.with_header("without a signature", signature, None),
        genuine.with_header("with an empty signature", signature, Some("")),
        genuine.with_header("with the version alone", signature, Some("v1,")),
        genuine.with_header("without the version", signature, Some(signed.trim_start_matches("v1,"))),
        genuine.with_header("with a cut signature", signature, Some(&signed[..signed.len() - 4])),
        genuine.with_header("with letters that are not ASCII", signature, Some("v1,æøå")),
        genuine.with_header("with other signatures", signature, Some(&wrong)),
    ];
    let several = genuine.with_header("with the right one among others", signature, Some(&with_others));
    cases.push(SignedCase { is_signed: true, ..several });
    cases
}

/// Compares the judgements of code with what is expected.
#[track_caller]
fn check(cases: &[SignedCase], found: &[bool]) {
    let wrong: Vec<&str> =
        cases.iter().zip(found).filter(|(case, found)| case.is_signed != **found).map(|(case, _)| case.name).collect();
    assert_eq!((wrong, found.len()), (Vec::new(), cases.len()));
}

/// Returns the path of a snippet.
fn snippet(file: &str) -> std::path::PathBuf {
    root().join("host/hookloom/assets/snippets").join(file)
}

/// Copies a snippet and the program that calls it into a folder.
fn copy(folder: &Path, extension: &str) {
    for (from, name) in [
        (snippet(&format!("verify.{extension}")), "verify"),
        (fixtures().join("snippets").join(format!("check.{extension}")), "check"),
    ] {
        std::fs::copy(from, folder.join(format!("{name}.{extension}"))).unwrap();
    }
}

/// Runs code on real requests.
async fn run(extension: &str, command: impl FnOnce(&Path) -> Command) {
    let cases = cases().await;
    let folder = TempDir::new().unwrap();
    copy(folder.path(), extension);
    let lines: Vec<String> = cases.iter().map(SignedCase::line).collect();
    std::fs::write(folder.path().join("cases"), lines.join("\n")).unwrap();
    let mut command = command(folder.path());
    let output = command.arg("cases").current_dir(folder.path()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; `cargo xtask test` installs it"));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let found: Vec<bool> = printed.lines().map(|line| line.parse().unwrap()).collect();
    check(&cases, &found);
}

fn interpreter(program: &str, script: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(script);
    command
}

#[tokio::test]
async fn node_verifies() {
    run("mjs", |_| interpreter("node", "check.mjs")).await;
}

#[tokio::test]
async fn python_verifies() {
    run("py", |_| interpreter("python3", "check.py")).await;
}

#[tokio::test]
async fn ruby_verifies() {
    run("rb", |_| interpreter("ruby", "check.rb")).await;
}

#[tokio::test]
async fn php_verifies() {
    run("php", |_| interpreter("php", "check.php")).await;
}

#[tokio::test]
async fn go_verifies() {
    run("go", |folder| {
        std::fs::create_dir(folder.join("receiver")).unwrap();
        std::fs::rename(folder.join("verify.go"), folder.join("receiver/verify.go")).unwrap();
        std::fs::write(folder.join("go.mod"), "module check\n\ngo 1.19\n").unwrap();
        let mut command = Command::new("go");
        command.args(["run", "."]).env("GOCACHE", target().join("tools/go-cache")).env("GOPATH", folder.join("path"));
        command.envs([("CGO_ENABLED", "0"), ("GOFLAGS", ""), ("GOPROXY", "off"), ("GOTOOLCHAIN", "local")]);
        command
    })
    .await;
}

#[tokio::test]
async fn rust_verifies() {
    let cases = cases().await;
    let found: Vec<bool> = cases
        .iter()
        .map(|case| {
            let header = |name: &str| case.headers.get(name).map(String::as_str);
            verify::is_signed(case.secret, header, case.body.as_bytes())
        })
        .collect();
    check(&cases, &found);
}

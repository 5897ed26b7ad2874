//! The author's loop: from `hookloom plugin new` to a version that judges in a running host, in every language.

use crate::harness::{ADMIN_KEY, Host, Receiver, event, example, guest, program, root, text};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Runs `hookloom plugin …` in a folder.
fn plugin(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    // Beside what cargo builds: compiled code is kept from run to run, and nobody's home is touched.
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command.arg("plugin").args(arguments).current_dir(folder).output().unwrap()
}

/// The same, which must go well; its stdout.
#[track_caller]
fn good(folder: &Path, arguments: &[&str]) -> String {
    let output = plugin(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

/// The same, which must fail; its stderr.
#[track_caller]
fn bad(folder: &Path, arguments: &[&str]) -> String {
    let output = plugin(folder, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// A new plugin goes the whole way: built, checked, tested, run, pushed, judging in a host, replayed. Then its code is
/// edited to fail, and the author is told where.
async fn whole_loop(language: &str, (file, find, replace): (&str, &str, &str), told: &str) {
    // Compilers take every core: one language after the other leaves the other tests their time.
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = ONE_AT_A_TIME.lock().await;
    let place = TempDir::new().unwrap();
    let name = format!("my-{language}");
    assert!(good(place.path(), &["new", &name, "--lang", language]).contains("hookloom plugin build"));
    let folder = place.path().join(&name);
    assert!(bad(place.path(), &["new", &name, "--lang", language]).contains("is there already"));

    let report: Value = serde_json::from_str(json_part(&good(&folder, &["build", "--json"]))).unwrap();
    assert_eq!(text(&report["report"], "contract"), "hookloom:plugin@1.0.0");
    assert_eq!(report["report"]["probe"]["depends_on"], json!([]), "{report}");
    assert!(report["report"]["probe"]["steady_call_us"].as_u64().unwrap() > 0);
    assert!(good(&folder, &["test"]).contains("2 cases, 2 right, 0 failed"));
    let shown = good(&folder, &["run", "--event", "event.json"]);
    assert!(
        shown.contains("replace") && shown.contains("\"event\": \"Contact is Created\"") && shown.contains("memory"),
        "{shown}"
    );

    let (host, receiver) = (Host::start().await, Receiver::start().await);
    let target = ["--url", &host.url, "--key", ADMIN_KEY];
    assert!(good(&folder, &[&["push"][..], &target].concat()).contains("active: version"));
    host.subscription(&receiver.url, json!({"plugin": name})).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 7)).await).await;
    assert_eq!(
        (text(&delivery, "state"), &delivery["attempts"][0]["verdict"]),
        ("delivered", &json!("replace")),
        "{delivery}"
    );
    let body: Value = serde_json::from_str(text(&receiver.expect(1).await[0], "body")).unwrap();
    assert_eq!((&body["event"], &body["id"]), (&json!("Contact is Created"), &json!("7")));
    let replayed = good(&folder, &[&["replay", text(&delivery, "id")][..], &target].concat());
    assert!(replayed.contains("the host's plugin said replace (delivered)"), "{replayed}");

    let file = folder.join(file);
    let code = std::fs::read_to_string(&file).unwrap();
    assert!(code.contains(find));
    std::fs::write(&file, code.replace(find, replace)).unwrap();
    good(&folder, &["build"]);
    let failure = bad(&folder, &["run", "--event", "event.json"]);
    assert!(failure.contains(told) && failure.contains("transform"), "{failure}");
    assert!(bad(&folder, &["test"]).contains("1 cases failed"));
}

/// `build` prints what it runs on stderr, but some tools print on stdout.
fn json_part(output: &str) -> &str {
    &output[output.find("\n{").map_or(0, |at| at + 1)..]
}

#[tokio::test]
async fn rust_goes_the_whole_way() {
    let edit = ("src/lib.rs", "log::debug", "assert!(event.name.is_empty(), \"rust says why\");\n        log::debug");
    whole_loop("rust", edit, "<my_rust::Wrap as hookloom_sdk::Plugin>::transform").await;
}

#[tokio::test]
async fn javascript_goes_the_whole_way() {
    whole_loop(
        "js",
        ("src/plugin.js", "write(\"debug\"", "null.boom;\n    write(\"debug\""),
        "cannot read property 'boom' of null",
    )
    .await;
}

#[tokio::test]
async fn typescript_goes_the_whole_way() {
    let edit =
        ("src/plugin.ts", "write(\"debug\"", "if (event.name) throw new Error(\"ts says why\");\n    write(\"debug\"");
    whole_loop("ts", edit, "ts says why").await;
}

#[tokio::test]
async fn python_goes_the_whole_way() {
    let edit = ("src/plugin.py", "log.write", "raise ValueError(\"python says why\")\n        log.write");
    whole_loop("python", edit, "ValueError: python says why").await;
}

#[tokio::test]
async fn c_goes_the_whole_way() {
    let edit =
        ("src/plugin.c", "  replace(verdict", "  fprintf(stderr, \"c says why\\n\");\n  abort();\n  replace(verdict");
    whole_loop("c", edit, "c says why").await;
}

#[test]
fn every_example_passes_its_golden_cases() {
    for (name, cases) in [
        ("flatten", 22),
        ("redact", 24),
        ("slack", 23),
        ("deal-filter", 26),
        ("reshape", 23),
        ("route", 23),
        ("normalise", 24),
        ("units", 24),
        ("changes", 28),
        ("guard", 31),
        ("enrich", 24),
        ("wrap", 30),
    ] {
        let folder = format!("plugins/{name}");
        let result: Value = serde_json::from_str(&good(&root(), &["test", &folder, "--json"])).unwrap();
        assert_eq!((result["cases"].as_array().unwrap().len(), &result["failed"]), (cases, &json!(0)), "{name}");
    }
}

#[test]
fn a_case_that_comes_out_otherwise_is_shown_and_can_be_blessed() {
    let place = TempDir::new().unwrap();
    let (golden, component) = (place.path().join("golden"), place.path().join("p.wasm"));
    std::fs::create_dir(&golden).unwrap();
    std::fs::write(&component, guest("passes")).unwrap();
    let case = json!({"event": {"eventName": "x", "eventData": {}}, "expected": {"verdict": "drop"}});
    std::fs::write(golden.join("one.json"), case.to_string()).unwrap();
    let test = ["test", ".", "--component", "p.wasm"];
    let output = plugin(place.path(), &test);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success() && stdout.contains("- drop") && stdout.contains("+ pass"), "{stdout}");
    good(place.path(), &[&test[..], &["--bless"]].concat());
    assert!(good(place.path(), &test).contains("1 right, 0 failed"));
    std::fs::write(golden.join("two.json"), r#"{"event": "nowhere.json", "expected": {"verdict": "pass"}}"#).unwrap();
    assert!(bad(place.path(), &test).contains("nowhere.json"));
}

#[test]
fn the_check_says_what_a_version_depends_on_and_why_a_file_does_not_fit() {
    let place = TempDir::new().unwrap();
    let file = |name: &str, bytes: &[u8]| std::fs::write(place.path().join(name), bytes).unwrap();
    let depends = |name: &str| -> Value {
        let report: Value = serde_json::from_str(&good(place.path(), &["check", name, "--json"])).unwrap();
        report["report"]["probe"]["depends_on"].clone()
    };
    file("flatten.wasm", &example("flatten"));
    assert_eq!(depends("flatten.wasm"), json!([]));
    file("world.wasm", &guest("world"));
    assert_eq!(depends("world.wasm"), json!(["time", "random", "earlier calls"]));
    file("remembers.wasm", &guest("remembers"));
    assert_eq!(depends("remembers.wasm"), json!(["earlier calls"]));
    file("text.wasm", b"(component)");
    assert!(bad(place.path(), &["check", "text.wasm"]).contains("assemble it first"));
    file("core.wasm", b"\0asm\x01\0\0\0");
    assert!(bad(place.path(), &["check", "core.wasm"]).contains("core WebAssembly module"));
    assert!(bad(place.path(), &["check", "nowhere.wasm"]).contains("name a component"));
}

#[tokio::test]
async fn bench_and_watch_do_what_they_say() {
    let place = TempDir::new().unwrap();
    std::fs::write(place.path().join("event.json"), event("Contact is Created", 1)).unwrap();
    let figures: Value = serde_json::from_str(&good(
        &root(),
        &[
            "bench",
            "plugins/flatten",
            "--event",
            place.path().join("event.json").to_str().unwrap(),
            "--calls",
            "20",
            "--json",
        ],
    ))
    .unwrap();
    let wall = &figures["wall_us"];
    assert!(wall["p50"].as_u64() <= wall["p95"].as_u64() && wall["p95"].as_u64() <= wall["p99"].as_u64(), "{figures}");

    let manifest = "name = \"watched\"\nbuild = [\"cp src/p.wasm p.wasm\"]\ncomponent = \"p.wasm\"\n";
    std::fs::write(place.path().join("hookloom-plugin.toml"), manifest).unwrap();
    std::fs::create_dir(place.path().join("src")).unwrap();
    std::fs::write(place.path().join("src/p.wasm"), guest("passes")).unwrap();
    let host = Host::start().await;
    let mut watch = tokio::process::Command::new(program());
    watch.args(["plugin", "watch", "--rounds", "2", "--url", &host.url, "--key", ADMIN_KEY]).current_dir(place.path());
    let mut watch = watch.kill_on_drop(true).spawn().unwrap();
    let active = async || Some(host.get("./plugins").await[0]["active_sha256"].as_str()?.to_owned());
    let first = crate::harness::until("the first version", &active).await;
    std::fs::write(place.path().join("src/p.wasm"), guest("appends")).unwrap();
    crate::harness::until("the second version", async || active().await.filter(|now| *now != first)).await;
    assert!(watch.wait().await.unwrap().success());
}

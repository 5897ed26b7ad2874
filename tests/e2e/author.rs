//! Plugin authors: from `hookloom plugin new` to a version that judges in a running host, in every language.

mod cases;

use crate::harness::{ADMIN_KEY, Host, Receiver, event, example, guest, program, root, text};
use cases::Cases;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Runs `hookloom plugin …` in a folder.
fn plugin(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    // In the target folder: compiled code is kept between runs, and no home folder is used.
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command.arg("plugin").args(arguments).current_dir(folder).output().unwrap()
}

/// Runs a command that must succeed, and returns its stdout.
#[track_caller]
pub(crate) fn good(folder: &Path, arguments: &[&str]) -> String {
    let output = plugin(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail, and returns its stderr.
#[track_caller]
pub(crate) fn bad(folder: &Path, arguments: &[&str]) -> String {
    let output = plugin(folder, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// Builds, checks, tests, runs, pushes and replays a new plugin, which judges in a host. Then edits its code to fail, and checks
/// that the author sees place, message and functions. `cases` are answers and errors of the language's sdk.
async fn whole_loop(language: &str, cases: Option<&Cases>, edit: (&str, &str, &str), message: [&str; 2]) {
    // Compilers use every core, so languages run one after the other, to leave time to other tests.
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = ONE_AT_A_TIME.lock().await;
    let place = TempDir::new().unwrap();
    let name = format!("my-{language}");
    let made = good(place.path(), &["new", &name, "--lang", language]);
    assert!(made.contains("hookloom plugin build"));
    let folder = place.path().join(&name);
    assert!(bad(place.path(), &["new", &name, "--lang", language]).contains("already exists"));

    let report: Value = serde_json::from_str(&good(&folder, &["build", "--json"])).unwrap();
    assert_eq!(text(&report["report"], "contract"), "hookloom:plugin@1.0.0");
    assert_eq!(report["report"]["probe"]["depends_on"], json!([]), "{report}");
    assert!(report["report"]["probe"]["steady_call_us"].as_u64().unwrap() > 0);
    if language != "python" {
        the_same_is_built_elsewhere(&folder, &name, language);
    }
    assert!(good(&folder, &["test"]).contains("3 cases, 3 right, 0 failed"));
    let shown = good(&folder, &["run", "--event", "event.json"]);
    assert!(shown.contains("replace") && shown.contains("+   \"event\": \"Contact is Created\""), "{shown}");
    let shares: Value = serde_json::from_str(&good(&folder, &["run", "--event", "event.json", "--json"])).unwrap();
    let used = |limit: &str| {
        let own = |one: &&Value| text(one, "limit") == limit;
        shares["shares"].as_array().unwrap().iter().find(own).unwrap()["used"].as_u64().unwrap()
    };
    assert!(used("memory_bytes") > 0 && used("table_elements") > 0, "{shares}");
    // The template in C logs nothing.
    assert_eq!(used("log_bytes") > 0, language != "c", "{shares}");

    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let target = ["--url", &host.url, "--key", ADMIN_KEY];
    assert!(good(&folder, &[&["push"][..], &target].concat()).contains("active: version"));
    // This is about what an author sees. Beside compilers on a shared machine, single calls take many times their usual CPU time.
    host.subscription(&receiver.url, json!({"plugin": name, "limits": {"cpu_ms": 500}})).await;
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
    assert!(replayed.contains("the host sent this very body"), "{replayed}");

    a_failure_reaches_its_author(&folder, edit, message, &target, text(&delivery, "id"));
    if let Some(cases) = cases {
        cases::all_are_shown(&folder, &name, cases, &host, &receiver).await;
    }
}

/// Builds a plugin in another folder, and compares the components.
///
/// The interpreter of Python keeps modification times of files that are made for each build.
fn the_same_is_built_elsewhere(folder: &Path, name: &str, language: &str) {
    let component = match language {
        "rust" => "target/wasm32-wasip2/release/my_rust.wasm".to_owned(),
        _ => format!("{name}.wasm"),
    };
    let place = TempDir::new().unwrap();
    let copy = place.path().join("deeper/other");
    std::fs::create_dir(copy.parent().unwrap()).unwrap();
    // With the times of the files, so that packages are not built again.
    assert!(Command::new("cp").arg("-a").args([folder, &copy]).status().unwrap().success());
    std::fs::remove_file(copy.join(&component)).unwrap();
    for source in ["lib.rs", "plugin.js", "plugin.ts", "plugin.c"].map(|source| copy.join("src").join(source)) {
        if let Ok(code) = std::fs::read(&source) {
            std::fs::write(&source, code).unwrap();
        }
    }
    good(&copy, &["build"]);
    let [first, second] = [folder, &copy].map(|folder| std::fs::read(folder.join(&component)).unwrap());
    assert!(first == second, "{language}: two builds of the same sources differ");
}

/// Edits a plugin to fail, and checks that every command reports the reason and the position.
fn a_failure_reaches_its_author(
    folder: &Path,
    (file, find, replace): (&str, &str, &str),
    [message, place]: [&str; 2],
    target: &[&str],
    delivery: &str,
) {
    let file = folder.join(file);
    let code = std::fs::read_to_string(&file).unwrap();
    assert!(code.contains(find));
    std::fs::write(&file, code.replace(find, replace)).unwrap();
    // It can be built, and is refused, because it breaks on a sample event.
    let built = bad(folder, &["build"]);
    assert!(built.contains("does not fit") && built.contains(message), "{built}");
    let failure = bad(folder, &["run", "--event", "event.json"]);
    assert!(failure.contains(message) && failure.contains(place) && !failure.contains("unreachable"), "{failure}");
    // Its message reaches the author in every command.
    let tested = plugin(folder, &["test"]);
    let stdout = String::from_utf8_lossy(&tested.stdout).into_owned();
    assert!(tested.status.code() == Some(1) && stdout.contains(message), "{stdout}");
    assert!(bad(folder, &["bench", "--event", "event.json", "--calls", "2"]).contains(message));
    let checked = plugin(folder, &["check"]);
    let report = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.code() == Some(1) && report.starts_with("does not fit"), "{report}");
    assert!(report.contains(message) && report.contains("unknown: it failed"), "{report}");
    let pushed = plugin(folder, &[&["push"][..], target].concat());
    assert!(String::from_utf8_lossy(&pushed.stderr).contains(message), "{pushed:?}");
    let watched = plugin(folder, &[&["watch", "--rounds", "1", "--json"][..], target].concat());
    let round: Value = serde_json::from_slice(&watched.stdout).unwrap();
    assert!(round["ok"] == false && text(&round, "error").contains(message), "{round}");
    let replayed = bad(folder, &[&["replay", delivery, "--json"][..], target].concat());
    assert!(replayed.starts_with("{\"error\":") && replayed.contains(message), "{replayed}");
}

/// A call on a busy machine exceeds the limits of time. An author's commands stop a plugin at the longest times of a host only.
#[tokio::test]
async fn a_busy_machine_fails_no_command() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("loops", guest("loops")).await;
    let limits = json!({"cpu_ms": 900, "wall_ms": 1});
    host.subscription(&receiver.url, json!({"plugin": "loops", "limits": limits, "retry": {"schedule_s": [0]}})).await;
    let dead = host.ended(&host.send(event("Contact is Created", 7)).await).await;
    assert!(dead["attempts"][0]["reason"].to_string().contains("wall_ms"), "{dead}");
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("loops.wasm"), guest("loops")).unwrap();
    let target = ["--url", &host.url, "--key", ADMIN_KEY];
    let replayed = bad(folder.path(), &[&["replay", text(&dead, "id"), "loops.wasm"][..], &target].concat());
    assert!(replayed.contains("limits.cpu_ms is 1000 ms"), "{replayed}");
}

#[tokio::test]
async fn rust_goes_the_whole_way() {
    let edit = ("src/lib.rs", "log::debug", "assert!(event.name.is_empty(), \"rust says why\");\n        log::debug");
    let place =
        "the plugin failed: src/lib.rs:12:9: rust says why; in <my_rust::Wrap as hookloom_sdk::Plugin>::transform";
    whole_loop("rust", None, edit, ["rust says why", place]).await;
}

#[tokio::test]
async fn javascript_goes_the_whole_way() {
    let edit =
        ("src/plugin.js", "console.debug", "const deepInside = (x) => x.boom;\n  deepInside(null);\n  console.debug");
    let place = "the plugin failed: src/plugin.js:9:29: TypeError: cannot read property 'boom' of null; in deepInside (src/plugin.js:9:29) < transform (src/plugin.js:10:14)";
    whole_loop("js", None, edit, ["cannot read property 'boom' of null", place]).await;
}

#[tokio::test]
async fn typescript_goes_the_whole_way() {
    let edit = (
        "src/plugin.ts",
        "console.debug",
        "const deepInside = (): void => { if (event.name) throw new Error(\"ts says why\"); };\n  deepInside();\n  console.debug",
    );
    let place = "the plugin failed: src/plugin.ts:8:62: Error: ts says why; in deepInside (src/plugin.ts:8:62) < transform (src/plugin.ts:9:3)";
    whole_loop("ts", Some(&cases::TYPESCRIPT), edit, ["ts says why", place]).await;
}

#[tokio::test]
async fn python_goes_the_whole_way() {
    let edit = (
        "src/plugin.py",
        "logging.debug",
        "def deep_inside():\n        raise ValueError(\"python says why\")\n    deep_inside()\n    logging.debug",
    );
    let place = "the plugin failed: src/plugin.py:16:9: ValueError: python says why; in deep_inside (src/plugin.py:16:9) < transform (src/plugin.py:17:5)";
    whole_loop("python", Some(&cases::PYTHON), edit, ["ValueError: python says why", place]).await;
}

#[tokio::test]
async fn c_goes_the_whole_way() {
    let edit = ("src/plugin.c", "  replace(verdict", "  assert(!\"c says why\");\n  replace(verdict");
    let place = "c says why";
    whole_loop("c", None, edit, ["c says why", place]).await;
}

#[test]
fn every_example_passes_its_golden_cases() {
    for (name, cases) in [
        ("flatten", 22),
        ("redact", 24),
        ("slack", 25),
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
    let golden = place.path().join("golden");
    let component = place.path().join("p.wasm");
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
    // A plugin that breaks on a sample is refused. A plugin that refuses a sample itself is not.
    for (name, message) in [("panics", "it breaks on the sample event Contact"), ("loops", "limits.cpu_ms")] {
        file("bad.wasm", &guest(name));
        let why = bad(place.path(), &["check", "bad.wasm"]);
        assert!(why.contains("bad does not fit") && why.contains(message), "{why}");
        let output = plugin(place.path(), &["check", "bad.wasm", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), &report["fits"]), (Some(1), &json!(false)), "{report}");
    }
    file("refuses.wasm", &guest("bad_config"));
    let refuses = good(place.path(), &["check", "refuses.wasm"]);
    assert!(refuses.starts_with("fits") && refuses.contains("failure (no-key: "), "{refuses}");
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
    let [p50, p95, p99] = ["p50", "p95", "p99"].map(|name| wall[name].as_u64().unwrap());
    assert!(0 < p50 && p50 <= p95 && p95 <= p99, "{figures}");
    assert!(figures["memory_bytes"].as_u64().unwrap() > 65_536, "{figures}");
    assert_eq!(figures["above_cpu_ms"]["limit"], 50, "{figures}");
    assert!(figures["above_cpu_ms"]["calls"].as_u64().unwrap() < 20, "{figures}");

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

//! Assignment of failures to component or host, with scripts in the place of the compile child.

use super::*;
use std::os::unix::fs::PermissionsExt as _;

/// Returns the error of a compilation whose child runs this script.
async fn refused(script: &str) -> String {
    refused_within(60, script).await
}

async fn refused_within(wall_s: u64, script: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("compiler");
    std::fs::write(&program, format!("#!/bin/sh\necho >>\"${{0%/*}}/tries\"\n{script}\n")).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("executable");
    let limits = CompileLimits { cpu_s: 1, wall_s, memory_bytes: 1 << 30, ..CompileLimits::USUAL };
    let compiled = compile(&program, limits, ChildInput::Component(Bytes::from_static(b"component"))).await;
    let error = compiled.expect_err("no compiler");
    let tries = std::fs::read_to_string(folder.path().join("tries")).unwrap_or_default().lines().count();
    // Only faults of the host are repeated.
    assert_eq!(tries, if error.is_of_the_host() { 1 + RETRY_PAUSES.len() } else { 1 }, "{error}");
    error.to_string()
}

#[track_caller]
fn check(message: &str, expected: &str) {
    assert!(message.starts_with(expected), "{message}");
}

#[tokio::test]
async fn a_compiler_that_does_not_answer_is_reported_by_its_limit() {
    check(&refused_within(1, "exec sleep 600").await, "compiling took longer than 1 s (compile_wall_s)");
    check(&refused("kill -XCPU $$").await, "compiling took more than 1 s of CPU time (compile_cpu_s)");
    let words = "echo 'memory allocation of 7 bytes failed' >&2; kill -ABRT $$";
    check(&refused(words).await, "compiling needs more memory than compile_memory_bytes (1073741824)");
    check(&refused("exit 3").await, "the compiler crashed over it (exit status: 3)");
}

#[tokio::test]
async fn a_child_that_is_killed_or_missing_is_the_hosts_affair() {
    for signal in ["KILL", "TERM", "SEGV"] {
        let message = refused(&format!("kill -{signal} $$")).await;
        check(&message, "the compile process ended without an answer (signal: ");
    }
    check(&refused("exit 0").await, "the compile process ended without an answer (exit status: 0)");
    for signal in ["KILL", "TERM"] {
        let message = refused(&answering(4, &format!("printf code; kill -{signal} $$"))).await;
        check(&message, "the compile process ended without an answer (signal: ");
    }
    let unable = serde_json::to_string(&ChildReply::Unable("no room".into())).expect("JSON");
    check(&refused(&format!("echo '{unable}'")).await, "the compile process could not work: no room");
    let missing =
        compile(Path::new("/no/such/program"), CompileLimits::USUAL, ChildInput::Component(Bytes::new())).await;
    assert!(matches!(missing, Err(CompileError::Child(_))), "{missing:?}");
}

#[tokio::test]
async fn another_child_takes_the_place_of_one_that_was_killed() {
    let probe = serde_json::json!({
        "verdict": "pass", "reason": null, "first_call_us": 1, "steady_call_us": 1, "memory_bytes": 1,
    });
    let done = serde_json::json!({"Done": probe}).to_string();
    let script = answering(4, &format!("printf 'code%s\\n' '{done}'"));
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("compiler");
    let first = "[ -e \"${0%/*}/second\" ] || { touch \"${0%/*}/second\"; kill -KILL $$; }";
    std::fs::write(&program, format!("#!/bin/sh\n{first}\n{script}\n")).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("executable");
    let compiled = compile(&program, CompileLimits::USUAL, ChildInput::Component(Bytes::new()))
        .await
        .expect("the second child's code");
    assert_eq!(compiled.code, b"code");
}

/// Returns a script that answers like a compiler with this many bytes of code.
fn answering(code_bytes: u64, then: &str) -> String {
    let report = Report { contract: "c".into(), ..Report::default() };
    let line = serde_json::to_string(&ChildReply::Compiled(Box::new(report), code_bytes)).expect("JSON");
    format!("printf '%s\\n' '{line}'; {then}")
}

#[tokio::test]
async fn a_guest_that_kills_the_child_in_the_probe_is_refused() {
    let message = refused(&answering(4, "printf code; kill -ABRT $$")).await;
    check(&message, "the process that tried the component on a sample event died of it (signal: 6");
    let message = refused_within(3, &answering(4, "printf code; exec sleep 600")).await;
    check(&message, "compiling and trying it on a sample took longer than 3 s");
    let message = refused(&answering(4, "printf co; kill -ABRT $$")).await;
    check(&message, "the compile process ended without an answer (signal: 6");
    let overrun = serde_json::to_string(&ProbeOutcome::Overrun { cpu_ms: 900, limit_ms: 50 }).expect("JSON");
    let message = refused(&answering(4, &format!("printf 'code%s\\n' '{overrun}'"))).await;
    check(&message, "a call on a sample event used 900 ms of CPU time although it was stopped at 50 ms");
}

#[tokio::test]
async fn no_more_is_read_than_an_answer_may_have() {
    check(&refused("exec cat /dev/zero").await, "the compile process ended without an answer");
    let message = refused(&answering(CODE_BYTES_MAX + 1, "exec cat /dev/zero")).await;
    check(&message, "the component's compiled code has 134217729 bytes, and a host takes 134217728");
    let message = refused("cat /dev/zero | head -c 3000000 >&2; exit 3").await;
    check(&message, "the compiler crashed over it (exit status: 3)");
    let long =
        serde_json::to_string(&ChildReply::Refused(Refusal::new("x", "\u{1b}".repeat(9_000), "y"))).expect("JSON");
    let message = refused(&format!("printf '%s\\n' '{long}'")).await;
    assert!(message.len() < 7_000 && !message.contains('\u{1b}'), "{} bytes", message.len());
}

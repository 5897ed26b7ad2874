//! What the demo prints.

use super::super::diff::print_diff;
use anstyle::{AnsiColor, Style};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();

pub(super) fn started(address: &SocketAddr) {
    anstream::println!("{BOLD}a host{BOLD:#} on http://{address}, its store in a temporary folder");
    anstream::println!("{DIM}the address guard lets Notify URLs name this machine, for the demo only{DIM:#}");
}

pub(super) fn plugin(name: &str, version: &Value) {
    let (sha256, size) = (version["sha256"].as_str().unwrap_or_default(), version["size"].as_u64().unwrap_or_default());
    let report = &version["report"];
    let ms = report["compile_ms"].as_u64().unwrap_or_default();
    anstream::println!(
        "  plugin {name:<12} sha256 {} {:>4} KiB, compiled in {ms} ms",
        &sha256[..12.min(sha256.len())],
        size >> 10
    );
}

pub(super) fn event(number: usize, file: &str, payload: &str) {
    let json: Value = serde_json::from_str(payload).unwrap_or_default();
    let name = json["eventName"].as_str().unwrap_or_default();
    anstream::println!(
        "\n{BOLD}event {number}: {name}{BOLD:#} ({file}, {} bytes, POSTed to /in/… as Agile CRM does)",
        payload.len()
    );
    anstream::println!("  came in   {}", one_line(&json));
}

pub(super) fn delivery(plugin: &str, payload: &str, delivery: &Value, received: Option<&Value>) {
    let attempt = &delivery["attempts"][0];
    let verdict = attempt["verdict"].as_str().unwrap_or_default();
    let reason = attempt["reason"]["message"].as_str().map(|text| format!(" ({text})")).unwrap_or_default();
    let us = attempt["plugin_us"].as_u64().unwrap_or_default();
    anstream::println!("  {BOLD}{plugin}{BOLD:#} judged in {us} µs: {BOLD}{verdict}{BOLD:#}{reason}");
    let Some(received) = received else {
        anstream::println!("    POSTed    nothing");
        return;
    };
    let body = received["body"].as_str().unwrap_or_default();
    match verdict {
        "pass" => anstream::println!("    POSTed    the same {} bytes", body.len()),
        _ => print_diff("POSTed    ", payload, body),
    }
    let (mark, word) = if received["verified"] == true { (GREEN, "verified") } else { (RED, "REFUSED") };
    let (status, ms) = (&received["status"], attempt["post_us"].as_u64().unwrap_or_default() / 1_000);
    anstream::println!("    answered  {status} after {ms} ms, signature {mark}{word}{mark:#} by the receiver");
}

fn one_line(json: &Value) -> String {
    let text = json["eventData"].to_string();
    let cut: String = text.chars().take(150).collect();
    if cut.len() < text.len() { format!("{cut} …") } else { cut }
}

pub(super) fn summary(deliveries: &[(&str, Value, Option<Value>)], ledger: &Value, took: Duration) {
    anstream::println!(
        "\n{BOLD}{:<13}{:<10}{:<11}{:<9}{:<9}{}{BOLD:#}",
        "plugin",
        "verdict",
        "state",
        "answer",
        "plugin",
        "signature"
    );
    for (plugin, delivery, received) in deliveries {
        let attempt = &delivery["attempts"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let status = attempt["status"].as_u64().map_or_else(|| "-".to_owned(), |status| status.to_string());
        let us = format!("{} µs", attempt["plugin_us"].as_u64().unwrap_or_default());
        let signature = match received {
            None => "-",
            Some(received) if received["verified"] == true => "verified",
            Some(_) => "REFUSED",
        };
        anstream::println!(
            "{plugin:<13}{:<10}{:<11}{status:<9}{us:<9}{signature}",
            text(&attempt["verdict"]),
            text(&delivery["state"])
        );
    }
    let count = |name: &str| ledger[name].as_u64().unwrap_or_default();
    anstream::println!(
        "{} events, {} deliveries promised = {} delivered + {} dropped + {} dead + {} pending, in {} ms",
        count("events"),
        count("fan_out"),
        count("delivered"),
        count("dropped"),
        count("dead"),
        count("pending"),
        took.as_millis(),
    );
}

pub(super) fn ended(faults: &[String]) {
    for fault in faults {
        anstream::println!("{RED}not as it should be{RED:#}: {fault}");
    }
    if faults.is_empty() {
        anstream::println!(
            "{GREEN}all as it should be{GREEN:#}\n\nThe real thing:  hookloom serve   (from this folder: cargo run -- serve)"
        );
    }
}

//! Output of the demo.

use super::super::diff::print_diff;
use super::super::terminal::{BOLD, DIM, GREEN, PLAIN, RED, outln};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

pub(super) fn started(address: &SocketAddr) {
    outln!("{}a host{} on http://{}, its store in a temporary folder", BOLD, PLAIN, address);
    outln!("{}the address guard lets Notify URLs name this machine, for the demo only{}", DIM, PLAIN);
}

pub(super) fn plugin(name: &str, version: &Value) {
    let sha256 = version["sha256"].as_str().unwrap_or_default();
    let size = version["size"].as_u64().unwrap_or_default();
    let report = &version["report"];
    let ms = report["compile_ms"].as_u64().unwrap_or_default();
    outln!(
        "  plugin {:<12} sha256 {} {:>4} KiB, compiled in {} ms",
        name,
        sha256.chars().take(12).collect::<String>(),
        size >> 10,
        ms
    );
}

pub(super) fn event(number: usize, file: &str, payload: &str) {
    let json: Value = serde_json::from_str(payload).unwrap_or_default();
    let name = json["eventName"].as_str().unwrap_or_default();
    outln!(
        "\n{}event {}: {}{} ({}, {} bytes, POSTed to /in/… as Agile CRM does)",
        BOLD,
        number,
        name,
        PLAIN,
        file,
        payload.len()
    );
    outln!("  came in   {}", one_line(&json));
}

pub(super) fn delivery(plugin: &str, payload: &str, delivery: &Value, received: Option<&Value>) {
    let attempt = &delivery["attempts"][0];
    let verdict = attempt["verdict"].as_str().unwrap_or_default();
    let reason = attempt["reason"]["message"].as_str().map(|text| format!(" ({text})")).unwrap_or_default();
    let us = attempt["plugin_us"].as_u64().unwrap_or_default();
    outln!("  {}{}{} judged in {} µs: {}{}{}{}", BOLD, plugin, PLAIN, us, BOLD, verdict, PLAIN, reason);
    let Some(received) = received else {
        outln!("    POSTed    nothing");
        return;
    };
    let body = received["body"].as_str().unwrap_or_default();
    match verdict {
        "pass" => outln!("    POSTed    the same {} bytes", body.len()),
        _ => print_diff("POSTed    ", payload, body),
    }
    let (color, result) = if received["verified"] == true { (GREEN, "verified") } else { (RED, "REFUSED") };
    let status = &received["status"];
    let ms = attempt["post_us"].as_u64().unwrap_or_default() / 1_000;
    outln!("    answered  {} after {} ms, signature {}{}{} by the receiver", status, ms, color, result, PLAIN);
}

fn one_line(json: &Value) -> String {
    let text = json["eventData"].to_string();
    let cut: String = text.chars().take(150).collect();
    if cut.len() < text.len() { format!("{cut} …") } else { cut }
}

pub(super) fn summary(deliveries: &[(&str, Value, Option<Value>)], ledger: &Value, took: Duration) {
    let columns = format!("{:<13}{:<10}{:<11}{:<9}{:<9}signature", "plugin", "verdict", "state", "answer", "plugin");
    outln!("\n{}{}{}", BOLD, columns, PLAIN);
    for (plugin, delivery, received) in deliveries {
        let attempt = &delivery["attempts"][0];
        fn text(value: &Value) -> String {
            value.as_str().unwrap_or_default().to_owned()
        }
        let status = attempt["status"].as_u64().map_or_else(|| "-".to_owned(), |status| status.to_string());
        let us = format!("{} µs", attempt["plugin_us"].as_u64().unwrap_or_default());
        let signature = match received {
            None => "-",
            Some(received) if received["verified"] == true => "verified",
            Some(_) => "REFUSED",
        };
        let verdict = text(&attempt["verdict"]);
        let state = text(&delivery["state"]);
        outln!("{:<13}{:<10}{:<11}{:<9}{:<9}{}", plugin, verdict, state, status, us, signature);
    }
    let count = |name: &str| ledger[name].as_u64().unwrap_or_default();
    outln!(
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
        outln!("{}not as it should be{}: {}", RED, PLAIN, fault);
    }
    if faults.is_empty() {
        outln!(
            "{}all as it should be{}\n\nThe real thing:  hookloom serve   (from this folder: cargo run -- serve)",
            GREEN,
            PLAIN
        );
    }
}

//! Tells what it can see of the world: time, random, environment, files, network, config, secrets.

#![expect(clippy::disallowed_methods, reason = "a guest has its own clock")]

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export, json};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let file = std::fs::read_to_string("/etc/hostname").map_err(|error| error.kind().to_string());
        let network = std::net::TcpStream::connect("127.0.0.1:80").map(drop).map_err(|error| error.kind().to_string());
        let random = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 1);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(Verdict::json(&json::json!({
            "now_ms": now.as_millis() as u64,
            "received_at_ms": event.received_at_ms,
            "random": random.to_string(),
            "environment": std::env::vars().count(),
            "arguments": std::env::args().count(),
            "file": format!("{file:?}"),
            "network": format!("{network:?}"),
            "config": hookloom_sdk::config::entries(),
            "hmac": hookloom_sdk::secrets::hmac_sha256("key", b"data").map_or(0, |mac| mac.len()),
            "no_secret": hookloom_sdk::secrets::hmac_sha256("none", b"data").is_err(),
        })))
    }
}

export!(Guest);

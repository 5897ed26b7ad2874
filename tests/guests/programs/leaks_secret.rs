//! Sends what its config holds, which happens to be a secret.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export, json};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let copy = hookloom_sdk::config::get("copy").unwrap_or_default();
        Ok(Verdict::json(&json::json!({"id": event.id, "copy": copy})))
    }
}

export!(Guest);

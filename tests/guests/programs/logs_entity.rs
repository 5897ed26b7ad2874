//! Writes which entity the event is about to its log, and passes. Tests make the host fail at one of these lines.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        hookloom_sdk::log::info(format!("entity {}", event.entity_id.as_deref().unwrap_or_default()));
        Ok(Verdict::Pass)
    }
}

export!(Guest);

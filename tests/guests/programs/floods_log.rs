//! Writes 4,000 long lines to its log, and then passes.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        for line in 0..4_000 {
            hookloom_sdk::log::info(format!("{line} {}", event.name.repeat(200)));
        }
        Ok(Verdict::Pass)
    }
}

export!(Guest);

//! Wants to be asked again.

use hookloom_sdk::{Event, Failure, Plugin, Reason, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        Ok(Verdict::Later { delay_ms: 1, reason: Reason::new("not-yet", &event.name) })
    }
}

export!(Guest);

//! Says that the event can never work.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        Err(Failure::invalid_event("hopeless", &event.name))
    }
}

export!(Guest);

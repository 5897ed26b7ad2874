//! Says that its config is wrong.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        Err(Failure::bad_config("no-key", &event.name))
    }
}

export!(Guest);

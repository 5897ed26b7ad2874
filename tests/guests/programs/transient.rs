//! Says that it may work another time.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        Err(Failure::transient("not-now", &event.name))
    }
}

export!(Guest);

//! Loops for ever.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        loop {
            std::hint::black_box(event);
        }
    }
}

export!(Guest);

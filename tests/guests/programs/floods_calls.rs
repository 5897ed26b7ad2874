//! Calls the host without end.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        loop {
            std::hint::black_box(hookloom_sdk::config::get(&event.name));
        }
    }
}

export!(Guest);

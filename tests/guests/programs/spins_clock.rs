//! Waits for its clock to move.

#![expect(clippy::disallowed_methods, reason = "a guest has its own clock")]

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 100 {}
        Ok(Verdict::drop("moved", &event.name))
    }
}

export!(Guest);

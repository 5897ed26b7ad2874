//! Drops with a reason as long as it can make it.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        Ok(Verdict::drop("x".repeat(100_000), event.name.repeat(10_000)))
    }
}

export!(Guest);

//! Polls a timer for ever, without waiting for it.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let timer = wasip2::clocks::monotonic_clock::subscribe_duration(3_600_000_000_000);
        while !timer.ready() {}
        Ok(Verdict::drop("ready", &event.name))
    }
}

export!(Guest);

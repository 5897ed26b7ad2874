//! Waits for any of two timers that never come.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};
use wasip2::clocks::monotonic_clock::{subscribe_duration, subscribe_instant};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let timers = [subscribe_duration(3_600_000_000_000), subscribe_instant(u64::MAX)];
        let ready = wasip2::io::poll::poll(&[&timers[0], &timers[1]]);
        Ok(Verdict::drop("ready", format!("{ready:?} {}", event.name)))
    }
}

export!(Guest);

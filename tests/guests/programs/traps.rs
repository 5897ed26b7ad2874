//! Traps without a report, in a function of its own.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

#[inline(never)]
fn trap_in_transform(received_at_ms: u64) -> u64 {
    if received_at_ms > 0 {
        std::process::abort()
    }
    received_at_ms
}

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        Ok(Verdict::drop("trapped", trap_in_transform(event.received_at_ms).to_string()))
    }
}

export!(Guest);

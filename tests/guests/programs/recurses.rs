//! Calls itself until the stack ends.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        fn deeper(n: u64) -> u64 {
            std::hint::black_box(if n == u64::MAX { 0 } else { deeper(n + 1) + n })
        }
        Ok(Verdict::drop("deep", deeper(event.received_at_ms).to_string()))
    }
}

export!(Guest);

//! Uses two milliseconds of CPU time or more, and passes.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let mut sum = event.received_at_ms;
        for number in 0..4_000_000_u64 {
            sum = std::hint::black_box(sum ^ number);
        }
        std::hint::black_box(sum);
        Ok(Verdict::Pass)
    }
}

export!(Guest);

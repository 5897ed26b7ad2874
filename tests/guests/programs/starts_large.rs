//! Allocates more than it may before it is asked anything: while it is instantiated.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

extern "C" fn start() {
    // Untouched, so that memory is what it runs out of, and not time.
    let kept: Vec<u8> = Vec::with_capacity(100 << 20);
    std::hint::black_box(kept);
}

#[used]
#[expect(unsafe_code, reason = "the only way to run code before the first call")]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

struct Guest;

impl Plugin for Guest {
    fn transform(_event: &Event) -> Result<Verdict, Failure> {
        Ok(Verdict::Pass)
    }
}

export!(Guest);

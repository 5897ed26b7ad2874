//! Loops before it is asked anything: while it is instantiated.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

extern "C" fn start() {
    let mut turns = 0_u64;
    while std::hint::black_box(turns) < u64::MAX {
        turns += 1;
    }
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

//! Calls itself as deep as its config says, and then passes.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, config, export};

struct Guest;

fn descend(depth: u32) -> u32 {
    if depth == 0 { 0 } else { std::hint::black_box(descend(depth - 1)) ^ depth }
}

impl Plugin for Guest {
    fn transform(_: &Event) -> Result<Verdict, Failure> {
        let depth = config::get("depth").and_then(|depth| depth.parse().ok()).unwrap_or(1);
        std::hint::black_box(descend(depth));
        Ok(Verdict::Pass)
    }
}

export!(Guest);

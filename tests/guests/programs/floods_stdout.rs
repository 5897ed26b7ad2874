//! Writes 2 MiB to stdout and stderr, and then passes.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "that is what it does")]

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let line = event.name[..1].repeat(64 << 10);
        for _ in 0..16 {
            println!("{line}");
            eprintln!("{line}");
        }
        Ok(Verdict::Pass)
    }
}

export!(Guest);

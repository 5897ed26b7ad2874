//! Passes everything.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(_event: &Event) -> Result<Verdict, Failure> {
        Ok(Verdict::Pass)
    }
}

export!(Guest);

//! Ends its process, as it thinks.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        std::process::exit(i32::from(event.id.is_empty()))
    }
}

export!(Guest);

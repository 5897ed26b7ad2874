//! Returns a body that is no JSON, as JSON.

use hookloom_sdk::{Event, Failure, Outgoing, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        Ok(Verdict::Replace(Outgoing { content_type: None, ..Outgoing::text("", format!("{{{}", event.name)) }))
    }
}

export!(Guest);

//! Returns a content type with a line break in it.

use hookloom_sdk::{Event, Failure, Outgoing, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        Ok(Verdict::Replace(Outgoing::text("text/plain\r\nx-evil: 1", event.id.clone())))
    }
}

export!(Guest);

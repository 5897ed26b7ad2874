//! Returns a body of 8 MiB.

use hookloom_sdk::{Event, Failure, Outgoing, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        Ok(Verdict::Replace(Outgoing::text("text/plain", event.name[..1].repeat(8 << 20))))
    }
}

export!(Guest);

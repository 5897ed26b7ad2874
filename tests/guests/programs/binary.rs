//! Returns bytes that are no text.

use hookloom_sdk::{Event, Failure, Outgoing, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        Ok(Verdict::Replace(Outgoing::binary("application/octet-stream", vec![0xff, event.id.len() as u8])))
    }
}

export!(Guest);

//! Returns a URL that is none.

use hookloom_sdk::{Event, Failure, Outgoing, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        Ok(Verdict::Replace(Outgoing::json(&event.json()?).to("file:///etc/passwd")))
    }
}

export!(Guest);

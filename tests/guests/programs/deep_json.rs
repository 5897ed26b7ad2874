//! Returns JSON that is nested 10,000 levels deep: valid, and checked without recursion.

use hookloom_sdk::{Event, Failure, Outgoing, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let body = "[".repeat(10_000) + &event.id.len().to_string() + &"]".repeat(10_000);
        Ok(Verdict::Replace(Outgoing::text("application/json", body)))
    }
}

export!(Guest);

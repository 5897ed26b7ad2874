//! Drops every event and says what it saw of the past.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export, history};

struct Guest;

impl Plugin for Guest {
    fn transform(_: &Event) -> Result<Verdict, Failure> {
        Ok(match history::previous() {
            Some(before) => Verdict::drop("before", format!("{} {} {}", before.name, before.id, before.payload)),
            None => Verdict::drop("none", "nothing was accepted before"),
        })
    }
}

export!(Guest);

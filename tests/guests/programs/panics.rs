//! Panics with a message.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        panic!("the panic of {}", event.name)
    }
}

export!(Guest);

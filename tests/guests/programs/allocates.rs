//! Allocates without end.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let mut kept: Vec<Vec<u8>> = Vec::new();
        loop {
            kept.push(vec![event.name.len() as u8; 1 << 20]);
        }
    }
}

export!(Guest);

//! Reads its standard input, which is at its end.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        Ok(Verdict::drop("read", format!("{read:?} {}", event.name)))
    }
}

export!(Guest);

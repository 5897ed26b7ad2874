//! Hands the host long keys, 64 MiB together, in few calls.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, config, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let key = event.name.repeat((1 << 20) / event.name.len());
        let found = (0..64).filter_map(|_| config::get(&key)).count();
        Ok(Verdict::drop("kept", found.to_string()))
    }
}

export!(Guest);

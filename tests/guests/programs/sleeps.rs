//! Sleeps for an hour.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        std::thread::sleep(std::time::Duration::from_secs(3_600));
        Ok(Verdict::drop("slept", &event.name))
    }
}

export!(Guest);

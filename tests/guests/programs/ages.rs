//! Judges its first event, and panics at every later one: a fresh instance never fails.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(_: &Event) -> Result<Verdict, Failure> {
        static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        assert_eq!(CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed), 0, "too old for this");
        Ok(Verdict::Pass)
    }
}

export!(Guest);

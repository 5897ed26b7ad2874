//! Counts its calls in memory: a fresh instance has always counted one.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let calls = 1 + CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(Verdict::drop(format!("call-{calls}"), event.name.clone()))
    }
}

export!(Guest);

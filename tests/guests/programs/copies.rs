//! Copies memory in large blocks for ever.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let mut a = vec![0_u8; 16 << 20];
        let b = vec![event.id.len() as u8; 16 << 20];
        loop {
            a.copy_from_slice(std::hint::black_box(&b));
            std::hint::black_box(&a);
        }
    }
}

export!(Guest);

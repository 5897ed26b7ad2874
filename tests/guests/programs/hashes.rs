//! Asks for the HMAC of 1 MiB, again and again.

use hookloom_sdk::{Event, Failure, Plugin, Verdict, export};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let data = vec![event.name.len() as u8; 1 << 20];
        loop {
            hookloom_sdk::secrets::hmac_sha256("key", &data)?;
        }
    }
}

export!(Guest);

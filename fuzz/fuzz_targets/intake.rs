//! Intake of any bytes: it never panics, and an accepted event is a slice of the input, has both keys, and can be read again.
#![no_main]

use bytes::Bytes;
use hookloom_model::event::{read_batch, read_envelope};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let body = Bytes::copy_from_slice(bytes);
    let Ok(envelopes) = read_batch(&body, 1_000) else { return };
    for envelope in envelopes {
        let inside = body.as_ptr_range();
        let slice = envelope.payload.as_ptr_range();
        assert!(inside.start <= slice.start && slice.end <= inside.end);
        let again = read_envelope(&envelope.payload).expect("what was accepted is accepted again");
        assert_eq!((again.name, again.entity_id), (envelope.name, envelope.entity_id));
    }
});

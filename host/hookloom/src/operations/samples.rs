//! Sample events: the payloads of the vendor's guide, for demonstrations and for a person without an account at hand.

/// Event of the vendor's guide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SampleEvent {
    /// Event name of the payload.
    pub(crate) name: &'static str,
    /// Name of the file of the payload.
    pub(crate) file: &'static str,
    /// Payload as the vendor sends it.
    pub(crate) payload: &'static str,
}

macro_rules! sample {
    ($name:literal, $file:literal) => {
        SampleEvent {
            name: $name,
            file: $file,
            payload: include_str!(concat!("../../../../tests/fixtures/guide/", $file)),
        }
    };
}

/// One event of each name, in the order of the guide.
pub(crate) const SAMPLE_EVENTS: [SampleEvent; 4] = [
    sample!("Contact is Created", "contact_created.json"),
    sample!("Contact is Updated", "contact_updated.json"),
    sample!("Opportunity is Created", "opportunity_created.json"),
    sample!("Opportunity is Updated", "opportunity_updated.json"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::read_envelope;
    use bytes::Bytes;

    #[test]
    fn each_sample_is_an_event_of_its_name() {
        for sample in SAMPLE_EVENTS {
            let envelope = read_envelope(&Bytes::from_static(sample.payload.as_bytes())).expect(sample.file);
            assert_eq!(envelope.name, sample.name, "{}", sample.file);
        }
    }
}

//! Parser of one envelope: a JSON object with the name and the data of an event.
//!
//! # Guarantees
//! An accepted envelope is UTF-8, is JSON that plugins can read (`json.rs`), has exactly the two keys, and is returned as a slice
//! of the received bytes. An error has the reason and the offset. Of `eventData`, only the id is parsed.

use super::entity::{EntityId, entity_id};
use super::json::{DEPTH_MAX, Unreadable, check_readable, offset_of};
use crate::limits::shortened;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{self, Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Maximum length of the text of an error, in bytes. It may quote the body, and is stored with a rejected request.
const WHAT_BYTES_MAX: usize = 300;

/// Checked envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Value of `eventName`.
    pub name: String,
    /// `eventData.id` as text, if it has at most [`ENTITY_ID_BYTES_MAX`](super::ENTITY_ID_BYTES_MAX).
    pub entity_id: Option<String>,
    /// Length of `eventData.id` in bytes, if it is longer than that.
    pub oversized_entity_id: Option<usize>,
    /// Exact bytes of the envelope: the whole body, or a slice of an array or a line.
    pub payload: Bytes,
    /// Position in a batch: `line 3` or `item 3`. Empty for a single event.
    pub place: String,
}

/// Reason why bytes are not an envelope. Offsets count bytes from the start of the request body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The body has nothing but blanks.
    #[error("the body is empty: send {{\"eventName\": …, \"eventData\": {{…}}}}")]
    Empty,
    /// The body begins with a byte order mark.
    #[error("the body starts with a byte order mark (at byte {offset}); send plain UTF-8 without one")]
    ByteOrderMark {
        /// Offset of the mark.
        offset: usize,
    },
    /// The body is not UTF-8.
    #[error("the body is not UTF-8: the byte at offset {offset} begins no character")]
    NotUtf8 {
        /// Offset of the fault.
        offset: usize,
    },
    /// Plugins cannot read the JSON.
    #[error(transparent)]
    Unreadable(Unreadable),
    /// The batch has too many events. The rest was not read.
    #[error("the batch has more than {events_max} events, and this host accepts no more at once")]
    TooMany {
        /// Maximum number of events.
        events_max: usize,
    },
    /// The body is not JSON, or not an envelope.
    #[error("{what} at byte {offset}")]
    Invalid {
        /// Description of the fault.
        what: String,
        /// Offset of the fault.
        offset: usize,
    },
    /// An envelope of a batch is invalid.
    #[error("{place}: {fault}")]
    In {
        /// Position in the batch: `line 3` or `item 3`.
        place: String,
        /// The fault.
        fault: Box<EnvelopeError>,
    },
}

impl EnvelopeError {
    /// Returns the offset of the fault, in bytes from the start of the body.
    pub fn offset(&self) -> usize {
        match self {
            EnvelopeError::Empty | EnvelopeError::TooMany { .. } => 0,
            EnvelopeError::ByteOrderMark { offset }
            | EnvelopeError::NotUtf8 { offset }
            | EnvelopeError::Invalid { offset, .. } => *offset,
            EnvelopeError::Unreadable(fault) => fault.offset(),
            EnvelopeError::In { fault, .. } => fault.offset(),
        }
    }

    fn moved_by(mut self, start: usize) -> Self {
        match &mut self {
            EnvelopeError::Empty | EnvelopeError::TooMany { .. } => {}
            EnvelopeError::ByteOrderMark { offset }
            | EnvelopeError::NotUtf8 { offset }
            | EnvelopeError::Invalid { offset, .. } => *offset += start,
            EnvelopeError::Unreadable(fault) => *fault.offset_mut() += start,
            EnvelopeError::In { fault, .. } => **fault = fault.clone().moved_by(start),
        }
        self
    }
}

/// Parses exactly one envelope.
pub fn read_envelope(body: &Bytes) -> Result<Envelope, EnvelopeError> {
    let text = checked_text(body)?;
    envelope_whole(body, text)
}

/// Parses a body that is one envelope, which is kept whole, with the blanks around it.
pub(super) fn envelope_whole(body: &Bytes, text: &str) -> Result<Envelope, EnvelopeError> {
    let envelope = envelope_at(body, text)?;
    Ok(Envelope { payload: body.clone(), ..envelope })
}

/// Checks the body as a whole.
pub(super) fn checked_text(body: &[u8]) -> Result<&str, EnvelopeError> {
    if body.starts_with(b"\xEF\xBB\xBF") {
        return Err(EnvelopeError::ByteOrderMark { offset: 0 });
    }
    let text = std::str::from_utf8(body).map_err(|error| EnvelopeError::NotUtf8 { offset: error.valid_up_to() })?;
    if text.trim().is_empty() {
        return Err(EnvelopeError::Empty);
    }
    Ok(text)
}

/// Parses the envelope in `part`, a slice of `body`, with offsets in `body`.
pub(super) fn envelope_at(body: &Bytes, part: &str) -> Result<Envelope, EnvelopeError> {
    let part = part.trim_matches([' ', '\t', '\r', '\n']);
    let start = part.as_ptr() as usize - body.as_ptr() as usize;
    let moved = |error: EnvelopeError| error.moved_by(start);
    // An array may nest one level deeper than its items.
    check_readable(part.as_bytes(), DEPTH_MAX).map_err(|fault| moved(EnvelopeError::Unreadable(fault)))?;
    let mut deserializer = serde_json::Deserializer::from_str(part);
    let keys = deserializer
        .deserialize_map(EnvelopeVisitor)
        .and_then(|keys| deserializer.end().map(|()| keys))
        .map_err(|error| moved(json_error(part, &error)))?;
    let EntityId { id, oversized } = entity_id(keys.data).unwrap_or_default();
    Ok(Envelope {
        name: keys.name,
        entity_id: id,
        oversized_entity_id: oversized,
        payload: body.slice_ref(part.as_bytes()),
        place: String::new(),
    })
}

/// Converts an error of serde_json, with a byte offset instead of line and column.
pub(super) fn json_error(text: &str, error: &serde_json::Error) -> EnvelopeError {
    let offset = offset_of(text.as_bytes(), error.line(), error.column());
    let message = error.to_string();
    let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    // The message may quote a name or a value, which may be as long as the body.
    EnvelopeError::Invalid { what: shortened(what, WHAT_BYTES_MAX), offset }
}

struct EnvelopeKeys<'de> {
    name: String,
    data: &'de RawValue,
}

/// Key of an envelope. The expected ones are compared without a copy.
#[derive(Deserialize)]
#[serde(field_identifier)]
enum EnvelopeKey {
    #[serde(rename = "eventName")]
    EventName,
    #[serde(rename = "eventData")]
    EventData,
    Unexpected(String),
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = EnvelopeKeys<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the keys \"eventName\" and \"eventData\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut name = None::<String>;
        let mut data = None::<&RawValue>;
        while let Some(key) = map.next_key()? {
            match key {
                EnvelopeKey::EventName if name.is_none() => name = Some(map.next_value()?),
                EnvelopeKey::EventData if data.is_none() => data = Some(object(map.next_value()?)?),
                EnvelopeKey::EventName => return Err(de::Error::custom("the key \"eventName\" occurs twice")),
                EnvelopeKey::EventData => return Err(de::Error::custom("the key \"eventData\" occurs twice")),
                EnvelopeKey::Unexpected(key) => {
                    return Err(de::Error::custom(format!(
                        "unexpected key {key:?}: an event has \"eventName\" and \"eventData\" only"
                    )));
                }
            }
        }
        Ok(EnvelopeKeys {
            name: name.ok_or_else(|| de::Error::custom("the key \"eventName\" is missing"))?,
            data: data.ok_or_else(|| de::Error::custom("the key \"eventData\" is missing"))?,
        })
    }
}

fn object<E: de::Error>(data: &RawValue) -> Result<&RawValue, E> {
    if data.get().starts_with('{') { Ok(data) } else { Err(E::custom("\"eventData\" is not an object")) }
}

#[cfg(test)]
mod tests {
    use super::super::read_batch;
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(body: &str, expected: Result<&str, &str>) {
        let read = read_envelope(&Bytes::copy_from_slice(body.as_bytes()));
        let read = read.map(|envelope| envelope.name).map_err(|error| error.to_string());
        assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned), "{body}");
    }

    #[test]
    fn one_envelope() {
        check(r#"{"eventName":"Contact is Created","eventData":{}}"#, Ok("Contact is Created"));
        check("\n {\"eventData\" : {\"a\":[1]},\n \"eventName\":\"x\"} ", Ok("x"));
        check("", Err("the body is empty: send {\"eventName\": …, \"eventData\": {…}}"));
        check("\u{feff}{}", Err("the body starts with a byte order mark (at byte 0); send plain UTF-8 without one"));
        check("{}", Err("the key \"eventName\" is missing at byte 1"));
        check(r#"{"eventName":"x"}"#, Err("the key \"eventData\" is missing at byte 16"));
        check(r#"{"eventName":"x","eventData":[]}"#, Err("\"eventData\" is not an object at byte 31"));
        check(
            r#"{"eventName":"x","eventName":"y","eventData":{}}"#,
            Err("the key \"eventName\" occurs twice at byte 27"),
        );
        check(
            r#"{"eventName":"x","eventData":{},"id":1}"#,
            Err("unexpected key \"id\": an event has \"eventName\" and \"eventData\" only at byte 35"),
        );
        check(r#"{"eventName":1,"eventData":{}}"#, Err("invalid type: integer `1`, expected a string at byte 13"));
        check(r#"{"eventName":"x","eventData":{"#, Err("EOF while parsing an object at byte 29"));
        check("{\n\"eventName\":\n oops}", Err("expected value at byte 16"));
        check(r#"{"eventName":"x","eventData":{}} {}"#, Err("trailing characters at byte 33"));
    }

    #[test]
    fn refuses_what_nests_too_deep_or_is_not_utf8() {
        fn deep(levels: usize) -> String {
            let inner = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            format!("{{\"eventName\":\"x\",\"eventData\":{{\"a\":{inner}}}}}")
        }
        assert!(read_envelope(&Bytes::from(deep(125))).is_ok());
        let too_deep = Unreadable::TooDeep { depth_max: 127, offset: 34 + 125 };
        assert_eq!(read_envelope(&Bytes::from(deep(126))), Err(EnvelopeError::Unreadable(too_deep)));
        let broken = Bytes::from_static(b"{\"eventName\":\"\xff\"}");
        assert_eq!(read_envelope(&broken), Err(EnvelopeError::NotUtf8 { offset: 14 }));
    }

    #[test]
    fn the_entity_id_is_text_whatever_it_was() {
        fn id(data: &str) -> Option<String> {
            let body = format!("{{\"eventName\":\"x\",\"eventData\":{data}}}");
            read_envelope(&Bytes::from(body)).expect("an envelope").entity_id
        }
        assert_eq!(id(r#"{"id":5701666712059904}"#).as_deref(), Some("5701666712059904"));
        assert_eq!(id(r#"{"id":"57"}"#).as_deref(), Some("57"));
        assert_eq!(id(r#"{"id":null}"#), None);
        assert_eq!(id(r#"{"id":{"a":1}}"#), None);
        assert_eq!(id(r#"{"id":1,"id":2}"#).as_deref(), Some("2"));
        assert_eq!(id(r#"{"id":5.701666712059904E15}"#).as_deref(), Some("5701666712059904"));
    }

    #[test]
    fn an_entity_id_has_at_most_255_bytes() {
        fn read(id: &str) -> (Option<usize>, Option<usize>) {
            let body = format!("{{\"eventName\":\"x\",\"eventData\":{{\"id\":{id}}}}}");
            let envelope = read_envelope(&Bytes::from(body)).expect("an envelope");
            (envelope.entity_id.map(|id| id.len()), envelope.oversized_entity_id)
        }
        assert_eq!(read(&format!("\"{}\"", "a".repeat(255))), (Some(255), None));
        assert_eq!(read(&format!("\"{}\"", "a".repeat(256))), (None, Some(256)));
        assert_eq!(read(&format!("\"{}\"", "é".repeat(128))), (None, Some(256)), "bytes count, not characters");
        assert_eq!(read(&format!("\"{}\"", "\\u0061".repeat(255))), (Some(255), None), "escapes do not");
        assert_eq!(read(&"9".repeat(250_000)), (None, Some(250_000)));
    }

    #[test]
    fn an_error_does_not_quote_a_body_whole() {
        for body in [
            format!("{{\"{}\":1}}", "k".repeat(200_000)),
            format!("\"{}\"", "v".repeat(200_000)),
            format!("{{\"eventName\":{{\"{}\":1}}}}", "k".repeat(200_000)),
            format!("{{\"eventName\":[\"{}\"]}}", "é".repeat(100_000)),
        ] {
            let error = read_envelope(&Bytes::from(body)).expect_err("no envelope").to_string();
            assert!(error.len() < 400, "{} bytes", error.len());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_accepted_bytes_are_kept(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let body = Bytes::from(body);
            if let Ok(batch) = read_batch(&body, 1_000) {
                for envelope in batch {
                    prop_assert!(body.windows(envelope.payload.len()).any(|window| window == envelope.payload));
                }
            }
        }

        #[test]
        fn any_json_inside_event_data_comes_back_to_the_byte(text in "[ -~é]{0,40}", number in any::<f64>()) {
            let data = serde_json::json!({"text": text, "number": number, "list": [null, true, {"deep": [[]]}]});
            let body = Bytes::from(format!("{{ \"eventName\":\"n\",\n\"eventData\": {data} }}"));
            prop_assert_eq!(read_envelope(&body).expect("an envelope").payload, body);
        }
    }
}

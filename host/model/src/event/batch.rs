//! Parser of a request body: one envelope, an array of envelopes, or one envelope a line (NDJSON).
//!
//! A body is parsed completely or not at all. Each envelope is a slice of the received bytes. Nothing is read beyond the first
//! event over the maximum.

use super::envelope::{Envelope, EnvelopeError, checked_text, envelope_at, envelope_whole, json_error};
use bytes::Bytes;
use serde::de::{self, Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::cell::Cell;
use std::fmt;

/// Parses a request body: one envelope, an array of envelopes, or one envelope a line. Reads nothing beyond the first event over
/// `events_max`.
///
/// The form is recognised by the bytes: `[` opens an array; anything else is one envelope if it parses as one JSON value, and
/// otherwise one envelope a line. An error has the offset of the byte, and with several envelopes also the line or the item.
pub fn read_batch(body: &Bytes, events_max: usize) -> Result<Vec<Envelope>, EnvelopeError> {
    let text = checked_text(body)?;
    if text.trim_start().starts_with('[') {
        return read_array(body, text, events_max);
    }
    match envelope_whole(body, text) {
        Err(_) if text.trim().contains('\n') && is_meant_as_lines(text) => read_lines(body, text, events_max),
        one => Ok(vec![one?]),
    }
}

/// Returns true if the body looks like NDJSON: one of its lines is a JSON value with the first key of an envelope, or its first
/// line is a JSON value. A pretty-printed object has no such line.
fn is_meant_as_lines(text: &str) -> bool {
    fn is_whole(line: &str) -> bool {
        serde_json::from_str::<&RawValue>(line).is_ok()
    }
    fn is_envelope(line: &str) -> bool {
        line.contains("\"eventName\"") && is_whole(line)
    }
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.next().is_some_and(|first| is_whole(first) || is_envelope(first)) || lines.any(is_envelope)
}

fn read_array(body: &Bytes, text: &str, events_max: usize) -> Result<Vec<Envelope>, EnvelopeError> {
    let is_over = Cell::new(false);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let items = deserializer
        .deserialize_seq(ItemsVisitor { events_max, is_over: &is_over })
        .and_then(|items| deserializer.end().map(|()| items));
    if is_over.get() {
        return Err(EnvelopeError::TooMany { events_max });
    }
    let items = items.map_err(|error| json_error(text, &error))?;
    if items.is_empty() {
        return Err(EnvelopeError::Invalid { what: "the array holds no event".into(), offset: 0 });
    }
    let one =
        |(index, item): (usize, &&RawValue)| placed(envelope_at(body, item.get()), || format!("item {}", index + 1));
    items.iter().enumerate().map(one).collect()
}

/// Items of an array, as slices of the text, up to a maximum.
struct ItemsVisitor<'a> {
    events_max: usize,
    is_over: &'a Cell<bool>,
}

impl<'de> Visitor<'de> for ItemsVisitor<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut read = Vec::new();
        while let Some(item) = items.next_element()? {
            if read.len() == self.events_max {
                self.is_over.set(true);
                return Err(de::Error::custom("too many events"));
            }
            read.push(item);
        }
        Ok(read)
    }
}

fn read_lines(body: &Bytes, text: &str, events_max: usize) -> Result<Vec<Envelope>, EnvelopeError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut envelopes = Vec::new();
    for (index, line) in lines {
        if envelopes.len() == events_max {
            return Err(EnvelopeError::TooMany { events_max });
        }
        envelopes.push(placed(envelope_at(body, line), || format!("line {}", index + 1))?);
    }
    Ok(envelopes)
}

/// Adds the position in the batch to an envelope or to its error.
fn placed(
    envelope: Result<Envelope, EnvelopeError>,
    place: impl FnOnce() -> String,
) -> Result<Envelope, EnvelopeError> {
    match envelope {
        Ok(envelope) => Ok(Envelope { place: place(), ..envelope }),
        Err(fault) => Err(EnvelopeError::In { place: place(), fault: Box::new(fault) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_keeps_each_raw_slice() {
        fn payloads(body: &str) -> Result<Vec<String>, String> {
            let batch =
                read_batch(&Bytes::copy_from_slice(body.as_bytes()), 1_000).map_err(|error| error.to_string())?;
            Ok::<_, String>(
                batch.iter().map(|one| String::from_utf8_lossy(&one.payload).into_owned()).collect::<Vec<_>>(),
            )
        }
        let a = r#"{"eventName":"a", "eventData":{"n":1.0}}"#;
        let b = r#"{"eventData":{},"eventName":"b"}"#;
        assert_eq!(payloads(a), Ok(vec![a.to_owned()]));
        assert_eq!(payloads(&format!("[ {a} ,{b}]")), Ok(vec![a.to_owned(), b.to_owned()]));
        assert_eq!(payloads(&format!("{a}\r\n\n{b}\n")), Ok(vec![a.to_owned(), b.to_owned()]));
        assert_eq!(payloads("[]"), Err("the array holds no event at byte 0".into()));
        assert_eq!(payloads(&format!("[{b},{{}}]")), Err("item 2: the key \"eventName\" is missing at byte 35".into()));
        assert_eq!(
            payloads(&format!("{b}\n{{}}\n")),
            Err("line 2: the key \"eventName\" is missing at byte 34".into())
        );
        assert_eq!(payloads("{\n\"eventName\": oops\n}"), Err("expected value at byte 15".into()));
    }

    #[test]
    fn a_batch_is_refused_at_the_first_event_over_the_cap() {
        #[track_caller]
        fn check(body: &str, expected: Result<usize, EnvelopeError>) {
            let read = read_batch(&Bytes::copy_from_slice(body.as_bytes()), 2);
            assert_eq!(read.map(|batch| batch.len()), expected, "{body}");
        }
        let event = r#"{"eventName":"a","eventData":{}}"#;
        const OVER: Result<usize, EnvelopeError> = Err(EnvelopeError::TooMany { events_max: 2 });
        check(&format!("[{event},{event}]"), Ok(2));
        check(&format!("{event}\n{event}\n\n"), Ok(2));
        check(&format!("[{event},{event},{event}]"), OVER);
        check(&format!("{event}\n{event}\n{event}"), OVER);
        // What follows the limit is not read, and need not be JSON.
        check(&format!("[{event},{event},{event},oops"), OVER);
        check(&format!("{event}\n{event}\noops"), OVER);
        check(&format!("[{event},oops"), Err(EnvelopeError::Invalid { what: "expected value".into(), offset: 34 }));
    }
}

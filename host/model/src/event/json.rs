//! JSON of events: RFC 8259, restricted to what every plugin can read.
//!
//! # Guarantees
//! A JSON text that passes [`check_readable`] is read by the sdk without loss: every string becomes a text, every number keeps its
//! digits, and no object is mistaken for something else. Intake accepts no other text. A stored event that does not pass, because
//! an older host accepted it, is not given to plugins as history.
//!
//! # Limits
//! The grammar is not checked here but by serde_json. So [`check_readable`] may be called before or after, and never panics. A key
//! may be repeated in an object. The last one counts, as it does for the sdk, JavaScript and Python.

use memchr::memchr2;

/// Maximum nesting depth of an event, including the envelope: the limit of serde_json, and so of plugins in Rust.
pub(super) const DEPTH_MAX: usize = 127;

/// Maximum nesting depth of the output of a plugin that is the input of the next one. Plugins may wrap an event.
pub const HANDED_ON_DEPTH_MAX: usize = 256;

/// Keys that serde_json reserves for numbers and raw values. An object with one of them is parsed as something else.
const RESERVED_KEYS: [&str; 2] = ["$serde_json::private::Number", "$serde_json::private::RawValue"];

/// Reason why a plugin could not read a JSON text. Offsets are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The text has too many levels of arrays and objects.
    #[error("the body nests deeper than {depth_max} levels at byte {offset}")]
    TooDeep {
        /// Maximum number of levels.
        depth_max: usize,
        /// Offset of the bracket that opens the first level above the maximum.
        offset: usize,
    },
    /// An escape is half of a surrogate pair.
    #[error(
        "the escape \\u{escape:04x} at byte {offset} is half of a surrogate pair, which stands for no character: send the whole pair, or leave it out"
    )]
    LoneSurrogate {
        /// The code unit of the escape.
        escape: u16,
        /// Offset of its backslash.
        offset: usize,
    },
    /// A key would be parsed as a number or a raw value.
    #[error("the key {key:?} at byte {offset} is reserved, and plugins could not read the object: choose another name")]
    ReservedKey {
        /// Reserved key.
        key: &'static str,
        /// Offset of its opening quote.
        offset: usize,
    },
}

impl Unreadable {
    /// Returns the offset of the fault.
    pub(super) fn offset(&self) -> usize {
        match self {
            Unreadable::TooDeep { offset, .. }
            | Unreadable::LoneSurrogate { offset, .. }
            | Unreadable::ReservedKey { offset, .. } => *offset,
        }
    }

    pub(super) fn offset_mut(&mut self) -> &mut usize {
        match self {
            Unreadable::TooDeep { offset, .. }
            | Unreadable::LoneSurrogate { offset, .. }
            | Unreadable::ReservedKey { offset, .. } => offset,
        }
    }
}

/// Checks that plugins can read a text that nests at most `depth_max` levels, if it is JSON.
pub fn check_readable(json: &[u8], depth_max: usize) -> Result<(), Unreadable> {
    let mut at = 0_usize;
    let mut depth = 0_usize;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => {
                at = check_string(json, at)?;
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return Err(Unreadable::TooDeep { depth_max, offset: at });
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Returns true if plugins can read a stored event, of any host version.
pub fn is_readable(payload: &[u8]) -> bool {
    check_readable(payload, DEPTH_MAX).is_ok()
}

/// Checks the string that begins here, and returns the offset after its closing quote.
fn check_string(json: &[u8], start: usize) -> Result<usize, Unreadable> {
    let mut at = start + 1;
    let mut has_escapes = false;
    loop {
        let Some(found) = memchr2(b'"', b'\\', &json[at..]) else { return Ok(json.len()) };
        at += found;
        if json[at] == b'"' {
            break;
        }
        has_escapes = true;
        at = check_escape(json, at)?;
    }
    let content = &json[start + 1..at];
    let end = at + 1;
    let may_be_reserved = has_escapes || content.first() == Some(&b'$');
    if may_be_reserved && is_key(json, end) {
        let reserved = RESERVED_KEYS.into_iter().find(|key| is_spelled(content, key));
        return reserved.map_or(Ok(end), |key| Err(Unreadable::ReservedKey { key, offset: start }));
    }
    Ok(end)
}

/// Checks the escape whose backslash is here, and returns the offset after it.
fn check_escape(json: &[u8], at: usize) -> Result<usize, Unreadable> {
    match code_unit(json, at) {
        Some(high @ 0xd800..=0xdbff) => match code_unit(json, at + 6) {
            Some(0xdc00..=0xdfff) => Ok(at + 12),
            _ => Err(Unreadable::LoneSurrogate { escape: high, offset: at }),
        },
        Some(low @ 0xdc00..=0xdfff) => Err(Unreadable::LoneSurrogate { escape: low, offset: at }),
        // Another escape, or an invalid one, which the grammar refuses.
        _ => Ok((at + 2).min(json.len())),
    }
}

/// Returns the UTF-16 code unit of the escape `\uXXXX` at an offset.
fn code_unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Returns true if the string that ends before this offset is a key: a colon follows.
fn is_key(json: &[u8], end: usize) -> bool {
    json[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
}

/// Returns true if the content of a JSON string is this text, escaped or not.
fn is_spelled(content: &[u8], text: &str) -> bool {
    // An escape takes six bytes for one.
    if content.len() > 6 * text.len() {
        return false;
    }
    let quoted = [b"\"", content, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).is_ok_and(|found| found == text)
}

/// Returns the byte offset of a line (from 1) and column (from 0), as serde_json counts them.
pub(super) fn offset_of(bytes: &[u8], line: usize, column: usize) -> usize {
    let line_start = match line {
        0 | 1 => 0,
        _ => bytes
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .nth(line - 2)
            .map_or(bytes.len(), |(at, _)| at + 1),
    };
    (line_start + column.saturating_sub(1)).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[track_caller]
    fn check(text: &str, expected: Result<(), Unreadable>) {
        assert_eq!(check_readable(text.as_bytes(), 2), expected, "{text}");
    }

    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        fn too_deep(offset: usize) -> Result<(), Unreadable> {
            Err(Unreadable::TooDeep { depth_max: 2, offset })
        }
        check("{}", Ok(()));
        check("[[[", too_deep(2));
        check("[[],[]]", Ok(()));
        check(r#"[{"a":"[[[[","b\"[[":1}]"#, Ok(()));
        check(r#"[{"a":"\\","b":[1]}]"#, too_deep(15));
    }

    #[test]
    fn half_a_surrogate_pair_is_found_in_keys_and_values() {
        fn lone(escape: u16, offset: usize) -> Result<(), Unreadable> {
            Err(Unreadable::LoneSurrogate { escape, offset })
        }
        check(r#"["\ud83d"]"#, lone(0xd83d, 2));
        check(r#"["a\uD83D\n"]"#, lone(0xd83d, 3));
        check(r#"["\ude00\ud83d"]"#, lone(0xde00, 2));
        check(r#"["\ud83d\ud83d\ude00"]"#, lone(0xd83d, 2));
        check(r#"{"\udfff":1}"#, lone(0xdfff, 2));
        check(r#"["\ud83d\ude00", "\uD83D\uDE00", "\\ud83d", "\u00e9\ud7ff\ue000"]"#, Ok(()));
        check(r#"["\ud83"#, Ok(()));
        check("\"\\", Ok(()));
    }

    #[test]
    fn the_keys_of_serde_json_are_reserved_however_they_are_spelled() {
        fn reserved(key: &'static str, offset: usize) -> Result<(), Unreadable> {
            Err(Unreadable::ReservedKey { key, offset })
        }
        let [number, raw] = RESERVED_KEYS;
        check(&format!(r#"{{"{number}":"12"}}"#), reserved(number, 1));
        check(&format!(r#"{{"a":1,"{raw}" : "[1]"}}"#), reserved(raw, 7));
        check(r#"{"\u0024serde_json::private::Numbe\u0072":"x"}"#, reserved(number, 1));
        check(&format!(r#"["{number}"]"#), Ok(()));
        check(&format!(r#"{{"a":"{number}"}}"#), Ok(()));
        check(&format!(r#"{{"{number}s":"12","$":1,"$\n":2}}"#), Ok(()));
    }

    #[test]
    fn an_offset_is_that_of_a_line_and_a_column() {
        assert_eq!(offset_of(b"ab\ncd", 1, 1), 0);
        assert_eq!(offset_of(b"ab\ncd", 2, 2), 4);
        assert_eq!(offset_of(b"ab", 9, 9), 2);
    }

    /// Reads a payload with the sdk and writes it again without an edit.
    fn read_by_sdk(payload: &str) -> Option<String> {
        let event = hookloom_sdk::Event { payload: payload.to_owned(), ..hookloom_sdk::Event::default() };
        event.json().ok().map(|json| json.to_string())
    }

    /// Generates pieces of JSON, with values and strings of every unusual kind.
    fn pieces() -> impl Strategy<Value = String> {
        let escapes =
            vec!["\\ud83d", "\\ude00", "\\ud83d\\ude00", "\\u0000", "\\u0069d", "\\\\", "\\\"", "\u{e9}", "\u{2028}"];
        let keys = vec![RESERVED_KEYS[0], RESERVED_KEYS[1], "$serde_json::private::", "id"];
        let string = prop_oneof![
            proptest::collection::vec(proptest::sample::select(escapes), 0..4).prop_map(|parts| parts.concat()),
            proptest::sample::select(keys).prop_map(str::to_owned),
            "[ -!#-\\[\\]-~]{0,12}",
        ]
        .boxed();
        let leaf = prop_oneof![
            string.clone().prop_map(|text| format!("\"{text}\"")),
            "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?(e\\+[0-9]{1,9}|e-[0-9]{1,4})?",
            proptest::sample::select(vec!["null", "true"]).prop_map(str::to_owned),
        ];
        leaf.prop_recursive(6, 40, 4, move |inner| {
            let pair = (string.clone(), inner.clone()).prop_map(|(key, value)| format!("\"{key}\" : {value}"));
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
                proptest::collection::vec(pair, 0..4).prop_map(|pairs| format!("{{{}}}", pairs.join(","))),
            ]
        })
    }

    proptest! {
        #[test]
        fn intake_accepts_exactly_what_the_sdk_reads(piece in pieces()) {
            let is_accepted = is_readable(piece.as_bytes());
            let read = read_by_sdk(&piece);
            if is_accepted {
                let read = read.expect("what is accepted is read");
                // Reading the result again gives the same text, so nothing has changed.
                prop_assert_eq!(read_by_sdk(&read), Some(read.clone()));
                prop_assert_eq!(serde_json::from_str::<Value>(&piece).ok(), serde_json::from_str::<Value>(&read).ok());
            } else if !RESERVED_KEYS.iter().any(|key| piece.contains(key)) {
                prop_assert_eq!(read, None, "what is refused could not have been read");
            }
        }

        #[test]
        fn it_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), text in "[\\[{\"\\\\ud83:,]{0,40}") {
            let _ = check_readable(&bytes, 3);
            let _ = check_readable(text.as_bytes(), 3);
        }
    }

    #[test]
    fn the_sdk_reads_the_deepest_event_and_what_a_chain_makes_of_it() {
        for depth in [DEPTH_MAX, HANDED_ON_DEPTH_MAX] {
            let text = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(check_readable(text.as_bytes(), depth), Ok(()));
            assert_eq!(read_by_sdk(&text), Some(text));
        }
    }
}

//! Writer of the host's log: one line for each log event.
//!
//! A field of a log event may hold foreign text, such as a piece of a request or a name out of a file. The formatter escapes
//! control characters of terminals in messages, but not in fields, and escapes line breaks nowhere. Such a field could clear the
//! screen, or write a line that looks like another log event. This writer gets each log event whole, ends it with one line break,
//! and escapes every other character that breaks lines or hides text. In JSON lines it escapes only characters that are legal in
//! JSON and affect terminals.

use super::terminal::{escape, escape_json};
use std::io::{self, Write};

/// Writer that gets one log event at a time.
pub(super) struct OneLine<W> {
    /// Destination of the lines.
    pub(super) to: W,
    /// True if log events are JSON.
    pub(super) json: bool,
    /// True if the formatter colours the lines.
    pub(super) ansi: bool,
}

/// The escape sequences of the formatter: end, bold, dim, italic, and the colours of its levels.
const TONES: [&str; 9] =
    ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[3m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[35m"];

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        if self.json {
            self.to.write_all(escape_json(&text).as_bytes())?;
            return Ok(event.len());
        }
        let mut line = String::with_capacity(text.len());
        let mut rest = text.trim_end_matches('\n');
        while let Some(at) = rest.find('\x1b').filter(|_| self.ansi) {
            line.push_str(&escape(&rest[..at]));
            rest = &rest[at..];
            match TONES.iter().find(|tone| rest.starts_with(**tone)) {
                Some(tone) => {
                    line.push_str(tone);
                    rest = &rest[tone.len()..];
                }
                None => {
                    line.push_str(&escape("\x1b"));
                    rest = &rest[1..];
                }
            }
        }
        line.push_str(&escape(rest));
        // A field may have begun a colour, as the formatter does. The colour ends with its log event.
        line.push_str(if self.ansi { "\x1b[0m\n" } else { "\n" });
        self.to.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    /// Buffer shared by the subscriber and the test.
    #[derive(Clone, Default)]
    struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

    impl Write for SharedBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const HOSTILE: &str = "a\n2026-01-01T00:00:00Z ERROR forged\r\x1b[2K\x1b[8m\u{9b}1A\u{202e}\u{2028}b";

    fn logged(ansi: bool, json: bool) -> String {
        let place = SharedBuffer::default();
        let writer = place.clone();
        let log =
            tracing_subscriber::fmt().with_ansi(ansi).with_writer(move || OneLine { to: writer.clone(), json, ansi });
        fn emit() {
            tracing::error!(display = %HOSTILE, debug = ?HOSTILE, plain = HOSTILE, "{HOSTILE}");
        }
        if json {
            tracing::subscriber::with_default(log.json().finish(), emit);
        } else {
            tracing::subscriber::with_default(log.finish(), emit);
        }
        let bytes = place.0.lock().clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn an_event_is_one_line_whatever_its_fields_hold() {
        for (ansi, json) in [(false, false), (true, false), (false, true)] {
            let text = logged(ansi, json);
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(text.ends_with("\n"), "{text:?}");
            for letter in ['\r', '\u{9b}', '\u{202e}', '\u{2028}'] {
                assert!(!text.contains(letter), "{letter:?} in {text:?}");
            }
            assert!(
                !text.contains("\x1b[2K") && (ansi || !text.contains('\x1b')) && !text.contains("\x1b[8m"),
                "{text:?}"
            );
            assert!(
                text.contains("forged") && text.contains(if json { "\"level\":\"ERROR\"" } else { "ERROR" }),
                "{text:?}"
            );
        }
        let parsed: serde_json::Value = serde_json::from_str(&logged(false, true)).expect("JSON");
        assert_eq!(parsed["fields"]["plain"], HOSTILE);
    }
}

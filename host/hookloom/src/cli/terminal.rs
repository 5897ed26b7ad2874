//! Output of the command line. The only module that writes to stdout and stderr for people and scripts.
//!
//! Commands print foreign text: bodies and headers of requests, messages of plugins, answers of hosts. On a terminal, such text can
//! move the cursor, rewrite lines and imitate the output of this program.
//!
//! # Guarantees
//! - Every argument of [`outln!`] and [`errln!`] is escaped ([`escape`]). Only the format literal and a [`Tone`] are written
//!   unchanged. The macros refuse captured names (`{name}`), so that no argument bypasses the rule.
//! - A line of this program begins with text of its format. A text of several lines is printed by [`Quoted`], each line after the
//!   gutter `| `, and on a terminal every row into which a long line wraps begins with the gutter as well. So a row without a
//!   gutter begins with text of this program, also without colours.
//! - JSON has `\u` escapes for characters outside printable text, and means the same.
//!
//! # Limits
//! If the width of a terminal changes afterwards, rows may break elsewhere. The output of build commands from a plugin's manifest
//! is not changed. A failure to write is recorded and makes the command fail at its end ([`failed`]), because receiving should go
//! on if a reader has gone away.

use anstream::stream::RawStream;
use anstyle::{AnsiColor, Style};
use rustix::termios::tcgetwinsize;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// Destination of a line: stdout or stderr.
#[derive(Clone, Copy)]
pub(super) enum OutputStream {
    Out,
    Err,
}

/// Prints a line on stdout. Takes a format literal with positional arguments, each of which is escaped.
macro_rules! outln {
    ($format:literal $(, $argument:expr)* $(,)?) => {
        $crate::cli::terminal::line!($crate::cli::terminal::OutputStream::Out, $format $(, $argument)*)
    };
}

/// Prints a line on stderr, as [`outln!`] does.
macro_rules! errln {
    ($format:literal $(, $argument:expr)* $(,)?) => {
        $crate::cli::terminal::line!($crate::cli::terminal::OutputStream::Err, $format $(, $argument)*)
    };
}

macro_rules! line {
    ($stream:expr, $format:literal $(, $argument:expr)*) => {{
        const _: () = assert!(
            $crate::cli::terminal::is_positional($format),
            "pass values as arguments, which are escaped, not by their names in the format"
        );
        $crate::cli::terminal::print(
            $stream,
            &format!(concat!($format, "\n") $(, $crate::cli::terminal::Escaped(&$argument))*),
        );
    }};
}

pub(super) use {errln, line, outln};

/// Returns true if a format takes all values from its arguments: no `{name}`, and no `{:name$}`.
pub(super) const fn is_positional(format: &str) -> bool {
    let bytes = format.as_bytes();
    let mut at = 0;
    let mut inside = false;
    while at < bytes.len() {
        match bytes[at] {
            b'{' if !inside && at + 1 < bytes.len() && bytes[at + 1] == b'{' => at += 1,
            b'{' => {
                inside = true;
                if at + 1 == bytes.len() || (bytes[at + 1] != b'}' && bytes[at + 1] != b':') {
                    return false;
                }
            }
            b'$' if inside => return false,
            b'}' => inside = false,
            _ => {}
        }
        at += 1;
    }
    true
}

/// Colour or weight; [`PLAIN`] ends it.
#[derive(Clone, Copy)]
pub(super) struct Tone(Option<Style>);

pub(super) const PLAIN: Tone = Tone(None);
pub(super) const BOLD: Tone = Tone(Some(Style::new().bold()));
pub(super) const DIM: Tone = Tone(Some(Style::new().dimmed()));
pub(super) const GREEN: Tone = Tone(Some(AnsiColor::Green.on_default()));
pub(super) const RED: Tone = Tone(Some(AnsiColor::Red.on_default()));
pub(super) const BOLD_RED: Tone = Tone(Some(AnsiColor::Red.on_default().bold()));

/// Text of several lines, each after the gutter. The format that takes it must end the line before it.
pub(super) struct Quoted<'a>(pub(super) &'a str);

/// Message of this program: the first line unchanged, the others after the gutter.
pub(super) struct Message<'a>(pub(super) &'a str);

const GUTTER: &str = "| ";

/// Value that can be a part of a line.
pub(super) trait LinePart {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// Any value with a text: on one line, escaped, padded as the format says. A precision cuts the text, also of a number.
impl<T: Display + ?Sized> LinePart for T {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escape(&self.to_string()))
    }
}

impl LinePart for Tone {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(style) => write!(f, "{style}"),
            None => write!(f, "{}", anstyle::Reset),
        }
    }
}

impl LinePart for Quoted<'_> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(GUTTER)?;
        Message(self.0).write(f)
    }
}

impl LinePart for Message<'_> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.0.split('\n').enumerate() {
            if number > 0 {
                write!(f, "\n{GUTTER}")?;
            }
            f.write_str(&escape(&line.trim_end_matches('\r').replace('\t', "    ")))?;
        }
        Ok(())
    }
}

/// Argument of a format.
pub(super) struct Escaped<'a, T: LinePart + ?Sized>(pub(super) &'a T);

impl<T: LinePart + ?Sized> Display for Escaped<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)
    }
}

/// Escapes characters that control a terminal or hide text, as `\n`, `\u{1b}` and the like.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_unsafe(letter) {
            escaped.extend(letter.escape_default());
        } else {
            escaped.push(letter);
        }
    }
    escaped.into()
}

/// Returns true if a character controls a terminal (C0, DEL, C1), breaks lines, changes the direction of writing (Unicode UAX #9),
/// or is invisible.
fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Prints a value as one line of JSON on stdout.
pub(super) fn json(value: &impl Serialize) -> Result<(), serde_json::Error> {
    json_text(&serde_json::to_string(value)?);
    Ok(())
}

/// Prints a value as indented JSON on stdout.
pub(super) fn json_pretty(value: &impl Serialize) -> Result<(), serde_json::Error> {
    json_text(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints the failure of a command as JSON on stderr.
pub(super) fn json_failure(value: &serde_json::Value) {
    write(OutputStream::Err, &format!("{}\n", escape_json(&value.to_string())));
}

fn json_text(text: &str) {
    write(OutputStream::Out, &format!("{}\n", escape_json(text)));
}

/// Replaces every unsafe character of a JSON text by a `\u` escape. Such characters are only in strings, so the JSON means the
/// same.
pub(super) fn escape_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter == '\n' || !is_unsafe(letter) {
            escaped.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut [0; 2]) {
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    escaped
}

/// Prints a text of the program on stdout, unchanged.
pub(super) fn program_text(text: &'static str) {
    write(OutputStream::Out, text);
}

/// Shows progress on stderr, in place of the previous text. Empty: removes it.
pub(super) fn progress(text: &str) {
    let line = if text.is_empty() { "\r\x1b[2K".to_owned() } else { format!("\r{}", escape(text)) };
    write(OutputStream::Err, &line);
}

/// Prints a text of the macros.
pub(super) fn print(stream: OutputStream, text: &str) {
    let columns = match stream {
        OutputStream::Out => columns(&std::io::stdout()),
        OutputStream::Err => columns(&std::io::stderr()),
    };
    match columns {
        Some(columns) => write(stream, &folded(text, columns)),
        None => write(stream, text),
    }
}

/// Returns the width of a terminal. None: it is not a terminal, or the width is unknown.
fn columns(stream: &(impl IsTerminal + rustix::fd::AsFd)) -> Option<usize> {
    let size = stream.is_terminal().then(|| tcgetwinsize(stream).ok()).flatten()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 2 * GUTTER.len())
}

/// Wraps a text for a terminal: the rest of a line that is too long continues in a row after the gutter.
fn folded(text: &str, columns: usize) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut column = 0;
    let mut in_style = false;
    for letter in text.chars() {
        // An escape sequence in an escaped text is a tone.
        in_style |= letter == '\x1b';
        let width = match letter {
            '\n' => 0,
            _ if in_style => 0,
            _ if letter.is_ascii() => 1,
            // Some characters are narrower; none is wider.
            _ => 2,
        };
        if column + width > columns {
            let _ = write!(folded, "\n{GUTTER}");
            column = GUTTER.len();
        }
        folded.push(letter);
        column = if letter == '\n' { 0 } else { column + width };
        in_style &= letter != 'm';
    }
    folded
}

static FAILED: AtomicBool = AtomicBool::new(false);

/// Returns true if a write to stdout has failed.
pub(super) fn failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// Returns true if a write to stdout has failed since the last call.
pub(super) fn take_failed() -> bool {
    FAILED.swap(false, Ordering::Relaxed)
}

fn write(stream: OutputStream, text: &str) {
    match stream {
        OutputStream::Out => {
            if write_to(anstream::stdout().lock(), text).is_err() {
                FAILED.store(true, Ordering::Relaxed);
            }
        }
        // An error of stderr cannot be reported.
        OutputStream::Err => drop(write_to(anstream::stderr().lock(), text)),
    }
}

fn write_to<S: RawStream>(mut stream: anstream::AutoStream<S>, text: &str) -> std::io::Result<()>
where
    anstream::AutoStream<S>: std::io::Write,
{
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_terminal_are_escaped() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(escape(text), expected, "{text:?}");
        }
        check("plain text, é, 日本, 👩\u{200d}🚀", "plain text, é, 日本, 👩\u{200d}🚀");
        check("\x1b[2J\x1b]0;title\x07", "\\u{1b}[2J\\u{1b}]0;title\\u{7}");
        check("a\rb\nc\td", "a\\rb\\nc\\td");
        check("\u{9b}2J\u{7f}\u{8}\0", "\\u{9b}2J\\u{7f}\\u{8}\\u{0}");
        check("a\u{202e}b\u{2066}c\u{2028}d\u{feff}", "a\\u{202e}b\\u{2066}c\\u{2028}d\\u{feff}");
        for code in (0..0x20).chain(0x7f..0xa0) {
            let letter = char::from_u32(code).expect("a character");
            assert!(!escape(&letter.to_string()).contains(letter), "{code:x}");
        }
    }

    #[test]
    fn a_line_escapes_its_arguments_and_keeps_its_tones() {
        let line = format!("{}{:<6}|{}{:>4}", Escaped(&RED), Escaped("a\x1b"), Escaped(&PLAIN), Escaped(&7));
        assert_eq!(line, "\u{1b}[31ma\\u{1b}|\u{1b}[0m   7");
        assert_eq!(format!("{}", Escaped(&Message("one\ntwo\x1b"))), "one\n| two\\u{1b}");
        let body = "signature verified\r\nsignature verified\n\x1b[1A\u{2028}signature verified";
        let quoted = format!("{}", Escaped(&Quoted(body)));
        assert!(quoted.lines().all(|line| line.starts_with(GUTTER)), "{quoted}");
    }

    #[test]
    fn formats_take_arguments_only() {
        const { assert!(is_positional("{} {:<9}{:>9.1} {{literal}} {:?}")) };
        const { assert!(!is_positional("{name}")) };
        const { assert!(!is_positional("a {0}")) };
        const { assert!(!is_positional("{:width$}")) };
        const { assert!(!is_positional("{:.*}{x}")) };
        const { assert!(!is_positional("{")) };
    }

    #[test]
    fn rows_of_a_terminal_begin_with_the_gutter() {
        assert_eq!(folded("12345678\n12", 8), "12345678\n12");
        assert_eq!(folded("123456789abcdefg\nx", 8), "12345678\n| 9abcde\n| fg\nx");
        assert_eq!(folded("日本日本日", 8), "日本日本\n| 日");
        assert_eq!(folded("\u{1b}[31m12345678\u{1b}[0m\n", 8), "\u{1b}[31m12345678\u{1b}[0m\n");
        // A sender that knows the width cannot begin a row.
        let padded = format!("| {}signature verified", "x".repeat(78));
        assert!(folded(&padded, 80).lines().all(|row| row.starts_with(GUTTER)));
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({"a": "\u{9b}2J\u{202e}\u{e0041}\u{7f}\n\x1b", "b": "é"});
        let text = escape_json(&serde_json::to_string_pretty(&value).expect("JSON"));
        assert!(!text.contains(|letter: char| letter != '\n' && is_unsafe(letter)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value);
    }
}

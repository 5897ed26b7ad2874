//! What differs between two bodies: JSON is compared pretty-printed, everything else as it is, line by line.
//!
//! Pure. Prints nothing and colours nothing; the command line, the pages and the comparisons of versions do.

use serde_json::Value;
use similar::{ChangeTag, TextDiff};

/// A line of two texts put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `-`: only in the former; `+`: only in the latter; a blank: in both.
    pub sign: char,
    /// The line, without its end.
    pub text: String,
}

impl Line {
    /// Whether it is in one of them only.
    pub fn is_changed(&self) -> bool {
        self.sign != ' '
    }
}

/// Texts larger than this are compared as they are, and only as far: a comparison must not cost more than the delivery.
const BYTES_MAX: usize = 64 << 10;

/// Puts two bodies together, line by line.
pub fn lines(before: &str, after: &str) -> Vec<Line> {
    let (before, after) = (pretty(before), pretty(after));
    let diff = TextDiff::configure().timeout(std::time::Duration::from_millis(200)).diff_lines(&before, &after);
    let line = |change: similar::Change<&str>| {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        };
        Line { sign, text: change.value().trim_end_matches('\n').to_owned() }
    };
    diff.iter_all_changes().map(line).collect()
}

/// JSON as people read it; anything else as it is.
pub fn pretty(text: &str) -> String {
    if text.len() > BYTES_MAX {
        return text[..text.floor_char_boundary(BYTES_MAX)].to_owned();
    }
    match serde_json::from_str::<Value>(text) {
        Ok(json) => serde_json::to_string_pretty(&json).unwrap_or_default(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_compared_by_its_lines() {
        #[track_caller]
        fn check(before: &str, after: &str, expected: &str) {
            let shown: Vec<String> =
                lines(before, after).iter().map(|line| format!("{}{}", line.sign, line.text)).collect();
            assert_eq!(shown.join("\n"), expected);
        }
        check(r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#, " {\n   \"a\": 1,\n-  \"b\": 2\n+  \"b\": 3\n }");
        check("x\ny", "x", "-x\n-y\n+x");
        check("", "", "");
    }
}

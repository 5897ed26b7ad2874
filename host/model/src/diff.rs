//! Line diff of two bodies. JSON is pretty-printed before the comparison.
//!
//! Pure. Printing and colours are left to the command line, the pages and the comparisons of versions.

use serde_json::Value;
use similar::{ChangeTag, TextDiff};
use std::time::Duration;

/// Line of a comparison of two texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `-`: only in the first text; `+`: only in the second; a blank: in both.
    pub sign: char,
    /// Text of the line, without its end.
    pub text: String,
}

impl Line {
    /// Returns true if the line is in only one of the texts.
    pub fn is_changed(&self) -> bool {
        self.sign != ' '
    }
}

/// Maximum size of a compared text, in bytes. The rest is not compared, so that a comparison does not cost more than the delivery.
const BYTES_MAX: usize = 64 << 10;

/// Maximum size of pretty-printed JSON, in bytes. Larger JSON is compared as it is, because nested arrays grow a hundredfold.
const PRETTY_BYTES_MAX: usize = 4 * BYTES_MAX;

/// Maximum duration of a comparison. After it, the result is right but not the shortest.
const TIME_MAX: Duration = Duration::from_millis(20);

/// Compares two bodies line by line.
pub fn lines(before: &str, after: &str) -> Vec<Line> {
    let before = pretty(before);
    let after = pretty(after);
    let diff = TextDiff::configure().timeout(TIME_MAX).diff_lines(&before, &after);
    fn line(change: similar::Change<&str>) -> Line {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        };
        Line { sign, text: change.value().trim_end_matches('\n').to_owned() }
    }
    diff.iter_all_changes().map(line).collect()
}

/// Returns JSON pretty-printed, and any other text unchanged.
pub fn pretty(text: &str) -> String {
    if text.len() > BYTES_MAX {
        return text[..text.floor_char_boundary(BYTES_MAX)].to_owned();
    }
    match serde_json::from_str::<Value>(text) {
        Ok(json) => {
            let pretty = serde_json::to_string_pretty(&json).unwrap_or_default();
            if pretty.len() > PRETTY_BYTES_MAX { text.to_owned() } else { pretty }
        }
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

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

    #[test]
    fn a_comparison_has_a_bounded_cost() {
        // Texts without common lines, of the maximum size.
        fn numbers(from: usize) -> String {
            (from..from + 10_000).map(|number| format!("{number}\n")).collect::<String>()
        }
        let begun = clock::instant();
        assert_eq!(lines(&numbers(10_000), &numbers(50_000)).len(), 20_000);
        assert!(clock::since(begun) < Duration::from_secs(5), "{:?}", clock::since(begun));
        let nested = format!("{}{}", "[".repeat(120), "]".repeat(120));
        let wide = format!("[{}]", vec![nested; 250].join(","));
        assert!(wide.len() <= BYTES_MAX && pretty(&wide) == wide, "indented it would have megabytes");
    }
}

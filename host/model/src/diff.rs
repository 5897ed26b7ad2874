//! Line diff of two bodies: JSON is compared pretty-printed, everything else as it is.
//!
//! Pure. Prints nothing and colours nothing; the command line, the pages and the comparisons of versions do.

use serde_json::Value;
use similar::{ChangeTag, TextDiff};
use std::time::Duration;

/// A line of two texts put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `-`: only in the former; `+`: only in the latter; a blank: in both.
    pub sign: char,
    /// The line, without its end.
    pub text: String,
}

impl Line {
    /// Returns true if the line is in one of the bodies only.
    pub fn is_changed(&self) -> bool {
        self.sign != ' '
    }
}

/// Texts larger than this are compared as they are, and only as far: a comparison must not cost more than the delivery.
const BYTES_MAX: usize = 64 << 10;

/// JSON that is larger than this once it is indented is compared as it is: deeply nested arrays grow a hundredfold.
const PRETTY_BYTES_MAX: usize = 4 * BYTES_MAX;

/// Time for one comparison. Past it the result is still right, but not the shortest one.
const TIME_MAX: Duration = Duration::from_millis(20);

/// Puts two bodies together, line by line.
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

/// JSON as people read it; anything else as it is.
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
        // Nothing in common, every line another one, and as many as fit.
        fn numbers(from: usize) -> String {
            (from..from + 10_000).map(|number| format!("{number}\n")).collect::<String>()
        }
        let begun = std::time::Instant::now();
        assert_eq!(lines(&numbers(10_000), &numbers(50_000)).len(), 20_000);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let nested = format!("{}{}", "[".repeat(120), "]".repeat(120));
        let wide = format!("[{}]", vec![nested; 250].join(","));
        assert!(wide.len() <= BYTES_MAX && pretty(&wide) == wide, "indented it would have megabytes");
    }
}

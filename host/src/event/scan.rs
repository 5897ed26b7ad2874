//! A scan of JSON bytes for the two things that serde does not tell about skipped values: nesting depth, and where a
//! line ends. Assumes nothing about the bytes; promises never to panic. Does not validate JSON.

/// The offset of the first bracket that opens a level deeper than `depth_max`, if there is one.
pub(super) fn too_deep_at(bytes: &[u8], depth_max: usize) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return Some(at);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The byte offset of a line (from 1) and column (from 0) as serde_json counts them.
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

    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        #[track_caller]
        fn check(text: &str, depth_max: usize, expected: Option<usize>) {
            assert_eq!(too_deep_at(text.as_bytes(), depth_max), expected, "{text}");
        }
        check("{}", 1, None);
        check("{}", 0, Some(0));
        check("[[[", 2, Some(2));
        check("[[],[]]", 2, None);
        check(r#"{"a":"[[[[","b\"[[":1}"#, 1, None);
        check(r#"{"a":"\\","b":[1]}"#, 1, Some(14));
    }
}

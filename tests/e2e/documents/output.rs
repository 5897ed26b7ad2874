//! Comparison of a page's output with the real one.
//!
//! # The rule
//! - `…` within a line stands for any text, and alone on a line for any number of lines.
//! - Everything else is equal, digit by digit. Where the block is marked `figures vary`, a number stands for any number, and the
//!   number of spaces is free, because columns move with the width of numbers.
//! - Spaces at the end of a line, and empty lines at the end, are not compared.
//! - Nothing is compared of a command for which the page shows no output.

/// Returns true if the output is as the page shows it.
pub(super) fn matches(shown: &str, real: &str, figures_vary: bool) -> bool {
    fn lines(text: &str, figures_vary: bool) -> Vec<String> {
        let lines = text.trim_end().lines().map(str::trim_end);
        lines.map(|line| if figures_vary { without_figures(line) } else { line.to_owned() }).collect()
    }
    if shown.trim().is_empty() {
        return true;
    }
    sequence(&lines(shown, figures_vary), &lines(real, figures_vary))
}

/// Matches lines, where a line that is `…` alone stands for any number of them.
fn sequence(shown: &[String], real: &[String]) -> bool {
    match shown.split_first() {
        None => real.is_empty(),
        Some((first, rest)) if first.trim() == "…" => {
            (0..=real.len()).any(|skipped| sequence(rest, &real[skipped..]))
        }
        Some((first, rest)) => {
            let pieces: Vec<_> = first.split('…').collect();
            real.split_first().is_some_and(|(line, others)| glob(&pieces, line) && sequence(rest, others))
        }
    }
}

/// Matches a text with pieces between which anything may stand.
fn glob(pieces: &[&str], text: &str) -> bool {
    let Some((first, rest)) = pieces.split_first() else { return text.is_empty() };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let Some((last, middle)) = rest.split_last() else { return text.is_empty() };
    for piece in middle {
        let Some(at) = text.find(piece) else { return false };
        text = &text[at + piece.len()..];
    }
    text.ends_with(last)
}

/// Replaces each number with 0, and each run of spaces with one.
fn without_figures(line: &str) -> String {
    let mut plain = String::new();
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter.is_ascii_digit() {
            while letters.next_if(|next| next.is_ascii_digit() || matches!(next, '.' | ',')).is_some() {}
            plain.push('0');
        } else if letter != ' ' || !plain.ends_with(' ') {
            plain.push(letter);
        }
    }
    plain
}

/// Returns the newest word of a text that begins with a prefix: the value that a page shortens to `prefix…`.
pub(super) fn newest_word(seen: &str, prefix: &str) -> Option<String> {
    let start = seen.rmatch_indices(prefix).map(|(at, _)| at).find(|at| {
        let before = seen[..*at].chars().next_back();
        before.is_none_or(|letter| !letter.is_ascii_alphanumeric())
    })?;
    let rest = &seen[start..];
    let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !"_-+/=".contains(letter));
    let word = &rest[..end.unwrap_or(rest.len())];
    (word.len() > prefix.len()).then(|| word.to_owned())
}

#[test]
fn output_is_compared_by_the_rule() {
    #[track_caller]
    fn check(shown: &str, real: &str, expected: bool) {
        assert_eq!(matches(shown, real, false), expected, "{shown:?} and {real:?}");
    }
    check("a\nb", "a  \nb\n\n", true);
    check("a 1", "a 2", false);
    check("a\n…\nz", "a\nb\nc\nz", true);
    check("a\n…\nz", "a\nz", true);
    check("a\n…\nz", "a\nb", false);
    check("…", "", true);
    check("key hlk_… ok", "key hlk_1234 ok", true);
    check("key hlk_… ok", "key hlk_1234 not", false);
    check("{\"id\":\"01…\",…}", "{\"id\":\"0192\",\"x\":1}", true);
    check("a", "a\nb", false);
    check("", "anything", true);
    assert!(matches("took 5 ms   x", "took 1,234.5 ms x", true));
    assert!(!matches("took 5 ms", "took 5 s", true));
}

#[test]
fn a_shortened_word_is_the_newest_one() {
    fn check(seen: &str, prefix: &str, expected: Option<&str>) {
        assert_eq!(newest_word(seen, prefix).as_deref(), expected, "{prefix} in {seen}");
    }
    check("key hlk_a1 and hlk_b-2\n", "hlk_", Some("hlk_b-2"));
    check("{\"path\":\"/in/hlt_x\"}", "/in/hlt_", Some("/in/hlt_x"));
    check("xhlk_1", "hlk_", None);
    check("hlk_", "hlk_", None);
}

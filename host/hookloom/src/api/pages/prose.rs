//! Texts of plugin authors for display: plain, with code between backticks.
//!
//! # Guarantees
//! - The parts joined are the text without the backticks of its code. Nothing is markup: templates escape each part.
//!
//! # Limits
//! - Of Markdown, only code spans of one backtick are known. A backtick without its pair is shown as it is.

/// Part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProsePart {
    /// Text without a mark.
    Plain(String),
    /// Code: a value, a name or an expression.
    Code(String),
}

/// Text for display, in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prose(pub(super) Vec<ProsePart>);

impl Prose {
    /// Parses a text in which code stands between backticks.
    pub(super) fn parse(text: &str) -> Self {
        let mut prose = Prose::default();
        let mut rest = text;
        while let Some((before, code, after)) = code_span(rest) {
            prose.push_plain(before);
            prose.push_code(code);
            rest = after;
        }
        prose.push_plain(rest);
        prose
    }

    /// Adds words. Adds nothing if there are none.
    pub(super) fn push_plain(&mut self, text: &str) {
        if !text.is_empty() {
            self.0.push(ProsePart::Plain(text.to_owned()));
        }
    }

    /// Adds code.
    pub(super) fn push_code(&mut self, text: &str) {
        self.0.push(ProsePart::Code(text.to_owned()));
    }

    /// Adds a sentence behind what is there.
    pub(super) fn push_sentence(&mut self, text: &str) {
        if !self.0.is_empty() {
            self.push_plain(" ");
        }
        self.push_plain(text);
    }

    /// Returns the text without a mark of code, for places that cannot show it.
    pub(super) fn plain(&self) -> String {
        fn text(part: &ProsePart) -> &str {
            match part {
                ProsePart::Plain(text) | ProsePart::Code(text) => text,
            }
        }
        self.0.iter().map(text).collect()
    }
}

/// Splits a text at its first code span: the text before it, the code, and the text behind it.
fn code_span(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('`')?;
    let (code, after) = rest.split_once('`')?;
    (!code.is_empty()).then_some((before, code, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_stands_between_backticks() {
        #[track_caller]
        fn check(text: &str, expected: &[(&str, bool)]) {
            fn part((text, is_code): &(&str, bool)) -> ProsePart {
                let text = (*text).to_owned();
                if *is_code { ProsePart::Code(text) } else { ProsePart::Plain(text) }
            }
            assert_eq!(Prose::parse(text), Prose(expected.iter().map(part).collect()));
        }
        check("", &[]);
        check("Words.", &[("Words.", false)]);
        check(
            "How: `mask` or `keep`.",
            &[("How: ", false), ("mask", true), (" or ", false), ("keep", true), (".", false)],
        );
        check("`all`", &[("all", true)]);
        check("5` wide", &[("5` wide", false)]);
        check("`<b>` & ``", &[("<b>", true), (" & ``", false)]);
        assert_eq!(Prose::parse("How: `mask`.").plain(), "How: mask.");
    }
}

//! Summary lines of doc comments that ask a question, or that say one word.
//!
//! Reads lines, not syntax, so that comments inside macro calls count too. A summary is the first line of a run of `///` or of `//!`.

use super::Place;
use std::path::Path;

/// Words that begin a clause where a name should stand.
const QUESTION_WORDS: [&str; 14] = [
    "what", "which", "who", "whose", "whom", "where", "when", "why", "how", "whether", "whatever", "whoever",
    "wherever", "whenever",
];

/// Doc lines read so far, and the summaries found in them.
#[derive(Default)]
pub(super) struct Summaries {
    /// Number of doc lines, blank ones included.
    pub(super) lines: usize,
    pub(super) questions: Vec<Place>,
    pub(super) one_word: Vec<Place>,
}

impl Summaries {
    /// Adds the doc comments of one file.
    pub(super) fn read(&mut self, path: &Path, text: &str) {
        let mut before = None;
        for (index, line) in text.lines().enumerate() {
            let doc = doc_line(line);
            self.lines += usize::from(doc.is_some());
            if let Some((marker, words)) = doc
                && before != Some(marker)
            {
                self.summary(path, index + 1, words);
            }
            before = doc.map(|(marker, _)| marker);
        }
    }

    fn summary(&mut self, path: &Path, line: usize, words: &str) {
        let place = Place { path: path.to_owned(), line, text: words.to_owned() };
        if asks(words) {
            self.questions.push(place.clone());
        }
        if !words.is_empty() && !words.contains(' ') {
            self.one_word.push(place);
        }
    }
}

/// Marker and text of a line that is a doc comment.
fn doc_line(line: &str) -> Option<(&'static str, &str)> {
    let line = line.trim_start();
    let (marker, text) = ["///", "//!"].into_iter().find_map(|marker| Some((marker, line.strip_prefix(marker)?)))?;
    (!text.starts_with('/')).then(|| (marker, text.trim()))
}

/// Returns true if a summary begins with a question word.
fn asks(summary: &str) -> bool {
    let first = summary.split(|letter: char| !letter.is_alphabetic()).next().unwrap_or_default().to_lowercase();
    QUESTION_WORDS.contains(&first.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_that_begin_with_a_question_word_are_found() {
        fn check(text: &str, expected: &[usize]) {
            let mut found = Summaries::default();
            found.read(Path::new("a.rs"), text);
            let lines: Vec<usize> = found.questions.iter().map(|place| place.line).collect();
            assert_eq!(lines, expected, "{text}");
        }
        check("//! What it is.\n//! Which goes on.\n", &[1]);
        check("/// Number of rows.\n/// When there are none: 0.\nfn a() {}\n    /// Whether it is.\n", &[4]);
        check("//! A store.\n/// How long.\nconst A: u8 = 1;\n", &[2]);
        check("/// What's left.\n", &[1]);
        check("/// Whatsoever.\n/// Returns what is left.\n", &[]);
        check("// What this is.\n//// What.\n", &[]);
    }

    #[test]
    fn summaries_of_one_word_and_doc_lines_are_counted() {
        fn check(text: &str, one_word: usize, lines: usize) {
            let mut found = Summaries::default();
            found.read(Path::new("a.rs"), text);
            assert_eq!((found.one_word.len(), found.lines), (one_word, lines), "{text}");
        }
        check("/// Why.\nstruct A;\n/// Reason of the refusal.\n///\n/// Words.\nstruct B;\n", 1, 4);
        check("// Why.\n", 0, 0);
    }
}

//! Counts of discouraged idioms, each with a limit for the whole workspace.
//!
//! Every Rust file that git knows is counted. The limits are a ratchet: a commit that reduces a count lowers its limit, and no
//! commit raises one. Code inside macro calls is not parsed, and a closure is judged by names alone (see [`super::idioms`]).

use super::{Place, idioms, summaries};
use crate::{Failure, root, say};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Limits of the counts, in the order of the table.
const LIMITS: [usize; 6] = [0, 0, 0, 0, 16, 0];

/// Idiom with its limit and the places where it was found.
struct Count {
    /// Name on the command line.
    name: &'static str,
    meaning: &'static str,
    limit: usize,
    /// Number of units that the places are counted against: the count is places per 1,000 of them. `None`: the places themselves.
    per: Option<usize>,
    places: Vec<Place>,
}

impl Count {
    /// Number of places, or places per 1,000 units, rounded up.
    fn value(&self) -> usize {
        match self.per {
            None => self.places.len(),
            Some(units) => (self.places.len() * 1000).div_ceil(units.max(1)),
        }
    }
}

/// Prints the table of counts. With `list`, prints the places of the count of that name as well.
///
/// # Errors
///
/// A count is above its limit, a file does not parse, or no count has the name `list`.
pub(super) fn check(files: &[(PathBuf, String)], list: Option<&str>) -> Result<(), Failure> {
    let counts = count(files)?;
    if let Some(name) = list {
        let Some(count) = counts.iter().find(|count| count.name == name) else {
            let names: Vec<&str> = counts.iter().map(|count| count.name).collect();
            return Err(format!("there is no count {name:?}; the counts are {}", names.join(", ")));
        };
        for place in &count.places {
            say(&format!("{}:{}: {}", place.path.display(), place.line, place.text));
        }
    }
    say(&format!("{:>7} {:>7}  {:<18} meaning", "count", "limit", "name"));
    for count in &counts {
        say(&format!("{:>7} {:>7}  {:<18} {}", count.value(), count.limit, count.name, count.meaning));
    }
    let above: Vec<&str> = counts.iter().filter(|count| count.value() > count.limit).map(|count| count.name).collect();
    if above.is_empty() {
        return Ok(());
    }
    Err(format!("above the limit: {}; the places: cargo xtask tidy --list {}", above.join(", "), above[0]))
}

fn count(files: &[(PathBuf, String)]) -> Result<Vec<Count>, Failure> {
    let mut docs = summaries::Summaries::default();
    let mut found = idioms::Idioms::default();
    let mut types: BTreeMap<(PathBuf, String), Vec<Place>> = BTreeMap::new();
    for (path, text) in files {
        docs.read(path, text);
        for place in found.read(path, text)? {
            types.entry((crate_of(path), place.text.clone())).or_default().push(place);
        }
    }
    let repeated = types.into_values().filter(|places| places.len() > 1).collect::<Vec<_>>();
    Ok(vec![
        Count {
            name: "questions",
            meaning: "doc summaries that begin with a question word, per 1,000 doc lines",
            limit: LIMITS[0],
            per: Some(docs.lines),
            places: docs.questions,
        },
        plain("one-word", "doc summaries of one word", LIMITS[1], docs.one_word),
        plain("match-bool", "match on a bool", LIMITS[2], found.bool_matches),
        plain("tuple-lets", "let (a, b) = (x, y)", LIMITS[3], found.tuple_lets),
        plain("closures", "closures bound to a name that capture nothing", LIMITS[4], found.closures),
        plain(
            "type-names",
            "type names defined more than once in a crate or a backend",
            LIMITS[5],
            named_twice(repeated),
        ),
    ])
}

fn plain(name: &'static str, meaning: &'static str, limit: usize, places: Vec<Place>) -> Count {
    Count { name, meaning, limit, per: None, places }
}

/// One place for each repeated type name: its first definition, with the number of the others.
fn named_twice(repeated: Vec<Vec<Place>>) -> Vec<Place> {
    repeated
        .into_iter()
        .map(|mut places| {
            let rest: Vec<String> =
                places.split_off(1).iter().map(|place| format!("{}:{}", place.path.display(), place.line)).collect();
            let mut first = places.remove(0);
            first.text = format!("{} is also defined in {}", first.text, rest.join(", "));
            first
        })
        .collect()
}

/// Backends of the store, which have the same shape. A name in one of them may be that of its counterpart.
const BACKENDS: [&str; 3] = ["host/store/src/memory", "host/store/src/postgres", "host/store/src/sqlite"];

/// Folder of the crate that a file belongs to, or the file itself where each file is a program of its own.
fn crate_of(path: &Path) -> PathBuf {
    let file = path.with_extension("");
    if let Some(backend) = BACKENDS.iter().find(|backend| file.starts_with(backend)) {
        return PathBuf::from(backend);
    }
    if path.starts_with("tests/guests/programs")
        || path.starts_with("fuzz/fuzz_targets")
        || path.starts_with("host/hookloom/tests")
    {
        return path.to_owned();
    }
    let folders = path.ancestors().skip(1);
    folders
        .into_iter()
        .find(|folder| root().join(folder).join("Cargo.toml").is_file())
        .map(Path::to_owned)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_places_or_places_per_thousand_rounded_up() {
        fn check(places: usize, per: Option<usize>, expected: usize) {
            let place = Place { path: PathBuf::new(), line: 1, text: String::new() };
            let count = Count { name: "", meaning: "", limit: 0, per, places: vec![place; places] };
            assert_eq!(count.value(), expected);
        }
        check(3, None, 3);
        check(27, Some(1000), 27);
        check(1, Some(3000), 1);
        check(0, Some(0), 0);
    }

    #[test]
    fn a_file_belongs_to_the_nearest_crate() {
        fn check(path: &str, expected: &str) {
            assert_eq!(crate_of(Path::new(path)), Path::new(expected));
        }
        check("host/store/src/batch.rs", "host/store");
        check("tests/bench/src/main.rs", "tests/bench");
        check("tests/guests/programs/spins.rs", "tests/guests/programs/spins.rs");
    }

    #[test]
    fn a_type_name_counts_once_a_crate_when_it_is_defined_twice() {
        fn check(files: &[(&str, &str)], expected: usize) {
            let files: Vec<(PathBuf, String)> =
                files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
            let counts = count(&files).unwrap();
            assert_eq!(counts.iter().find(|count| count.name == "type-names").unwrap().places.len(), expected);
        }
        check(
            &[
                ("host/hookloom/src/a.rs", "struct Turn;"),
                ("host/hookloom/src/b.rs", "enum Turn {}"),
                ("host/hookloom/src/c.rs", "type Turn = u8;"),
            ],
            1,
        );
        check(&[("host/hookloom/src/a.rs", "struct Event;"), ("xtask/src/b.rs", "struct Event;")], 0);
        check(&[("host/hookloom/src/a.rs", "struct Event; impl Event {}")], 0);
    }
}

//! Names for the ids and credentials of one store, by the order of their first appearance.

use std::collections::HashMap;
use uuid::Uuid;

/// Length of an id as text.
const ID_LENGTH: usize = 36;

/// Names of one store.
#[derive(Default)]
pub(super) struct TwinNames {
    numbers: HashMap<Uuid, usize>,
    /// Ids in the order of their first appearance.
    ids: Vec<Uuid>,
    /// Random texts other than ids.
    texts: Vec<String>,
}

impl TwinNames {
    /// Gives a random text the next name.
    pub(super) fn give(&mut self, text: &str) {
        self.texts.push(text.to_owned());
    }

    /// Returns the id that appeared as the one with this number, in a circle. Nil if there is none.
    pub(super) fn id(&self, number: usize) -> Uuid {
        if self.ids.is_empty() { Uuid::nil() } else { self.ids[number % self.ids.len()] }
    }

    /// Returns a text with names instead of ids and random texts.
    pub(super) fn named(&mut self, answer: &str) -> String {
        let mut text = answer.to_owned();
        for (number, random) in self.texts.iter().enumerate() {
            if text.contains(random) {
                text = text.replace(random, &format!("text {number}"));
            }
        }
        let mut named = String::with_capacity(text.len());
        let mut rest = &*text;
        while let Some(at) = rest.find(|first: char| first.is_ascii_hexdigit()) {
            let (before, from) = rest.split_at(at);
            named.push_str(before);
            match from.get(..ID_LENGTH).and_then(id_of) {
                Some(id) => {
                    named.push_str(&self.name(id));
                    rest = &from[ID_LENGTH..];
                }
                None => {
                    named.push_str(&from[..1]);
                    rest = &from[1..];
                }
            }
        }
        named + rest
    }

    fn name(&mut self, id: Uuid) -> String {
        let next = self.ids.len();
        let number = *self.numbers.entry(id).or_insert(next);
        if number == next {
            self.ids.push(id);
        }
        format!("id {number}")
    }
}

/// Returns the id that a text of its length is.
fn id_of(text: &str) -> Option<Uuid> {
    let is_hyphenated = [8, 13, 18, 23].iter().all(|at| text.as_bytes()[*at] == b'-');
    if is_hyphenated { Uuid::try_parse(text).ok() } else { None }
}

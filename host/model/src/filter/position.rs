//! Positions in a filter: linked from a condition to the whole filter, so that conditions below a long name share it.
//!
//! # Guarantees
//! - The positions of a filter take memory in the length of the filter.

use super::document::Path;
use std::iter;
use std::sync::Arc;

/// Position in a filter.
#[derive(Clone)]
pub(super) struct Position(Option<Arc<Key>>);

/// Key of a position, with the position above it.
struct Key {
    above: Position,
    text: Arc<str>,
    /// True if the key names a part of the event as well.
    is_name: bool,
    depth: usize,
}

impl Position {
    /// Position of the whole filter.
    pub(super) const ROOT: Position = Position(None);

    pub(super) fn key(&self, key: &str) -> Self {
        self.below(key, false)
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.key(&index.to_string())
    }

    /// Returns the position of a key that names a part of the event as well.
    pub(super) fn name(&self, name: &str) -> Self {
        self.below(name, true)
    }

    fn below(&self, key: &str, is_name: bool) -> Self {
        let key = Key { above: self.clone(), text: key.into(), is_name, depth: self.depth() + 1 };
        Position(Some(Arc::new(key)))
    }

    /// Number of levels above the position.
    pub(super) fn depth(&self) -> usize {
        self.0.as_ref().map_or(0, |key| key.depth)
    }

    /// Returns the JSON pointer, from the filter on.
    pub(super) fn pointer(&self) -> String {
        let keys = self.keys().into_iter().map(|key| key.text.replace('~', "~0").replace('/', "~1"));
        keys.flat_map(|key| ["/".to_owned(), key]).collect()
    }

    /// Returns the names that lead to the part of the event.
    pub(super) fn path(&self) -> Path {
        self.keys().into_iter().filter(|key| key.is_name).map(|key| key.text.clone()).collect()
    }

    /// Returns the keys from the whole filter to the position.
    fn keys(&self) -> Vec<&Key> {
        let mut keys: Vec<&Key> = iter::successors(self.0.as_deref(), |key| key.above.0.as_deref()).collect();
        keys.reverse();
        keys
    }
}

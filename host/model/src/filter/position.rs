//! Positions in a filter: linked from a condition to the whole filter, so that conditions below a long name share it.
//!
//! # Guarantees
//! - The positions of a filter take memory in the length of the filter.

use super::document::Path;
use std::iter;
use std::sync::Arc;

/// Position in a filter.
#[derive(Clone)]
pub(super) struct Position(Option<Arc<Step>>);

struct Step {
    above: Position,
    key: Arc<str>,
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
        let step = Step { above: self.clone(), key: key.into(), is_name, depth: self.depth() + 1 };
        Position(Some(Arc::new(step)))
    }

    /// Number of levels above the position.
    pub(super) fn depth(&self) -> usize {
        self.0.as_ref().map_or(0, |step| step.depth)
    }

    /// Returns the JSON pointer, from the filter on.
    pub(super) fn pointer(&self) -> String {
        let keys = self.steps().into_iter().map(|step| step.key.replace('~', "~0").replace('/', "~1"));
        keys.flat_map(|key| ["/".to_owned(), key]).collect()
    }

    /// Returns the names that lead to the part of the event.
    pub(super) fn path(&self) -> Path {
        self.steps().into_iter().filter(|step| step.is_name).map(|step| step.key.clone()).collect()
    }

    /// Returns the steps from the whole filter to the position.
    fn steps(&self) -> Vec<&Step> {
        let mut steps: Vec<&Step> = iter::successors(self.0.as_deref(), |step| step.above.0.as_deref()).collect();
        steps.reverse();
        steps
    }
}

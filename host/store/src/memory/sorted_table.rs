//! Table in memory.

use rpds::RedBlackTreeMapSync;

/// Table, sorted by its key. A copy costs nothing.
pub(super) type SortedTable<K, V> = RedBlackTreeMapSync<K, V>;

/// Deletes the rows that match, and returns their number.
pub(super) fn delete_where<K: Clone + Ord, V>(
    table: &mut SortedTable<K, V>,
    matches: impl Fn(&K, &V) -> bool,
) -> usize {
    let found: Vec<K> = table.iter().filter(|(key, row)| matches(key, row)).map(|(key, _)| key.clone()).collect();
    for key in &found {
        table.remove_mut(key);
    }
    found.len()
}

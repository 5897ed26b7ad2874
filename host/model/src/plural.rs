//! Counted nouns: `1 delivery`, `2 deliveries`.
//!
//! Pure. Every text with a count uses it.

/// Returns a number with the word for one or for several of them.
pub fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!(
            [0, 1, 2, 21].map(|count| counted(count, "delivery", "deliveries")),
            ["0 deliveries", "1 delivery", "2 deliveries", "21 deliveries"]
        );
    }
}

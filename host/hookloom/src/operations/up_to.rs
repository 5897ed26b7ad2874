//! Numbers of items in requests. A number outside of its range is refused: a client that gets fewer items than it asked for would
//! take them for all.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Number from 1 to `MAX` in a request. Other numbers cannot be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UpTo<const MAX: usize>(usize);

impl<const MAX: usize> UpTo<MAX> {
    /// The maximum.
    pub(crate) const LARGEST: Self = UpTo(MAX);

    /// Returns a number that is known when the program is compiled. One outside of the range does not compile.
    pub(crate) const fn fixed<const COUNT: usize>() -> Self {
        const { assert!(COUNT >= 1 && COUNT <= MAX) };
        UpTo(COUNT)
    }

    /// Returns the number.
    pub(crate) fn get(self) -> usize {
        self.0
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for UpTo<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let count = u64::deserialize(deserializer)?;
        let fitting = usize::try_from(count).ok().filter(|count| (1..=MAX).contains(count));
        fitting.map(UpTo).ok_or_else(|| D::Error::custom(format!("{count} is outside the range 1 to {MAX}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_outside_its_range_is_refused() {
        fn parse(text: &str) -> Result<usize, String> {
            serde_json::from_str::<UpTo<500>>(text).map(UpTo::get).map_err(|error| error.to_string())
        }
        assert_eq!((parse("1"), parse("500")), (Ok(1), Ok(500)));
        for wrong in ["0", "501", "18446744073709551615"] {
            assert_eq!(parse(wrong), Err(format!("{wrong} is outside the range 1 to 500")));
        }
        assert!(parse("-1").is_err() && parse("1.5").is_err() && parse("\"1\"").is_err());
    }
}

//! Accent colour of a platform, and the colours that follow from it for a light and a dark page.
//!
//! # Guarantees
//! - Whatever the colour is, text in it and on it can be read: contrasts are at least 4.5 (WCAG 2.2, 1.4.3). A colour that is too
//!   light or too dark for a use is mixed with black or white for that use, as little as it needs.
//!
//! Pure.

/// Least contrast of text.
const TEXT: f64 = 4.5;

/// Least contrast of the ground of a button with the page, so that its form can be seen.
const FORM: f64 = 2.0;

/// Number of steps in which a colour is mixed with black or white.
const STEPS: u16 = 256;

/// Colour, as red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

const WHITE: Colour = Colour([255; 3]);
const BLACK: Colour = Colour([0; 3]);

impl Colour {
    /// Parses a colour as `#0b6470`.
    ///
    /// # Errors
    /// A sentence with the broken rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6);
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let digits = digits.ok_or_else(|| format!("{text:?} is not a colour such as #0b6470"))?;
        let number = u32::from_str_radix(digits, 16).map_err(|error| error.to_string())?;
        let [_, red, green, blue] = number.to_be_bytes();
        Ok(Colour([red, green, blue]))
    }

    /// Returns the contrast with another colour, from 1 to 21 (WCAG 2.2, relative luminance).
    pub fn contrast(self, other: Colour) -> f64 {
        let [one, other] = [self, other].map(Colour::luminance);
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    fn luminance(self) -> f64 {
        fn linear(part: u8) -> f64 {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        }
        let [red, green, blue] = self.0.map(linear);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    /// Returns a mixture with `parts` of [`STEPS`] parts of another colour.
    fn mixed(self, other: Colour, parts: u16) -> Colour {
        let mut mixed = self.0;
        for (one, other) in mixed.iter_mut().zip(other.0) {
            let sum = u32::from(*one) * u32::from(STEPS - parts) + u32::from(other) * u32::from(parts);
            *one = u8::try_from(sum / u32::from(STEPS)).unwrap_or(u8::MAX);
        }
        Colour(mixed)
    }

    /// Returns the colour, or the mixture with the least of another colour that has a contrast with all grounds.
    fn until(self, other: Colour, grounds: &[Colour], least: f64) -> Colour {
        let mut mixtures = (0..=STEPS).map(|parts| self.mixed(other, parts));
        mixtures.find(|one| grounds.iter().all(|ground| one.contrast(*ground) >= least)).unwrap_or(other)
    }
}

impl std::fmt::Display for Colour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

/// Serialization of an optional colour as a setting that may be empty.
pub mod colour_or_empty {
    use super::Colour;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Serializes a colour, or an empty text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(colour: &Option<Colour>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&colour.as_ref().map(ToString::to_string).unwrap_or_default())
    }

    /// Parses a colour, or an empty text.
    ///
    /// # Errors
    /// A sentence with the rule that the colour breaks.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Colour>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() { Ok(None) } else { Colour::parse(&text).map(Some).map_err(D::Error::custom) }
    }
}

/// Grounds of a page.
#[derive(Clone, Copy, Debug)]
pub struct PageGrounds {
    /// The page itself, cards and fields, headers and code.
    pub grounds: [Colour; 3],
    /// True if text on it is light.
    pub is_dark: bool,
}

/// Colours of the role `accent` on one kind of page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccentRole {
    /// Colour of text.
    pub text: Colour,
    /// Ground of text in the accent colour, and of other text.
    pub ground: Colour,
    /// Border of that ground.
    pub line: Colour,
    /// Ground of a button with white text.
    pub solid: Colour,
}

impl AccentRole {
    /// Returns the role of a colour on a page.
    pub fn of(colour: Colour, page: PageGrounds) -> AccentRole {
        let [surface, raised, sunken] = page.grounds;
        if page.is_dark {
            let ground = raised.mixed(colour, 26);
            let grounds = [surface, raised, sunken, ground];
            let solid = colour.until(WHITE, &[surface, raised, sunken], FORM).until(BLACK, &[WHITE], TEXT);
            let line = raised.mixed(colour, 90);
            return AccentRole { text: colour.until(WHITE, &grounds, TEXT), ground, line, solid };
        }
        let ground = raised.mixed(colour, 22);
        let grounds = [surface, raised, sunken, ground];
        AccentRole {
            text: colour.until(BLACK, &grounds, TEXT),
            ground,
            line: raised.mixed(colour, 90),
            solid: colour.until(BLACK, &[WHITE], TEXT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIGHT: PageGrounds =
        PageGrounds { grounds: [Colour([255; 3]), Colour([255; 3]), Colour([0xf3, 0xf6, 0xf6])], is_dark: false };
    const DARK: PageGrounds = PageGrounds {
        grounds: [Colour([0x0f, 0x15, 0x16]), Colour([0x15, 0x1d, 0x1e]), Colour([0x0a, 0x0f, 0x10])],
        is_dark: true,
    };
    /// Text and muted text of each page.
    const TEXTS: [[Colour; 2]; 2] = [
        [Colour([0x17, 0x20, 0x22]), Colour([0x55, 0x64, 0x67])],
        [Colour([0xe4, 0xeb, 0xeb]), Colour([0x9a, 0xac, 0xae])],
    ];

    proptest! {
        #[test]
        fn every_accent_can_be_read(colour: [u8; 3]) {
            for (page, texts) in [LIGHT, DARK].into_iter().zip(TEXTS) {
                let role = AccentRole::of(Colour(colour), page);
                for ground in page.grounds.into_iter().chain([role.ground]) {
                    prop_assert!(role.text.contrast(ground) >= TEXT, "{role:?} on {ground}");
                }
                for text in texts {
                    prop_assert!(text.contrast(role.ground) >= TEXT, "{text} on {role:?}");
                }
                prop_assert!(WHITE.contrast(role.solid) >= TEXT, "{role:?}");
                prop_assert!(role.solid.contrast(page.grounds[0]) >= 1.9, "{role:?} is seen");
            }
        }
    }

    #[test]
    fn a_colour_that_fits_stays() {
        let teal = Colour::parse("#0b6470").expect("a colour");
        let role = AccentRole::of(teal, LIGHT);
        assert_eq!((role.text, role.solid, teal.to_string()), (teal, teal, "#0b6470".to_owned()));
        assert_ne!(AccentRole::of(teal, DARK).text, teal);
        let yellow = AccentRole::of(Colour::parse("#ffd500").expect("a colour"), LIGHT);
        assert_eq!((yellow.text.to_string(), yellow.solid.to_string()), ("#856f00".to_owned(), "#8c7500".to_owned()));
    }

    #[test]
    fn a_colour_has_six_digits() {
        for text in ["0b6470", "#0b647", "#0b64700", "#0b647g", "#+b6470", "teal", "", "#é6470"] {
            assert!(Colour::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Colour::parse("#0B64ff"), Ok(Colour([0x0b, 0x64, 0xff])));
    }
}

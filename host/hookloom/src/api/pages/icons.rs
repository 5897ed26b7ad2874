//! Icons of the pages: the symbols of `assets/icons.svg`, each as an SVG element of its own.
//!
//! # Guarantees
//! - An icon is decoration: it is hidden from screen readers, and a button that has nothing else has a label.
//! - A page loads no file for its icons, and has only those that it shows.

use std::collections::HashMap;
use std::sync::LazyLock;

static SPRITE: &str = include_str!("../../../assets/icons.svg");

/// Elements inside the symbol of each name.
static SYMBOLS: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let symbols = SPRITE.split("<symbol id=\"").skip(1).filter_map(|rest| rest.split("</symbol>").next());
    symbols.filter_map(|symbol| symbol.split_once("\">")).collect()
});

/// Returns the SVG element of an icon. An unknown name gives an empty element; a test looks for the names that templates use.
pub(super) fn svg(name: &str) -> String {
    let inside = SYMBOLS.get(name).copied().unwrap_or_default();
    format!("<svg class=\"icon\" viewBox=\"0 0 24 24\" aria-hidden=\"true\">{inside}</svg>")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names that stand in quotes after `before`, and before `after`.
    fn names<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
        let parts = text.split(before).skip(1).filter_map(|part| part.split_once('"'));
        parts.filter(|(_, rest)| rest.starts_with(after)).map(|(name, _)| name).collect()
    }

    #[test]
    fn every_icon_that_a_page_names_exists() {
        let mut used = names(include_str!("frame.rs"), "icon: \"", " }");
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        let templates = std::fs::read_dir(folder)
            .expect("templates")
            .map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).expect("a template"));
        let templates: Vec<String> = templates.collect();
        used.extend(templates.iter().flat_map(|text| names(text, "{{ \"", "|icon }}")));
        assert!(used.len() > 20, "{used:?}");
        let unknown: Vec<_> = used.into_iter().filter(|name| !SYMBOLS.contains_key(name)).collect();
        assert_eq!(unknown, Vec::<&str>::new());
        assert!(svg("copy").contains("<rect"));
    }
}

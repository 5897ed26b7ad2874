//! Library: the example plugins as components in the program.
//!
//! # Guarantees
//! - The components are those of `assets/library`, which `cargo xtask library` builds from `plugins/`. `cargo xtask test` builds them
//!   again and compares.
//!
//! # Limits
//! - A program has one version of each plugin. Earlier ones stay with the tenants that added them.

use crate::manifest::Manifest;
use bytes::Bytes;
use flate2::read::GzDecoder;
use std::io::Read as _;
use std::sync::LazyLock;

/// Plugin of the library.
pub(crate) struct LibraryPlugin {
    /// Name, also that of the tenant's plugin unless another one is chosen.
    pub(crate) name: &'static str,
    /// Title of its manifest.
    pub(crate) title: String,
    /// Description of its manifest, in one line.
    pub(crate) description: String,
    /// The component, compressed by gzip.
    packed: &'static [u8],
}

/// Name, manifest and compressed component of a plugin.
type Embedded = (&'static str, &'static str, &'static [u8]);

macro_rules! embedded {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../plugins/", $name, "/manifest.json")),
            include_bytes!(concat!("../assets/library/", $name, ".wasm.gz")),
        )
    };
}

/// Content of the library, by name.
static EMBEDDED: [Embedded; 12] = [
    embedded!("changes"),
    embedded!("deal-filter"),
    embedded!("enrich"),
    embedded!("flatten"),
    embedded!("guard"),
    embedded!("normalise"),
    embedded!("redact"),
    embedded!("reshape"),
    embedded!("route"),
    embedded!("slack"),
    embedded!("units"),
    embedded!("wrap"),
];

/// The sha256 of each component before compression, as `sha256sum` writes it.
const SUMS: &str = include_str!("../assets/library/sums.txt");

static PLUGINS: LazyLock<Vec<LibraryPlugin>> = LazyLock::new(|| EMBEDDED.iter().map(LibraryPlugin::new).collect());

impl LibraryPlugin {
    /// Creates the entry of an embedded plugin.
    ///
    /// # Panics
    /// If the manifest is not the one that the plugin's tests wrote.
    fn new((name, manifest, packed): &Embedded) -> Self {
        let manifest: Manifest = serde_json::from_str(manifest).expect("a manifest in the program");
        LibraryPlugin { name, title: manifest.title, description: manifest.description, packed }
    }

    /// Returns all plugins of the library, by name.
    pub(crate) fn all() -> &'static [LibraryPlugin] {
        &PLUGINS
    }

    /// Returns the plugin with this name.
    pub(crate) fn find(name: &str) -> Option<&'static LibraryPlugin> {
        PLUGINS.iter().find(|plugin| plugin.name == name)
    }

    /// Returns whether the library has the plugin of this name in another version than this one.
    pub(crate) fn has_update(name: &str, sha256: &str) -> bool {
        LibraryPlugin::find(name).is_some_and(|plugin| plugin.sha256() != sha256)
    }

    /// Returns the sha256 of the component, in hex.
    pub(crate) fn sha256(&self) -> &'static str {
        fn parts(line: &'static str) -> Option<(&'static str, &'static str)> {
            let (sum, file) = line.split_once("  ")?;
            Some((sum, file.strip_suffix(".wasm")?))
        }
        let sum = SUMS.lines().filter_map(parts).find(|(_, name)| *name == self.name);
        sum.map(|(sum, _)| sum).unwrap_or_default()
    }

    /// Returns the size of the component, in bytes.
    pub(crate) fn size(&self) -> u64 {
        // The last field of gzip (RFC 1952, section 2.3.1).
        self.packed.last_chunk().map_or(0, |size| u32::from_le_bytes(*size).into())
    }

    /// Returns the component.
    ///
    /// # Panics
    /// If the program contains something else than gzip.
    pub(crate) fn component(&self) -> Bytes {
        let mut component = Vec::new();
        GzDecoder::new(self.packed).read_to_end(&mut component).expect("the program contains what xtask compressed");
        component.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    #[test]
    fn every_component_has_its_sum_and_size() {
        assert_eq!(SUMS.lines().count(), EMBEDDED.len());
        for plugin in LibraryPlugin::all() {
            let component = plugin.component();
            assert_eq!(hex::encode(Sha256::digest(&component)), plugin.sha256(), "{}", plugin.name);
            assert_eq!(component.len() as u64, plugin.size(), "{}", plugin.name);
        }
    }

    #[test]
    fn every_component_contains_its_manifest() {
        for (name, manifest, _) in &EMBEDDED {
            let component = LibraryPlugin::find(name).expect("a plugin").component();
            let found = component.windows(manifest.len()).any(|part| part == manifest.as_bytes());
            assert!(found, "{name}");
        }
    }

    #[test]
    fn plugins_are_found_by_name() {
        assert!(LibraryPlugin::all().is_sorted_by_key(|plugin| plugin.name));
        assert!(LibraryPlugin::find("flatten").is_some_and(|plugin| plugin.title == "Flat object"));
        assert!(LibraryPlugin::find("flat").is_none());
    }

    #[test]
    fn another_version_is_an_update() {
        let current = LibraryPlugin::find("flatten").expect("a plugin").sha256();
        assert!(!LibraryPlugin::has_update("flatten", current));
        assert!(LibraryPlugin::has_update("flatten", "the sha256 of an earlier one"));
        assert!(!LibraryPlugin::has_update("no longer there", "the sha256 of an earlier one"));
    }
}

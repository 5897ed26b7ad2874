//! Removal of custom sections from a component, at every depth of nested modules and components. Runs in the compile child, before
//! wasmtime reads the component.
//!
//! # Guarantees
//! - Only a rewritten `name` section of core modules is left: no DWARF, source maps, producers or unknown sections. So later readers of
//!   the component or its compiled code never parse them.
//! - That section holds function names only, already demangled, without control characters, each of at most
//!   [`NAME_BYTES_MAX`] bytes, all of them together in at most [`NAMES_BYTES_MAX`].
//! - All other sections are copied byte for byte.
//! - The manifest is returned beside the copy: that of the component itself, or else the only one of its parts.
//!
//! # Limits
//! Validates nothing: wasmtime validates the result, and the compile child the manifest. Offsets in compiled code refer to the stripped component; they are not shown.

use super::convert::cut;
use hookloom_model::manifest;
use std::fmt::Write as _;
use wasm_encoder::{ComponentSectionId, Encode as _, NameMap, NameSection, Section as _};
use wasmparser::{BinaryReaderError, KnownCustom, Name, NameSectionReader, Parser, Payload};

/// Maximum length of a function's name, in bytes.
const NAME_BYTES_MAX: usize = 120;

/// Maximum size of all names of a component, in bytes. A Python runtime has 1.1 MB of them before they are cut.
const NAMES_BYTES_MAX: usize = 2 << 20;

/// Memory of a name in addition to its bytes.
const NAME_OVERHEAD_BYTES: usize = 16;

/// Maximum depth of nested components and modules. Toolchains reach 3.
const DEPTH_MAX: usize = 32;

/// Reason why a component cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum StripError {
    /// The file is not a sequence of sections.
    #[error(transparent)]
    Binary(#[from] BinaryReaderError),
    /// The file ends in the middle of a section.
    #[error("unexpected end in the middle of a section")]
    Cut,
    /// Components are nested too deeply.
    #[error("components are nested more than {DEPTH_MAX} deep")]
    Depth,
}

/// Copy of a component without custom sections, and its manifest.
#[derive(Debug)]
pub(super) struct Stripped {
    /// Component without custom sections, except for bounded function names.
    pub(super) component: Vec<u8>,
    /// Content of the section of the manifest.
    pub(super) manifest: ManifestSection,
}

/// Content of the section of the manifest, which toolchains put into the component or into one of its core modules.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ManifestSection {
    /// There is none.
    None,
    /// Bytes of the only one at the smallest depth.
    One(Vec<u8>),
    /// There are several at the smallest depth.
    Several,
}

/// Manifest that was found so far.
struct FoundManifest {
    depth: usize,
    section: ManifestSection,
}

impl FoundManifest {
    fn note(&mut self, depth: usize, bytes: &[u8]) {
        if self.section == ManifestSection::None || depth < self.depth {
            // One byte more than is allowed is enough to refuse it.
            let bytes = bytes.get(..=manifest::BYTES_MAX).unwrap_or(bytes);
            *self = FoundManifest { depth, section: ManifestSection::One(bytes.to_vec()) };
        } else if depth == self.depth {
            self.section = ManifestSection::Several;
        }
    }
}

/// Module or component that is being copied.
struct BinaryPart {
    copy: Vec<u8>,
    /// Section of the enclosing component that contains this part.
    section: ComponentSectionId,
}

impl BinaryPart {
    fn new(section: ComponentSectionId) -> Self {
        BinaryPart { copy: Vec::new(), section }
    }

    fn push(&mut self, section: u8, content: &[u8]) {
        self.copy.push(section);
        content.encode(&mut self.copy);
    }
}

/// Returns a copy of a component without custom sections, except for bounded function names, and its manifest.
pub(super) fn strip(component: &[u8]) -> Result<Stripped, StripError> {
    let mut found = FoundManifest { depth: 0, section: ManifestSection::None };
    let mut names = NameBudget { room: NAMES_BYTES_MAX };
    let mut enclosing: Vec<BinaryPart> = Vec::new();
    let mut part = BinaryPart::new(ComponentSectionId::Component);
    for payload in Parser::new(0).parse_all(component) {
        let nested = match payload? {
            Payload::Version { range, .. } => {
                part.copy.extend_from_slice(component.get(range).ok_or(StripError::Cut)?);
                continue;
            }
            Payload::CustomSection(section) => {
                if section.name() == manifest::SECTION {
                    found.note(enclosing.len(), section.data());
                }
                if let KnownCustom::Name(section) = section.as_known()
                    && let Some(kept) = names.bounded(section)
                {
                    kept.append_to(&mut part.copy);
                }
                continue;
            }
            Payload::ModuleSection { .. } => ComponentSectionId::CoreModule,
            Payload::ComponentSection { .. } => ComponentSectionId::Component,
            Payload::End(_) => {
                let Some(outer) = enclosing.pop() else { break };
                let inner = std::mem::replace(&mut part, outer);
                part.push(inner.section.into(), &inner.copy);
                continue;
            }
            other => {
                if let Some((section, content)) = other.as_section() {
                    part.push(section, component.get(content).ok_or(StripError::Cut)?);
                }
                continue;
            }
        };
        if enclosing.len() == DEPTH_MAX {
            return Err(StripError::Depth);
        }
        enclosing.push(std::mem::replace(&mut part, BinaryPart::new(nested)));
    }
    Ok(Stripped { component: part.copy, manifest: found.section })
}

/// Remaining size for function names.
struct NameBudget {
    room: usize,
}

impl NameBudget {
    /// Returns the function names of a section that fit the remaining size. Of a broken section, the names before the fault.
    fn bounded(&mut self, section: NameSectionReader<'_>) -> Option<NameSection> {
        let mut kept = NameMap::new();
        let subsections = section.into_iter().map_while(Result::ok);
        let functions = subsections.filter_map(|subsection| match subsection {
            Name::Function(functions) => Some(functions),
            _ => None,
        });
        for naming in functions.flat_map(|names| names.into_iter().map_while(Result::ok)) {
            let name = readable(naming.name);
            let Some(room) = self.room.checked_sub(name.len() + NAME_OVERHEAD_BYTES) else { break };
            self.room = room;
            kept.append(naming.index, &name);
        }
        if kept.is_empty() {
            return None;
        }
        let mut names = NameSection::new();
        names.functions(&kept);
        Some(names)
    }
}

/// Returns the demangled name of a function, cut to [`NAME_BYTES_MAX`]. The alternate form omits the hash.
fn readable(name: &str) -> String {
    let mut short = BoundedName(String::new());
    // The error ends demangling at the maximum length, because a short mangled name may stand for megabytes.
    let _ = write!(short, "{:#}", rustc_demangle::demangle(name));
    short.0
}

/// Text buffer that fails when it has [`NAME_BYTES_MAX`] bytes.
struct BoundedName(String);

impl std::fmt::Write for BoundedName {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = NAME_BYTES_MAX - self.0.len();
        let fits = cut(text, room);
        self.0.extend(fits.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }));
        self.0.truncate(self.0.floor_char_boundary(NAME_BYTES_MAX));
        if fits.len() < text.len() { Err(std::fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use wasm_encoder::{
        CodeSection, Component, CustomSection, Function, FunctionSection, Module, ModuleSection,
        NestedComponentSection, TypeSection,
    };

    fn custom(name: &'static str, bytes: usize) -> CustomSection<'static> {
        CustomSection { name: Cow::Borrowed(name), data: Cow::Owned(vec![0; bytes]) }
    }

    /// A component in a component, with a module of one function, custom sections at every place, and these names.
    fn component(names: Option<&NameMap>, custom_sections: bool) -> Vec<u8> {
        let mut types = TypeSection::new();
        let mut functions = FunctionSection::new();
        let mut code = CodeSection::new();
        types.ty().function([], []);
        functions.function(0);
        let mut body = Function::new([]);
        body.instructions().end();
        code.function(&body);
        let mut module = Module::new();
        let debug = [".debug_info", ".debug_ranges", "sourceMappingURL", "producers", "external_debug_info", "x"];
        let mut sections: Vec<_> = debug.into_iter().map(|name| custom(name, 1_000)).collect();
        if !custom_sections {
            sections.clear();
        }
        for section in sections.iter().take(3) {
            module.section(section);
        }
        module.section(&types).section(&functions).section(&code);
        for section in &sections {
            module.section(section);
        }
        if let Some(names) = names {
            let mut section = NameSection::new();
            section.functions(names);
            module.section(&section);
        }
        let mut inner = Component::new();
        inner.section(&ModuleSection(&module));
        let mut outer = Component::new();
        if custom_sections {
            inner.section(&custom("component-name", 100));
            outer.section(&custom("anything", 100_000));
        }
        outer.section(&NestedComponentSection(&inner));
        outer.finish()
    }

    #[test]
    fn only_custom_sections_go_and_at_every_depth() {
        let mut names = NameMap::new();
        names.append(0, "f");
        let bare = component(None, false);
        assert_eq!(strip(&bare).expect("stripped").component, bare);
        assert_eq!(strip(&component(None, true)).expect("stripped").component, bare);
        let named = component(Some(&names), false);
        assert_eq!(strip(&component(Some(&names), true)).expect("stripped").component, named);
        assert_ne!(named, bare);
    }

    #[test]
    fn names_are_short_and_there_is_room_for_so_many() {
        let long = "\u{1b}[31m€".repeat(100_000);
        let mut names = NameMap::new();
        (0..50_000).for_each(|function| names.append(function, &long[..1_000]));
        names.append(50_000, &long);
        let stripped = strip(&component(Some(&names), false)).expect("stripped").component;
        assert!((1_000_000..=NAMES_BYTES_MAX + 1_000).contains(&stripped.len()), "{}", stripped.len());
        assert!(!stripped.windows(2).any(|two| two == b"\x1b["), "control characters");
    }

    #[test]
    fn a_name_is_demangled_and_bounded() {
        assert_eq!(readable("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"), "core::fmt::Write::write_fmt");
        assert_eq!(readable(&"é".repeat(100)), "é".repeat(60));
        assert_eq!(readable(&format!("a{}", "é".repeat(100))), format!("a{}", "é".repeat(59)));
        // Each back reference of the v0 scheme doubles what the one before stands for.
        let doubling = format!("_RNvC1a{}1b", "TB3_B3_E".repeat(40));
        assert!(readable(&doubling).len() <= NAME_BYTES_MAX);
    }

    #[test]
    fn the_manifest_at_the_smallest_depth_is_found() {
        fn section(text: &'static str) -> CustomSection<'static> {
            CustomSection { name: manifest::SECTION.into(), data: Cow::Borrowed(text.as_bytes()) }
        }
        fn with(outer: &[&'static str], modules: &[&'static str]) -> ManifestSection {
            let mut component = Component::new();
            for text in modules {
                let mut module = Module::new();
                module.section(&section(text));
                component.section(&ModuleSection(&module));
            }
            for text in outer {
                component.section(&section(text));
            }
            strip(&component.finish()).expect("stripped").manifest
        }
        fn one(text: &str) -> ManifestSection {
            ManifestSection::One(text.as_bytes().to_vec())
        }
        assert_eq!(with(&[], &[]), ManifestSection::None);
        assert_eq!(with(&[], &["inner"]), one("inner"));
        assert_eq!(with(&["outer"], &["inner", "other"]), one("outer"));
        assert_eq!(with(&[], &["inner", "other"]), ManifestSection::Several);
        assert_eq!(with(&["a", "b"], &[]), ManifestSection::Several);
        let large: &'static str = Box::leak("x".repeat(10 << 20).into_boxed_str());
        assert_eq!(with(&[large], &[]), one(&large[..=manifest::BYTES_MAX]));
    }

    #[test]
    fn invalid_components_are_refused_with_the_reason() {
        assert!(matches!(strip(b"\0asm\x0d\0\x01\0\x04\xff"), Err(StripError::Binary(_))));
        let whole = component(None, true);
        assert!(strip(&whole[..whole.len() - 1]).is_err());
        // Between two sections a component may end; nowhere does a cut make this panic.
        (0..whole.len()).step_by(37).for_each(|end| drop(strip(&whole[..end])));
        let mut nested = Component::new().finish();
        for _ in 0..=DEPTH_MAX {
            let mut outer = BinaryPart::new(ComponentSectionId::Component);
            outer.copy.extend_from_slice(&nested[..8]);
            outer.push(ComponentSectionId::Component.into(), &nested);
            nested = outer.copy;
        }
        assert!(matches!(strip(&nested), Err(StripError::Depth)));
    }
}

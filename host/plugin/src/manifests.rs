//! Manifests: those of stored versions, for the check of configurations and for people; and the section that an author's build writes.
//!
//! # Limits
//! The manifest of a stored version is read from its report, in which the compile child wrote it; a host reads no component for it.

use super::report::Report;
use super::version::{About, Origin};
use super::{PluginError, Plugins};
use hookloom_model::chain::Step;
use hookloom_model::manifest::{self, ConfigSchema, Manifest};
use hookloom_model::subscription::TenantId;
use std::collections::BTreeMap;
use std::sync::Arc;
use wasm_encoder::{CustomSection, Section as _};
use wasmparser::{BinaryReaderError, Chunk, Parser, Payload};

/// Returns a component with this manifest in the place of its own. For the commands of plugin authors, whose component it is.
///
/// # Errors
/// If the file is not a sequence of sections.
pub fn with_manifest(component: &[u8], manifest: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
    let mut parser = Parser::new(0);
    let mut rest = component;
    let mut copy = Vec::with_capacity(component.len() + manifest.len());
    while let Chunk::Parsed { consumed, payload } = parser.parse(rest, true)? {
        let nested_bytes = match &payload {
            // The parser goes on behind what is nested.
            Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } => {
                unchecked_range.len()
            }
            _ => 0,
        };
        let (part, after) = rest.split_at((consumed + nested_bytes).min(rest.len()));
        rest = after;
        match payload {
            Payload::CustomSection(section) if section.name() == manifest::SECTION => {}
            Payload::End(_) => break,
            _ => copy.extend_from_slice(part),
        }
    }
    CustomSection { name: manifest::SECTION.into(), data: manifest.into() }.append_to(&mut copy);
    Ok(copy)
}

impl Plugins {
    /// Returns the manifest of a version of a plugin. None: there is no such version, or it has no manifest.
    pub async fn manifest(&self, tenant: &TenantId, name: &str, sha256: &str) -> Result<Option<Manifest>, PluginError> {
        let report = self.store.version_report(tenant.clone(), name.to_owned(), sha256.to_owned()).await?;
        let report = report.and_then(|report| serde_json::from_str::<Report>(&report).ok());
        Ok(report.and_then(|report| report.manifest))
    }

    /// Returns the schema of the configuration of a chain's plugin: that of its pinned version, or of its active one. None: there is no
    /// such version, or it has no manifest.
    pub async fn config_schema(&self, tenant: &TenantId, step: &Step) -> Result<Option<ConfigSchema>, PluginError> {
        let pin = step.pin.as_ref().map(ToString::to_string);
        let active = || self.current(tenant, &step.plugin).map(|version| version.sha256.to_string());
        let Some(sha256) = pin.or_else(active) else { return Ok(None) };
        let manifest = self.manifest(tenant, &step.plugin, &sha256).await?;
        // A host of an earlier version may have accepted more.
        Ok(manifest.and_then(|manifest| manifest.schema().ok()))
    }

    /// Returns the title and description of a plugin's active version.
    pub fn about(&self, tenant: &TenantId, name: &str) -> Option<Arc<About>> {
        self.current(tenant, name)?.about
    }

    /// Returns the tenant's plugins whose active version was added from the host's library, by name.
    pub fn origins(&self, tenant: &TenantId) -> BTreeMap<String, Origin> {
        let active = self.active.read();
        let of_tenant = active.iter().filter(|((owner, _), _)| owner == tenant);
        of_tenant.filter_map(|((_, name), version)| Some((name.clone(), version.origin()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strip::{ManifestSection, strip};
    use wasm_encoder::{Component, Module, ModuleSection};

    #[test]
    fn a_manifest_takes_the_place_of_an_earlier_one() {
        let mut module = Module::new();
        module.section(&CustomSection { name: manifest::SECTION.into(), data: b"inner".into() });
        let mut component = Component::new();
        component.section(&ModuleSection(&module));
        component.section(&CustomSection { name: "other".into(), data: vec![7; 300].into() });
        let bare = component.finish();
        let one = with_manifest(&bare, b"first").expect("written");
        assert_eq!(one[..bare.len()], bare);
        let two = with_manifest(&one, b"second").expect("written");
        assert_eq!(two.len(), one.len() + 1);
        assert_eq!(strip(&two).expect("stripped").manifest, ManifestSection::One(b"second".to_vec()));
        assert!(with_manifest(b"no component", b"first").is_err());
        assert!(with_manifest(&bare[..bare.len() - 1], b"first").is_err());
    }
}

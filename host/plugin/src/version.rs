//! Versions of plugins: one that can judge, and a reference to one whose code may be anywhere.

use super::bindings::PluginPre;
use super::guest::GuestState;
use super::report::Report;
use hookloom_model::manifest::Manifest;
use std::sync::Arc;

/// A version that can judge: compiled, loaded and linked.
pub(super) struct Version {
    pub(super) sha256: String,
    pub(super) plugin: PluginPre<GuestState>,
    /// Report of the check.
    pub(super) report: Report,
    /// Script that the engine runs. None: the plugin is a component.
    pub(super) script: Option<Arc<str>>,
    /// Size of the code in memory, in bytes.
    pub(super) bytes: u64,
}

/// Reference to a version, whose code may be in memory, on disk, or not compiled yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VersionRef {
    pub(super) sha256: Arc<str>,
    /// Set when the version may read the previous event of an entity.
    pub(super) reads_history: bool,
    /// Title and description of its manifest. None: it has no manifest.
    pub(super) about: Option<Arc<About>>,
    /// Name of the plugin of the host's library as which it was added. None: it was not added from there.
    pub(super) library: Option<Arc<str>>,
}

/// Origin of an active version in the host's library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Name of the plugin in the library.
    pub library: Arc<str>,
    /// sha256 of the version, in hex.
    pub sha256: Arc<str>,
}

/// Title and description of a plugin, by its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Title: a few words.
    pub title: String,
    /// Description in one line.
    pub description: String,
}

impl About {
    fn of(report: &Report) -> Option<Arc<Self>> {
        let Manifest { title, description, .. } = report.manifest.as_ref()?;
        Some(Arc::new(About { title: title.clone(), description: description.clone() }))
    }
}

impl VersionRef {
    /// Creates a reference from a version's sha256 and the stored report of its check.
    pub(super) fn new(sha256: &str, report: &str) -> Self {
        match serde_json::from_str(report) {
            Ok(report) => VersionRef::of(sha256, &report),
            // A needless lookup only costs a read.
            Err(_) => VersionRef { sha256: sha256.into(), reads_history: true, about: None, library: None },
        }
    }

    /// Creates a reference from a version's sha256 and the report of its check.
    pub(super) fn of(sha256: &str, report: &Report) -> Self {
        VersionRef {
            sha256: sha256.into(),
            reads_history: report.reads_history(),
            about: About::of(report),
            library: report.library.as_deref().map(Into::into),
        }
    }

    /// Returns the origin of the version in the host's library. None: it was not added from there.
    pub(super) fn origin(&self) -> Option<Origin> {
        Some(Origin { library: self.library.clone()?, sha256: self.sha256.clone() })
    }
}

impl Version {
    /// Creates a version that is not stored, for the probe of a compile child.
    pub(super) fn unnamed(plugin: PluginPre<GuestState>, script: Option<Arc<str>>) -> Self {
        Version { sha256: String::new(), plugin, report: Report::default(), script, bytes: 0 }
    }

    /// Creates the version of a script, which shares this version's code.
    pub(super) fn with_script(&self, sha256: &str, report: Report, source: Arc<str>) -> Self {
        let bytes = source.len() as u64;
        Version { sha256: sha256.to_owned(), plugin: self.plugin.clone(), report, script: Some(source), bytes }
    }
}

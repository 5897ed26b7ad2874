//! Sources of a plugin: a component file, or a folder with a `hookloom-plugin.toml`.

use super::super::progress::during;
use super::super::terminal::{Message, errln};
use super::Failure;
use crate::event::{Event, EventId, HOST_EVENT_NAMES, Module, VENDOR_EVENT_NAMES, read_envelope};
use crate::manifest::Manifest;
use crate::plugin::workbench::{BenchPlugin, Workbench};
use crate::plugin::{Report, script, with_manifest};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// File that describes how a folder's plugin is built.
pub(super) const BUILD_FILE: &str = "hookloom-plugin.toml";

/// Content of `hookloom-plugin.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuildFile {
    /// Name of the plugin in a host.
    name: String,
    /// Shell commands that build the plugin, run in its folder.
    build: Vec<String>,
    /// Component that the commands build.
    component: PathBuf,
    /// Paths that are watched for changes, besides this file.
    #[serde(default = "default_watch")]
    watch: Vec<PathBuf>,
    /// Manifest to write into the component. Absent: the component keeps its own, if it has one.
    manifest: Option<ManifestTable>,
}

/// Manifest of the plugin, as its author writes it in `hookloom-plugin.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestTable {
    title: String,
    description: String,
    /// JSON Schema of the config. Its type is `object` and need not be written.
    #[serde(default)]
    config: Map<String, Value>,
    /// File with an event.
    sample_event: Option<PathBuf>,
}

impl ManifestTable {
    /// Returns the manifest as JSON, checked as a host checks it.
    fn to_json(&self, folder: &Path) -> Result<Vec<u8>, Failure> {
        let mut config = self.config.clone();
        config.entry("type").or_insert_with(|| "object".into());
        let sample_event = match &self.sample_event {
            None => Value::Null,
            Some(file) => {
                let file = folder.join(file);
                let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?
            }
        };
        let ManifestTable { title, description, .. } = self;
        let manifest =
            json!({"title": title, "description": description, "config": config, "sample_event": sample_event});
        let bytes = serde_json::to_vec(&manifest)?;
        Manifest::parse(&bytes).map_err(|error| format!("[manifest] in {BUILD_FILE}: {error}"))?;
        Ok(bytes)
    }
}

fn default_watch() -> Vec<PathBuf> {
    vec!["src".into(), "golden".into()]
}

/// Plugin on disk.
#[derive(Debug)]
pub(super) struct Source {
    /// Name of the plugin.
    pub(super) name: String,
    /// Component of the plugin.
    pub(super) component: PathBuf,
    /// Folder in which the plugin is built. None for a component without a folder.
    pub(super) folder: Option<PathBuf>,
    /// Paths that are watched for changes.
    pub(super) watch: Vec<PathBuf>,
    build: Vec<String>,
    /// Manifest to write into the component after a build, as JSON.
    manifest: Option<Vec<u8>>,
}

impl Source {
    /// Finds the plugin at a path.
    pub(super) fn find(path: &Path) -> Result<Self, Failure> {
        if path.is_file() {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().replace('_', "-").to_lowercase();
            let component = path.to_owned();
            let watch = vec![path.to_owned()];
            return Ok(Source { name, component, folder: None, watch, build: Vec::new(), manifest: None });
        }
        let file = path.join(BUILD_FILE);
        let text = std::fs::read_to_string(&file).map_err(|error| {
            format!("{}: {error}; name a component (.wasm) or a folder that `hookloom plugin new` made", file.display())
        })?;
        let BuildFile { name, build, component, watch, manifest } =
            toml::from_str(&text).map_err(|error| format!("{}: {}", file.display(), error.message()))?;
        let watch = watch.iter().map(|one| path.join(one)).chain([file]).collect();
        let manifest = manifest.map(|manifest| manifest.to_json(path)).transpose()?;
        Ok(Source { name, component: path.join(component), folder: Some(path.to_owned()), watch, build, manifest })
    }

    /// Runs the build commands, and writes the manifest into the component. Output of the commands goes to stderr, because stdout is for
    /// results.
    pub(super) fn build(&self) -> Result<(), Failure> {
        let Some(folder) = &self.folder else { return Ok(()) };
        for command in &self.build {
            errln!("$ {}", Message(command));
            let mut shell = Command::new("sh");
            let status = shell.arg("-c").arg(format!("{{ {command}\n}} >&2")).current_dir(folder).status()?;
            if !status.success() {
                return Err(format!("`{command}` failed ({status})").into());
            }
        }
        if !self.component.is_file() {
            let component = self.component.display();
            return Err(
                format!("the build went well but left no {component}; look at `component` in {BUILD_FILE}").into()
            );
        }
        self.write_manifest()
    }

    fn write_manifest(&self) -> Result<(), Failure> {
        let Some(manifest) = &self.manifest else { return Ok(()) };
        let described = with_manifest(&self.read()?, manifest)
            .map_err(|error| format!("{} is not a component: {error}", self.component.display()))?;
        std::fs::write(&self.component, described)
            .map_err(|error| format!("{}: {error}", self.component.display()).into())
    }

    pub(super) fn read(&self) -> Result<Bytes, Failure> {
        let hint = if self.folder.is_some() { "; `hookloom plugin build` makes it" } else { "" };
        let bytes =
            std::fs::read(&self.component).map_err(|error| format!("{}: {error}{hint}", self.component.display()))?;
        Ok(bytes.into())
    }

    /// Returns whether the plugin is a script.
    pub(super) fn is_script(&self) -> bool {
        self.component.extension().is_some_and(|extension| extension == "js" || extension == "mjs")
    }

    /// Loads the component into the workbench.
    pub(super) async fn load(&self, workbench: &Workbench) -> Result<(BenchPlugin, Report), Failure> {
        let mut component = self.read()?;
        if self.is_script() {
            component = script::stored(&component)?;
        }
        let what = format!("compiling {} ({} KiB)", self.name, component.len().div_ceil(1 << 10));
        during(&what, workbench.load(&self.name, component)).await.map_err(|error| {
            format!("{} is not a plugin for this host: {}", self.component.display(), crate::describe(&error)).into()
        })
    }
}

/// Parses an event from the text of its file, as a host that accepted it at that time would have it.
pub(super) fn event(text: &str, received_at_ms: i64) -> Result<Arc<Event>, Failure> {
    event_with_id(text, received_at_ms, uuid::Uuid::nil())
}

/// Parses an event, with the id that a host assigned, because the plugin's random numbers depend on it.
pub(super) fn event_with_id(text: &str, received_at_ms: i64, id: uuid::Uuid) -> Result<Arc<Event>, Failure> {
    let envelope = read_envelope(&Bytes::copy_from_slice(text.trim().as_bytes()))
        .map_err(|error| format!("this is not an event: {error}"))?;
    let mut known = VENDOR_EVENT_NAMES.iter().chain(&HOST_EVENT_NAMES);
    let found = known.find(|(name, _)| *name == envelope.name).map(|(_, module)| *module);
    let guess = if envelope.name.starts_with("Opportunity") { Module::Deal } else { Module::Contact };
    Ok(Arc::new(Event {
        id: EventId(id),
        module: found.unwrap_or(guess),
        name: envelope.name,
        entity_id: envelope.entity_id,
        received_at_ms,
        payload: envelope.payload,
    }))
}

/// Reads an event from a file.
pub(super) fn event_in(file: &Path, received_at_ms: i64) -> Result<Arc<Event>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    event(&text, received_at_ms).map_err(|error| format!("{}: {error}", file.display()).into())
}

/// Parses `key=value` of an option.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text}: write KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

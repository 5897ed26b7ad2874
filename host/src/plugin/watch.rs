//! The plugins folder: `<data>/plugins/<tenant>/<name>.wasm`. The only home of notify.
//!
//! # Theory of operation
//! The system's notifications only say that it is worth looking; what counts is a scan, which also runs every
//! `plugins_rescan_s`, because notifications get lost. A file is read when its size, time or identity changed and stayed the same
//! for [`SETTLE`], so that most half-written files are never read; one that is read too early fails the check, changes
//! nothing, and is read again when it changes again. Symbolic links are followed, so swapping one (as Kubernetes does in
//! its mounts) or renaming over a file are changes like any other.
//!
//! A file becomes the active version only if its sha256 is another than the last one that came from it. So a restart
//! never undoes an activation by API. A file that is removed changes nothing but the log. What is wrong with a file is
//! logged and shown with the plugin.

use super::{CompileError, PluginError, Plugins, write_lock};
use crate::subscription::{TenantId, is_slug};
use crate::telemetry;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher as _};
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How long a file must stay as it is before it is read.
const SETTLE: Duration = Duration::from_millis(25);

/// Watches the folder until it is dropped.
pub struct FolderWatch {
    task: JoinHandle<()>,
    _notifications: Option<notify::RecommendedWatcher>,
}

impl FolderWatch {
    /// Makes the folder if it is not there, and starts watching it. `bytes_max` is the largest component; every `rescan`
    /// the folder is scanned without a notification, because some file systems send none.
    pub fn start(folder: PathBuf, plugins: Arc<Plugins>, bytes_max: u64, rescan: Duration) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let (tell, told) = mpsc::channel(1);
        let notifications = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // A scan opens folders, which is an event too: to scan again for it would never end.
            if event.is_ok_and(|event| is_a_look(event.kind)) {
                return;
            }
            // One note is enough to make a scan.
            let _ = tell.try_send(());
        })
        .and_then(|mut watcher| watcher.watch(&folder, RecursiveMode::Recursive).map(|()| watcher))
        .inspect_err(|error| tracing::warn!(%error, "no notifications of the plugins folder; it is scanned instead"));
        let task = tokio::spawn(Scanner::new(folder, plugins, bytes_max).run(told, rescan));
        Ok(FolderWatch { task, _notifications: notifications.ok() })
    }
}

/// Whether somebody only looked: nothing was written.
fn is_a_look(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(how) if how != AccessKind::Close(AccessMode::Write))
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Plugins {
    /// What is wrong with the file of a plugin in the plugins folder, if something is.
    pub fn file_problem(&self, tenant: &TenantId, name: &str) -> Option<String> {
        let problems = self.file_problems.read().unwrap_or_else(PoisonError::into_inner);
        problems.get(&(tenant.clone(), name.to_owned())).cloned()
    }

    /// A tenant's plugins whose files cannot be used, and what is wrong with them.
    pub fn broken_files(&self, tenant: &TenantId) -> Vec<(String, String)> {
        let problems = self.file_problems.read().unwrap_or_else(PoisonError::into_inner);
        let own = problems.iter().filter(|((owner, _), _)| owner == tenant);
        own.map(|((_, name), problem)| (name.clone(), problem.clone())).collect()
    }

    fn note_file_problem(&self, tenant: &TenantId, name: &str, problem: Option<String>) {
        telemetry::file_broken(tenant, name, problem.is_some());
        let (mut problems, key) = (write_lock(&self.file_problems), (tenant.clone(), name.to_owned()));
        match problem {
            Some(problem) => problems.insert(key, problem),
            None => problems.remove(&key),
        };
    }
}

/// What tells one state of a file from another, without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    bytes: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Look {
    fn at(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        Some(Look { bytes: metadata.len(), modified: metadata.modified().ok(), inode: metadata.ino() })
    }
}

/// A file that looked new, and how it looked when it was read.
type Taken = (PathBuf, Look);

/// A tenant whose files were taken, and which of them need no second look.
type Done = (TenantId, Vec<Taken>);

struct Scanner {
    folder: PathBuf,
    plugins: Arc<Plugins>,
    bytes_max: u64,
    seen: HashMap<PathBuf, Look>,
    /// Tenants whose files are being taken: a component that compiles for a minute holds up no other tenant.
    busy: HashSet<TenantId>,
    done: (mpsc::UnboundedSender<Done>, mpsc::UnboundedReceiver<Done>),
}

impl Scanner {
    fn new(folder: PathBuf, plugins: Arc<Plugins>, bytes_max: u64) -> Self {
        let done = mpsc::unbounded_channel();
        Scanner { folder, plugins, bytes_max, seen: HashMap::new(), busy: HashSet::new(), done }
    }

    async fn run(mut self, mut told: mpsc::Receiver<()>, rescan: Duration) {
        let mut open = true;
        loop {
            self.scan().await;
            tokio::select! {
                note = told.recv(), if open => open = note.is_some(),
                Some((tenant, taken)) = self.done.1.recv() => {
                    self.busy.remove(&tenant);
                    self.seen.extend(taken);
                }
                () = tokio::time::sleep(rescan) => {}
            }
        }
    }

    async fn scan(&mut self) {
        let found = files(&self.folder);
        self.forget_removed(&found);
        let new = |path: PathBuf| {
            let look = Look::at(&path).filter(|look| self.seen.get(&path) != Some(look))?;
            let (tenant, name) = names(&path).filter(|(tenant, _)| !self.busy.contains(tenant))?;
            Some((tenant, name, path, look))
        };
        let mut new: Vec<_> = found.into_iter().filter_map(new).collect();
        if new.is_empty() {
            return;
        }
        tokio::time::sleep(SETTLE).await;
        new.retain(|(_, _, path, look)| Look::at(path) == Some(*look));
        let mut of_tenants: HashMap<TenantId, Vec<(String, PathBuf, Look)>> = HashMap::new();
        for (tenant, name, path, look) in new {
            of_tenants.entry(tenant).or_default().push((name, path, look));
        }
        for (tenant, files) in of_tenants {
            self.busy.insert(tenant.clone());
            let (plugins, bytes_max, done) = (self.plugins.clone(), self.bytes_max, self.done.0.clone());
            tokio::spawn(async move {
                let taken = take(&plugins, bytes_max, &tenant, files).await;
                let _ = done.send((tenant, taken));
            });
        }
    }

    fn forget_removed(&mut self, found: &[PathBuf]) {
        let plugins = &self.plugins;
        self.seen.retain(|path, _| {
            let there = found.contains(path);
            if !there {
                tracing::warn!(file = %path.display(), "a plugin's file was removed; its last version stays active");
                if let Some((tenant, name)) = names(path) {
                    plugins.note_file_problem(&tenant, &name, None);
                }
            }
            there
        });
    }
}

/// Takes a tenant's files, one after the other, and returns those that need no second look.
async fn take(
    plugins: &Arc<Plugins>,
    bytes_max: u64,
    tenant: &TenantId,
    files: Vec<(String, PathBuf, Look)>,
) -> Vec<Taken> {
    let mut taken = Vec::new();
    for (name, path, look) in files {
        let installed = install(plugins, bytes_max, &path, look, tenant, &name).await;
        let problem = installed.as_ref().err().map(|(Problem::OfTheFile(text) | Problem::Ours(text))| text.clone());
        let is_news = problem != plugins.file_problem(tenant, &name);
        match &installed {
            Err(Problem::OfTheFile(problem)) if is_news => {
                tracing::error!(%tenant, plugin = %name, %problem, "a plugin's file cannot be used; the version before stays active");
            }
            Err(Problem::Ours(problem)) if is_news => {
                tracing::error!(%tenant, plugin = %name, %problem, "a plugin's file could not be taken; it is tried again");
            }
            _ => {}
        }
        if !matches!(installed, Err(Problem::Ours(_))) {
            taken.push((path, look));
        }
        plugins.note_file_problem(tenant, &name, problem);
    }
    taken
}

/// Why a file is not the active version.
enum Problem {
    /// It will not become better by itself.
    OfTheFile(String),
    /// It is not its fault: the store or the machine failed.
    Ours(String),
}

async fn install(
    plugins: &Arc<Plugins>,
    bytes_max: u64,
    path: &Path,
    look: Look,
    tenant: &TenantId,
    name: &str,
) -> Result<(), Problem> {
    let refused = |what: String| Err(Problem::OfTheFile(what));
    let ours = |error: &dyn std::error::Error| Problem::Ours(crate::describe(error));
    if plugins.store.catalog().tenant(tenant).is_none() {
        return Err(Problem::Ours(format!("there is no tenant {tenant}")));
    }
    if !is_slug(name) {
        return refused("a plugin's name has 1 to 64 of a-z, 0-9 and -".into());
    }
    if look.bytes > bytes_max {
        return refused(format!("the file has {} bytes; component_bytes_max is {bytes_max}", look.bytes));
    }
    let component = tokio::fs::read(path).await.map_err(|error| ours(&error))?;
    let sha256 = hex::encode(Sha256::digest(&component));
    let last = plugins.store.plugin_file(tenant.clone(), name.to_owned()).await.map_err(|error| ours(&error))?;
    if last.as_ref() == Some(&sha256) {
        return Ok(());
    }
    match plugins.install(tenant.clone(), name.to_owned(), component.into(), "plugins folder".into()).await {
        Ok(_) => {}
        Err(PluginError::Compile(CompileError::Refused(refusal))) => return refused(refusal.to_string()),
        Err(PluginError::TooMany) => return refused(PluginError::TooMany.to_string()),
        Err(error) => return Err(ours(&error)),
    }
    tracing::info!(%tenant, plugin = %name, %sha256, "a plugin's file became the active version");
    let noted = plugins.store.note_plugin_file(tenant.clone(), name.to_owned(), sha256).await;
    noted.map_err(|error| ours(&error))
}

/// Every `<tenant>/<name>.wasm` in the folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_component = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "wasm") && path.is_file();
    let mut found: Vec<PathBuf> = entries(folder).flat_map(|tenant| entries(&tenant).filter(is_component)).collect();
    found.sort();
    found
}

/// Tenant and plugin that a path names; none if it names no tenant.
fn names(path: &Path) -> Option<(TenantId, String)> {
    let tenant = TenantId::parse(path.parent()?.file_name()?.to_str()?).ok()?;
    Some((tenant, path.file_stem()?.to_str()?.to_owned()))
}

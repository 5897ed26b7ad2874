//! Watcher of the plugins folder, `<data>/plugins/<tenant>/<name>.wasm` or `.js`. The only module that uses notify.
//!
//! # Theory of operation
//! Notifications of the system only trigger a scan, which also runs every `plugins_rescan_s`, because notifications get lost. A file is read when its size, times or identity changed and stayed the same
//! for [`SETTLE`], so that most half-written files are never read; one that is read too early fails the check, changes
//! nothing, and is read again when it changes again. Links within a tenant's folder are followed, so swapping one (as
//! Kubernetes does in its mounts) or renaming over a file are changes like any other. Which files are read, and how they
//! are opened, is the concern of [`folder`].
//!
//! A file becomes the active version only if its sha256 differs from the last one that was installed from it. So a restart never
//! reverts an activation by API. Removing a file only adds a log entry. Problems of a file are logged, and shown with the plugin.
//!
//! # Guarantees
//! - All file operations run on separate threads ([`on_own_thread`]). A file system that hangs stops this watcher and nothing else:
//!   neither other work nor the stop of the host waits for these threads.
//! - A component that compiles for a minute delays no other tenant.

use super::folder::{self, FolderEntry, FolderError, Listing};
use super::{CompileError, PluginError, PluginKey, Plugins};
use hookloom_model::clock;
use hookloom_model::subscription::TenantId;
use hookloom_store::{Actor, StoreError};
use hookloom_telemetry as telemetry;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Time without a change after which a file is read.
const SETTLE: Duration = Duration::from_millis(25);

/// Running watcher of the plugins folder. Ends on drop.
pub struct FolderWatch(JoinHandle<()>);

impl FolderWatch {
    /// Creates the folder if it is missing, and starts watching it. `bytes_max`: maximum size of a component. `rescan`: interval of
    /// scans without a notification, because some file systems send none.
    pub fn start(root: PathBuf, plugins: Arc<Plugins>, bytes_max: u64, rescan: Duration) -> std::io::Result<Self> {
        std::fs::create_dir_all(&root)?;
        let (wake, woken) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // A scan opens folders, which causes events as well. Scanning for these would never end.
            if event.is_ok_and(|event| is_read_only(event.kind)) {
                return;
            }
            // A full channel means that a scan is due already.
            let _ = wake.try_send(());
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "no change notifications for the plugins folder; it is scanned instead");
        });
        let watches = Watches { watcher: watcher.ok(), inodes: HashMap::new() };
        Ok(FolderWatch(tokio::spawn(Scanner::new(root, watches, plugins, bytes_max).run(woken, rescan))))
    }
}

/// Returns whether an event is an access without a write.
fn is_read_only(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(how) if how != AccessKind::Close(AccessMode::Write))
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs file operations on a new thread, which a stop does not wait for. None: the thread could not be started, or panicked.
async fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    let thread = std::thread::Builder::new().name("plugins-folder".into());
    if let Err(error) = thread.spawn(move || drop(answer.send(work()))) {
        tracing::warn!(%error, "the thread that reads the plugins folder could not be started");
        return None;
    }
    answered.await.ok()
}

impl Plugins {
    /// Returns the problem of a plugin's file in the plugins folder, if there is one.
    pub fn file_problem(&self, tenant: &TenantId, name: &str) -> Option<String> {
        let problems = self.file_problems.read();
        problems.get(&(tenant.clone(), name.to_owned())).cloned()
    }

    /// Returns the plugins of a tenant whose files cannot be used, each with the problem.
    pub fn broken_files(&self, tenant: &TenantId) -> Vec<(String, String)> {
        let problems = self.file_problems.read();
        let of_tenant = problems.iter().filter(|((owner, _), _)| owner == tenant);
        of_tenant.map(|((_, name), problem)| (name.clone(), problem.clone())).collect()
    }

    fn note_file_problem(&self, tenant: &TenantId, name: &str, problem: Option<String>) {
        telemetry::file_broken(tenant, name, problem.is_some());
        let mut problems = self.file_problems.write();
        let key = (tenant.clone(), name.to_owned());
        match problem {
            Some(problem) => problems.insert(key, problem),
            None => problems.remove(&key),
        };
    }
}

/// Watches of the plugins folder and of its tenants' folders, by inode. Never recursive and never through a link, so that a writer of a
/// tenant's folder cannot choose how much is watched.
struct Watches {
    watcher: Option<RecommendedWatcher>,
    inodes: HashMap<PathBuf, u64>,
}

impl Watches {
    /// Watches these folders: adds missing watches, and forgets folders that are gone.
    fn keep(&mut self, folders: HashMap<PathBuf, u64>) {
        let Some(watcher) = &mut self.watcher else { return };
        for (path, inode) in &folders {
            if self.inodes.get(path) == Some(inode) || path.is_symlink() {
                continue;
            }
            if let Err(error) = watcher.watch(path, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %path.display(), %error, "no change notifications for a tenant's plugins folder; it is scanned instead");
            }
        }
        self.inodes = folders;
    }
}

/// Result of processing the files of a tenant.
struct TenantDone {
    tenant: TenantId,
    /// Files that are done until they change.
    settled: Vec<(PluginKey, FolderEntry)>,
    /// Files whose compilation failed for a reason of this host.
    uncompiled: Vec<(PluginKey, FolderEntry)>,
}

/// File whose installation is repeated later.
struct PendingRetry {
    found: FolderEntry,
    failures: u32,
    at: Instant,
}

/// Shortest and longest pause of a file whose compilation failed. The pause doubles with each failure.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];

impl PendingRetry {
    fn after(failures: u32, found: FolderEntry) -> Self {
        let [first, longest] = AGAIN_AFTER;
        let wait = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest);
        PendingRetry { found, failures, at: clock::instant() + wait }
    }
}

/// Result of a scan.
#[derive(Default)]
struct Scan {
    plugins: BTreeMap<PluginKey, FolderEntry>,
    misnamed: HashSet<(TenantId, String)>,
}

struct Scanner {
    root: PathBuf,
    watches: Arc<Mutex<Watches>>,
    plugins: Arc<Plugins>,
    bytes_max: u64,
    seen: HashMap<PluginKey, FolderEntry>,
    misnamed: HashSet<(TenantId, String)>,
    /// Tenants whose files are being processed.
    busy: HashSet<TenantId>,
    /// Files whose compilation is repeated later.
    later: HashMap<PluginKey, PendingRetry>,
    done: (mpsc::UnboundedSender<TenantDone>, mpsc::UnboundedReceiver<TenantDone>),
}

impl Scanner {
    fn new(root: PathBuf, watches: Watches, plugins: Arc<Plugins>, bytes_max: u64) -> Self {
        Scanner {
            root,
            watches: Arc::new(Mutex::new(watches)),
            plugins,
            bytes_max,
            seen: HashMap::new(),
            misnamed: HashSet::new(),
            busy: HashSet::new(),
            later: HashMap::new(),
            done: mpsc::unbounded_channel(),
        }
    }

    async fn run(mut self, mut woken: mpsc::Receiver<()>, rescan: Duration) {
        let mut open = true;
        loop {
            self.scan().await;
            tokio::select! {
                note = woken.recv(), if open => open = note.is_some(),
                Some(done) = self.done.1.recv() => self.note(done),
                () = tokio::time::sleep(rescan) => {}
            }
        }
    }

    async fn scan(&mut self) {
        let root = self.root.clone();
        let watches = self.watches.clone();
        let Some(found) = on_own_thread(move || scan(&root, &watches)).await else { return };
        self.forget_removed(&found.plugins);
        for (tenant, file) in found.misnamed.difference(&self.misnamed) {
            tracing::warn!(%tenant, %file, "a file of the plugins folder is ignored: a plugin's name has 1 to 64 of a-z, 0-9 and -");
        }
        self.misnamed = found.misnamed;
        let mut new: Vec<_> = found.plugins.into_iter().collect();
        new.retain(|(key, found)| {
            let waits = self.later.get(key).is_some_and(|later| later.found == *found && clock::instant() < later.at);
            self.seen.get(key) != Some(found) && !self.busy.contains(&key.0) && !waits
        });
        if new.is_empty() {
            return;
        }
        let root = self.root.clone();
        let Some(settled) = on_own_thread(move || settled(&root, new)).await else { return };
        let mut of_tenants: HashMap<TenantId, Vec<(PluginKey, FolderEntry)>> = HashMap::new();
        for (key, found) in settled {
            of_tenants.entry(key.0.clone()).or_default().push((key, found));
        }
        for (tenant, files) in of_tenants {
            self.busy.insert(tenant.clone());
            let plugins = self.plugins.clone();
            let done = self.done.0.clone();
            let root = self.root.clone();
            let bytes_max = self.bytes_max;
            tokio::spawn(async move {
                let _ = done.send(install_all(&plugins, root, bytes_max, tenant, files).await);
            });
        }
    }

    fn note(&mut self, done: TenantDone) {
        self.busy.remove(&done.tenant);
        for (key, _) in &done.settled {
            self.later.remove(key);
        }
        self.seen.extend(done.settled);
        for (key, found) in done.uncompiled {
            let failures = self.later.get(&key).map_or(0, |later| later.failures);
            self.later.insert(key, PendingRetry::after(failures + 1, found));
        }
    }

    fn forget_removed(&mut self, found: &BTreeMap<PluginKey, FolderEntry>) {
        let plugins = &self.plugins;
        self.later.retain(|key, _| found.contains_key(key));
        self.seen.retain(|key, _| {
            let there = found.contains_key(key);
            if !there {
                let (tenant, plugin) = key;
                tracing::warn!(%tenant, %plugin, "a plugin's file was removed; its last version stays active");
                plugins.note_file_problem(tenant, plugin, None);
            }
            there
        });
    }
}

/// Lists the folders of all tenants. Each folder is watched before it is listed, so that no change is missed.
fn scan(root: &Path, watches: &Mutex<Watches>) -> Scan {
    let folders = folder::tenant_folders(root).unwrap_or_else(|error| {
        tracing::warn!(error = %hookloom_model::describe(&error), "the plugins folder cannot be listed");
        Vec::new()
    });
    let mut watched: HashMap<_, _> = folders.iter().map(|folder| (folder.path.clone(), folder.inode)).collect();
    watched.insert(root.to_owned(), 0);
    watches.lock().keep(watched);
    let mut scan = Scan::default();
    for folder in folders {
        let Listing { plugins, misnamed } = folder.list().unwrap_or_else(|error| {
            tracing::warn!(tenant = %folder.tenant, error = %hookloom_model::describe(&error), "a tenant's plugins folder cannot be listed");
            Listing::default()
        });
        scan.plugins.extend(plugins.into_iter().map(|(name, found)| ((folder.tenant.clone(), name), found)));
        scan.misnamed.extend(misnamed.into_iter().map(|file| (folder.tenant.clone(), file)));
    }
    scan
}

/// Returns the files that have not changed after [`SETTLE`].
fn settled(root: &Path, mut files: Vec<(PluginKey, FolderEntry)>) -> Vec<(PluginKey, FolderEntry)> {
    std::thread::sleep(SETTLE);
    files.retain(|((tenant, name), found)| folder::entry(root, tenant, name).as_ref() == Some(found));
    files
}

/// Installs the files of a tenant, one after the other.
async fn install_all(
    plugins: &Arc<Plugins>,
    root: PathBuf,
    bytes_max: u64,
    tenant: TenantId,
    files: Vec<(PluginKey, FolderEntry)>,
) -> TenantDone {
    let mut done = TenantDone { tenant, settled: Vec::new(), uncompiled: Vec::new() };
    for (key, found) in files {
        let (tenant, name) = &key;
        let installed = match &found {
            FolderEntry::Unusable(why) => Err(FileProblem::OfTheFile(why.clone())),
            FolderEntry::File(_) => install(plugins, root.clone(), bytes_max, tenant, name).await,
        };
        let problem = installed.as_ref().err().map(|problem| problem.text().to_owned());
        let is_news = problem != plugins.file_problem(tenant, name);
        match &installed {
            Err(FileProblem::OfTheFile(problem)) if is_news => {
                tracing::error!(%tenant, plugin = %name, %problem, "a plugin's file cannot be used; the version before stays active");
            }
            Err(FileProblem::Ours(problem) | FileProblem::Uncompiled(problem)) if is_news => {
                tracing::error!(%tenant, plugin = %name, %problem, "a plugin's file could not be loaded; trying again");
            }
            _ => {}
        }
        plugins.note_file_problem(tenant, name, problem);
        match installed {
            Ok(()) | Err(FileProblem::OfTheFile(_)) => done.settled.push((key, found)),
            Err(FileProblem::Uncompiled(_)) => done.uncompiled.push((key, found)),
            Err(FileProblem::Ours(_)) => {}
        }
    }
    done
}

/// Reason why a file did not become the active version.
enum FileProblem {
    /// The file is at fault: only a change of the file helps.
    OfTheFile(String),
    /// The store or the machine failed. The file is processed again at the next scan.
    Ours(String),
    /// The compile process failed. The file is processed again after a pause, because compiling is expensive.
    Uncompiled(String),
}

impl FileProblem {
    fn ours(error: &dyn std::error::Error) -> Self {
        FileProblem::Ours(hookloom_model::describe(error))
    }

    fn text(&self) -> &str {
        let (FileProblem::OfTheFile(text) | FileProblem::Ours(text) | FileProblem::Uncompiled(text)) = self;
        text
    }
}

impl From<FolderError> for FileProblem {
    fn from(error: FolderError) -> Self {
        if error.is_of_the_file() { FileProblem::OfTheFile(error.to_string()) } else { FileProblem::ours(&error) }
    }
}

async fn install(
    plugins: &Arc<Plugins>,
    root: PathBuf,
    bytes_max: u64,
    tenant: &TenantId,
    name: &str,
) -> Result<(), FileProblem> {
    if plugins.store.catalog().tenant(tenant).is_none() {
        return Err(FileProblem::Ours(format!("there is no tenant {tenant}")));
    }
    let key = (tenant.clone(), name.to_owned());
    let read = on_own_thread(move || {
        let (kind, bytes) = folder::read(&root, &key.0, &key.1, bytes_max)?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Ok::<_, FolderError>((kind, bytes, sha256))
    });
    let (kind, bytes, sha256) = read.await.ok_or_else(|| FileProblem::Ours("it could not be read".into()))??;
    let last = plugins.store.plugin_file(tenant.clone(), name.to_owned()).await;
    if last.map_err(|error| FileProblem::ours(&error))?.as_ref() == Some(&sha256) {
        return Ok(());
    }
    let component = kind.stored(bytes).map_err(|refusal| FileProblem::OfTheFile(refusal.to_string()))?;
    match plugins.install(Actor::PluginsFolder, tenant.clone(), name.to_owned(), component).await {
        Ok(_) => {}
        Err(PluginError::Compile(CompileError::Refused(refusal))) => {
            return Err(FileProblem::OfTheFile(refusal.to_string()));
        }
        Err(PluginError::Compile(error)) => return Err(FileProblem::Uncompiled(hookloom_model::describe(&error))),
        Err(PluginError::TooMany) => return Err(FileProblem::OfTheFile(PluginError::TooMany.to_string())),
        // Not repeated at every scan, because compiling is expensive and the tenant stays full.
        Err(PluginError::Store(error @ StoreError::TenantFull(_))) => {
            return Err(FileProblem::OfTheFile(format!("{error}; write the file again when there is room")));
        }
        Err(error) => return Err(FileProblem::ours(&error)),
    }
    tracing::info!(%tenant, plugin = %name, %sha256, "a plugin's file became the active version");
    let noted = plugins.store.note_plugin_file(tenant.clone(), name.to_owned(), sha256).await;
    noted.map_err(|error| FileProblem::ours(&error))
}

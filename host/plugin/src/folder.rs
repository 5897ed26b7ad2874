//! Files of the plugins folder: listing, and safe opening and reading.
//!
//! # Guarantees
//! A writer of a tenant's folder controls names, links and types of files, and nothing else:
//! - Links are followed only within the tenant's folder (openat2(2), `RESOLVE_BENEATH`), so that a mounted `ConfigMap`
//!   works and `/proc/kmsg`, `master.key` or another tenant's file is never opened. A tenant's folder may be a link within
//!   the plugins folder. A system without openat2 follows no links at all.
//! - Only regular files are opened and read, and opening never blocks (`O_NONBLOCK`).
//! - At most `bytes_max` bytes are read, whatever the file's size says, and at most [`ENTRIES_MAX`] entries of a folder.
//! - File names follow the rule of plugin names. Names that begin with a dot are ignored.
//!
//! # Limits
//! A file system that hangs (a network mount) makes these functions hang. They run on threads that a stop does not wait for; see
//! [`watch`](super::watch).

use super::report::Refusal;
use super::script;
use bytes::Bytes;
use hookloom_model::subscription::{TenantId, is_slug};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Maximum number of entries of one folder that are read.
const ENTRIES_MAX: usize = 10_000;

/// Maximum number of attempts to open a path while its folders are being renamed (openat2(2), `EAGAIN`).
const OPEN_TRIES: usize = 8;

/// Reason why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FolderError {
    /// The file is a link out of the tenant's folder, or a circular one.
    #[error("the file is a link that leads out of the tenant's folder; copy the file itself into the folder")]
    LeadsOut,
    /// The file is a folder, pipe, socket or device.
    #[error("this is not a regular file")]
    NotRegular,
    /// The file exceeds the maximum size of a component.
    #[error("the file is too large: component_bytes_max is {bytes_max}")]
    TooLarge {
        /// Value of `component_bytes_max`.
        bytes_max: u64,
    },
    /// The file system failed, or the file is gone.
    #[error("the file cannot be read")]
    Io(#[from] std::io::Error),
}

impl FolderError {
    /// Returns whether the file is at fault, so that only a change of the file helps.
    pub(super) fn is_of_the_file(&self) -> bool {
        !matches!(self, FolderError::Io(_))
    }
}

impl From<Errno> for FolderError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::XDEV | Errno::LOOP => FolderError::LeadsOut,
            other => FolderError::Io(other.into()),
        }
    }
}

/// Kind of a plugin's file, by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// Component: `<name>.wasm`.
    Component,
    /// Script: `<name>.js`.
    Script,
}

impl FileKind {
    const ALL: [FileKind; 2] = [FileKind::Component, FileKind::Script];

    fn ending(self) -> &'static str {
        match self {
            FileKind::Component => ".wasm",
            FileKind::Script => ".js",
        }
    }

    /// Returns the content of a file in the form in which a version is stored.
    pub(super) fn stored(self, bytes: Vec<u8>) -> Result<Bytes, Refusal> {
        match self {
            FileKind::Component => Ok(bytes.into()),
            FileKind::Script => script::stored(&bytes),
        }
    }
}

/// Metadata by which a change of a file is found without reading the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStamp {
    bytes: u64,
    modified: (i64, u64),
    /// Time of the last change of content or attributes. It cannot be set, so it shows a file that was written in place and got its
    /// earlier modification time back.
    changed: (i64, u64),
    device: u64,
    inode: u64,
}

impl FileStamp {
    fn of(stat: &Stat) -> Self {
        FileStamp {
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// Entry under a plugin's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FolderEntry {
    /// Regular file.
    File(FileStamp),
    /// Unusable entry, with the reason.
    Unusable(String),
}

/// Open folder of a tenant.
pub(super) struct TenantFolder {
    pub(super) tenant: TenantId,
    pub(super) path: PathBuf,
    pub(super) inode: u64,
    folder: OwnedFd,
}

/// Content of a tenant's folder.
#[derive(Default)]
pub(super) struct Listing {
    /// Entries by plugin name.
    pub(super) plugins: Vec<(String, FolderEntry)>,
    /// Names of `.wasm` and `.js` files that are not valid plugin names, escaped for the log.
    pub(super) misnamed: Vec<String>,
}

/// Opens the folders in the plugins folder whose names are valid tenant ids.
pub(super) fn tenant_folders(root: &Path) -> Result<Vec<TenantFolder>, FolderError> {
    let opened = open_root(root)?;
    let mut folders = Vec::new();
    for name in entries(&opened)? {
        let Ok(tenant) = TenantId::parse(&name) else { continue };
        // A file or a link out of the plugins folder is not a tenant's folder.
        let Ok(folder) = open_beneath(&opened, &name, OFlags::RDONLY | OFlags::DIRECTORY) else { continue };
        let inode = fstat(&folder)?.st_ino;
        folders.push(TenantFolder { tenant, path: root.join(&name), inode, folder });
    }
    Ok(folders)
}

impl TenantFolder {
    /// Lists the plugins of the folder.
    pub(super) fn list(&self) -> Result<Listing, FolderError> {
        let mut listing = Listing::default();
        for entry in entries(&self.folder)? {
            match plugin_name(&entry) {
                None => {}
                Some(Err(misnamed)) => listing.misnamed.push(misnamed),
                Some(Ok(name)) => {
                    listing.plugins.extend(entry_of(&self.folder, name).map(|found| (name.to_owned(), found)));
                }
            }
        }
        listing.plugins.sort_by(|(one, _), (other, _)| one.cmp(other));
        listing.plugins.dedup_by(|(one, _), (other, _)| one == other);
        Ok(listing)
    }
}

/// Returns the entry under a file name. None: the entry does not exist, or is a dangling link.
fn entry_at(folder: &OwnedFd, file: &str) -> Option<FolderEntry> {
    match stat_regular(folder, file) {
        Ok(look) => Some(FolderEntry::File(look)),
        Err(FolderError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(FolderEntry::Unusable(error.to_string())),
    }
}

/// Returns the entry of a plugin: of its one file.
fn entry_of(folder: &OwnedFd, plugin: &str) -> Option<FolderEntry> {
    let [component, script] = FileKind::ALL.map(|kind| entry_at(folder, &file_name(plugin, kind)));
    match (component, script) {
        (Some(_), Some(_)) => Some(FolderEntry::Unusable(format!(
            "there are two files, {plugin}.wasm and {plugin}.js, and a plugin has one; remove one of them"
        ))),
        (one, other) => one.or(other),
    }
}

/// Returns the current entry under a plugin's name.
pub(super) fn entry(root: &Path, tenant: &TenantId, name: &str) -> Option<FolderEntry> {
    entry_of(&open_tenant(root, tenant).ok()?, name)
}

/// Reads a plugin's file, at most `bytes_max` of it.
pub(super) fn read(
    root: &Path,
    tenant: &TenantId,
    name: &str,
    bytes_max: u64,
) -> Result<(FileKind, Vec<u8>), FolderError> {
    let folder = open_tenant(root, tenant)?;
    let is_there = |kind: &FileKind| entry_at(&folder, &file_name(name, *kind)).is_some();
    let kind = FileKind::ALL.into_iter().find(is_there).unwrap_or(FileKind::Component);
    let name = file_name(name, kind);
    // Opening a device can have effects, so the type is checked first.
    stat_regular(&folder, &name)?;
    let opened = open_beneath(&folder, &name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    Ok((kind, read_regular(opened, bytes_max)?))
}

fn read_regular(opened: OwnedFd, bytes_max: u64) -> Result<Vec<u8>, FolderError> {
    let look = regular(&fstat(&opened)?)?;
    if look.bytes > bytes_max {
        return Err(FolderError::TooLarge { bytes_max });
    }
    let mut component = Vec::new();
    File::from(opened).take(bytes_max.saturating_add(1)).read_to_end(&mut component)?;
    if component.len() as u64 > bytes_max {
        return Err(FolderError::TooLarge { bytes_max });
    }
    Ok(component)
}

/// Returns the plugin's name in a file name. An error: the name is not valid. None: the file is neither a `.wasm` nor a `.js` file, or
/// hidden.
fn plugin_name(file: &str) -> Option<Result<&str, String>> {
    let name = FileKind::ALL.into_iter().find_map(|kind| file.strip_suffix(kind.ending()));
    let name = name.filter(|_| !file.starts_with('.'))?;
    Some(if is_slug(name) { Ok(name) } else { Err(format!("{file:?}")) })
}

fn file_name(plugin: &str, kind: FileKind) -> String {
    format!("{plugin}{}", kind.ending())
}

/// Opens the plugins folder, whose path the operator chose.
fn open_root(root: &Path) -> Result<OwnedFd, FolderError> {
    Ok(openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn open_tenant(root: &Path, tenant: &TenantId) -> Result<OwnedFd, FolderError> {
    open_beneath(&open_root(root)?, &tenant.0, OFlags::RDONLY | OFlags::DIRECTORY)
}

fn stat_regular(folder: &OwnedFd, name: &str) -> Result<FileStamp, FolderError> {
    regular(&fstat(open_beneath(folder, name, OFlags::PATH)?)?)
}

fn regular(stat: &Stat) -> Result<FileStamp, FolderError> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(FileStamp::of(stat)),
        // Without openat2, a link is not followed and is found as a link.
        FileType::Symlink => Err(FolderError::LeadsOut),
        _ => Err(FolderError::NotRegular),
    }
}

/// Opens an entry of a folder, following links within the folder.
fn open_beneath(folder: &OwnedFd, name: &str, flags: OFlags) -> Result<OwnedFd, FolderError> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..OPEN_TRIES {
        match openat2(folder, name, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            // An old kernel, or a system call filter that blocks openat2.
            Err(Errno::NOSYS | Errno::PERM) => {
                return Ok(openat(folder, name, flags | OFlags::NOFOLLOW, Mode::empty())?);
            }
            opened => return Ok(opened?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Returns the names of a folder's entries that are UTF-8.
fn entries(folder: impl AsFd) -> Result<Vec<String>, FolderError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)?.take(ENTRIES_MAX) {
        names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
    }
    Ok(names)
}

#[cfg(test)]
mod tests;

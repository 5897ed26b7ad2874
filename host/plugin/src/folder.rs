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
    /// Names of `.wasm` files that are not valid plugin names, escaped for the log.
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
                    listing.plugins.extend(entry_at(&self.folder, &entry).map(|found| (name.to_owned(), found)));
                }
            }
        }
        listing.plugins.sort_by(|(one, _), (other, _)| one.cmp(other));
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

/// Returns the current entry under a plugin's name.
pub(super) fn entry(root: &Path, tenant: &TenantId, name: &str) -> Option<FolderEntry> {
    entry_at(&open_tenant(root, tenant).ok()?, &file_name(name))
}

/// Reads a plugin's file, at most `bytes_max` of it.
pub(super) fn read(root: &Path, tenant: &TenantId, name: &str, bytes_max: u64) -> Result<Vec<u8>, FolderError> {
    let folder = open_tenant(root, tenant)?;
    let name = file_name(name);
    // Opening a device can have effects, so the type is checked first.
    stat_regular(&folder, &name)?;
    let opened = open_beneath(&folder, &name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    read_regular(opened, bytes_max)
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

/// Returns the plugin's name in a file name. An error: the name is not valid. None: the file is not a `.wasm` file, or hidden.
fn plugin_name(file: &str) -> Option<Result<&str, String>> {
    let name = file.strip_suffix(".wasm").filter(|_| !file.starts_with('.'))?;
    Some(if is_slug(name) { Ok(name) } else { Err(format!("{file:?}")) })
}

fn file_name(plugin: &str) -> String {
    format!("{plugin}.wasm")
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
mod tests {
    use super::*;
    use rustix::fs::mkfifoat;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    const BYTES_MAX: u64 = 100;

    fn tenant() -> TenantId {
        TenantId::parse("t").expect("a tenant")
    }

    /// Creates a plugins folder with a folder of the tenant `t`.
    fn root() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("t");
        std::fs::create_dir(&folder).expect("made");
        (root, folder)
    }

    #[test]
    fn a_plugin_is_named_by_the_rule_of_plugin_names() {
        #[track_caller]
        fn check(file: &str, expected: Option<Result<&str, &str>>) {
            let expected = expected.map(|name| name.map_err(str::to_owned));
            assert_eq!(plugin_name(file), expected, "{file}");
        }
        check("flatten.wasm", Some(Ok("flatten")));
        check("flatten-2.wasm", Some(Ok("flatten-2")));
        check("._flatten.wasm", None);
        check(".flatten.wasm", None);
        check(".wasm", None);
        check("..data", None);
        check("flatten.wasm.tmp", None);
        check("flatten.txt", None);
        check("Flatten.wasm", Some(Err("\"Flatten.wasm\"")));
        check("-a.wasm", Some(Err("\"-a.wasm\"")));
        check("a\u{1b}[2J.wasm", Some(Err("\"a\\u{1b}[2J.wasm\"")));
        check("a.b.wasm", Some(Err("\"a.b.wasm\"")));
    }

    /// Checks the result of reading and of listing a file of the plugin `p` that `make` creates.
    #[track_caller]
    fn check_file(folder: &Path, make: impl FnOnce(&Path), expected: Result<&str, &str>) {
        let root = folder.parent().expect("a root");
        let file = folder.join("p.wasm");
        make(&file);
        let read = read(root, &tenant(), "p", BYTES_MAX).map_err(|error| error.to_string());
        let read = read.map(|bytes| String::from_utf8(bytes).expect("text"));
        assert_eq!(read.as_deref().map_err(String::as_str), expected);
        let folders = tenant_folders(root).expect("folders");
        let folder = folders.iter().find(|folder| folder.tenant == tenant()).expect("the tenant's");
        let listed = folder.list().expect("a listing").plugins;
        let found = listed.into_iter().find(|(name, _)| name == "p").expect("the plugin").1;
        let unusable = match found {
            FolderEntry::Unusable(why) => Some(why),
            FolderEntry::File(_) => None,
        };
        // A size is a matter of reading.
        let expected = expected.err().filter(|why| !why.starts_with("the file is too large"));
        assert_eq!(unusable.as_deref(), expected);
        std::fs::remove_file(&file).or_else(|_| std::fs::remove_dir(&file)).expect("removed");
    }

    #[test]
    fn only_regular_files_within_the_folder_are_read() {
        const OUT: Result<&str, &str> =
            Err("the file is a link that leads out of the tenant's folder; copy the file itself into the folder");
        const NOT_REGULAR: Result<&str, &str> = Err("this is not a regular file");
        const TOO_LARGE: Result<&str, &str> = Err("the file is too large: component_bytes_max is 100");
        let (root, folder) = root();
        std::fs::write(root.path().join("secret"), b"secret").expect("written");
        std::fs::create_dir(root.path().join("other")).expect("made");
        std::fs::write(root.path().join("other/p.wasm"), b"another tenant's").expect("written");
        std::fs::create_dir(folder.join("v1")).expect("made");
        std::fs::write(folder.join("v1/p.wasm"), b"mounted").expect("written");
        symlink("v1", folder.join("..data")).expect("linked");
        check_file(&folder, |file| std::fs::write(file, b"component").expect("written"), Ok("component"));
        let largest = "x".repeat(100);
        check_file(&folder, |file| std::fs::write(file, &largest).expect("written"), Ok(&largest));
        check_file(&folder, |file| std::fs::write(file, [b'x'; 101]).expect("written"), TOO_LARGE);
        check_file(&folder, |file| symlink("..data/p.wasm", file).expect("linked"), Ok("mounted"));
        let out = ["../t/v1/p.wasm", "../secret", "../other/p.wasm", "/proc/kmsg", "/proc/self/fd/0", "p.wasm"];
        for target in out {
            check_file(&folder, |file| symlink(target, file).expect("linked"), OUT);
        }
        check_file(&folder, |file| std::fs::create_dir(file).expect("made"), NOT_REGULAR);
        check_file(&folder, |file| drop(UnixListener::bind(file).expect("bound")), NOT_REGULAR);
        let fifo = |file: &Path| mkfifoat(CWD, file, Mode::from_raw_mode(0o600)).expect("made");
        check_file(&folder, fifo, NOT_REGULAR);
    }

    #[test]
    fn a_file_with_its_previous_size_and_time_looks_changed() {
        let (root, folder) = root();
        let path = folder.join("p.wasm");
        std::fs::write(&path, b"one").expect("written");
        let before = std::fs::metadata(&path).expect("there");
        let stamp = || entry(root.path(), &tenant(), "p").expect("there");
        let before_write = stamp();
        assert_eq!(stamp(), before_write);
        // The kernel's clock for files ticks some times in a hundredth of a second.
        while stamp() == before_write {
            std::thread::sleep(std::time::Duration::from_millis(1));
            let mut file = File::options().write(true).open(&path).expect("opened");
            std::io::Write::write_all(&mut file, b"two").expect("written in place");
            file.set_modified(before.modified().expect("a time")).expect("set");
            let after = file.metadata().expect("there");
            assert_eq!(
                (after.len(), after.modified().expect("a time")),
                (before.len(), before.modified().expect("a time"))
            );
        }
    }

    #[test]
    fn a_tenants_folder_is_a_folder_within_the_plugins_folder() {
        let (root, _) = root();
        let outside = tempfile::tempdir().expect("a folder");
        std::fs::write(outside.path().join("p.wasm"), b"x").expect("written");
        symlink(outside.path(), root.path().join("out")).expect("linked");
        symlink("t", root.path().join("within")).expect("linked");
        std::fs::write(root.path().join("file"), b"x").expect("written");
        std::fs::create_dir(root.path().join("No-Tenant")).expect("made");
        let found = tenant_folders(root.path()).expect("folders");
        let mut names: Vec<_> = found.iter().map(|folder| folder.tenant.to_string()).collect();
        names.sort();
        assert_eq!(names, ["t", "within"]);
        let out = TenantId::parse("out").expect("a tenant");
        assert!(matches!(read(root.path(), &out, "p", BYTES_MAX), Err(FolderError::LeadsOut)));
    }

    #[test]
    fn reading_is_bounded_whatever_the_size_says() {
        // A file of proc(5) says that it has no bytes.
        let opened = File::open("/proc/self/status").expect("there");
        assert_eq!(FileStamp::of(&fstat(&opened).expect("a look")).bytes, 0);
        let read = read_regular(opened.into(), BYTES_MAX);
        assert!(matches!(read, Err(FolderError::TooLarge { bytes_max: BYTES_MAX })), "{read:?}");
    }
}

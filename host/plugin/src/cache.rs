//! Compiled components on disk, authenticated across restarts.
//!
//! # Motivation
//! Loading compiled code means running it, so only code that a compile child of this host wrote is loaded. A file holds the report of
//! the check and the code, with a MAC (HMAC-SHA256 with a key of the vault) over name and content. A file that does not verify is
//! deleted and compiled again, never loaded. The file name holds the component's sha256 and the engine's compatibility, so another
//! version of the host does not find files of this one, and identical components share one file.
//!
//! # Limits
//! Only the host writes to the folder. One of the two modules with unsafe code.

use super::engine::compatibility;
use super::report::Report;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookloom_model::clock;
use sha2::Sha256;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wasmtime::Engine;
use wasmtime::component::Component;

const MAC_BYTES: usize = 32;

/// Compiled code of proven origin.
pub(super) struct TrustedCode(Vec<u8>);

impl TrustedCode {
    /// Wraps code that a compile child of this process has just written.
    pub(super) fn from_child(code: Vec<u8>) -> Self {
        TrustedCode(code)
    }

    /// Wraps code that the parent of this compile child has loaded itself.
    pub(super) fn from_parent(code: Vec<u8>) -> Self {
        TrustedCode(code)
    }

    /// Loads the code into an engine.
    #[expect(unsafe_code, reason = "loading compiled code is unsafe by nature; see the module's motivation")]
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: the bytes were written by `Component::serialize` in a compile child of this host: either just now,
        // over a pipe (which is also how a child that probes a script gets them), or earlier, and their MAC under a key that never leaves the host was verified.
        unsafe { Component::deserialize(engine, &self.0) }
    }
}

/// Content of a file whose MAC is verified: a compile child of this host wrote it.
struct VerifiedFile(Vec<u8>);

/// Code of a version.
pub(super) enum Code {
    /// Compiled component.
    Component(TrustedCode),
    /// Source of a script, which the engine's code runs.
    Script(Arc<str>),
}

/// Checked version: the report of the check, and the code.
pub(super) struct CompiledComponent {
    pub(super) report: Report,
    pub(super) code: Code,
}

/// Kinds of code in a file.
const COMPONENT: u8 = 0;
const SCRIPT: u8 = 1;

impl CompiledComponent {
    /// Serializes the component: kind of the code, length of the report, report, code.
    fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        let report = serde_json::to_vec(&self.report)?;
        let length = u32::try_from(report.len()).map_err(std::io::Error::other)?;
        let (kind, code) = match &self.code {
            Code::Component(TrustedCode(code)) => (COMPONENT, code.as_slice()),
            Code::Script(source) => (SCRIPT, source.as_bytes()),
        };
        Ok([&[kind][..], &length.to_le_bytes(), &report, code].concat())
    }

    /// Parses a serialized component. None: another version of the host with another form of report wrote it.
    fn from_file(VerifiedFile(mut bytes): VerifiedFile) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let report = serde_json::from_slice(rest.get(..length)?).ok()?;
        let kind = *kind;
        let code = bytes.split_off(1 + size_of::<u32>() + length);
        let code = match kind {
            COMPONENT => Code::Component(TrustedCode(code)),
            SCRIPT => Code::Script(String::from_utf8(code).ok()?.into()),
            _ => return None,
        };
        Some(CompiledComponent { report, code })
    }
}

/// Folder of compiled components.
pub(super) struct Cache {
    folder: PathBuf,
    bytes_max: u64,
    key: [u8; 32],
    compatibility: String,
}

impl Cache {
    pub(super) fn open(folder: &Path, bytes_max: u64, key: [u8; 32], engine: &Engine) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Cache { folder: folder.to_owned(), bytes_max, key, compatibility: compatibility(engine) })
    }

    /// Returns whether there is a file for a component. The file may still fail to verify.
    pub(super) fn contains(&self, sha256: &str) -> bool {
        self.path(sha256).exists()
    }

    /// Returns the size of a component's file, in bytes; 0 if there is none.
    pub(super) fn size(&self, sha256: &str) -> u64 {
        std::fs::metadata(self.path(sha256)).map_or(0, |metadata| metadata.len())
    }

    /// Reads a compiled component, if its file exists and verifies. A file that does not verify is deleted.
    pub(super) fn get(&self, sha256: &str) -> Option<CompiledComponent> {
        let name = self.name(sha256);
        let path = self.folder.join(&name);
        let compiled = self.verify(&name, std::fs::read(&path).ok()?).and_then(CompiledComponent::from_file);
        if compiled.is_none() {
            tracing::warn!(file = %name, "a compiled plugin on disk does not verify; it is compiled again");
            self.remove(sha256);
            return None;
        }
        // The modification time is that of the last use, for eviction.
        let used = std::fs::File::options().write(true).open(path);
        let _ = used.and_then(|file| file.set_modified(clock::system_time()));
        compiled
    }

    /// Returns the content of a file, if its MAC is that of this name and content.
    fn verify(&self, name: &str, mut mac: Vec<u8>) -> Option<VerifiedFile> {
        let bytes = mac.split_off(mac.len().min(MAC_BYTES));
        self.mac(name, &bytes).verify_slice(&mac).ok()?;
        Some(VerifiedFile(bytes))
    }

    /// Writes a compiled component atomically: to a temporary file, which is flushed and renamed.
    pub(super) fn put(&self, sha256: &str, compiled: &CompiledComponent) -> std::io::Result<()> {
        let name = self.name(sha256);
        let bytes = compiled.to_bytes()?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&self.mac(&name, &bytes).finalize().into_bytes())?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.folder.join(&name))?;
        self.make_room(&name)
    }

    /// Deletes the file of a component.
    pub(super) fn remove(&self, sha256: &str) {
        if let Err(error) = std::fs::remove_file(self.path(sha256)) {
            tracing::warn!(%error, "compiled code could not be deleted");
        }
    }

    /// Deletes the least recently used files until the rest fits, but never the one that was just written.
    fn make_room(&self, just_written: &str) -> std::io::Result<()> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            files.push((metadata.modified()?, metadata.len(), entry.file_name()));
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size, name) in files.into_iter().filter(|(_, _, name)| name != just_written) {
            if bytes <= self.bytes_max {
                break;
            }
            match std::fs::remove_file(self.folder.join(name)) {
                // Another thread may delete the same file.
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => bytes -= size,
            }
        }
        Ok(())
    }

    /// Returns the file name of a component. The number changes with the layout of the file.
    fn name(&self, sha256: &str) -> String {
        format!("{sha256}-{}-3.cwasm", self.compatibility)
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.folder.join(self.name(sha256))
    }

    fn mac(&self, name: &str, bytes: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of every length");
        mac.update(name.as_bytes());
        mac.update(&[0]);
        mac.update(bytes);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{EnginePurpose, engine};

    fn compiled(code: &[u8]) -> CompiledComponent {
        let report = Report { imports: vec!["hookloom:plugin/log@1.0.0".to_owned()], ..Report::default() };
        CompiledComponent { report, code: Code::Component(TrustedCode::from_child(code.to_vec())) }
    }

    #[test]
    fn only_what_verifies_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = engine(EnginePurpose::Compile { stack_bytes: 1 << 19 }).expect("an engine");
        let open = |key: u8| Cache::open(folder.path(), 1 << 20, [key; 32], &engine).expect("a cache");
        let cache = open(7);
        cache.put("aa", &compiled(b"code")).expect("written");
        let read = cache.get("aa").expect("kept");
        assert!(matches!(read.code, Code::Component(TrustedCode(code)) if code == b"code"));
        assert_eq!(read.report, compiled(b"").report);
        cache
            .put("cc", &CompiledComponent { report: Report::default(), code: Code::Script("x".into()) })
            .expect("written");
        assert!(matches!(cache.get("cc").expect("kept").code, Code::Script(source) if &*source == "x"));
        assert!(cache.get("bb").is_none() && !cache.contains("bb"));

        let path = cache.path("aa");
        let good = std::fs::read(&path).expect("read");
        std::fs::copy(&path, cache.path("bb")).expect("copied");
        assert!(cache.get("bb").is_none() && !cache.contains("bb"), "a file under another name is deleted");
        let mut changed = good.clone();
        *changed.last_mut().expect("not empty") ^= 1;
        for bad in [&changed[..], b"short", b"", &good[..good.len() - 1], &good[..MAC_BYTES]] {
            std::fs::write(&path, bad).expect("written");
            assert!(cache.get("aa").is_none() && !cache.contains("aa"), "{} bytes", bad.len());
        }
        std::fs::write(&path, &good).expect("written");
        assert!(open(8).get("aa").is_none(), "another key");
    }

    #[test]
    fn the_least_recently_used_is_evicted() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = engine(EnginePurpose::Compile { stack_bytes: 1 << 19 }).expect("an engine");
        let one = MAC_BYTES + compiled(&[1; 1_000]).to_bytes().expect("bytes").len();
        let cache = Cache::open(folder.path(), 2 * one as u64, [7; 32], &engine).expect("a cache");
        let age = |name: &str, seconds: u64| {
            let file = std::fs::File::options().write(true).open(cache.path(name)).expect("there");
            file.set_modified(clock::system_time() - std::time::Duration::from_secs(seconds)).expect("aged");
        };
        cache.put("aa", &compiled(&[1; 1_000])).expect("written");
        cache.put("bb", &compiled(&[1; 1_000])).expect("written");
        assert_eq!(cache.size("aa"), one as u64);
        age("aa", 200);
        age("bb", 100);
        assert!(cache.get("aa").is_some(), "used now");
        cache.put("cc", &compiled(&[1; 1_000])).expect("written");
        assert!(cache.get("bb").is_none(), "the one that was not used");
        assert!(cache.get("aa").is_some() && cache.get("cc").is_some());
    }
}

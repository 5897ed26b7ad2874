//! Compiled components: from the compile child into the process, and on disk across restarts.
//!
//! # Motivation
//! Loading compiled code is running it, so only code that a compile child of this host wrote may ever be loaded. On
//! disk it stands with a MAC (HMAC-SHA256 under a key of the vault) over its name and bytes; what does not verify is
//! compiled again, never loaded. A name holds the component's sha256 and the engine's compatibility, so another
//! version of the host finds nothing of an older one.
//!
//! This file holds the project's only unsafe code.

use super::check::Report;
use super::engine::compatibility;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use wasmtime::Engine;
use wasmtime::component::Component;

const MAC_BYTES: usize = 32;

/// Compiled code whose origin is proven.
pub(super) struct TrustedCode(Vec<u8>);

impl TrustedCode {
    /// Code that a compile child of this process just wrote.
    pub(super) fn from_child(code: Vec<u8>) -> Self {
        TrustedCode(code)
    }

    /// A report that a compile child wrote beside its code.
    pub(super) fn report(report: &Report) -> serde_json::Result<Self> {
        Ok(TrustedCode(serde_json::to_vec(report)?))
    }

    /// The report that this is, if it is one.
    pub(super) fn to_report(&self) -> Option<Report> {
        serde_json::from_slice(&self.0).ok()
    }

    /// Loads it.
    #[expect(unsafe_code, reason = "loading compiled code is unsafe by nature; see the module's motivation")]
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: the bytes were written by `Component::serialize` in a compile child of this host: either just now,
        // over a pipe, or earlier, and their MAC under a key that never leaves the host was verified.
        unsafe { Component::deserialize(engine, &self.0) }
    }
}

/// The folder of compiled components.
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

    /// The compiled code of a component, if it is there and its MAC is right.
    pub(super) fn get(&self, sha256: &str) -> Option<TrustedCode> {
        let name = self.name(sha256);
        let mut file = std::fs::read(self.folder.join(&name)).ok()?;
        if file.len() < MAC_BYTES {
            return None;
        }
        let code = file.split_off(MAC_BYTES);
        if self.mac(&name, &code).verify_slice(&file).is_err() {
            tracing::warn!(file = %name, "a compiled plugin on disk does not verify; it is compiled again");
            return None;
        }
        // A file's time is that of its last use: who was not used for longest goes first.
        let used = std::fs::File::options().write(true).open(self.folder.join(&name));
        let _ = used.and_then(|file| file.set_modified(SystemTime::now()));
        Some(TrustedCode(code))
    }

    /// Keeps compiled code for the next start: written aside, flushed, and moved into place.
    pub(super) fn put(&self, sha256: &str, code: &TrustedCode) -> std::io::Result<()> {
        let name = self.name(sha256);
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&self.mac(&name, &code.0).finalize().into_bytes())?;
        file.write_all(&code.0)?;
        file.as_file().sync_all()?;
        file.persist(self.folder.join(&name))?;
        self.make_room(&name)
    }

    /// Deletes what was not used for longest until the rest fits, but never what was just written.
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
            std::fs::remove_file(self.folder.join(name))?;
            bytes -= size;
        }
        Ok(())
    }

    fn name(&self, sha256: &str) -> String {
        format!("{sha256}-{}.cwasm", self.compatibility)
    }

    fn mac(&self, name: &str, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of every length");
        mac.update(name.as_bytes());
        mac.update(&[0]);
        mac.update(code);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::engine::{EnginePurpose, engine};

    #[test]
    fn only_what_verifies_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = engine(EnginePurpose::Compile).expect("an engine");
        let cache = Cache::open(folder.path(), 1 << 20, [7; 32], &engine).expect("a cache");
        cache.put("aa", &TrustedCode::from_child(b"code".to_vec())).expect("written");
        assert_eq!(cache.get("aa").map(|code| code.0), Some(b"code".to_vec()));
        assert!(cache.get("bb").is_none());

        let other_key = Cache::open(folder.path(), 1 << 20, [8; 32], &engine).expect("a cache");
        assert!(other_key.get("aa").is_none());

        let path = folder.path().join(cache.name("aa"));
        std::fs::copy(&path, folder.path().join(cache.name("bb"))).expect("copied");
        assert!(cache.get("bb").is_none(), "a file under another name");
        let mut bytes = std::fs::read(&path).expect("read");
        *bytes.last_mut().expect("not empty") ^= 1;
        std::fs::write(&path, &bytes).expect("written");
        assert!(cache.get("aa").is_none(), "a changed byte");
        std::fs::write(&path, b"short").expect("written");
        assert!(cache.get("aa").is_none(), "a cut file");
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = engine(EnginePurpose::Compile).expect("an engine");
        let room_for_two = 2 * (MAC_BYTES as u64 + 1_000);
        let cache = Cache::open(folder.path(), room_for_two, [7; 32], &engine).expect("a cache");
        let age = |name: &str, seconds: u64| {
            let file = std::fs::File::options().write(true).open(folder.path().join(cache.name(name))).expect("there");
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(seconds)).expect("aged");
        };
        let code = || TrustedCode::from_child(vec![1; 1_000]);
        cache.put("aa", &code()).expect("written");
        cache.put("bb", &code()).expect("written");
        age("aa", 200);
        age("bb", 100);
        assert!(cache.get("aa").is_some(), "used now");
        cache.put("cc", &code()).expect("written");
        assert!(cache.get("bb").is_none(), "the one that was not used");
        assert!(cache.get("aa").is_some() && cache.get("cc").is_some());
    }
}

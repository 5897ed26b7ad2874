//! Files of the data folder that do not belong together, at a start and during a run, and failing backups.

use crate::harness::{ADMIN_KEY, Host, PATIENCE, event, program, text, until};
use reqwest::Method;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::process::Command;

const DATABASE: &str = "hookloom.db";
const LOG: &str = "hookloom.db-wal";
const LOG_INDEX: &str = "hookloom.db-shm";

/// Returns the output of a refused start.
async fn refused(data: &Path) -> String {
    let mut start = Command::new(program());
    start.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data).env("HOOKLOOM_ADMIN_KEY", ADMIN_KEY);
    let ended = tokio::time::timeout(PATIENCE, start.kill_on_drop(true).output()).await.expect("it started").unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    said
}

/// Copies a folder.
fn copied(folder: &TempDir) -> Arc<TempDir> {
    let copy = TempDir::new().unwrap();
    let status = std::process::Command::new("cp").arg("-a").arg(folder.path().join("data")).arg(copy.path()).status();
    assert!(status.unwrap().success());
    Arc::new(copy)
}

async fn backup(data: &Path, to: &Path) -> (bool, String) {
    let output = Command::new(program()).args(["backup", "--data-dir"]).arg(data).arg(to).output().await.unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Returns a host's folder after kill -9, with a webhook and an event, and the event's id.
async fn killed() -> (Arc<TempDir>, String) {
    let host = Host::start().await;
    host.subscription("http://127.0.0.1:9999/", json!({})).await;
    let id = host.send(event("Contact is Created", 1)).await;
    (host.kill().await, id)
}

async fn has_event(folder: Arc<TempDir>, id: &str) {
    let host = Host::with().on(folder).start().await;
    assert_eq!(text(&host.get(&format!("./events/{id}")).await, "id"), id);
    assert_eq!(host.ask_as("", Method::GET, "/readyz", "").await.status, 200);
}

/// Damage to a file by another program.
#[derive(Clone, Copy, Debug)]
enum FileDamage {
    Remove,
    Empty,
    /// Replacement by other bytes, with this change of the length.
    Replace(usize),
}

#[tokio::test]
async fn files_that_are_missing_empty_or_others_are_refused() {
    let (folder, id) = killed().await;
    let cases = [
        ("master.key", FileDamage::Remove, "its master.key is missing"),
        ("master.key", FileDamage::Empty, "has 0 bytes instead of 32"),
        ("master.key", FileDamage::Replace(32), "was the key file replaced?"),
        (DATABASE, FileDamage::Remove, "its hookloom.db is missing"),
        (DATABASE, FileDamage::Empty, "its hookloom.db is empty"),
        (LOG, FileDamage::Remove, "the log hookloom.db-wal is missing"),
        (LOG, FileDamage::Empty, "the log hookloom.db-wal is empty"),
    ];
    for (file, damage, expected) in cases {
        let copy = copied(&folder);
        let data = copy.path().join("data");
        let path = data.join(file);
        match damage {
            FileDamage::Remove => std::fs::remove_file(&path).unwrap(),
            FileDamage::Empty => std::fs::write(&path, "").unwrap(),
            FileDamage::Replace(bytes) => std::fs::write(&path, vec![7; bytes]).unwrap(),
        }
        let listed = || {
            let mut files: Vec<_> = std::fs::read_dir(&data).unwrap().map(|one| one.unwrap().file_name()).collect();
            files.sort();
            files
        };
        let before = listed();
        for _ in 0..2 {
            let said = refused(&data).await;
            assert!(said.contains(expected), "{file} {damage:?}: {said}");
        }
        // The database knows the right key, so it must be opened for this check.
        if !matches!(damage, FileDamage::Replace(_)) {
            assert_eq!(listed(), before, "{file} {damage:?}: a start that is refused makes and deletes nothing");
        }
        let whole = folder.path().join("data").join(file);
        std::fs::copy(whole, &path).unwrap();
        has_event(copy, &id).await;
    }
    // A missing log does not change that the database is missing.
    let copy = copied(&folder);
    let data = copy.path().join("data");
    for file in [DATABASE, LOG, LOG_INDEX] {
        std::fs::remove_file(data.join(file)).unwrap();
    }
    assert!(refused(&data).await.contains("To begin with an empty store instead, move master.key"));
    std::fs::remove_file(data.join("master.key")).unwrap();
    let empty = Host::with().on(copy).start().await;
    assert_eq!(empty.ledger().await["events"], 0);
    // The lock file is not missed.
    std::fs::remove_file(folder.path().join("data/lock")).unwrap();
    has_event(folder, &id).await;
}

#[tokio::test]
async fn a_host_that_stopped_by_itself_needs_no_log() {
    let (folder, id) = killed().await;
    let (status, folder) = Host::with().on(folder).start().await.stop().await;
    assert!(status.success() && !folder.path().join("data").join(LOG).exists());
    std::fs::remove_file(folder.path().join("data/hookloom.db-run")).unwrap();
    has_event(folder.clone(), &id).await;
}

#[tokio::test]
async fn a_database_with_the_log_of_another_is_refused() {
    let host = Host::start().await;
    let id = host.send(event("Contact is Created", 1)).await;
    let backups = TempDir::new().unwrap();
    let (well, said) = backup(&host.data(), &backups.path().join("b")).await;
    assert!(well, "{said}");
    let (_, folder) = host.stop().await;
    let data = folder.path().join("data");
    // A copy of the files of a stopped host is a valid backup.
    std::fs::copy(data.join(DATABASE), backups.path().join("cold")).unwrap();
    let host = Host::with().on(folder).start().await;
    host.send(event("Contact is Created", 2)).await;
    let folder = host.kill().await;
    for copy_of in ["b/hookloom.db", "cold"] {
        let copy = copied(&folder);
        let data = copy.path().join("data");
        std::fs::copy(backups.path().join(copy_of), data.join(DATABASE)).unwrap();
        let said = refused(&data).await;
        assert!(said.contains("hookloom.db-wal in") && said.contains("log of another database"), "{copy_of}: {said}");
        for file in [LOG, LOG_INDEX] {
            std::fs::rename(data.join(file), copy.path().join(file)).unwrap();
        }
        has_event(copy, &id).await;
    }
    // A host starts on a complete backup.
    let whole = Arc::new(TempDir::new().unwrap());
    std::fs::rename(backups.path().join("b"), whole.path().join("data")).unwrap();
    has_event(whole, &id).await;
}

#[tokio::test]
async fn nothing_is_accepted_into_a_file_that_is_gone() {
    let host = Host::start().await;
    host.send(event("Contact is Created", 1)).await;
    for (file, is_replaced) in [(DATABASE, false), (DATABASE, true), (LOG, false), (LOG, true), (LOG_INDEX, false)] {
        let path = host.data().join(file);
        let aside = host.data().join("aside");
        std::fs::rename(&path, &aside).unwrap();
        if is_replaced {
            std::fs::copy(&aside, &path).unwrap();
        }
        let refused = host.ask(Method::POST, "./events", event("Contact is Created", 2)).await;
        assert_eq!((refused.status, refused.headers.contains_key("retry-after")), (503, true), "{}", refused.text);
        assert!(text(&refused.json, "detail").contains("was removed or replaced"), "{file}: {}", refused.text);
        let unready = until("readiness to notice", async || {
            let ready = host.ask_as("", Method::GET, "/readyz", "").await;
            (ready.status == 503).then_some(ready)
        });
        let unready = unready.await;
        assert!(text(&unready.json, "detail").starts_with("not ready: store: "), "{}", unready.text);
        assert!(text(&unready.json, "remedy").contains("restore the data folder"), "{}", unready.text);
        std::fs::rename(&aside, &path).unwrap();
        host.send(event("Contact is Created", 3)).await;
        assert_eq!(host.ask_as("", Method::GET, "/readyz", "").await.status, 200);
    }
    assert_eq!(host.ledger().await["events"], 6, "what was refused is not there");
    // A host whose database is gone still stops at a signal.
    std::fs::remove_file(host.data().join(DATABASE)).unwrap();
    let (status, _) = host.stop().await;
    assert!(status.success());
}

#[tokio::test]
async fn a_folder_without_its_lock_is_still_locked() {
    let host = Host::start().await;
    let part = async || {
        let ready = host.ask_as("", Method::GET, "/readyz", "").await.ok();
        ready["parts"].as_array().unwrap().iter().find(|part| part["part"] == "files").cloned().unwrap()
    };
    assert_eq!(part().await["ready"], true);
    std::fs::remove_file(host.data().join("lock")).unwrap();
    let said = refused(&host.data()).await;
    assert!(said.contains("is in use by the process"), "{said}");
    let key = std::fs::read(host.data().join("master.key")).unwrap();
    std::fs::write(host.data().join("master.key"), [7; 32]).unwrap();
    let found = part().await;
    assert_eq!(found["ready"], false);
    for expected in ["lock was removed or replaced", "master.key was replaced by another key"] {
        assert!(text(&found, "detail").contains(expected), "{found}");
    }
    std::fs::remove_file(host.data().join("master.key")).unwrap();
    assert!(text(&part().await, "detail").contains("master.key was removed"));
    // Another file with the same key is valid.
    std::fs::write(host.data().join("master.key"), key).unwrap();
    assert!(!text(&part().await, "detail").contains("master.key"));
}

#[tokio::test]
async fn a_backup_that_fails_leaves_nothing_behind() {
    let host = Host::start().await;
    let id = host.send(event("Contact is Created", 1)).await;
    let backups = Arc::new(TempDir::new().unwrap());
    let to = backups.path().join("data");
    let is_empty = || std::fs::read_dir(backups.path()).unwrap().next().is_none();
    let fails = async |expected: &str| {
        let (well, said) = backup(&host.data(), &to).await;
        assert!(!well && said.contains(expected), "{said}");
        assert!(is_empty(), "something was left behind");
    };
    let key = host.data().join("master.key");
    let aside = host.data().join("aside");
    std::fs::rename(&key, &aside).unwrap();
    fails("its master.key is missing").await;
    std::fs::write(&key, [7; 32]).unwrap();
    fails("was the key file replaced?").await;
    std::fs::rename(&aside, &key).unwrap();
    // The disk becomes full during the backup.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]).arg(program());
    let ended = limited.args(["backup", "--data-dir"]).arg(host.data()).arg(&to).output().await.unwrap();
    assert!(!ended.status.success() && is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
    // An empty folder is used; a folder with files is not changed.
    std::fs::create_dir(&to).unwrap();
    let (well, said) = backup(&host.data(), &to).await;
    assert!(well, "{said}");
    let (well, said) = backup(&host.data(), &to).await;
    assert!(!well && said.contains("name a new folder"), "{said}");
    has_event(backups, &id).await;
}

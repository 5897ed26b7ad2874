//! `202` follows the flush to the disk: shown by holding the flush up, and by failing it.
//!
//! Killing a process proves little about durability, because the system keeps what it wrote. So a small library stands
//! between the host and `fdatasync`/`fsync` (LD_PRELOAD) and does as files in a folder tell it.

use crate::harness::{ADMIN_KEY, Host, event, text, until};
use reqwest::Method;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// `hold` in the folder makes flushes wait (and say so by `waiting`), `fail` makes them fail.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int there(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("SYNC_GATE"), name);
    return access(path, F_OK) == 0;
}

static void touch(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("SYNC_GATE"), name);
    close(open(path, O_CREAT | O_WRONLY, 0600));
}

static int gate(int fd, const char *name) {
    while (there("hold")) {
        touch("waiting");
        usleep(1000);
    }
    if (there("fail")) {
        errno = EIO;
        return -1;
    }
    int (*flush)(int) = dlsym(RTLD_NEXT, name);
    return flush(fd);
}

int fdatasync(int fd) { return gate(fd, "fdatasync"); }
int fsync(int fd) { return gate(fd, "fsync"); }
"#;

/// A gate before the disk.
struct Gate {
    folder: TempDir,
    library: PathBuf,
}

impl Gate {
    fn new() -> Gate {
        let folder = TempDir::new().unwrap();
        let (source, library) = (folder.path().join("gate.c"), folder.path().join("gate.so"));
        std::fs::write(&source, SHIM).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(&source)
            .arg("-ldl")
            .status()
            .unwrap();
        assert!(built.success());
        Gate { folder, library }
    }

    async fn host(&self) -> Host {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        Host::with().env("LD_PRELOAD", &text(&self.library)).env("SYNC_GATE", &text(self.folder.path())).start().await
    }

    fn set(&self, name: &str) {
        std::fs::write(self.folder.path().join(name), "").unwrap();
    }

    fn clear(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join(name)).unwrap();
    }

    fn is(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }
}

#[tokio::test]
async fn no_202_before_the_flush() {
    let gate = Gate::new();
    let host = gate.host().await;
    gate.set("hold");
    let marked = event("Contact is Created", 4_242_424_242);
    let asked = host.ask(Method::POST, "./events", marked);
    tokio::pin!(asked);
    let flushing = until("the flush", async || gate.is("waiting").then_some(()));
    tokio::select! {
        reply = &mut asked => panic!("answered before the flush: {}", reply.text),
        () = flushing => {}
    }
    // The event is written and only waits for the flush; and the answer still does not come.
    let log = std::fs::read(host.data().join("hookloom.db-wal")).unwrap();
    assert!(log.windows(10).any(|window| window == b"4242424242"), "the event is not in the log yet");
    gate.clear("waiting");
    let still_flushing = until("a second look", async || gate.is("waiting").then_some(()));
    tokio::select! {
        reply = &mut asked => panic!("answered before the flush: {}", reply.text),
        () = still_flushing => {}
    }
    gate.clear("hold");
    let reply = asked.await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    assert_eq!(host.ledger().await["events"], 1);
}

#[tokio::test]
async fn a_failing_disk_is_503_and_what_was_accepted_stays() {
    let gate = Gate::new();
    let host = gate.host().await;
    let before = host.send(event("Contact is Created", 1)).await;
    gate.set("fail");
    let refused = host.ask(Method::POST, "./events", event("Contact is Created", 2)).await;
    assert_eq!((refused.status, refused.headers.contains_key("retry-after")), (503, true), "{}", refused.text);
    assert_eq!(text(&refused.json, "type"), "urn:hookloom:problem:store-unavailable");
    assert_eq!(host.ask_as("", Method::GET, "/readyz", "").await.status, 503);
    assert_eq!(host.ask_as("", Method::GET, "/healthz", "").await.status, 200);
    gate.clear("fail");

    // It recovers without a restart, and after one everything that was accepted is there.
    let after = until("an accepted event", async || {
        let reply = host.try_ask(ADMIN_KEY, Method::POST, "./events", event("Contact is Created", 3)).await.unwrap();
        (reply.status == 202).then(|| text(&reply.json["events"][0], "id").to_owned())
    })
    .await;
    let host = Host::with().on(host.kill().await).start().await;
    for id in [before, after] {
        assert_eq!(text(&host.get(&format!("./events/{id}")).await, "id"), id);
    }
}

//! Library that is loaded under a host (LD_PRELOAD) and controls its disk and clock by files in a folder.
//!
//! `hold`: flushes wait (and create `waiting`). `fail`: flushes fail. `full`: writes to the database fail, as on a full disk
//! (ENOSPC). `clock`: number of seconds that are added to the wall clock; other clocks are not changed.

use super::Host;
use super::host::HostBuilder;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void path_of(char *path, size_t size, const char *name) {
    snprintf(path, size, "%s/%s", getenv("SHIM_FOLDER"), name);
}

static int there(const char *name) {
    char path[4096];
    path_of(path, sizeof path, name);
    return access(path, F_OK) == 0;
}

static void touch(const char *name) {
    char path[4096];
    path_of(path, sizeof path, name);
    close(open(path, O_CREAT | O_WRONLY, 0600));
}

static int flush(int fd, const char *name) {
    while (there("hold")) {
        touch("waiting");
        usleep(1000);
    }
    if (there("fail")) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fdatasync(int fd) { return flush(fd, "fdatasync"); }
int fsync(int fd) { return flush(fd, "fsync"); }

static int is_full(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strstr(path, "hookloom.db") != NULL && there("full");
}

#define FULL(fd) if (is_full(fd)) { errno = ENOSPC; return -1; }

ssize_t write(int fd, const void *bytes, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (fd > 2) FULL(fd)
    return real(fd, bytes, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    FULL(fd)
    return real(fd, bytes, count, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return pwrite64(fd, bytes, count, at); }

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(clock, time);
    if (clock != CLOCK_REALTIME) return answer;
    char path[4096], text[32] = {0};
    path_of(path, sizeof path, "clock");
    int fd = open(path, O_RDONLY);
    if (fd < 0) return answer;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length > 0) time->tv_sec += atol(text);
    return answer;
}
"#;

/// Built library, and the folder of its control files.
pub(crate) struct Shim {
    folder: TempDir,
    library: PathBuf,
}

impl Shim {
    pub(crate) fn new() -> Shim {
        let folder = TempDir::new().unwrap();
        let source = folder.path().join("shim.c");
        let library = folder.path().join("shim.so");
        std::fs::write(&source, SOURCE).unwrap();
        let mut compiler = Command::new("cc");
        let built = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status().unwrap();
        assert!(built.success());
        Shim { folder, library }
    }

    /// Loads the library under a host.
    pub(crate) fn under(&self, host: HostBuilder) -> HostBuilder {
        self.environment().iter().fold(host, |host, (name, value)| host.env(name, value))
    }

    /// Returns the environment variables of a host that load the library.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        fn text(path: &Path) -> String {
            path.to_str().unwrap().to_owned()
        }
        [("LD_PRELOAD", text(&self.library)), ("SHIM_FOLDER", text(self.folder.path()))]
    }

    /// Starts a host with the library.
    pub(crate) async fn host(&self) -> Host {
        self.under(Host::with()).start().await
    }

    pub(crate) fn set(&self, name: &str) {
        self.write(name, "");
    }

    pub(crate) fn clear(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join(name)).unwrap();
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }

    /// Shifts the wall clock by this number of seconds.
    pub(crate) fn set_clock(&self, seconds: i64) {
        self.write("clock", &seconds.to_string());
    }

    /// Writes in one step, so that nobody reads an incomplete file.
    fn write(&self, name: &str, text: &str) {
        let aside = self.folder.path().join("aside");
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(&aside, self.folder.path().join(name)).unwrap();
    }
}

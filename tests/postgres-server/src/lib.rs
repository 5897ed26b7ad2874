//! Private PostgreSQL servers of tests: where the programs are, as whom they run, and an empty folder of data.
//!
//! # Guarantees
//! Nothing of a server that the machine runs is used or changed: a folder is new, and its user is not that of Debian's servers.
//!
//! # Limits
//! The programs must be in `$TEST_POSTGRES_BIN`, or a version of them in `/usr/lib/postgresql`. The tests start and end the servers.
#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Number of the user `nobody`, as which a server runs if the tests run as root, which it refuses.
const NOBODY: u32 = 65_534;

/// Returns the folder of the programs of PostgreSQL: `$TEST_POSTGRES_BIN`, or else the newest installed version.
pub fn programs() -> PathBuf {
    if let Some(folder) = std::env::var_os("TEST_POSTGRES_BIN") {
        return folder.into();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect(
        "PostgreSQL in /usr/lib/postgresql, or its programs in $TEST_POSTGRES_BIN: `cargo xtask test` unpacks them",
    );
    let versions = versions.filter_map(|version| version.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let newest = versions.max().expect("a version of PostgreSQL");
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
}

/// Returns a command that runs as a user who may run a server.
pub fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let [user, group] = ["reuid", "regid"].map(|id| format!("--{id}={NOBODY}"));
    command.args([&user[..], &group[..], "--clear-groups"]).arg(program);
    command
}

/// Gives a file or a folder to the user of a server.
pub fn give_away(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("a file of the server's user");
    }
}

/// Creates a folder whose subfolder `data` a server can start from, with an administrator who needs no password.
pub fn initialised(administrator: &str) -> TempDir {
    let folder = tempfile::Builder::new().prefix("hookloom-postgres-").tempdir().expect("a folder");
    give_away(folder.path());
    let mut initdb = unprivileged(&programs().join("initdb"));
    initdb.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
    initdb.arg(format!("--username={administrator}")).arg("-D").arg(folder.path().join("data"));
    let made = initdb.current_dir(folder.path()).output().expect("initdb");
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    folder
}

/// Returns true if the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

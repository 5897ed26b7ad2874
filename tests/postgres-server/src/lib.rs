//! Private PostgreSQL servers of tests, and poolers before them: where the programs are, as whom they run, and an empty folder of data.
//!
//! # Guarantees
//! Nothing of a server that the machine runs is used or changed: a folder is new, and its user is not that of Debian's servers.
//!
//! # Limits
//! The programs must be in `$TEST_POSTGRES_BIN`, or a version of them in `/usr/lib/postgresql`, and PgBouncer must be `$TEST_PGBOUNCER` or
//! in `/usr/sbin`. The tests start and end the servers and poolers.
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

/// Returns the path of PgBouncer: `$TEST_PGBOUNCER`, or else the installed one.
pub fn pooler() -> PathBuf {
    std::env::var_os("TEST_PGBOUNCER").map_or_else(|| "/usr/sbin/pgbouncer".into(), PathBuf::from)
}

/// Settings of a pooler as the documentation shows them.
const POOLER_SETTINGS: &str = include_str!("../../../deploy/pgbouncer.ini");

/// Creates a folder with the settings `pgbouncer.ini` of a pooler in transaction mode, with at most this number of connections to each
/// database of the server whose socket is in another folder. Its own socket has the same name in the new folder.
///
/// `more` are further settings, in which `%` stands for the folder. Of a setting, the last line counts.
pub fn pooler_folder(server: &Path, server_port: u16, connections: usize, more: &str) -> TempDir {
    let folder = tempfile::Builder::new().prefix("hookloom-pgbouncer-").tempdir().expect("a folder");
    let path = folder.path().display();
    let settings = format!(
        "{POOLER_SETTINGS}
default_pool_size = {connections}
max_client_conn = 1000
listen_addr =
listen_port = {server_port}
unix_socket_dir = {path}
auth_type = trust
auth_file = {path}/users
logfile =
pidfile =
{more}
[databases]
* = host={server} port={server_port}
",
        server = server.display(),
        more = more.replace('%', &path.to_string()),
    );
    let users = ["hookloom", "postgres"].map(|user| format!("\"{user}\" \"\"\n")).concat();
    for (name, text) in [("pgbouncer.ini", settings), ("users", users)] {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("a file");
        give_away(&file);
    }
    give_away(folder.path());
    folder
}

/// Returns true if the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

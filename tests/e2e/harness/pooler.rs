//! Private PgBouncer before a private server of PostgreSQL.
//!
//! # Guarantees
//! - It listens only on a socket in its own temporary folder. No other pooler of the machine is used or changed.
//! - It ends with the process of the tests, also if that is killed: a shell that waits for the end of its input ends it.

use super::{Postgres, until};
use hookloom_postgres_server::{pooler, pooler_folder, unprivileged};
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// Port in the name of the sockets.
const PORT: u16 = 5_432;

/// Starts the pooler ($1: program, $2: its folder) and ends it at the end of the input.
const GUARD: &str = r#"
"$1" "$2/pgbouncer.ini" >>"$2/log" 2>&1 </dev/null &
pooler=$!
echo $pooler >"$2/pid"
read -r _
kill -KILL $pooler
wait $pooler
"#;

/// PgBouncer in transaction mode.
pub(crate) struct Pooler {
    folder: TempDir,
    guard: Child,
}

impl Pooler {
    /// Starts a pooler with at most this number of connections to each database of a server.
    pub(crate) async fn start(server: &Postgres, connections: usize) -> Pooler {
        let folder = pooler_folder(server.folder(), PORT, connections, "");
        let pooler = Pooler { guard: begin(folder.path()), folder };
        pooler.answers().await;
        pooler
    }

    /// Returns the URL of the database that every server has, without parameters for the host.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@/postgres?host={}", self.folder.path().display())
    }

    /// Kills the pooler.
    pub(crate) async fn kill(&mut self) {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).unwrap();
        let killed = Command::new("kill").args(["-9", pid.trim()]).status().await.unwrap();
        assert!(killed.success());
        self.guard.kill().await.unwrap();
    }

    /// Starts a killed pooler again.
    pub(crate) async fn restart(&mut self) {
        self.guard = begin(self.folder.path());
        self.answers().await;
    }

    async fn answers(&self) {
        let socket = self.folder.path().join(format!(".s.PGSQL.{PORT}"));
        until("the pooler", async || UnixStream::connect(&socket).await.ok()).await;
    }
}

fn begin(folder: &Path) -> Child {
    let mut guard = Command::from(unprivileged(Path::new("/bin/sh")));
    guard.current_dir(folder);
    guard.args(["-c", GUARD, "sh"]).arg(pooler()).arg(folder).process_group(0);
    guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

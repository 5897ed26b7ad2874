//! Private PostgreSQL servers of tests.
//!
//! # Guarantees
//! - A server listens only on a socket in its own temporary folder. No other server of the machine is used or changed.
//! - It ends with the process of the tests, also if that is killed: a shell that waits for the end of its input ends it.

use super::{PATIENCE, root, until};
use hookloom_postgres_server::{initialised, programs, unprivileged};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

/// Environment variable that lets every host without a setting `store` use PostgreSQL, if it is `postgres`.
const STORE_VARIABLE: &str = "TEST_STORE";

/// File in the folder of a host with the name of its database.
const DATABASE: &str = "database";

/// Starts the server ($1: folder of the programs, $2: folder of the server) and ends it at the end of the input.
const GUARD: &str = r#"
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=400 -c shared_buffers=64MB >>"$2/log" 2>&1 </dev/null &
server=$!
read -r _
kill -INT $server
wait $server
"#;

/// Server with its own folder and socket.
pub(crate) struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    guard: Child,
}

impl Postgres {
    /// Starts a server that flushes its commits.
    pub(crate) async fn start() -> Postgres {
        let programs = programs();
        let folder = tokio::task::spawn_blocking(|| initialised("postgres")).await.unwrap();
        let guard = begin(&programs, folder.path());
        let server = Postgres { folder, programs, guard };
        server.answers().await;
        server
    }

    /// Returns the URL of the database that every server has.
    pub(crate) fn url(&self) -> String {
        self.url_of("postgres")
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@/{database}?host={}", self.folder.path().display())
    }

    /// Kills every process of the server, as a crash does, and starts it again.
    pub(crate) async fn crash(&mut self) {
        self.kill().await;
        self.restart().await;
    }

    /// Kills every process of the server.
    pub(crate) async fn kill(&mut self) {
        let pid_file = self.folder.path().join("data/postmaster.pid");
        let pid = std::fs::read_to_string(pid_file).unwrap().lines().next().unwrap().to_owned();
        let killed = Command::new("kill").args(["-9", &pid]).status().await.unwrap();
        assert!(killed.success());
        // Its backends notice the end of the postmaster.
        self.guard.kill().await.unwrap();
    }

    /// Starts a killed server again.
    pub(crate) async fn restart(&mut self) {
        let give_up = Instant::now() + PATIENCE;
        // A process of the killed server that still runs keeps it from starting.
        while !self.starts().await {
            assert!(Instant::now() < give_up, "the server does not start again");
        }
    }

    /// Starts the server. Returns false if it is not ready within some seconds.
    async fn starts(&mut self) -> bool {
        self.guard = begin(&self.programs, self.folder.path());
        let late = Instant::now() + Duration::from_secs(5);
        while Instant::now() < late {
            if self.is_ready().await {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    async fn answers(&self) {
        until("the server", async || self.is_ready().await.then_some(())).await;
    }

    async fn is_ready(&self) -> bool {
        let mut ask = Command::new(self.programs.join("pg_isready"));
        ask.arg("-q").arg("-h").arg(self.folder.path());
        ask.status().await.unwrap().success()
    }

    /// Runs the statements of a file of the source as an administrator. Returns the URL of the database that they create for a host.
    pub(crate) async fn prepare(&self, file: &str) -> String {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-U", "postgres", "-v", "ON_ERROR_STOP=1", "-q", "-f"]).arg(root().join(file));
        let ran = psql.arg("-h").arg(self.folder.path()).arg("postgres").output().await.unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        format!("postgres://hookloom@/hookloom?host={}", self.folder.path().display())
    }

    /// Runs a query as an administrator, on the database that every server has. Returns its rows, with `|` between the columns.
    pub(crate) async fn query(&self, sql: &str) -> Vec<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-U", "postgres", "-v", "ON_ERROR_STOP=1", "-qAt", "-c", sql, "-h"]).arg(self.folder.path());
        let ran = psql.arg("postgres").output().await.unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Creates a database.
    async fn create(&self, name: &str) {
        let mut create = Command::new(self.programs.join("createdb"));
        let created = create.args(["-U", "postgres", name, "-h"]).arg(self.folder.path()).output().await.unwrap();
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    }
}

static SHARED: LazyLock<OnceCell<Postgres>> = LazyLock::new(OnceCell::new);

/// Returns the database of a host that would use SQLite, if the environment asks for PostgreSQL. A host that starts again in its folder
/// gets the same one.
pub(super) async fn instead_of_sqlite(folder: &Arc<TempDir>) -> Option<String> {
    if std::env::var(STORE_VARIABLE).ok().as_deref() != Some("postgres") {
        return None;
    }
    // A server that outlives the runtime of one test must not depend on it.
    let server = SHARED.get_or_init(Postgres::start).await;
    let file = folder.path().join(DATABASE);
    let name = match std::fs::read_to_string(&file) {
        Ok(name) => name,
        Err(_) => {
            let name = format!("host_{}", folder.path().file_name().unwrap().to_string_lossy().replace('.', ""));
            server.create(&name).await;
            std::fs::write(file, &name).unwrap();
            name
        }
    };
    Some(server.url_of(&name))
}

fn begin(programs: &Path, folder: &Path) -> Child {
    let mut guard = Command::from(unprivileged(Path::new("/bin/sh")));
    guard.current_dir(folder);
    guard.args(["-c", GUARD, "sh"]).arg(programs).arg(folder).process_group(0);
    guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

//! Private PostgreSQL servers of tests.
//!
//! # Guarantees
//! - A server listens only on a socket in its own temporary folder. No other server of the machine is used or changed.
//! - It ends with the process of the tests, also if that is killed: a shell that waits for the end of its input ends it.

mod copies;

use super::small_disk::SmallDisk;
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

/// Starts the server ($1: folder of the programs, $2: folder of the server, then options) and ends it at the end of the input.
const GUARD: &str = r#"
programs=$1 folder=$2
shift 2
"$programs/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= -c max_connections=400 -c shared_buffers=64MB "$@" \
  >>"$folder/log" 2>&1 </dev/null &
server=$!
read -r _
kill -INT $server
wait $server
"#;

/// Server with its own folder and socket.
pub(crate) struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    options: Vec<String>,
    disk: Option<SmallDisk>,
    guard: Child,
}

impl Postgres {
    /// Starts a server that flushes its commits.
    pub(crate) async fn start() -> Postgres {
        Postgres::with(&[]).await
    }

    /// Starts a server with settings such as `max_connections=40`.
    pub(crate) async fn with(settings: &[&str]) -> Postgres {
        let folder = tokio::task::spawn_blocking(|| initialised("postgres")).await.unwrap();
        Postgres::in_folder(folder, settings, None).await
    }

    /// Starts a server with settings, whose data is on a separate disk of this many MiB.
    pub(crate) async fn on_small_disk(mebibytes: usize, settings: &[&str]) -> Postgres {
        let folder = tokio::task::spawn_blocking(|| initialised("postgres")).await.unwrap();
        let disk = SmallDisk::under(&folder.path().join("data"), mebibytes).await;
        Postgres::in_folder(folder, settings, Some(disk)).await
    }

    async fn in_folder(folder: TempDir, settings: &[&str], disk: Option<SmallDisk>) -> Postgres {
        let programs = programs();
        let options: Vec<String> = settings.iter().flat_map(|one| ["-c".to_owned(), (*one).to_owned()]).collect();
        let guard = begin(&programs, folder.path(), &options, disk.as_ref());
        let server = Postgres { folder, programs, options, disk, guard };
        server.answers().await;
        server
    }

    /// Returns the disk of a server that is [`on_small_disk`](Postgres::on_small_disk).
    pub(crate) fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().unwrap()
    }

    /// Returns the URL of the database that every server has.
    pub(crate) fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Returns the URL of the database of this server or of another one, whichever accepts writes.
    pub(crate) fn url_of_either(&self, other: &Postgres) -> String {
        let [one, other] = [self, other].map(|server| server.folder.path().to_str().unwrap().replace('/', "%2F"));
        format!("postgres://postgres@{one},{other}/postgres?target_session_attrs=read-write")
    }

    /// Returns the folder of the server's socket.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
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
        let pid = self.pid().unwrap();
        let killed = Command::new("kill").args(["-9", &pid]).status().await.unwrap();
        assert!(killed.success());
        // Its backends notice the end of the postmaster.
        self.guard.kill().await.unwrap();
    }

    /// Returns the id of the process that the file of a server names. None: the server has ended in order.
    fn pid(&self) -> Option<String> {
        let data = self.folder.path().join("data");
        let data = self.disk.as_ref().map_or(data.clone(), |disk| disk.seen_from_outside(&data));
        let file = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
        Some(file.lines().next().unwrap().to_owned())
    }

    /// Waits until the server is ready, and starts it again if it has ended, as a service manager does.
    pub(crate) async fn ready_again(&mut self) {
        while !self.is_ready().await {
            let runs = self.pid().is_some_and(|pid| Path::new("/proc").join(pid).exists());
            if !runs {
                self.restart().await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
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
        self.guard = begin(&self.programs, self.folder.path(), &self.options, self.disk.as_ref());
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

    /// Returns true if the server accepts connections.
    pub(crate) async fn is_ready(&self) -> bool {
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

    /// Runs a file of `deploy` in the database of [`Postgres::prepare`], and returns the URL for the account that it creates.
    pub(crate) async fn prepare_limited(&self) -> String {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-U", "postgres", "-v", "ON_ERROR_STOP=1", "-q", "-f"])
            .arg(root().join("deploy/postgresql-limited.sql"));
        let ran = psql.arg("-h").arg(self.folder.path()).arg("hookloom").output().await.unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        format!("postgres://hookloom_host@/hookloom?host={}", self.folder.path().display())
    }

    /// Runs a query as an administrator, on the database that every server has. Returns its rows, with `|` between the columns.
    pub(crate) async fn query(&self, sql: &str) -> Vec<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-U", "postgres", "-v", "ON_ERROR_STOP=1", "-qAt", "-c", sql, "-h"]).arg(self.folder.path());
        let ran = psql.arg("postgres").output().await.unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Copies the database that every server has, which may be in use, to a file, by `pg_dump`.
    pub(crate) async fn dump(&self, file: &Path) {
        let mut dump = Command::new(self.programs.join("pg_dump"));
        dump.args(["-U", "postgres", "--format=custom", "--file"]).arg(file).arg("-h").arg(self.folder.path());
        let dumped = dump.arg("postgres").output().await.unwrap();
        assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    }

    /// Creates a database from a file of [`Postgres::dump`]. Returns its URL.
    pub(crate) async fn restore(&self, name: &str, file: &Path) -> String {
        self.create(name).await;
        let mut restore = Command::new(self.programs.join("pg_restore"));
        restore.args(["-U", "postgres", "--exit-on-error", "-d", name, "-h"]).arg(self.folder.path());
        let restored = restore.arg(file).output().await.unwrap();
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        self.url_of(name)
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

fn begin(programs: &Path, folder: &Path, options: &[String], disk: Option<&SmallDisk>) -> Child {
    let shell = unprivileged(Path::new("/bin/sh"));
    let mut guard = Command::from(match disk {
        Some(disk) => disk.entered_by(&shell),
        None => shell,
    });
    guard.current_dir(folder);
    guard.args(["-c", GUARD, "sh"]).arg(programs).arg(folder).args(options).process_group(0);
    guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

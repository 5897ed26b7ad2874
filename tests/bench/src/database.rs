//! Private PostgreSQL server under measurement, which flushes its commits and has the settings of a small machine.

use crate::Failure;
use crate::processes::cpu_s;
use hookloom_postgres_server::{initialised, programs, unprivileged};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// Settings besides the defaults: enough memory and log for a server that does not wait for its own checkpoints.
const SETTINGS: [&str; 4] = ["listen_addresses=", "max_connections=200", "shared_buffers=512MB", "max_wal_size=4GB"];

/// Time for the server to start.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// Running server.
pub(crate) struct Database {
    folder: TempDir,
    process: Child,
}

impl Database {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let folder = initialised("postgres");
        let mut server = unprivileged(&programs().join("postgres"));
        server.arg("-D").arg(folder.path().join("data")).arg("-k").arg(folder.path());
        server.args(SETTINGS.iter().flat_map(|one| ["-c", one])).current_dir(folder.path());
        let log = std::fs::File::create(folder.path().join("log"))?;
        let process = server.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let database = Database { folder, process };
        let give_up = tokio::time::Instant::now() + STARTS_WITHIN;
        while database.connect().await.is_err() {
            if tokio::time::Instant::now() > give_up {
                return Err("PostgreSQL does not start".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(database)
    }

    /// Returns the URL of the only database.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@/postgres?host={}", self.folder.path().display())
    }

    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Returns the CPU seconds of all processes of the server so far.
    pub(crate) fn cpu_s(&self) -> f64 {
        cpu_s(Some(self.process.id())) + children(self.process.id()).into_iter().map(|id| cpu_s(Some(id))).sum::<f64>()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let pid = self.process.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        let _ = self.process.wait();
    }
}

/// Returns the processes that a process has started (`proc(5)`).
fn children(parent: u32) -> Vec<u32> {
    fn parent_of(process: &Path) -> Option<u32> {
        let stat = std::fs::read_to_string(process.join("stat")).ok()?;
        stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
    }
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_parent = processes.filter(|process| parent_of(&process.path()) == Some(parent));
    of_parent.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect()
}

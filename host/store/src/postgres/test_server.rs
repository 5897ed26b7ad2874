//! PostgreSQL for the tests of this process: one private server with a database for each test, and servers of single tests.
//!
//! # Guarantees
//! - A server listens on a socket in its own temporary folder, which is deleted with it; one of a single test may listen on a port of
//!   127.0.0.1 as well. No other server is used or changed.
//! - It ends with the process of the tests, also if that is killed: it is started by a shell that waits for the end of its input.
//!
//! # Limits
//! Nothing is flushed, so the tests cannot lose power.

use super::{connection, schema};
use crate::{Store, StoreEvent, StoreLimits};
use hookloom_postgres_server::{give_away, initialised, pooler, pooler_folder, programs, unprivileged};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

/// Database with the schema, which others are copied from.
const TEMPLATE: &str = "hookloom_template";

/// Starts the server ($1: folder of the programs, $2: folder of the server, then options) and ends it at the end of the input.
const GUARD: &str = r#"
programs="$1" folder="$2"
shift 2
"$programs/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= -c fsync=off -c full_page_writes=off \
  -c max_connections=500 -c autovacuum=off -c shared_buffers=64MB -c max_wal_size=256MB "$@" \
  >"$folder/log" 2>&1 </dev/null &
server=$!
read -r _
kill -INT $server
wait $server
rm -rf "$folder"
"#;

/// Starts the pooler ($1: program, $2: its folder) and ends it at the end of the input.
const POOLER_GUARD: &str = r#"
"$1" "$2/pgbouncer.ini" >"$2/log" 2>&1 </dev/null &
pooler=$!
read -r _
kill -KILL $pooler
wait $pooler
rm -rf "$2"
"#;

/// Port of a server without TCP, which is part of the name of its socket.
const PORT: u16 = 5_432;

static SERVER: LazyLock<TestServer> = LazyLock::new(TestServer::start);

/// Second server, for tests that measure what a server does.
static QUIET_SERVER: LazyLock<TestServer> = LazyLock::new(TestServer::start);

/// Pooler before the server, with few connections to each database.
static POOLER: LazyLock<TestPooler> = LazyLock::new(|| TestPooler::start(&SERVER, 2));

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Running server, which ends when this value is dropped.
pub(super) struct TestServer {
    folder: PathBuf,
    pub(super) port: u16,
    /// The shell, whose input ends with this value or this process.
    _guard: Child,
}

/// Database of one test, which is dropped with this value, and the file of its master key.
pub(crate) struct TestDatabase {
    server: &'static TestServer,
    name: String,
    key_folder: TempDir,
}

impl TestDatabase {
    /// Creates a database with the schema.
    pub(crate) async fn new() -> Self {
        TestDatabase::on(&SERVER).await
    }

    /// Creates a database on a server that no other test uses, for the test that reads the server's log.
    pub(super) async fn on_quiet_server() -> Self {
        TestDatabase::on(&QUIET_SERVER).await
    }

    async fn on(server: &'static TestServer) -> Self {
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server.run(&format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}")).await;
        TestDatabase { server, name, key_folder: tempfile::tempdir().expect("a folder") }
    }

    /// Returns the URL of the database.
    pub(crate) fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Starts a pooler before the server of the database, as [`TestPooler::start_with`] does.
    pub(super) fn start_pooler(&self, connections: usize, settings: &str) -> TestPooler {
        TestPooler::start_with(self.server, connections, PORT, settings, &[])
    }

    /// Returns the URL of the database on a server with its socket in another folder.
    pub(crate) fn url_at(&self, folder: &Path) -> String {
        url(folder, PORT, &self.name)
    }

    /// Returns the URL of the database behind the pooler of all tests.
    pub(crate) fn pooled_url(&self) -> String {
        format!("{} pooler=transaction", self.url_at(&POOLER.folder))
    }

    /// Returns the folder of the server's socket.
    pub(crate) fn socket_folder(&self) -> PathBuf {
        self.server.folder.clone()
    }

    /// Opens a store in the database.
    pub(super) async fn open(&self) -> (Arc<Store>, UnboundedReceiver<StoreEvent>) {
        let opened = Store::open_postgres(&self.url(), &self.master_key(), StoreLimits::default()).await;
        opened.expect("a store")
    }

    /// Returns a connection of no host beside those of a store, which may change the catalog.
    pub(super) async fn connect(&self) -> connection::Connection {
        let config = connection::config(&self.url()).expect("a URL");
        let connection = connection::Connection::open(&config).await.expect("a connection");
        connection.batch_execute("SET hookloom.alone = 'on'").await.expect("a setting");
        connection
    }

    /// Runs statements beside a store.
    pub(crate) async fn run(&self, sql: &str) {
        self.connect().await.batch_execute(sql).await.expect(sql);
    }

    /// Returns the path of the master key.
    pub(crate) fn master_key(&self) -> PathBuf {
        self.key_folder.path().join("master.key")
    }
}

/// Running PgBouncer, which ends when this value is dropped.
pub(super) struct TestPooler {
    pub(super) folder: PathBuf,
    /// The shell, whose input ends with this value or this process.
    _guard: Child,
}

impl TestPooler {
    /// Starts a pooler in transaction mode before a server, with at most this number of connections to each database. Its socket has the
    /// port of the server in its name.
    pub(super) fn start(server: &TestServer, connections: usize) -> Self {
        TestPooler::start_with(server, connections, server.port, "", &[])
    }

    /// Starts a pooler with a port, further settings and files. `%` in the settings stands for the folder of the files.
    pub(super) fn start_with(
        server: &TestServer,
        connections: usize,
        port: u16,
        settings: &str,
        files: &[(&str, &str)],
    ) -> Self {
        let settings = format!("listen_port = {port}\n{settings}");
        let folder = pooler_folder(&server.folder, server.port, connections, &settings).keep();
        files.iter().for_each(|(name, text)| write_private(&folder.join(name), text));
        let mut guard = unprivileged(Path::new("/bin/sh"));
        guard.args(["-c", POOLER_GUARD, "sh"]).arg(pooler()).arg(&folder).current_dir(&folder);
        let guard = guard.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = guard.spawn().expect("a shell");
        let socket = folder.join(format!(".s.PGSQL.{port}"));
        let mut tries = 0;
        while UnixStream::connect(&socket).is_err() {
            tries += 1;
            let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(tries < 500, "the pooler does not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        TestPooler { folder, _guard: guard }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // The runtime of the test may be about to end.
        let server = self.server;
        std::thread::spawn(move || block_on(server.run(&sql)));
    }
}

impl TestServer {
    /// Starts the server of all tests, with a database to copy.
    fn start() -> Self {
        let server = TestServer::start_with(&[], PORT, &[]);
        // Another thread, because this one may be within the runtime of a test.
        std::thread::scope(|scope| scope.spawn(|| block_on(server.make_template())).join().expect("a template"));
        server
    }

    /// Starts a server on a free port of 127.0.0.1, with TLS if a certificate and its key are given, in PEM.
    pub(super) async fn start_on_port(identity: Option<[&str; 2]>) -> Self {
        let port = free_port();
        let number = port.to_string();
        let mut options = vec!["-p", &number, "-c", "listen_addresses=127.0.0.1"];
        let mut files = Vec::new();
        if let Some([certificate, key]) = identity {
            options.extend(["-c", "ssl=on"]);
            files.extend([("server.crt", certificate), ("server.key", key)]);
        }
        let server = TestServer::start_with(&options, port, &files);
        server.await_start().await;
        server
    }

    /// Starts a server with further options, and with files in its folder of data.
    fn start_with(options: &[&str], port: u16, files: &[(&str, &str)]) -> Self {
        let programs = programs();
        let folder = initialised("hookloom").keep();
        let data = folder.join("data");
        files.iter().for_each(|(name, text)| write_private(&data.join(name), text));
        let mut guard = unprivileged(Path::new("/bin/sh"));
        guard.args(["-c", GUARD, "sh"]).arg(&programs).arg(&folder).args(options).current_dir(&folder);
        // Another group: an interrupt of the terminal must not end the shell before it has removed the folder.
        let guard = guard.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        TestServer { folder, port, _guard: guard.spawn().expect("a shell") }
    }

    /// Returns the URL of a database, by the socket.
    fn url(&self, database: &str) -> String {
        url(&self.folder, self.port, database)
    }

    async fn await_start(&self) {
        let config = connection::config(&self.url("postgres")).expect("a URL");
        let mut tries = 0;
        while let Err(error) = connection::Connection::open(&config).await {
            tries += 1;
            assert!(tries < 500, "the server does not start: {error:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn make_template(&self) {
        self.await_start().await;
        self.run(&format!("CREATE DATABASE {TEMPLATE}")).await;
        let config = connection::config(&self.url(TEMPLATE)).expect("a URL");
        let template = connection::Connection::open(&config).await.expect("a connection");
        schema::bring_up(&template, schema::KnownSchemas::OWN, |_| ()).await.expect("the schema");
        drop(template);
    }

    /// Runs a statement as an administrator of the server.
    async fn run(&self, sql: &str) {
        let config = connection::config(&self.url("postgres")).expect("a URL");
        let connection = connection::Connection::open(&config).await.expect("a connection");
        // A template cannot be copied while its last connection ends.
        for _ in 0..100 {
            match connection.batch_execute(sql).await {
                Err(error) if format!("{error:?}").contains("55006") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                done => return done.expect(sql),
            }
        }
        panic!("the database stays in use: {sql}");
    }
}

/// Returns a free port of 127.0.0.1.
pub(super) fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    free.expect("a port").port()
}

fn url(folder: &Path, port: u16, database: &str) -> String {
    format!("host={} port={port} user=hookloom dbname={database}", folder.display())
}

/// Writes a file that only the user of the server may read.
fn write_private(path: &Path, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).expect("a new file");
    file.write_all(text.as_bytes()).expect("written");
    give_away(path);
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

//! Connection to the server that can be cut at a commit.

use crate::postgres::test_server::TestDatabase;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// Name of the server's socket in its folder.
const SOCKET: &str = ".s.PGSQL.5432";

/// Commit of a transaction that is alone, which those of the host's own upkeep are not.
pub(crate) const COMMIT_ALONE: &[u8] = b"fleet_changes; COMMIT\0";

/// Commit of any transaction.
pub(crate) const COMMIT: &[u8] = b"COMMIT\0";

/// Message that is lost, with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The commit does not reach the server.
    Request,
    /// The server commits, and its answer is lost.
    Answer,
}

/// Proxy before the server, with a socket of its own.
pub(crate) struct Proxy {
    folder: TempDir,
    loss: Arc<Mutex<Option<Loss>>>,
}

impl Proxy {
    /// Starts a proxy before the server with its socket in this folder. `commit` is the text of the commits that can be lost.
    pub(crate) fn start(server: &Path, commit: &'static [u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join(SOCKET)).expect("a socket");
        let loss = Arc::new(Mutex::new(None));
        tokio::spawn(accept(listener, server.join(SOCKET), commit, loss.clone()));
        Proxy { folder, loss }
    }

    /// Returns the URL of a database behind this proxy.
    pub(crate) fn url(&self, database: &TestDatabase) -> String {
        database.url_at(self.folder.path())
    }

    /// Cuts the connection of the next commit.
    pub(crate) fn lose_next_commit(&self, loss: Loss) {
        *self.loss.lock() = Some(loss);
    }
}

async fn accept(listener: UnixListener, server: PathBuf, commit: &'static [u8], loss: Arc<Mutex<Option<Loss>>>) {
    while let Ok((client, _)) = listener.accept().await {
        let server = UnixStream::connect(&server).await.expect("the server");
        tokio::spawn(forward(client, server, commit, loss.clone()));
    }
}

/// Copies both directions until one ends, or until a commit is lost.
async fn forward(mut client: UnixStream, mut server: UnixStream, commit: &[u8], loss: Arc<Mutex<Option<Loss>>>) {
    let mut request = vec![0; 65_536];
    let mut answer = vec![0; 65_536];
    let mut is_cut = false;
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Ok(read @ 1..) = read else { return };
                if request[..read].windows(commit.len()).any(|text| text == commit) {
                    match loss.lock().take() {
                        Some(Loss::Request) => return,
                        Some(Loss::Answer) => is_cut = true,
                        None => {}
                    }
                }
                if server.write_all(&request[..read]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answer) => {
                let Ok(read @ 1..) = read else { return };
                if is_cut || client.write_all(&answer[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

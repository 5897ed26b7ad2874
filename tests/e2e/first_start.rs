//! First starts: the first admin key is kept only if it could be shown, and every start shows one until a key has been used.

use crate::harness::{Newcomer, PATIENCE, program, until};
use std::path::Path;
use std::process::{Output, Stdio};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Returns the output of a start that must fail.
async fn failed(mut start: Command) -> String {
    let ended = tokio::time::timeout(PATIENCE, start.output()).await.expect("it did not end");
    let Output { status, stderr, .. } = ended.unwrap();
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// Checks that the next start shows a working key.
async fn a_start_shows_a_key(data: &Path) {
    let host = Newcomer::start(data).await;
    let key = host.key.clone().expect("no key was shown");
    assert_eq!(host.status_for(&key).await, 200);
    host.kill().await;
}

#[tokio::test]
async fn a_first_start_that_fails_costs_no_admin_key() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let said = failed(Newcomer::command(&data, &taken.local_addr().unwrap().to_string())).await;
    assert!(said.contains("cannot listen on 127.0.0.1:"), "{said}");
    assert!(!data.exists(), "nothing is made before the address is this host's");

    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v 4000000; exec \"$0\" \"$@\""]).arg(program());
    limited.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data).env_remove("HOOKLOOM_ADMIN_KEY");
    let said = failed(limited).await;
    assert!(said.contains("limited to 4096000000 bytes (ulimit -v"), "{said}");
    assert!(!data.exists(), "and nothing before plugins can run");

    let mut unheard = Newcomer::command(&data, "127.0.0.1:0");
    unheard.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap()).stderr(Stdio::piped());
    let ended = tokio::time::timeout(PATIENCE, unheard.spawn().unwrap().wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("the first admin key could not be shown") && said.contains("HOOKLOOM_ADMIN_KEY"), "{said}");

    a_start_shows_a_key(&data).await;
}

#[tokio::test]
async fn a_key_is_shown_at_every_start_until_one_was_used() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let host = Newcomer::start(&data).await;
    let first = host.key.clone().unwrap();
    host.kill().await;
    let host = Newcomer::start(&data).await;
    let second = host.key.clone().expect("nobody has used the first key");
    assert_ne!(first, second);
    // An operator who noted the first key is not locked out.
    assert_eq!((host.status_for(&first).await, host.status_for("hlk_wrong").await), (200, 401));
    // Durable moments after its use, as a read of the store by another process shows.
    let used = || {
        let database =
            rusqlite::Connection::open_with_flags(data.join("hookloom.db"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
                .unwrap();
        database.query_row("SELECT COUNT(used_at_ms) FROM keys", [], |row| row.get::<_, i64>(0)).unwrap() == 1
    };
    until("the use to be written down", async || used().then_some(())).await;
    host.kill().await;
    let host = Newcomer::start(&data).await;
    assert_eq!(host.key, None, "a key was used");
    assert_eq!((host.status_for(&first).await, host.status_for(&second).await), (200, 401));
}

/// Starts a host whose output nobody reads. Returns the address on which it listens.
async fn started_unheard(data: &Path) -> (Child, std::net::SocketAddr) {
    let give_up = std::time::Instant::now() + PATIENCE;
    // A free port may be taken by another process, so another one is tried then.
    while std::time::Instant::now() < give_up {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut start = Newcomer::command(data, &address.to_string());
        start.env("HOOKLOOM_ADMIN_KEY", crate::harness::ADMIN_KEY);
        fn full() -> std::fs::File {
            std::fs::File::options().write(true).open("/dev/full").unwrap()
        }
        let mut host = start.stdout(full()).stderr(full()).spawn().unwrap();
        while host.try_wait().unwrap().is_none() && std::time::Instant::now() < give_up {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return (host, address);
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    panic!("no host came up");
}

#[tokio::test]
async fn a_host_whose_output_cannot_be_written_goes_on() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let (mut host, address) = started_unheard(&data).await;
    let url = format!("http://{address}/healthz");
    let http = crate::harness::client();
    assert_eq!(http.get(url).send().await.unwrap().status(), 200);
    let pid = host.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let ended = tokio::time::timeout(PATIENCE, host.wait()).await.expect("it did not stop").unwrap();
    assert_eq!(ended.code(), Some(0));
}

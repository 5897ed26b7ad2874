//! Fixtures of the tests: hosts, receivers, guests, and waits for a condition.
//!
//! Does not use code of the host, but only its public interfaces.

mod browser;
mod front;
mod host;
mod mail_server;
mod names;
mod newcomer;
mod nginx_receiver;
mod picture_words;
mod pooler;
mod postgres;
mod proxy;
mod raw;
mod receiver;
mod shim;
mod site;
mod small_disk;
mod tls;
mod visitor;

pub(crate) use browser::{Browser, Role};
pub(crate) use front::{Front, ProxyProgram, block_of, free_port};
pub(crate) use host::{ADMIN_KEY, Host, HostBuilder, Reply, exchange};
pub(crate) use mail_server::{MailReply, MailServer};
pub(crate) use names::NameServer;
pub(crate) use newcomer::Newcomer;
pub(crate) use nginx_receiver::NginxReceiver;
pub(crate) use picture_words::{check_pictures, fault_of_picture};
pub(crate) use pooler::Pooler;
pub(crate) use postgres::Postgres;
pub(crate) use proxy::Proxy;
pub(crate) use raw::RawReceiver;
pub(crate) use receiver::Receiver;
pub(crate) use shim::Shim;
pub(crate) use site::Site;
pub(crate) use tls::{Authority, TlsReceiver};
pub(crate) use visitor::{Page, Visitor};

use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Signing secret of every subscription in these tests.
pub(crate) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Returns an HTTP client without a proxy, also for a test that starts no host. It reuses a connection for a second: a host whose
/// idle timeout is short may be ending an older one.
pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(1)).build().unwrap()
}

/// Returns an HTTP client without a proxy that follows no redirects.
pub(crate) fn client_without_redirects() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// Maximum duration of a wait for a condition, after which the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `look` returns a value.
#[track_caller]
pub(crate) fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let what = what.to_owned();
    let place = std::panic::Location::caller();
    async move {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < give_up, "{place}: gave up waiting for {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Returns the folder into which cargo builds.
pub(crate) fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // <target>/<profile>/deps/e2e-…
    test.ancestors().nth(3).unwrap().to_owned()
}

/// Environment variable with the path of another program to test than the one that cargo built for the tests.
pub(crate) const PROGRAM_VARIABLE: &str = "TEST_PROGRAM";

/// Returns the path of the program under test.
pub(crate) fn program() -> PathBuf {
    if let Some(other) = std::env::var_os(PROGRAM_VARIABLE) {
        return built(other.into());
    }
    PathBuf::from(env!("CARGO_BIN_EXE_hookloom"))
}

/// Returns an example plugin as a component.
pub(crate) fn example(name: &str) -> Vec<u8> {
    let file = format!("{}.wasm", name.replace('-', "_"));
    std::fs::read(built(target().join("wasm32-wasip2/guest").join(file))).unwrap()
}

/// Returns a misbehaving plugin as a component.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    std::fs::read(built(target().join("wasm32-wasip2/guest/examples").join(format!("{name}.wasm")))).unwrap()
}

fn built(path: PathBuf) -> PathBuf {
    assert!(path.is_file(), "{} is not built; run the tests by `cargo xtask test`", path.display());
    path
}

/// Returns the root of the repository.
pub(crate) fn root() -> PathBuf {
    // The tests belong to the package in `host/hookloom`.
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Returns the folder of fixtures.
pub(crate) fn fixtures() -> PathBuf {
    root().join("tests/fixtures")
}

/// Returns the text of a fixture.
pub(crate) fn fixture(name: &str) -> String {
    std::fs::read_to_string(fixtures().join(name)).unwrap()
}

/// Returns an event of this name, with a distinguishing number.
pub(crate) fn event(name: &str, number: usize) -> String {
    format!(r#"{{"eventName":"{name}","eventData":{{"id":{number},"properties":[]}}}}"#)
}

/// Returns a text field of JSON.
#[track_caller]
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no text {name:?} in {value}"))
}

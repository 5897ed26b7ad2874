//! TLS proxy in front of a host: the real nginx or Caddy, with a configuration of `docs/`.

use super::{Authority, Host, PATIENCE, root, until};
use rand::RngExt as _;
use reqwest::Method;
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Name of the host on the pages of `docs/`.
const NAME: &str = "hooks.example.com";

/// Program that ends TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyProgram {
    Nginx,
    Caddy,
}

/// Running proxy with its host.
pub(crate) struct Front {
    pub(crate) host: Host,
    /// Address of the proxy: scheme, name and port.
    pub(crate) origin: String,
    /// Path prefix of the host.
    pub(crate) prefix: String,
    pub(crate) http: reqwest::Client,
    _process: Child,
    _folder: TempDir,
}

/// Returns the `number`th block of this language in a page of `docs/`.
pub(crate) fn block_of(page: &str, language: &str, number: usize) -> String {
    let text = std::fs::read_to_string(root().join("docs").join(page)).unwrap();
    let block = text.split(&format!("```{language}\n")).nth(number + 1).unwrap_or_else(|| panic!("no block in {page}"));
    block.split("```").next().unwrap().to_owned()
}

impl Front {
    /// Starts a host that knows its public address, and the proxy.
    pub(crate) async fn start(program: ProxyProgram, site: &str, prefix: &str) -> Front {
        let port = free_port();
        let origin = format!("https://{NAME}:{port}");
        let host = Host::with()
            .set(&format!("public_url=\"{origin}{prefix}\""))
            .set("behind_proxy=[\"127.0.0.1/32\"]")
            .start()
            .await;
        let folder = TempDir::new().unwrap();
        let authority = Authority::new();
        let site = site.replace("127.0.0.1:8420", host.url.strip_prefix("http://").unwrap());
        std::fs::write(folder.path().join("identity.pem"), authority.identity(NAME)).unwrap();
        let mut process = match program {
            ProxyProgram::Nginx => nginx(folder.path(), &site, port),
            ProxyProgram::Caddy => caddy(folder.path(), &site, port),
        };
        let certificate = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
        let address = ([127, 0, 0, 1], port).into();
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([certificate])
            .resolve(NAME, address)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .unwrap();
        until("the proxy to answer", || {
            let ended = process.try_wait().unwrap();
            let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            assert!(ended.is_none(), "{program:?} ended: {}", log());
            let request = http.request(Method::GET, format!("{origin}{prefix}/healthz"));
            async { request.send().await.ok().filter(|answer| answer.status() == 200) }
        })
        .await;
        Front { host, origin, prefix: prefix.to_owned(), http, _process: process, _folder: folder }
    }
}

/// Returns a free port below those that the system assigns by itself.
pub(crate) fn free_port() -> u16 {
    std::iter::repeat_with(|| rand::rng().random_range(20_000..32_000))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

/// Starts nginx with a server of `docs/`, on this port and with the certificate in the folder.
pub(super) fn nginx(folder: &Path, site: &str, port: u16) -> Child {
    let identity = folder.join("identity.pem").display().to_string();
    let site = site
        .replace("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl"))
        .replace("/etc/letsencrypt/live/hooks.example.com/fullchain.pem", &identity)
        .replace("/etc/letsencrypt/live/hooks.example.com/privkey.pem", &identity);
    let folder = folder.display();
    let own_paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};"))
        .join("\n");
    // A single process, so that killing it ends all of it.
    let whole = format!(
        "daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;\nevents {{}}\nhttp {{\naccess_log off;\n{own_paths}\n{site}\n}}\n"
    );
    let path = format!("{folder}/nginx.conf");
    std::fs::write(&path, whole).unwrap();
    let mut command = Command::new("nginx");
    command.args(["-e", &format!("{folder}/log"), "-c", &path]);
    spawn(&mut command)
}

fn caddy(folder: &Path, site: &str, port: u16) -> Child {
    let identity = folder.join("identity.pem").display().to_string();
    let site = site.replacen(
        "hooks.example.com {\n",
        &format!("https://hooks.example.com:{port} {{\n\tbind 127.0.0.1\n\ttls {identity} {identity}\n"),
        1,
    );
    let path = folder.join("Caddyfile");
    std::fs::write(&path, format!("{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{site}")).unwrap();
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(path);
    command.env("HOME", folder).env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder);
    command.stderr(std::fs::File::create(folder.join("log")).unwrap());
    spawn(&mut command)
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("nginx and caddy; `cargo xtask test` installs them")
}

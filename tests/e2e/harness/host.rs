//! Host in a separate process.

use super::{PATIENCE, SECRET, program, text, until};
use reqwest::Method;
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Admin key of every host in these tests.
pub(crate) const ADMIN_KEY: &str = "admin-key-of-the-tests-only-0123456789";

/// Name of the file that turns the clock of a host. It lies beside the data, so that a restarted host continues with its time.
const CLOCK: &str = "clock";

/// Options of a host's start.
pub(crate) struct HostBuilder {
    settings: Vec<String>,
    environment: Vec<(String, String)>,
    folder: Option<Arc<TempDir>>,
    loopback: bool,
    turnable: bool,
    /// Shell script that becomes the host.
    through_shell: Option<&'static str>,
    /// Another file with the program, or a program that becomes the host.
    program: Option<PathBuf>,
}

impl HostBuilder {
    /// Adds a setting, as for `--set`.
    pub(crate) fn set(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    /// Adds an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets the test turn the host's clock ([`Host::pass`]).
    pub(crate) fn turnable(mut self) -> Self {
        self.turnable = true;
        self
    }

    /// Uses the data of an earlier host.
    pub(crate) fn on(mut self, folder: Arc<TempDir>) -> Self {
        self.folder = Some(folder);
        self
    }

    /// Makes a write beyond the limit for file sizes an error, as on a full disk, instead of the end of the process.
    pub(crate) fn ignoring_file_limits(mut self) -> Self {
        self.through_shell = Some("trap '' XFSZ; exec \"$0\" \"$@\"");
        self
    }

    /// Restores the default action for SIGHUP, in case the tests run under nohup(1).
    pub(crate) fn with_default_hangups(mut self) -> Self {
        self.through_shell = Some("exec env --default-signal=HUP \"$0\" \"$@\"");
        self
    }

    /// Ignores SIGHUP, as under nohup(1).
    pub(crate) fn ignoring_hangups(mut self) -> Self {
        self.through_shell = Some("trap '' HUP; exec \"$0\" \"$@\"");
        self
    }

    /// Limits the memory of the host, so that a bug ends the host instead of the machine. The limit is far above every documented
    /// bound.
    pub(crate) fn within_memory(mut self) -> Self {
        self.through_shell = Some("ulimit -d 8388608; exec \"$0\" \"$@\"");
        self
    }

    /// Puts the data on a separate disk of 48 MiB, which ends with the host.
    pub(crate) fn on_small_disk(mut self) -> Self {
        // Only root may mount without a user namespace.
        self.through_shell = Some(
            r#"mkdir -p data; as=; [ "$(id -u)" = 0 ] || as=--map-root-user
            exec unshare $as --mount sh -c 'mount -t tmpfs -o size=48m small data && exec "$0" "$@"' "$0" "$@""#,
        );
        self
    }

    /// Uses another file with the program.
    pub(crate) fn program(mut self, path: &Path) -> Self {
        self.program = Some(path.to_owned());
        self
    }

    /// Enables the whole address guard.
    pub(crate) fn guarded(mut self) -> Self {
        self.loopback = false;
        self
    }

    /// Starts the host.
    pub(crate) async fn start(self) -> Host {
        let folder = self.folder.unwrap_or_else(|| Arc::new(TempDir::new().unwrap()));
        let has_store = self.settings.iter().any(|setting| setting.starts_with("store="));
        let instead = if has_store { None } else { super::postgres::instead_of_sqlite(&folder).await };
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.path().join("log")).unwrap();
        let mut command = match self.through_shell {
            None => Command::new(self.program.unwrap_or_else(program)),
            Some(script) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(script).arg(program());
                shell
            }
        };
        command.arg("serve").arg("--listen").arg("127.0.0.1:0").arg("--data-dir").arg(folder.path().join("data"));
        command.args(self.loopback.then_some("--allow-loopback"));
        // On a busy machine, wall time says nothing about a component; CPU time bounds compiling.
        command.args(["--set", "compile_wall_s=1800"]);
        command.args(self.settings.iter().flat_map(|setting| ["--set", setting]));
        command.env("HOOKLOOM_ADMIN_KEY", ADMIN_KEY).envs(self.environment);
        if let Some(url) = instead {
            command.env("HOOKLOOM_STORE", url);
        }
        if self.turnable {
            command.env("TEST_HOOKLOOM_CLOCK", folder.path().join(CLOCK));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true).current_dir(folder.path());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let listening = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(rest) = line.strip_prefix("listening on ") {
                    return rest.split(' ').next().unwrap().to_owned();
                }
            }
            panic!("the host ended: {}", std::fs::read_to_string(folder.path().join("log")).unwrap());
        };
        let url = tokio::time::timeout(PATIENCE, listening).await.unwrap();
        let http = super::client();
        Host { url, process, folder, http, key: ADMIN_KEY.to_owned() }
    }
}

/// Running host.
pub(crate) struct Host {
    /// URL of the host, without a slash at the end.
    pub(crate) url: String,
    pub(crate) process: Child,
    pub(crate) folder: Arc<TempDir>,
    http: reqwest::Client,
    key: String,
}

/// Answer of a host.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Reply {
    /// Returns the JSON of an answer, which must be a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text);
        self.json
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn exchange(request: reqwest::RequestBuilder) -> Result<Reply, reqwest::Error> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let text = response.text().await?;
    let json = json_of(&text);
    Ok(Reply { status, headers, text, json })
}

/// Parses an answer, with any nesting depth. Null: it is not JSON.
fn json_of(text: &str) -> Value {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.disable_recursion_limit();
    Value::deserialize(&mut deserializer).ok().filter(|_| deserializer.end().is_ok()).unwrap_or_default()
}

/// Path of the tenant that most tests use.
const TENANT: &str = "/v1/tenants/default";

impl Host {
    /// Returns the default options of a start.
    pub(crate) fn with() -> HostBuilder {
        HostBuilder {
            settings: Vec::new(),
            environment: Vec::new(),
            folder: None,
            loopback: true,
            turnable: false,
            through_shell: None,
            program: None,
        }
    }

    /// Starts a host with default options.
    pub(crate) async fn start() -> Host {
        Host::with().start().await
    }

    /// Sends a request with the admin key. A path that begins with `./` is under the default tenant.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        self.ask_as(&self.key, method, path, body).await
    }

    /// Sends a request with another key. Empty: without a key.
    pub(crate) async fn ask_as(&self, key: &str, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        self.try_ask(key, method, path, body).await.unwrap()
    }

    /// Sends a request to a host that may be killed meanwhile.
    pub(crate) async fn try_ask(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<Reply, reqwest::Error> {
        let path = path.strip_prefix('.').map_or_else(|| path.to_owned(), |rest| format!("{TENANT}{rest}"));
        // An upload is answered after compiling, which takes long for a Python runtime on a busy machine.
        let patience = if method == Method::PUT && path.contains("/plugins/") { 4 * PATIENCE } else { PATIENCE };
        let mut request = self.http.request(method, format!("{}{path}", self.url)).body(body).timeout(patience);
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        exchange(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path, "").await.ok()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        self.ask(Method::POST, path, body.to_string()).await.ok()
    }

    /// Uploads a plugin.
    pub(crate) async fn plugin(&self, name: &str, component: Vec<u8>) -> Value {
        self.ask(Method::PUT, &format!("./plugins/{name}"), component).await.ok()
    }

    /// Adds an event type of the module `Deal`.
    pub(crate) async fn event_type(&self, name: &str) {
        let path = format!("./event-types/{}", name.replace(' ', "%20"));
        self.ask(Method::PUT, &path, r#"{"module": "Deal"}"#).await.ok();
    }

    /// Creates a subscription to everything, with the tests' secret and the settings in `also`. Returns its id.
    pub(crate) async fn subscription(&self, notify_url: &str, also: Value) -> String {
        let mut body = json!({"notify_url": notify_url, "modules": ["Contact", "Deal"], "signing_secret": SECRET});
        body.as_object_mut().unwrap().extend(also.as_object().cloned().unwrap_or_default());
        text(&self.post("./subscriptions", &body).await, "id").to_owned()
    }

    /// Sends one event and returns its id.
    pub(crate) async fn send(&self, event: impl Into<String>) -> String {
        let reply = self.ask(Method::POST, "./events", event.into()).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
        text(&reply.json["events"][0], "id").to_owned()
    }

    /// Returns the deliveries of an event with their attempts, newest first, once `ready` is true for each.
    pub(crate) async fn deliveries_when(&self, event: &str, ready: impl Fn(&Value) -> bool) -> Vec<Value> {
        until("the deliveries of an event", || async {
            let event = self.get(&format!("./events/{event}")).await;
            let mut deliveries = Vec::new();
            for delivery in event["deliveries"].as_array().unwrap() {
                deliveries.push(self.get(&format!("./deliveries/{}", text(delivery, "id"))).await);
            }
            deliveries.iter().all(&ready).then_some(deliveries)
        })
        .await
    }

    /// Returns the only delivery of an event, once it is not pending.
    pub(crate) async fn ended(&self, event: &str) -> Value {
        self.deliveries_when(event, |delivery| delivery["state"] != "pending").await.remove(0)
    }

    /// Returns the only delivery of an event, once an attempt is recorded.
    pub(crate) async fn attempted(&self, event: &str) -> Value {
        self.deliveries_when(event, |delivery| delivery["attempts"][0].is_object()).await.remove(0)
    }

    /// Waits until the default tenant has no pending delivery. On a busy machine that may take long, so this gives up only if none
    /// ends for the usual time.
    pub(crate) async fn drained(&self) {
        let mut pending = u64::MAX;
        while pending > 0 {
            pending = until("fewer pending deliveries", async || {
                let left = self.ledger().await["pending"].as_u64().unwrap();
                (left < pending).then_some(left)
            })
            .await;
        }
    }

    /// Returns the default tenant's ledger, after checking that it balances.
    pub(crate) async fn ledger(&self) -> Value {
        let ledger = self.get("./ledger").await;
        let count = |name: &str| ledger[name].as_u64().unwrap();
        let ended: u64 =
            ["delivered", "dropped", "dead", "cancelled", "superseded", "pending"].iter().map(|name| count(name)).sum();
        let pruned = &ledger["pruned"];
        let states = ["delivered", "dropped", "dead", "cancelled", "superseded"];
        let ended = ended + states.iter().map(|name| pruned[name].as_u64().unwrap()).sum::<u64>();
        let promised = count("fan_out") + count("replayed") + count("tests");
        assert_eq!(promised, ended, "the ledger does not balance: {ledger}");
        ledger
    }

    /// Returns the CPU time that the host uses in a span, in clock ticks of 10 ms (proc(5): utime and stime).
    pub(crate) async fn cpu_ticks_in(&self, span: std::time::Duration) -> u64 {
        let path = format!("/proc/{}/stat", self.process.id().unwrap());
        let ticks = || {
            let stat = std::fs::read_to_string(&path).unwrap();
            let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
            fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
        };
        let before = ticks();
        tokio::time::sleep(span).await;
        ticks() - before
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Returns the path of the data folder.
    pub(crate) fn data(&self) -> PathBuf {
        Path::new(self.folder.path()).join("data")
    }

    /// Turns the clock of the host forward, and waits until the host has noticed it. The host must have been started
    /// [`turnable`](HostBuilder::turnable). A [`Receiver`](super::Receiver) has the system's clock, and refuses signatures of more than five
    /// minutes later.
    pub(crate) async fn pass(&self, time: std::time::Duration) {
        let path = self.folder.path().join(CLOCK);
        let turned_ms: u128 = std::fs::read_to_string(&path).map_or(0, |text| text.parse().unwrap());
        let turned_ms = (turned_ms + time.as_millis()).to_string();
        let next = path.with_extension("next");
        std::fs::write(&next, &turned_ms).unwrap();
        std::fs::rename(next, &path).unwrap();
        let noticed = path.with_extension("noticed");
        until("the host to notice its clock", async || {
            (std::fs::read_to_string(&noticed).is_ok_and(|noticed| noticed == turned_ms)).then_some(())
        })
        .await;
    }

    /// Kills the host, as kill -9 does, and returns its folder.
    pub(crate) async fn kill(mut self) -> Arc<TempDir> {
        self.process.kill().await.unwrap();
        self.folder
    }

    /// Stops the host by a signal, and waits for its end.
    pub(crate) async fn stop(self) -> (ExitStatus, Arc<TempDir>) {
        self.signal_stop().await;
        self.stopped().await
    }

    /// Sends the stop signal.
    pub(crate) async fn signal_stop(&self) {
        self.signal("TERM").await;
    }

    /// Sends a signal.
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().await.unwrap().success());
    }

    /// Waits until the host has stopped.
    pub(crate) async fn stopped(mut self) -> (ExitStatus, Arc<TempDir>) {
        let status = tokio::time::timeout(PATIENCE, self.process.wait()).await.unwrap().unwrap();
        (status, self.folder)
    }
}

//! `hookloom serve`: runs the host until a signal ends it.

use super::Failure;
use super::log::OneLine;
use super::settings::SettingsArgs;
use super::terminal::{self, outln};
use crate::app::{App, FirstKey};
use crate::config::Config;
use crate::url_path::PublicUrl;
use std::io::IsTerminal as _;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Minimum length of an admin key. Keys are stored as plain hashes, which are as good as slow ones only for keys that cannot be
/// guessed.
const ADMIN_KEY_BYTES_MIN: usize = 24;

/// Signal for a file that would exceed the process's limit for file sizes (signal(7)).
const SIGXFSZ: i32 = 25;

pub(super) async fn serve(settings: SettingsArgs) -> Result<(), Failure> {
    crate::test_clock::follow_file();
    let config = settings.settle()?.config;
    start_log(&config)?;
    // First, so that an early signal is not lost.
    let mut signals = EndSignals::listen()?;
    // A write beyond the limit for file sizes (ulimit -f) is then an error, as on a full disk, and does not end the process.
    let _too_large = signal(SignalKind::from_raw(SIGXFSZ))?;
    if config.allow_loopback {
        tracing::warn!("the address guard lets Notify URLs name this machine (allow_loopback)");
    }
    // Sockets on both sides and the files of the database: as many as the system allows.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let admin_key = std::env::var("HOOKLOOM_ADMIN_KEY").ok().filter(|key| !key.is_empty());
    if admin_key.as_ref().is_some_and(|key| key.len() < ADMIN_KEY_BYTES_MIN) {
        return Err(format!("HOOKLOOM_ADMIN_KEY has fewer than {ADMIN_KEY_BYTES_MIN} characters; take a random one, such as `openssl rand -hex 32` prints").into());
    }
    let data_dir = config.data_dir.display().to_string();
    let app = App::start(config, admin_key).await?;
    if let Err(error) = app.show_first_key(|first| show(first, &app.link_base)).await {
        app.stop().await;
        return Err(error.into());
    }
    outln!("listening on http://{} with data in {}", app.address, data_dir);
    if terminal::take_failed() {
        tracing::warn!(address = %app.address, "standard output cannot be written; the host continues without it");
    }
    signals.any().await;
    tracing::info!("stopping: attempts under way are finished first");
    end_after(app.grace() + DESTRUCTORS)?;
    app.stop().await;
    Ok(())
}

/// Signals that stop the host.
struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    /// Signal of a terminal that closes. None: the host was started so that it survives the terminal (nohup(1)).
    hangup: Option<Signal>,
}

impl EndSignals {
    fn listen() -> std::io::Result<Self> {
        let hangup = SignalKind::hangup();
        Ok(EndSignals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if is_ignored(hangup) { None } else { Some(signal(hangup)?) },
        })
    }

    /// Waits for one of the signals.
    async fn any(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Returns true if the process was started with a signal ignored (proc(5), `SigIgn`).
fn is_ignored(signal: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ignored >> (signal.as_raw_value() - 1) & 1 == 1
}

/// Prints the first key on stdout.
fn show(first: &FirstKey, link_base: &PublicUrl) -> std::io::Result<()> {
    outln!("admin key (shown this once): {}", first.key);
    outln!("sign in once, within a day: {}", link_base.link(&first.sign_in_path));
    if terminal::take_failed() { Err(std::io::Error::other("standard output cannot be written")) } else { Ok(()) }
}

/// Maximum duration between the end of the stop and the end of the process, for closing files and freeing memory.
const DESTRUCTORS: Duration = Duration::from_millis(500);

/// Ends the process after a time, even if other threads still run, so that an endless call does not delay the stop. Nothing is
/// lost, because everything that was promised is durable by then.
fn end_after(time: Duration) -> std::io::Result<()> {
    let end = move || {
        std::thread::sleep(time);
        std::process::exit(0);
    };
    std::thread::Builder::new().name("stop".into()).spawn(end).map(drop)
}

/// Libraries whose lines are never logged, whatever the setting `log` says. The verifier of certificates logs as an error what the reason
/// of the attempt says in plain words; the client of PostgreSQL logs the parameters of each statement, which are payloads and secrets.
const SILENT: [&str; 2] = ["rustls_platform_verifier", "tokio_postgres"];

/// Starts the log on stderr.
fn start_log(config: &Config) -> Result<(), Failure> {
    let mut filter =
        EnvFilter::try_new(&config.log).map_err(|error| format!("the setting log is not a valid filter: {error}"))?;
    for silent in SILENT {
        let directive = format!("{silent}=off").parse().map_err(|error| format!("{silent}: {error}"))?;
        filter = filter.add_directive(directive);
    }
    // A line that cannot be written (a full disk, a pipe without a reader) is lost. Reporting the error on the same stderr would
    // panic.
    let json = config.log_json;
    let ansi = !json && std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    let log = log.with_env_filter(filter).with_writer(move || OneLine { to: std::io::stderr(), json, ansi });
    if json {
        log.json().init();
    } else {
        log.with_ansi(ansi).init();
    }
    Ok(())
}

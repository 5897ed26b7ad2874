//! `hookloom serve`: the host, until a signal ends it.

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

/// Keys are kept as a plain hash, which is as good as a slow one only for keys that cannot be guessed.
const ADMIN_KEY_BYTES_MIN: usize = 24;

/// signal(7): a file would become larger than the process may make it.
const SIGXFSZ: i32 = 25;

pub(super) async fn serve(settings: SettingsArgs) -> Result<(), Failure> {
    let config = settings.settle()?.config;
    start_log(&config)?;
    // Before anything else, so that an early signal is not lost.
    let mut signals = EndSignals::listen()?;
    // A write beyond the limit for the size of files (ulimit -f) is an error then, as on a full disk, and not the end of the process.
    let _too_large = signal(SignalKind::from_raw(SIGXFSZ))?;
    if config.allow_loopback {
        tracing::warn!("the address guard lets Notify URLs name this machine (allow_loopback)");
    }
    // Sockets on both sides and the database's files: as many as the system lets a process have.
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
        tracing::warn!(address = %app.address, "standard output cannot be written; the host goes on without it");
    }
    signals.any().await;
    tracing::info!("stopping: attempts under way are finished first");
    end_after(app.grace() + DESTRUCTORS)?;
    app.stop().await;
    Ok(())
}

/// The signals that ask the host to stop.
struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    /// Of a terminal that closes. None: the host was started to survive it (nohup(1)).
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

    /// Waits for one of them.
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

/// Returns whether the process was started with a signal ignored (proc(5), `SigIgn`).
fn is_ignored(signal: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ignored >> (signal.as_raw_value() - 1) & 1 == 1
}

/// Shows the first key where its reader is sure to look.
fn show(first: &FirstKey, link_base: &PublicUrl) -> std::io::Result<()> {
    outln!("admin key (shown this once): {}", first.key);
    outln!("sign in once, within a day: {}", link_base.link(&first.sign_in_path));
    if terminal::take_failed() { Err(std::io::Error::other("standard output cannot be written")) } else { Ok(()) }
}

/// Maximum time between a stop and the end of the process: closing files and freeing memory.
const DESTRUCTORS: Duration = Duration::from_millis(500);

/// Ends the process after a time, whatever its other threads do: a call that does not end must not hold up a stop. Nothing is lost
/// by it, because everything that was promised is durable before.
fn end_after(time: Duration) -> std::io::Result<()> {
    let end = move || {
        std::thread::sleep(time);
        std::process::exit(0);
    };
    std::thread::Builder::new().name("stop".into()).spawn(end).map(drop)
}

/// Logs to stderr.
fn start_log(config: &Config) -> Result<(), Failure> {
    let filter =
        EnvFilter::try_new(&config.log).map_err(|error| format!("the setting log is not a valid filter: {error}"))?;
    // The verifier logs each certificate that it refuses as an error; the attempt's reason says it in plain words.
    let filter = filter.add_directive("rustls_platform_verifier=off".parse().map_err(|error| format!("{error}"))?);
    // A line that cannot be written (a full disk, a pipe that nobody reads) is lost; complaining about it on the same stderr would
    // panic, in the middle of whatever was logged.
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

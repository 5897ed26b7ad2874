//! Command line. Exit codes: 0 success, 1 failure (reported on stderr), 2 usage error.
//!
//! Results are printed on stdout, everything else on stderr, with `--json` both as JSON; in colour only on a terminal. Each
//! subcommand has a separate file.

mod alerts;
mod backup;
mod check;
mod client;
mod demo;
mod diff;
mod fleet;
mod health;
mod log;
mod migrate;
mod move_store;
mod openapi;
mod plugin;
mod portal_link;
mod progress;
mod receive;
mod rescue;
mod send;
mod serve;
mod settings;
mod sign_in;
mod tenant;
mod terminal;

use crate::plugin::CompileLimits;
use clap::{Parser, Subcommand};
use settings::SettingsArgs;
use std::error::Error;
use std::process::ExitCode;
use terminal::{BOLD_RED, Message, PLAIN, errln, outln};

/// Failure of a command, which is printed with its causes.
type Failure = Box<dyn Error + Send + Sync>;

/// A webhook dispatcher for Agile CRM that runs a sandboxed WebAssembly plugin on every delivery.
#[derive(Parser)]
#[command(name = "hookloom", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the host until it gets a signal to stop (Ctrl-C, SIGTERM, SIGHUP).
    #[command(after_long_help = settings::all())]
    Serve(SettingsArgs),
    /// See it work: start a host, send the vendor's four example events through four plugins, verify the webhooks.
    Demo,
    /// Send events to a running host, from files or as NDJSON on stdin.
    Send(send::SendArgs),
    /// Receive webhooks, verify their signatures, and print them, to try things out.
    Receive(receive::ReceiveArgs),
    /// Ask a running host whether it can accept events, for health checks.
    Health(health::HealthArgs),
    /// List the hosts that share the database of a running host, with their shards and load, or move a shard.
    Fleet(fleet::FleetArgs),
    /// List the incidents of a tenant, and change or test its alerts.
    Alerts(alerts::AlertsArgs),
    /// Create a link that signs its first user in to the admin pages of a running host.
    SignInLink(sign_in::SignInLinkArgs),
    /// Create a link that signs a customer in once to the portal of a tenant of a running host.
    PortalLink(portal_link::PortalLinkArgs),
    /// Copy the store of a host, which may be running, into a folder from which a host can start.
    Backup(backup::BackupArgs),
    /// Check a data folder for damage: every page, every row, and their relations. A host may be running on it.
    Check(check::StoreCheckArgs),
    /// Write the undamaged data of a data folder into a new one. No host may be running on it.
    Rescue(rescue::RescueArgs),
    /// Move the store of a data folder into an empty PostgreSQL database, also while a host runs on the folder.
    MoveStore(move_store::MoveStoreArgs),
    /// Bring a PostgreSQL database to the schema of this version, as a start does. Hosts may be running on it.
    Migrate(migrate::MigrateArgs),
    /// Write a tenant of a running host to a file: settings, webhooks, plugins and bins, without secrets and events.
    Export(tenant::ExportArgs),
    /// Create a tenant in a running host from a file that `export` wrote.
    Import(tenant::ImportArgs),
    /// Commands for plugin authors.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Print the effective settings and their sources.
    #[command(after_long_help = settings::all())]
    Config {
        #[command(flatten)]
        settings: SettingsArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the OpenAPI document of the REST API, which a host serves under /openapi.json.
    Openapi,
    /// Compile a component from stdin and try it. The host runs this command in a process with limits.
    #[command(name = crate::plugin::CHILD_COMMAND, hide = true)]
    CompilePlugin {
        /// CPU time, in seconds.
        cpu_s: u64,
        /// Wall time, in seconds, enforced by the caller.
        wall_s: u64,
        /// Address space, in bytes.
        memory_bytes: u64,
        /// Stack of a guest that is tried, in bytes.
        stack_bytes: u64,
        /// Size of the compiled engine for scripts at the beginning of stdin, in bytes. The rest is a script to try on it.
        #[arg(long)]
        engine_bytes: Option<u64>,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::CompilePlugin { cpu_s, wall_s, memory_bytes, stack_bytes, engine_bytes } => {
            let limits = CompileLimits { cpu_s, wall_s, memory_bytes, stack_bytes };
            let code = crate::plugin::compile_child(limits, engine_bytes);
            return ExitCode::from(u8::try_from(code).unwrap_or(2));
        }
        Command::Serve(settings) => block_on(serve::serve(settings)),
        Command::Demo => block_on(demo::demo()),
        Command::Send(args) => block_on(send::send(args)),
        Command::Receive(args) => block_on(receive::receive(args)),
        Command::Health(args) => block_on(health::health(args)),
        Command::Fleet(args) => block_on(fleet::fleet(args)),
        Command::Alerts(args) => block_on(alerts::alerts(args)),
        Command::SignInLink(args) => block_on(sign_in::link(args)),
        Command::PortalLink(args) => block_on(portal_link::run(args)),
        Command::Backup(args) => backup::backup(args),
        Command::Check(args) => check::check(&args),
        Command::Rescue(args) => rescue::rescue(&args),
        Command::MoveStore(args) => block_on(move_store::move_store(args)),
        Command::Migrate(args) => block_on(migrate::migrate(args)),
        Command::Export(args) => block_on(tenant::export(args)),
        Command::Import(args) => block_on(tenant::import(args)),
        Command::Plugin(command) => block_on(plugin::run(command)),
        Command::Openapi => openapi::openapi(),
        Command::Config { settings, json } => print_config(&settings, json),
    };
    match done {
        Ok(()) if terminal::failed() => {
            errln!("{}error{}: the output could not be written", BOLD_RED, PLAIN);
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if std::env::args().any(|argument| argument == "--json") => {
            terminal::json_failure(&serde_json::json!({"error": crate::describe(failure.as_ref())}));
            ExitCode::FAILURE
        }
        Err(failure) => {
            errln!("{}error{}: {}", BOLD_RED, PLAIN, Message(&crate::describe(failure.as_ref())));
            ExitCode::FAILURE
        }
    }
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn print_config(settings: &SettingsArgs, json: bool) -> Result<(), Failure> {
    let settled = settings.settle()?;
    if json {
        let entries: Vec<_> = settled
            .origins
            .iter()
            .map(|(name, value, source)| serde_json::json!({"name": name, "value": value, "source": source}))
            .collect();
        return Ok(terminal::json_pretty(&entries)?);
    }
    for (name, value, source) in &settled.origins {
        outln!("{:<22} {:<24} {}", name, value, source);
    }
    Ok(())
}

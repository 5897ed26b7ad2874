//! `hookloom plugin`: commands for plugin authors, from an empty folder to a running host.
//!
//! All commands use the host's plugin runtime ([`Workbench`](crate::plugin::workbench::Workbench)), so the results are the same as
//! in a host.

mod bench;
mod check;
mod eject;
mod golden;
mod host_args;
mod judge;
mod library;
mod new;
mod push;
mod rollout;
mod show;
mod source;
mod watch;

use super::Failure;
use super::terminal::program_text;
use clap::Subcommand;

/// Contract, from `wit/`.
const WIT: &str = include_str!("../../../../wit/plugin.wit");

#[derive(Subcommand)]
pub(super) enum PluginCommand {
    /// Create a plugin: a folder with a working plugin, its tests and its build.
    New(new::NewArgs),
    /// Build the plugin of a folder, by its hookloom-plugin.toml, and check it.
    Build(check::BuildArgs),
    /// Check a component as an upload does: imports, size, cost of a call, dependencies of its answers.
    Check(check::CheckArgs),
    /// Judge one event: verdict, changes of the body, log, and usage of each limit.
    Run(judge::RunArgs),
    /// Judge the cases in a folder's `golden/` and compare the results with the expected ones.
    Test(golden::TestArgs),
    /// Measure calls, each in a fresh instance as in the host.
    Bench(bench::BenchArgs),
    /// Rebuild and retest whenever a file changes, and push to a running host if one is named.
    Watch(watch::WatchArgs),
    /// Upload to a running host.
    Push(push::PushArgs),
    /// List the plugins that are part of a running host, and which of them the tenant has.
    Library(library::LibraryArgs),
    /// Add a plugin of the host's library to the tenant, or its update.
    Add(library::AddArgs),
    /// List the plugins of a running host.
    List(show::ListArgs),
    /// Show what a plugin of a running host does and the keys of its config.
    Show(show::ShowArgs),
    /// Show, begin or end the rollout of a version in a running host.
    Rollout(rollout::RolloutArgs),
    /// Fetch the event of a real delivery from a host, and judge it with a local plugin.
    Replay(judge::ReplayArgs),
    /// Write a script of a running host as a project that builds a component, with its cases.
    Eject(eject::EjectArgs),
    /// Print the contract between host and plugins (WIT).
    Wit,
}

pub(super) async fn run(command: PluginCommand) -> Result<(), Failure> {
    match command {
        PluginCommand::New(args) => new::new(&args),
        PluginCommand::Build(args) => check::build(&args).await,
        PluginCommand::Check(args) => check::check(&args).await,
        PluginCommand::Run(args) => judge::run(args).await,
        PluginCommand::Test(args) => golden::test(&args).await,
        PluginCommand::Bench(args) => bench::bench(args).await,
        PluginCommand::Watch(args) => watch::watch(args).await,
        PluginCommand::Push(args) => push::push(&args).await,
        PluginCommand::Library(args) => library::library(args).await,
        PluginCommand::Add(args) => library::add(args).await,
        PluginCommand::List(args) => show::list(args).await,
        PluginCommand::Show(args) => show::show(args).await,
        PluginCommand::Rollout(args) => rollout::rollout(args).await,
        PluginCommand::Replay(args) => judge::replay(args).await,
        PluginCommand::Eject(args) => eject::eject(args).await,
        PluginCommand::Wit => {
            program_text(WIT);
            Ok(())
        }
    }
}

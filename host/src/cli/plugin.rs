//! `hookloom plugin`: for plugin authors.

use super::Failure;
use clap::Subcommand;

/// The contract, as it stands in `wit/`.
const WIT: &str = include_str!("../../../wit/plugin.wit");

#[derive(Subcommand)]
pub(super) enum PluginCommand {
    /// Print the contract between host and plugins (WIT).
    Wit,
}

pub(super) fn run(command: PluginCommand) -> Result<(), Failure> {
    match command {
        PluginCommand::Wit => anstream::print!("{WIT}"),
    }
    Ok(())
}

//! `hookloom migrate`: brings a PostgreSQL database to the schema of this version, as a start does.

use super::progress::during;
use super::terminal::{self, Message, errln, outln};
use super::{Failure, SettingsArgs};
use crate::store::{MigrationStep, SchemaState, migrate_postgres, schema_of_postgres};
use clap::Args;
use serde_json::json;

/// Options of `migrate`.
#[derive(Args)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Change nothing, and fail if there is something to do.
    #[arg(long)]
    check: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn migrate(args: MigrateArgs) -> Result<(), Failure> {
    let store = args.settings.settle()?.config.store;
    let Some(url) = store.postgres() else { return explain_sqlite(args.json) };
    if args.check {
        return check(&schema_of_postgres(url).await?, args.json);
    }
    let migrated = during("migrating", migrate_postgres(url, show)).await?;
    if args.json {
        return Ok(terminal::json_pretty(&migrated)?);
    }
    let to = store.to_string();
    if migrated.before == migrated.schema {
        outln!("{} has schema {}: nothing to do", Message(&to), migrated.schema);
    } else {
        outln!("{} has schema {} now; it had {}", Message(&to), migrated.schema, migrated.before);
    }
    Ok(())
}

fn show(step: MigrationStep) {
    match step {
        MigrationStep::Begins(schema) => errln!("making schema {}", schema),
        MigrationStep::Waits(schema) => {
            errln!("other connections use tables that schema {} changes; trying again", schema);
        }
    }
}

fn explain_sqlite(json: bool) -> Result<(), Failure> {
    if json {
        return Ok(terminal::json_pretty(&json!({"store": "sqlite"}))?);
    }
    outln!("the state is in SQLite: a host brings it to its schema when it starts, and there is nothing to do by hand");
    Ok(())
}

fn check(state: &SchemaState, json: bool) -> Result<(), Failure> {
    let SchemaState { schema, known, too_old } = state;
    if json {
        terminal::json_pretty(state)?;
    } else {
        outln!("the database has schema {}, and this version makes schema {}", schema, known);
        for host in too_old {
            outln!("a host that could not go on: {}", Message(host));
        }
    }
    if schema >= known {
        return Ok(());
    }
    if too_old.is_empty() {
        return Err("the schema is older: run `hookloom migrate`, or start a host".into());
    }
    Err("the schema is older, and hosts that run could not go on: stop them first".into())
}

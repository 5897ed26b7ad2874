//! The backend on PostgreSQL (15 or newer), for any number of hosts: each has one writer with one connection, and a few readers.
//!
//! # Guarantees
//! - As those of every [`backend`](crate::backend). A write that returned `Ok` was committed by the server with `synchronous_commit`
//!   on (see [`writer`]).
//! - Each subscription has one host that attempts its deliveries, and a host that was taken over writes no more (see [`fleet`]).
//! - A connection with TLS verifies the certificate of the server, whatever `sslmode` says (see [`tls`]).
//! - Secrets are sealed before they are stored ([`vault`](crate::vault)). The master key is a file of the host.
//!
//! # Differences from the other backends
//! - A zero byte in a text (a label, an entity id) becomes U+2400, because PostgreSQL has no such texts.
//! - The server watches its disk and its pages: there is no disk reserve, no damage report and no repair. A full disk is
//!   [`StoreError::Commit`] with its fault.
//! - An outage of the server is [`StoreError::Unavailable`]; [`StoreError::Unknown`] says that a commit may have happened.

mod accept;
mod alerts;
mod backlog;
mod begin;
mod bin_requests;
mod bins;
mod changes;
mod clock_steps;
mod conditions;
mod connection;
mod contents;
mod credentials;
mod deletion;
mod deliveries;
mod due;
mod endings;
mod error;
mod events;
mod fan_out;
mod figures;
mod fleet;
mod history;
mod host_number;
#[cfg(test)]
mod hot_path;
mod job;
mod ledger;
mod load_catalog;
mod machine;
mod master_key;
mod members;
mod milestones;
mod move_changes;
mod move_checks;
mod move_target;
mod new_events;
mod operator_actions;
mod outcomes;
mod plugin_deletion;
mod plugins;
mod portal;
mod previous_events;
mod pruning;
mod quarantine;
mod readers;
mod recount;
mod rejected;
mod retention;
mod rollouts;
mod rows;
mod schema;
mod sessions;
mod settled_chains;
mod settling;
mod settling_lock;
mod share;
mod sql_param;
mod subscription_state;
mod subscriptions;
mod sweeps;
mod tenant_plugins;
mod tenants;
#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
mod together;
mod transaction;
mod url_params;
mod usage;
mod writer;
mod writer_handle;
mod writes;

pub(crate) use move_changes::ChangedRows;
pub(crate) use move_target::{MoveTarget, NumberedTable, TableCopy, TargetColumn};
pub use schema::{Migrated, MigrationStep, SchemaState, migrate_postgres, schema_of_postgres};

use crate::host_state::HostState;
use crate::vault::Vault;
use crate::{StoreError, StoreLimits};
use begin::WriterContext;
use fleet::{HostIdentity, PostgresFleet};
use readers::Readers;
use recount::PendingNumbers;
use schema::KnownSchemas;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use writer_handle::Writer;

/// Minimum time limit of a read by a lane.
const LANE_TIME_MAX: Duration = Duration::from_secs(60);

/// Backend on PostgreSQL.
pub struct Postgres {
    writer: Writer,
    fleet: Arc<PostgresFleet>,
    /// Tasks of the membership, which end with this value.
    _tasks: JoinSet<()>,
    readers: Readers,
    /// Separate readers for lanes, so that queries of tenants do not delay deliveries.
    lane_readers: Readers,
    vault: Arc<Vault>,
    pending: Arc<PendingNumbers>,
    limits: StoreLimits,
}

impl Postgres {
    /// Opens a database, creating the tables if there are none, and fills the catalog from it. The file of the master key is created
    /// if the database knows none.
    pub(crate) async fn open(
        url: &str,
        master_key: &Path,
        limits: StoreLimits,
        state: Arc<HostState>,
    ) -> Result<Self, StoreError> {
        let config = connection::config(url)?;
        let connection = connection::Connection::first(&config).await?;
        connection.require_own_session(&config).await?;
        begin::follow_clock_of(&connection).await?;
        let identity = HostIdentity::of_folder(master_key.parent().unwrap_or(Path::new(".")))?;
        schema::bring_up(&connection, KnownSchemas::OWN, log_migration).await?;
        // Another host may start as well.
        schema::begin(&connection).await?;
        schema::require_usable(&connection).await?;
        let vault = Arc::new(master_key::open_vault(&connection, master_key).await?);
        connection.batch_execute("COMMIT").await?;
        let fleet = PostgresFleet::new(config.clone(), identity, state.clone());
        let registration = fleet.register(&connection).await?;
        clock_steps::follow_newest(&connection).await?;
        let generation = load_catalog::load(&connection, &vault, &state.catalog).await?;
        fleet.membership.note_loaded(registration, generation);
        fleet.own_first(&connection).await?;
        let pending = Arc::new(PendingNumbers::new(backlog::count_pending(&connection, registration.host).await?));
        let context = WriterContext {
            state,
            pending: pending.clone(),
            share: limits.share,
            vault: vault.clone(),
            membership: fleet.membership.clone(),
        };
        let writer = writer::start(config.clone(), connection, context);
        let readers = |time_max| Readers::new(config.clone(), time_max, fleet.number.clone());
        let mut tasks = fleet.start(writer.clone());
        let has_others = fleet.membership.has_others.clone();
        tasks.spawn(recount::keep_counting(readers(LANE_TIME_MAX), Arc::downgrade(&pending), has_others));
        Ok(Postgres {
            readers: readers(limits.query_time_max),
            // A lane cannot narrow its query, and its page size bounds the read.
            lane_readers: readers(limits.query_time_max.max(LANE_TIME_MAX)),
            _tasks: tasks,
            writer,
            fleet,
            vault,
            pending,
            limits,
        })
    }
}

/// Logs a step of a migration that a start runs.
fn log_migration(step: MigrationStep) {
    match step {
        MigrationStep::Begins(1) => tracing::info!("creating the tables of the database"),
        MigrationStep::Begins(schema) => {
            tracing::info!(schema, "bringing the database to a newer schema; a large one takes minutes");
        }
        MigrationStep::Waits(schema) => {
            tracing::warn!(schema, "other connections use tables that the new schema changes; trying again");
        }
    }
}

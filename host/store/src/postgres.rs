//! The backend on PostgreSQL (15 or newer): one host, one writer with one connection, and a few readers.
//!
//! # Guarantees
//! - As those of every [`backend`](crate::backend). A write that returned `Ok` was committed by the server with `synchronous_commit`
//!   on (see [`writer`]).
//! - One host at a time uses a database. A second host gets [`StoreError::DatabaseInUse`], and a host whose database was opened by
//!   another one meanwhile stops writing (see [`host_lock`]).
//! - A connection with TLS verifies the certificate of the server, whatever `sslmode` says (see [`tls`]).
//! - Secrets are sealed before they are stored ([`vault`](crate::vault)). The master key is a file of the host.
//!
//! # Differences from the other backends
//! - A zero byte in a text (a label, an entity id) becomes U+2400, because PostgreSQL has no such texts.
//! - The server watches its disk and its pages: there is no disk reserve, no damage report and no repair. A full disk is
//!   [`StoreError::Commit`] with its fault.
//! - An outage of the server is [`StoreError::Unavailable`]; [`StoreError::Unknown`] says that a commit may have happened.

mod accept;
mod backlog;
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
mod history;
mod host_lock;
mod host_number;
#[cfg(test)]
mod hot_path;
mod job;
mod ledger;
mod load_catalog;
mod machine;
mod master_key;
mod move_checks;
mod move_target;
mod new_events;
mod operator_actions;
mod outcomes;
mod plugin_deletion;
mod plugins;
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
mod share;
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
mod tls_params;
mod together;
mod transaction;
mod usage;
mod writer;
mod writes;

pub(crate) use move_target::{MoveTarget, TargetColumn};

use crate::host_state::HostState;
use crate::vault::Vault;
use crate::{StoreError, StoreLimits};
use host_lock::HostLock;
use readers::Readers;
use recount::PendingNumbers;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use writer::{Writer, WriterContext};

/// Minimum time limit of a read by a lane.
const LANE_TIME_MAX: Duration = Duration::from_secs(60);

/// Backend on PostgreSQL.
pub struct Postgres {
    writer: Writer,
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
        let (lock, connection) = HostLock::take(config.clone()).await?;
        schema::migrate(&connection).await?;
        let vault = Arc::new(master_key::open_vault(&connection, master_key).await?);
        lock.sign(&connection).await?;
        clock_steps::follow_newest(&connection).await?;
        load_catalog::load(&connection, &vault, &state.catalog).await?;
        let pending = Arc::new(PendingNumbers::new(backlog::count_pending(&connection).await?));
        let context = WriterContext { state, pending: pending.clone(), share: limits.share };
        Ok(Postgres {
            writer: Writer::start(lock, connection, context),
            readers: Readers::new(config.clone(), limits.query_time_max),
            // A lane cannot narrow its query, and its page size bounds the read.
            lane_readers: Readers::new(config, limits.query_time_max.max(LANE_TIME_MAX)),
            vault,
            pending,
            limits,
        })
    }
}

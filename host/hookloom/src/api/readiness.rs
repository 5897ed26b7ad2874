//! Route `GET /readyz`: whether the host can accept events, and the state of its parts.
//!
//! The host is not ready (503) only if the store cannot accept events. Other faults are reported with status 200: only the affected
//! work waits.

use super::{ApiState, Health, health};
use crate::clock;
use crate::operations::Problem;
use crate::plugin::Plugins;
use crate::plural::counted;
use crate::store::{DamageReport, Store};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// Lifetime of a proof that the store can accept an event, if no commit fails meanwhile.
const PROOF_LASTS: Duration = Duration::from_secs(1);

/// Proof that the store can accept an event.
#[derive(Clone, Copy)]
pub struct Proof {
    at: Instant,
    /// Number of failed commits at that time.
    failed_commits: u64,
}

/// Part of the host, and its state.
#[derive(Serialize, ToSchema)]
struct Part {
    /// `store`, `database`, `plugins` or `files`
    part: &'static str,
    /// False if the part does not work. Without the store, the host is not ready. Without a plugin, its deliveries wait. The
    /// readable part of a damaged database is used. Without another file of the data folder, the next start fails.
    ready: bool,
    /// Description of the fault, or evidence that the part works.
    detail: String,
}

/// Number of damaged rows that `/readyz` names.
const DAMAGED_NAMED: usize = 5;

/// Returns the state of the database. Damaged rows are named by their ids only, because anybody may ask.
fn database_part(damage: &DamageReport) -> Part {
    if damage.is_empty() {
        return Part { part: "database", ready: true, detail: "no damage is known".into() };
    }
    let mut named: Vec<String> =
        damage.rows.iter().take(DAMAGED_NAMED).map(|row| format!("{} {}", row.kind, row.id)).collect();
    let more = damage.rows.len() - named.len();
    named.extend((more > 0).then(|| format!("{more} more")));
    let rows = format!("{} rows cannot be read and are set apart ({})", damage.rows.len(), named.join(", "));
    let objects: Vec<&str> = damage.objects.iter().map(|object| object.name.as_str()).collect();
    let objects = format!("damaged pages in {}", objects.join(", "));
    let writes = "some writes fail, because what they need is damaged".to_owned();
    let findings = [
        (!damage.rows.is_empty()).then_some(rows),
        (!damage.objects.is_empty()).then_some(objects),
        damage.failing_writes.then_some(writes),
    ];
    let findings: Vec<String> = findings.into_iter().flatten().collect();
    let detail = format!("{}; stop the host and run `hookloom check` and `hookloom rescue`", findings.join("; "));
    Part { part: "database", ready: false, detail }
}

/// Ability of the host to accept events.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    #[serde(flatten)]
    health: Health,
    parts: Vec<Part>,
}

/// Report whether the host can accept events. If not, the problem names the part that is not ready.
#[utoipa::path(get, path = "/readyz", tag = "health", operation_id = "get_readiness", security(()), responses((status = 200, body = Readiness), (status = 503, body = Problem)))]
pub(super) async fn ready(state: State<Arc<ApiState>>) -> Result<Json<Readiness>, Problem> {
    // The proof is a flush, and anybody may ask, so there is at most one a second.
    let mut proven = state.proven.lock().await;
    let failed_commits = state.operations.store.failed_commits();
    let holds = |proof: Proof| clock::since(proof.at) <= PROOF_LASTS && proof.failed_commits == failed_commits;
    if !proven.is_some_and(holds) {
        *proven = None;
        state.operations.store.check().await.map_err(|error| {
            let problem = Problem::from(error);
            let detail = format!("not ready: store: {}", problem.detail);
            Problem { detail, ..problem }
        })?;
        *proven = Some(Proof { at: clock::instant(), failed_commits });
    }
    drop(proven);
    let store = Part {
        part: "store",
        ready: true,
        detail: "the largest event has room, and a write was flushed and read".into(),
    };
    let plugins = plugins_part(&state.operations.plugins);
    let files = files(&state.operations.store);
    let database = database_part(&state.operations.store.damage(None));
    let Json(health) = health(state).await;
    Ok(Json(Readiness { health, parts: vec![store, database, plugins, files] }))
}

/// Returns the state of the files of the data folder, without the database.
fn files(store: &Store) -> Part {
    let faults = store.folder_faults();
    let detail = if faults.is_empty() { "master.key and lock are in their place".into() } else { faults.join("; ") };
    Part { part: "files", ready: faults.is_empty(), detail }
}

/// Returns the state of the plugins.
fn plugins_part(plugins: &Plugins) -> Part {
    if let Some(fault) = crate::plugin::no_executable_memory() {
        return Part { part: "plugins", ready: false, detail: fault.into() };
    }
    match (plugins.out_of_service(), plugins.restoring()) {
        (0, 0) => Part { part: "plugins", ready: true, detail: "every active version is compiled".into() },
        (0, some) => {
            let versions = counted(some as u64, "version is", "versions are");
            let detail = format!("{versions} still being loaded or compiled; their deliveries wait");
            Part { part: "plugins", ready: false, detail }
        }
        (some, _) => {
            let detail = format!(
                "{} could not be loaded or are quarantined; their deliveries wait, and the log says why",
                counted(some as u64, "active version", "active versions")
            );
            Part { part: "plugins", ready: false, detail }
        }
    }
}

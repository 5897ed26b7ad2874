//! Metrics: all metrics by name, and the only crate with the exporter.
//!
//! Names and labels follow the conventions of Prometheus (base units, `_total` for counters). Labels are tenants, plugins and words
//! of closed sets, never ids, URLs or values that a sender chooses. docs/reference/metrics.md lists them all.

#[cfg(feature = "exporter")]
mod exporter;
#[cfg(feature = "exporter")]
mod process;

#[cfg(feature = "exporter")]
pub use exporter::{BuildError, Telemetry};

use hookloom_model::ids::TenantId;
use metrics::{Counter, Histogram, counter, gauge, histogram};
use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

const EVENTS_ACCEPTED: &str = "hookloom_events_accepted_total";
const ATTEMPTS: &str = "hookloom_attempts_total";
const POST_SECONDS: &str = "hookloom_post_seconds";
const PLUGIN_CALLS: &str = "hookloom_plugin_calls_total";
const PLUGIN_CALL_SECONDS: &str = "hookloom_plugin_call_seconds";
const PLUGIN_FILES_BROKEN: &str = "hookloom_plugin_files_broken";
const PLUGIN_VERSIONS_QUARANTINED: &str = "hookloom_plugin_versions_quarantined";
const PLUGIN_COMPILES: &str = "hookloom_plugin_compiles_total";
const PLUGIN_COMPILE_SECONDS: &str = "hookloom_plugin_compile_seconds";
const PLUGIN_COMPILES_UNDER_WAY: &str = "hookloom_plugin_compiles_under_way";
const PLUGIN_CODE_LOADS: &str = "hookloom_plugin_code_loads_total";
const PLUGIN_CODE_BYTES: &str = "hookloom_plugin_code_bytes";

const DELIVERIES_PENDING: &str = "hookloom_deliveries_pending";
const DATABASE_REACHABLE: &str = "hookloom_database_reachable";
const DATABASE_ROWS_DAMAGED: &str = "hookloom_database_rows_damaged";
const DATABASE_OBJECTS_DAMAGED: &str = "hookloom_database_objects_damaged";

const FLEET_HOSTS: &str = "hookloom_fleet_hosts";
const FLEET_SHARDS: &str = "hookloom_fleet_shards";
const FLEET_SHARDS_WITHOUT_HOST: &str = "hookloom_fleet_shards_without_host";
const FLEET_CHANGES_BEHIND: &str = "hookloom_fleet_changes_behind";
const FLEET_TAKEOVERS: &str = "hookloom_fleet_takeovers_total";
const FLEET_LEASE_LEFT_SECONDS: &str = "hookloom_fleet_lease_left_seconds";
const FLEET_LEASE_RENEWAL_SECONDS: &str = "hookloom_fleet_lease_renewal_seconds";

const ALERT_EVALUATION_SECONDS: &str = "hookloom_alert_evaluation_seconds";
const INCIDENTS_OPEN: &str = "hookloom_incidents_open";

const OLDEST_PENDING_SECONDS: &str = "hookloom_oldest_pending_seconds";

/// Counters of one tenant that every event changes. A look-up by labels costs as much as signing a webhook, so each thread keeps
/// the counters that it has used. The exporter never removes counters either.
struct OfTenant {
    accepted: Counter,
    post_seconds: Histogram,
    /// Counters by outcome.
    attempts: HashMap<String, Counter>,
    plugins: HashMap<String, OfPlugin>,
}

struct OfPlugin {
    seconds: Histogram,
    /// Counters by verdict.
    calls: HashMap<String, Counter>,
}

thread_local! {
    static FOUND: RefCell<HashMap<TenantId, OfTenant>> = RefCell::default();
}

fn of_tenant(tenant: &TenantId, count: impl FnOnce(&mut OfTenant)) {
    let look_up = || OfTenant {
        accepted: counter!(EVENTS_ACCEPTED, "tenant" => tenant.to_string()),
        post_seconds: histogram!(POST_SECONDS, "tenant" => tenant.to_string()),
        attempts: HashMap::new(),
        plugins: HashMap::new(),
    };
    FOUND.with_borrow_mut(|found| count(once(found, tenant, look_up)));
}

/// Returns the value of a key, after inserting it if the key is new.
fn once<'m, Q: Hash + Eq + ToOwned<Owned = K> + ?Sized, K: Hash + Eq + Borrow<Q>, V>(
    found: &'m mut HashMap<K, V>,
    key: &Q,
    look_up: impl FnOnce() -> V,
) -> &'m mut V {
    if !found.contains_key(key) {
        found.insert(key.to_owned(), look_up());
    }
    found.get_mut(key).expect("it is there now")
}

/// Counts accepted events.
pub fn accepted(tenant: &TenantId, events: usize) {
    of_tenant(tenant, |of_tenant| of_tenant.accepted.increment(events as u64));
}

/// Sets the number of pending deliveries of a tenant, and the age of the oldest.
pub fn pending(tenant: &TenantId, deliveries: u64, oldest_s: f64) {
    gauge!(DELIVERIES_PENDING, "tenant" => tenant.to_string()).set(deliveries as f64);
    gauge!(OLDEST_PENDING_SECONDS, "tenant" => tenant.to_string()).set(oldest_s);
}

/// Sets the numbers of open incidents by kind, of the tenants that this host evaluates.
pub fn incidents(open: impl Iterator<Item = (&'static str, u64)>) {
    for (kind, count) in open {
        gauge!(INCIDENTS_OPEN, "kind" => kind).set(count as f64);
    }
}

/// Counts an evaluation of the alerts of a tenant, and its duration.
pub fn alerts_evaluated(took: Duration) {
    histogram!(ALERT_EVALUATION_SECONDS).record(took);
}

/// Sets whether the database answered the reads of this collection. While it does not, gauges that are read from it keep their last values.
pub fn database_reachable(reachable: bool) {
    gauge!(DATABASE_REACHABLE).set(f64::from(u8::from(reachable)));
}

/// Sets the numbers of damaged rows, and of damaged tables and indexes.
pub fn damaged(rows: usize, objects: usize) {
    gauge!(DATABASE_ROWS_DAMAGED).set(rows as f64);
    gauge!(DATABASE_OBJECTS_DAMAGED).set(objects as f64);
}

/// Hosts that share the database, as one of them sees them.
#[derive(Clone, Copy, Debug)]
pub struct FleetGauges {
    /// Number of hosts with a lease.
    pub hosts: usize,
    /// Number of shards of this host.
    pub shards: usize,
    /// Number of shards that no host with a lease owns.
    pub shards_without_host: usize,
    /// Number of changes that are not in force at this host. None: it has not loaded the catalog.
    pub changes_behind: Option<u64>,
    /// Rest of the lease of this host. None: it needs none.
    pub lease_left: Option<Duration>,
}

/// Sets what is known of the hosts that share the database.
pub fn fleet(gauges: FleetGauges) {
    let FleetGauges { hosts, shards, shards_without_host, changes_behind, lease_left } = gauges;
    gauge!(FLEET_HOSTS).set(hosts as f64);
    gauge!(FLEET_SHARDS).set(shards as f64);
    gauge!(FLEET_SHARDS_WITHOUT_HOST).set(shards_without_host as f64);
    if let Some(changes) = changes_behind {
        gauge!(FLEET_CHANGES_BEHIND).set(changes as f64);
    }
    if let Some(left) = lease_left {
        gauge!(FLEET_LEASE_LEFT_SECONDS).set(left.as_secs_f64());
    }
}

/// Counts a renewal of the lease of this host, and its duration.
pub fn lease_renewed(took: Duration) {
    histogram!(FLEET_LEASE_RENEWAL_SECONDS).record(took);
}

/// Counts a takeover from another host.
pub fn took_over() {
    counter!(FLEET_TAKEOVERS).increment(1);
}

/// Counts an attempt, and the duration of its POST if there was one.
pub fn attempted(tenant: &TenantId, outcome: &'static str, post_us: Option<u64>) {
    of_tenant(tenant, |of_tenant| {
        let look_up = || counter!(ATTEMPTS, "tenant" => tenant.to_string(), "outcome" => outcome);
        once(&mut of_tenant.attempts, outcome, look_up).increment(1);
        if let Some(post_us) = post_us {
            of_tenant.post_seconds.record(Duration::from_micros(post_us));
        }
    });
}

/// Counts a plugin call and its duration.
pub fn judged(tenant: &TenantId, plugin: &str, verdict: &'static str, wall_us: u64) {
    let owner = || [("tenant", tenant.to_string()), ("plugin", plugin.to_owned())];
    of_tenant(tenant, |of_tenant| {
        let look_up = || OfPlugin { seconds: histogram!(PLUGIN_CALL_SECONDS, &owner()), calls: HashMap::new() };
        let of_plugin = once(&mut of_tenant.plugins, plugin, look_up);
        of_plugin.seconds.record(Duration::from_micros(wall_us));
        let look_up = || {
            let [tenant, plugin] = owner();
            counter!(PLUGIN_CALLS, &[tenant, plugin, ("verdict", verdict.to_owned())])
        };
        once(&mut of_plugin.calls, verdict, look_up).increment(1);
    });
}

/// Sets whether a plugin's file is broken.
pub fn file_broken(tenant: &TenantId, plugin: &str, broken: bool) {
    let labels = [("tenant", tenant.to_string()), ("plugin", plugin.to_owned())];
    gauge!(PLUGIN_FILES_BROKEN, &labels).set(f64::from(u8::from(broken)));
}

/// Sets whether a version of a plugin is quarantined.
pub fn quarantined(tenant: &TenantId, sha256: &str, quarantined: bool) {
    let labels = [("tenant", tenant.to_string()), ("sha256", sha256.to_owned())];
    gauge!(PLUGIN_VERSIONS_QUARANTINED, &labels).set(f64::from(u8::from(quarantined)));
}

/// Counts a compilation that begins and that [`compiled`] ends.
pub fn compiling() {
    gauge!(PLUGIN_COMPILES_UNDER_WAY).increment(1.0);
}

/// Counts a compilation that has ended: the component `fits` or was `refused`, or the compiler `failed` for a reason of the host.
pub fn compiled(result: &'static str, took: Duration) {
    gauge!(PLUGIN_COMPILES_UNDER_WAY).decrement(1.0);
    counter!(PLUGIN_COMPILES, "result" => result).increment(1);
    histogram!(PLUGIN_COMPILE_SECONDS).record(took);
}

/// Counts a load of compiled code, and sets its total size in memory.
pub fn code_loaded(bytes: u64) {
    counter!(PLUGIN_CODE_LOADS).increment(1);
    gauge!(PLUGIN_CODE_BYTES).set(bytes as f64);
}

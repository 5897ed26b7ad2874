//! Exporter of the metrics for Prometheus, one for each process.
//!
//! Metrics that are emitted before [`Telemetry::start`] are not counted.

use super::{
    ALERT_EVALUATION_SECONDS, ATTEMPTS, DATABASE_OBJECTS_DAMAGED, DATABASE_REACHABLE, DATABASE_ROWS_DAMAGED,
    DELIVERIES_PENDING, EVENTS_ACCEPTED, FLEET_CHANGES_BEHIND, FLEET_HOSTS, FLEET_LEASE_LEFT_SECONDS,
    FLEET_LEASE_RENEWAL_SECONDS, FLEET_SHARDS, FLEET_SHARDS_WITHOUT_HOST, FLEET_TAKEOVERS, INCIDENTS_OPEN,
    OLDEST_PENDING_SECONDS, PLUGIN_CALL_SECONDS, PLUGIN_CALLS, PLUGIN_CODE_BYTES, PLUGIN_CODE_LOADS,
    PLUGIN_COMPILE_SECONDS, PLUGIN_COMPILES, PLUGIN_COMPILES_UNDER_WAY, PLUGIN_FILES_BROKEN,
    PLUGIN_VERSIONS_QUARANTINED, POST_SECONDS,
};
use crate::process;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};
pub use metrics_exporter_prometheus::BuildError;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::time::Duration;

/// Upper bounds of the buckets of every histogram, in seconds.
const SECONDS: [f64; 14] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0];

/// Handle of the exporter.
#[derive(Clone)]
pub struct Telemetry(PrometheusHandle);

impl Telemetry {
    /// Starts to count in this process, once. Earlier calls are not counted.
    pub fn start() -> Result<Self, BuildError> {
        process::start();
        let buckets =
            PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?;
        let handle = buckets.install_recorder()?;
        describe_counter!(EVENTS_ACCEPTED, "Events that are durable.");
        describe_counter!(ATTEMPTS, "Attempts by their outcome.");
        describe_histogram!(POST_SECONDS, Unit::Seconds, "Duration of POSTs, including the answer.");
        describe_counter!(PLUGIN_CALLS, "Calls of plugins by their verdict.");
        describe_histogram!(PLUGIN_CALL_SECONDS, Unit::Seconds, "Duration of plugin calls.");
        describe_gauge!(
            PLUGIN_VERSIONS_QUARANTINED,
            "1 while a version is not called because the host died in a call of it."
        );
        describe_gauge!(PLUGIN_FILES_BROKEN, "1 while a plugin's file in the plugins folder cannot be used.");
        describe_counter!(PLUGIN_COMPILES, "Components that were compiled or refused.");
        describe_histogram!(PLUGIN_COMPILE_SECONDS, Unit::Seconds, "Duration of compilations.");
        describe_gauge!(PLUGIN_COMPILES_UNDER_WAY, "Components that are compiled now.");
        describe_counter!(PLUGIN_CODE_LOADS, "Times that compiled code was brought into memory.");
        describe_gauge!(PLUGIN_CODE_BYTES, Unit::Bytes, "Compiled code in memory.");
        describe_gauge!(DELIVERIES_PENDING, "Deliveries that wait for an attempt.");
        describe_gauge!(OLDEST_PENDING_SECONDS, Unit::Seconds, "Age of the oldest pending delivery.");
        describe_histogram!(ALERT_EVALUATION_SECONDS, Unit::Seconds, "Duration of evaluations of a tenant's alerts.");
        describe_gauge!(INCIDENTS_OPEN, "Open incidents of the tenants that this host evaluates.");
        describe_gauge!(DATABASE_REACHABLE, "0 while the database does not answer.");
        describe_gauge!(DATABASE_ROWS_DAMAGED, "Rows of the database that cannot be read and are set apart.");
        describe_gauge!(DATABASE_OBJECTS_DAMAGED, "Tables and indexes of the database with damaged pages.");
        describe_fleet();
        Ok(Telemetry(handle))
    }

    /// Returns all metrics in the text format of Prometheus.
    pub fn text(&self) -> String {
        self.0.render() + &process::text()
    }

    /// Merges observations into buckets at intervals, so that memory stays bounded if nobody collects the metrics. Never returns.
    pub async fn keep_up(self) {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            self.0.run_upkeep();
        }
    }
}

/// Describes the metrics of the hosts that share a database.
fn describe_fleet() {
    describe_gauge!(FLEET_HOSTS, "Hosts with a lease that share the database.");
    describe_gauge!(FLEET_SHARDS, "Shards of this host.");
    describe_gauge!(FLEET_SHARDS_WITHOUT_HOST, "Shards that no host with a lease owns.");
    describe_gauge!(FLEET_CHANGES_BEHIND, "Changes that are not in force at this host.");
    describe_gauge!(FLEET_LEASE_LEFT_SECONDS, Unit::Seconds, "Rest of the lease of this host.");
    describe_histogram!(FLEET_LEASE_RENEWAL_SECONDS, Unit::Seconds, "Duration of renewals of the lease.");
    describe_counter!(FLEET_TAKEOVERS, "Takeovers by this host from others that were lost.");
    // An increase from nothing to the first takeover is none for Prometheus.
    counter!(FLEET_TAKEOVERS).increment(0);
}

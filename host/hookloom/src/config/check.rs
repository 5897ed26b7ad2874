//! Validates value ranges and rules that span several settings. Reports every problem, not just the first.

use super::{Config, ConfigError};
use crate::limits::Limits;
use url::Url;

/// First segments of the host's paths. A path prefix must not begin with one of them.
const HOST_SEGMENTS: [&str; 16] = [
    "v1",
    "in",
    "bins",
    "t",
    "assets",
    "tenants",
    "fleet",
    "docs",
    "portal",
    "go",
    "sign-in",
    "sign-out",
    "healthz",
    "readyz",
    "metrics",
    "openapi.json",
];

/// Maximum length of the name in the portal, in characters.
const PORTAL_NAME_MAX: usize = 60;

/// Maximum number of origins that may show the portal. They are in a header of each of its pages.
const PORTAL_ORIGINS_MAX: usize = 50;

fn public_url_fault(config: &Config) -> Option<String> {
    let url = config.public_url.as_ref()?;
    if url.is_wildcard() {
        return Some(format!("public_url is {url}, which no client can open; write the host's name"));
    }
    let first = url.first_segment().filter(|first| HOST_SEGMENTS.contains(first))?;
    Some(format!("public_url is {url}, and /{first} is a path of the host itself; choose another path prefix"))
}

/// Returns the faults of the settings of the mail server.
fn mail_faults(config: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    if config.has_mail_server() && config.mail_from.is_empty() {
        faults.push("smtp_url is set, and mail_from is empty; write the sender, such as alerts@example.com".to_owned());
    }
    if Url::parse(&config.smtp_url).is_ok_and(|url| url.password().is_some()) {
        // The URL is printed by hookloom config.
        faults.push("smtp_url holds a password; write it into a file, and the path into smtp_password_file".to_owned());
    }
    faults
}

/// Returns the faults of the settings of the portal.
fn portal_faults(config: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    if config.portal_name.chars().count() > PORTAL_NAME_MAX || config.portal_name.chars().any(char::is_control) {
        faults.push(format!("portal_name has at most {PORTAL_NAME_MAX} characters, in one line"));
    }
    if config.portal_origins.len() > PORTAL_ORIGINS_MAX {
        faults.push(format!("portal_origins names at most {PORTAL_ORIGINS_MAX} origins"));
    }
    faults
}

/// Checks the rules between settings.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let mut faults = Vec::new();
    if !config.listen.ip().is_loopback() && config.behind_proxy.is_empty() {
        faults.push(format!(
            "listen is {}, which others can reach, and this host speaks plain HTTP: put a TLS proxy in front of it and name its ranges in behind_proxy, or listen on 127.0.0.1",
            config.listen
        ));
    }
    faults.extend(public_url_fault(config));
    faults.extend(mail_faults(config));
    faults.extend(portal_faults(config));
    if let Err(fault) = Limits::HOST_MAX.lowered(&config.plugin_limits_max) {
        faults.push(format!("plugin_limits_max: {fault}"));
    }
    for range in config.egress_allow.iter().filter(|range| range.prefix_len() == 0) {
        faults.push(format!(
            "egress_allow holds {range}, which switches the address guard off; name the ranges you mean"
        ));
    }
    let largest_body = config.event_bytes_max.max(config.batch_bytes_max).max(config.component_bytes_max);
    // One tenant has half of the budget, and a component that is uploaded by a form is in memory twice.
    if config.bodies_bytes_max < largest_body.saturating_mul(4) {
        faults.push(format!(
            "bodies_bytes_max is {}; it is at least four times the largest body (event_bytes_max, batch_bytes_max, component_bytes_max), which is {largest_body}",
            config.bodies_bytes_max
        ));
    }
    if !(16..=65_536).contains(&config.connections_max) {
        faults.push(format!("connections_max is {}; it is between 16 and 65536", config.connections_max));
    }
    if config.resting_instances_max > 1_000 {
        faults.push(format!("resting_instances_max is {}; it is at most 1000", config.resting_instances_max));
    }
    if config.disk_reserve_bytes > 1 << 40 {
        faults.push(format!("disk_reserve_bytes is {}; it is at most {}", config.disk_reserve_bytes, 1_u64 << 40));
    }
    for (name, value, most) in maxima(config).into_iter().filter(|(_, value, most)| value > most || *value == 0) {
        faults.push(format!("{name} is {value}; it is between 1 and {most}"));
    }
    if faults.is_empty() { Ok(()) } else { Err(ConfigError::Faults(faults)) }
}

/// Returns the settings whose values are between 1 and a maximum: name, value, maximum.
fn maxima(config: &Config) -> Vec<(&'static str, u64, u64)> {
    vec![
        ("head_timeout_s", config.head_timeout_s, 3_600),
        ("idle_timeout_s", config.idle_timeout_s, 3_600),
        ("stall_timeout_s", config.stall_timeout_s, 3_600),
        ("streams_per_session_max", config.streams_per_session_max as u64, 1_000),
        ("bodies_bytes_max", config.bodies_bytes_max, 1 << 40),
        ("event_bytes_max", config.event_bytes_max, 4 << 20),
        ("batch_bytes_max", config.batch_bytes_max, 64 << 20),
        ("component_bytes_max", config.component_bytes_max, 64 << 20),
        ("tenant_events_max", config.tenant_events_max, 1 << 40),
        ("tenant_bytes_max", config.tenant_bytes_max, 1 << 50),
        ("request_deliveries_max", config.request_deliveries_max, 1_000_000),
        ("query_ms_max", config.query_ms_max, 600_000),
        ("attempts_max", config.attempts_max, 16_384),
        ("attempts_per_tenant_max", config.attempts_per_tenant_max, 16_384),
        ("retry_after_max_s", config.retry_after_max_s, 30 * 86_400),
        ("compile_cpu_s", config.compile_cpu_s, 3_600),
        ("compile_wall_s", config.compile_wall_s, 3_600),
        ("loaded_code_bytes_max", config.loaded_code_bytes_max, 1 << 40),
        ("plugins_rescan_s", config.plugins_rescan_s, 3_600),
        ("plugin_cpu_ms_max", config.plugin_cpu_ms_max, 60_000),
        ("plugin_wall_ms_max", config.plugin_wall_ms_max, 60_000),
        // The memory of each call is reserved as address space.
        ("plugin_memory_bytes_max", config.plugin_memory_bytes_max, 4 << 30),
        ("plugin_stack_bytes", config.plugin_stack_bytes, 16 << 20),
        ("plugin_output_bytes_max", config.plugin_output_bytes_max, 64 << 20),
        // Each memory reserves 4 GiB of address space.
        ("warm_memories_max", config.warm_memories_max.into(), 16_384),
    ]
}

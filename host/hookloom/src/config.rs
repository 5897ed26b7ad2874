//! Settings: all settings with their defaults, in one checked [`Config`].
//!
//! Their sources are `hookloom.toml`, the environment and flags ([`sources`]). No other module reads them.

mod check;
mod listen;
mod sources;
mod spelling;
mod store_url;

pub use sources::{Settled, ValueSource, settle};
pub use store_url::StoreUrl;

use crate::accent::{Colour, colour_or_empty};
use crate::address::AddressPolicy;
use crate::limits::{COMPONENT_BYTES_MAX, Limits, STACK_BYTES};
use crate::store::Caps;
use crate::url_path::{PublicUrl, or_empty};
use hookloom_model::portal::PortalOrigin;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Faults of the settings, one a line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the settings file {path} cannot be read")]
    Unreadable {
        /// Path of the file.
        path: String,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file is not valid TOML.
    #[error("the settings file {path} is not valid TOML")]
    NotToml {
        /// Path of the file.
        path: String,
        /// Position and reason of the syntax error.
        source: Box<toml::de::Error>,
    },
    /// Invalid values.
    #[error("the settings do not fit: {}", .0.join("; "))]
    Faults(Vec<String>),
}

/// All settings, with their defaults. The names are those of the file. In the environment they are upper-case with the prefix
/// `HOOKLOOM_`; as flags they have `-` instead of `_`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of the database, the keys and the compiled plugins.
    pub data_dir: PathBuf,
    /// URL of a PostgreSQL database with the durable state, such as `postgres://user:password@host/database`. Empty: SQLite in the data folder.
    pub store: StoreUrl,
    /// Address to listen on. A host name stands for its first address.
    #[serde(deserialize_with = "listen::deserialize")]
    pub listen: SocketAddr,
    /// Address ranges of the reverse proxies in front of this host. Required to listen on other addresses than loopback.
    pub behind_proxy: Vec<IpNet>,
    /// Address at which clients reach this host, such as `https://hooks.example.com/hookloom`. Empty: unknown.
    #[serde(with = "or_empty")]
    pub public_url: Option<PublicUrl>,
    /// Allows Notify URLs with loopback addresses of this machine, for demos and tests.
    pub allow_loopback: bool,
    /// Address ranges that may be dialled even if the address guard would refuse them.
    pub egress_allow: Vec<IpNet>,
    /// Address ranges that may not be dialled.
    pub egress_deny: Vec<IpNet>,
    /// Ports that may be dialled even if they belong to internal services.
    pub egress_ports_allow: Vec<u16>,
    /// Refuses Notify URLs that are not https.
    pub https_only: bool,
    /// Name servers, as `address:port`. Empty: those of the system.
    pub name_servers: Vec<SocketAddr>,
    /// URL of the mail server for alerts, such as `smtps://user@mail.example.com` or `smtp://mail.example.com:587?tls=required`, without a password. Empty: no e-mails.
    pub smtp_url: String,
    /// File with the password for the mail server. Empty: none.
    pub smtp_password_file: PathBuf,
    /// Sender of e-mails, such as `alerts@example.com`.
    pub mail_from: String,
    /// Name of the platform in the portal of its customers. Empty: Hookloom.
    pub portal_name: String,
    /// Accent colour of the portal, such as `#0b6470`. Empty: that of the pages.
    #[serde(with = "colour_or_empty")]
    pub portal_colour: Option<Colour>,
    /// File with the logo of the portal, PNG or SVG, at most 64 KiB. Empty: none.
    pub portal_logo_file: PathBuf,
    /// Origins of the platform's pages, such as `https://app.example.com`: they may show the portal in a frame, and it may lead back to them.
    pub portal_origins: Vec<PortalOrigin>,
    /// OTLP/HTTP endpoint of a trace collector, such as `http://127.0.0.1:4318`. Empty: no traces.
    pub otlp_endpoint: String,
    /// Maximum number of open connections.
    pub connections_max: usize,
    /// Maximum time for the head of a request, in seconds.
    pub head_timeout_s: u64,
    /// Maximum idle time of a connection between two requests, in seconds.
    pub idle_timeout_s: u64,
    /// Maximum time that a body, or an answer being read, may move more slowly than 1 KiB/s, in seconds.
    pub stall_timeout_s: u64,
    /// Maximum number of event streams of pages for one session.
    pub streams_per_session_max: usize,
    /// Maximum size of request bodies and large answers in memory, in bytes.
    pub bodies_bytes_max: u64,
    /// Maximum size of an event, in bytes.
    pub event_bytes_max: u64,
    /// Maximum size of a batch of events, in bytes.
    pub batch_bytes_max: u64,
    /// Retention of events, deliveries and attempts, in seconds. Pending deliveries are kept. 0: for ever.
    pub retention_s: u64,
    /// Maximum number of events stored for a tenant. More are refused with 507.
    pub tenant_events_max: u64,
    /// Maximum size of all data stored for a tenant (events, attempts, plugins, bins, …), in bytes. More is refused with 507.
    pub tenant_bytes_max: u64,
    /// Size of the disk reserve that keeps deletions possible on a full disk, in bytes. 0: no reserve.
    pub disk_reserve_bytes: u64,
    /// Maximum number of deliveries that the events of one request make together. One event is always accepted.
    pub request_deliveries_max: u64,
    /// Maximum duration of a query of the API or the pages, in milliseconds.
    pub query_ms_max: u64,
    /// Maximum size of a component, in bytes.
    pub component_bytes_max: u64,
    /// CPU time for compiling a component, in seconds.
    pub compile_cpu_s: u64,
    /// Wall time for compiling a component, in seconds.
    pub compile_wall_s: u64,
    /// Address space for compiling a component, in bytes.
    pub compile_memory_bytes: u64,
    /// Maximum size of compiled code on disk, in bytes. The least recently used code is removed first.
    pub compiled_bytes_max: u64,
    /// Maximum size of compiled code in memory, in bytes. The least recently called code is removed first.
    pub loaded_code_bytes_max: u64,
    /// Maximum CPU time that a subscription may allow for a plugin call, in milliseconds.
    pub plugin_cpu_ms_max: u64,
    /// Maximum wall time that a subscription may allow for a plugin call, in milliseconds.
    pub plugin_wall_ms_max: u64,
    /// Maximum memory that a subscription may allow for a plugin call, in bytes.
    pub plugin_memory_bytes_max: u64,
    /// Maximum size of the body that a plugin call may return, in bytes.
    pub plugin_output_bytes_max: u64,
    /// Maxima of the other limits of a call, by name, such as `{ host_calls = 1000 }`.
    pub plugin_limits_max: BTreeMap<String, u64>,
    /// Maximum number of requests under way for the whole host, and also of attempts whose plugins judge or that wait to be sent.
    pub attempts_max: u64,
    /// Maximum number of such attempts for one tenant.
    pub attempts_per_tenant_max: u64,
    /// Maximum delay of a delivery by a receiver's `Retry-After`, in seconds.
    pub retry_after_max_s: u64,
    /// Number of threads that call plugins. 0: one more than the number of cores.
    pub plugin_threads: usize,
    /// Maximum number of concurrent plugin calls of one tenant. 0: one fewer than the number of threads, so that one tenant cannot
    /// delay the others.
    pub plugin_calls_per_tenant: usize,
    /// Size of a plugin's stack, in bytes.
    pub plugin_stack_bytes: u64,
    /// Interval at which the plugins folder is scanned without a notification of a change, in seconds.
    pub plugins_rescan_s: u64,
    /// Maximum number of idle instances for subscriptions that reuse instances. Each keeps its memory.
    pub resting_instances_max: usize,
    /// Maximum number of plugin memories that stay mapped between calls, at most 64 KiB of each. Calls that find one are faster.
    pub warm_memories_max: u32,
    /// Maximum duration of a stop, in seconds. Attempts that are under way after it are repeated after the next start.
    pub stop_grace_s: u64,
    /// Level or filter of the log: `error`, `warn`, `info`, `debug`, `trace`, or a `tracing` filter.
    pub log: String,
    /// Writes log lines as JSON.
    pub log_json: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            data_dir: PathBuf::from("hookloom-data"),
            store: StoreUrl::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8420)),
            behind_proxy: Vec::new(),
            public_url: None,
            allow_loopback: false,
            egress_allow: Vec::new(),
            egress_deny: Vec::new(),
            egress_ports_allow: Vec::new(),
            https_only: false,
            name_servers: Vec::new(),
            smtp_url: String::new(),
            smtp_password_file: PathBuf::new(),
            mail_from: String::new(),
            portal_name: String::new(),
            portal_colour: None,
            portal_logo_file: PathBuf::new(),
            portal_origins: Vec::new(),
            otlp_endpoint: String::new(),
            connections_max: 1_024,
            head_timeout_s: 10,
            idle_timeout_s: 75,
            stall_timeout_s: 20,
            streams_per_session_max: 8,
            bodies_bytes_max: 256 << 20,
            event_bytes_max: 256 << 10,
            batch_bytes_max: 16 << 20,
            retention_s: 30 * 86_400,
            tenant_events_max: 10_000_000,
            tenant_bytes_max: 20 << 30,
            disk_reserve_bytes: 32 << 20,
            request_deliveries_max: 4_000,
            query_ms_max: 5_000,
            component_bytes_max: COMPONENT_BYTES_MAX,
            compile_cpu_s: 60,
            compile_wall_s: 600,
            compile_memory_bytes: 4 << 30,
            compiled_bytes_max: 4 << 30,
            loaded_code_bytes_max: 1 << 30,
            plugin_cpu_ms_max: Limits::HOST_MAX.cpu_ms,
            plugin_wall_ms_max: Limits::HOST_MAX.wall_ms,
            plugin_memory_bytes_max: Limits::HOST_MAX.memory_bytes,
            plugin_output_bytes_max: Limits::HOST_MAX.output_bytes,
            plugin_limits_max: BTreeMap::new(),
            attempts_max: 2_048,
            attempts_per_tenant_max: 1_024,
            retry_after_max_s: 86_400,
            plugin_threads: 0,
            plugin_calls_per_tenant: 0,
            plugin_stack_bytes: STACK_BYTES,
            plugins_rescan_s: 2,
            resting_instances_max: 16,
            warm_memories_max: 4_096,
            stop_grace_s: 20,
            log: "info".to_owned(),
            log_json: false,
        }
    }
}

impl From<&Config> for Caps {
    fn from(config: &Config) -> Self {
        Caps { events: config.tenant_events_max, bytes: config.tenant_bytes_max }
    }
}

impl Config {
    /// Returns the policy of the address guard.
    pub fn address_policy(&self) -> AddressPolicy {
        AddressPolicy {
            allow: self.egress_allow.clone(),
            deny: self.egress_deny.clone(),
            only: Vec::new(),
            allow_loopback: self.allow_loopback,
            ports_allow: self.egress_ports_allow.clone(),
            https_only: self.https_only,
            listen: Some(self.listen),
        }
    }

    /// Returns true if the host sends e-mails.
    pub fn has_mail_server(&self) -> bool {
        !self.smtp_url.is_empty()
    }

    /// Returns true if browsers reach the host by TLS.
    pub fn is_behind_tls(&self) -> bool {
        // A proxy ends TLS.
        self.public_url.as_ref().map_or(!self.behind_proxy.is_empty(), PublicUrl::is_https)
    }

    /// Returns the address with which a link to this host begins.
    pub fn link_base(&self) -> PublicUrl {
        self.public_url.clone().unwrap_or_else(|| PublicUrl::of_listener(self.listen))
    }

    /// Returns the maxima that a subscription may set.
    pub fn limits_max(&self) -> Limits {
        let most = Limits {
            cpu_ms: self.plugin_cpu_ms_max,
            wall_ms: self.plugin_wall_ms_max,
            memory_bytes: self.plugin_memory_bytes_max,
            output_bytes: self.plugin_output_bytes_max,
            ..Limits::HOST_MAX
        };
        most.lowered(&self.plugin_limits_max).unwrap_or(most)
    }
}

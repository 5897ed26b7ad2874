//! The words for who listens: tenants and their subscriptions.
//!
//! Pure data. A subscription's settings are what its owner writes; its secrets stand apart, so that settings can be
//! shown. Does not know how either is stored, and never prints a secret.

use crate::address::Egress;
use crate::chain::Chain;
use crate::event::Module;
pub use crate::ids::{DEFAULT_TENANT, SubscriptionId, TenantId, is_slug};
use crate::limits::Limits;
use crate::pauses::Pauses;
use crate::retry::RetryPolicy;
use crate::signature::SigningKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A tenant: an account that owns everything below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Event names that it accepts in addition to the vendor's four, and the module of each.
    pub extra_event_names: BTreeMap<String, Module>,
    /// Limits of plugin calls, by name, that are lower for it than the host's maxima.
    pub limits_max: BTreeMap<String, u64>,
    /// Network ranges that the tenant may call, of those that the host allows.
    pub egress: Egress,
    /// Time of creation, in milliseconds since the epoch.
    pub created_at_ms: i64,
}

/// Policy for a delivery whose plugin traps, runs out of memory or returns invalid output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnPluginFault {
    /// Send nothing: the delivery waits for another version or config, up to its age limit.
    #[default]
    Hold,
    /// Send the payload as it came.
    Pass,
}

/// Reuse of a plugin instance for several events of one subscription: calls are faster, and the plugin's memory carries over to
/// the next event. An instance that fails is replaced by a fresh one within the same attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Reuse {
    /// After how many calls an instance ends: 2 to 100,000.
    pub calls: u32,
    /// After how many seconds without a call: 1 to 3,600.
    #[serde(default = "default_idle_s")]
    pub idle_s: u32,
}

fn default_idle_s() -> u32 {
    60
}

impl Reuse {
    /// Says which number is out of range.
    pub fn check(&self) -> Result<(), String> {
        if (2..=100_000).contains(&self.calls) && (1..=3_600).contains(&self.idle_s) {
            Ok(())
        } else {
            Err("calls is 2 to 100000, and idle_s is 1 to 3600".into())
        }
    }
}

/// Settings of a subscription, as its owner writes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Notify URL: http or https, without credentials in it.
    pub notify_url: String,
    /// Modules whose events are delivered: at least one.
    pub modules: Vec<Module>,
    /// A name for people.
    #[serde(default)]
    pub description: String,
    /// The plugin that judges each event, as `name` or, pinned to a version, `name@sha256`; or a list of up to 8, each
    /// judging what the one before made of it. Absent: everything passes.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = crate::chain::ChainText))]
    pub plugin: Chain,
    /// Configuration that the plugin reads through `config`.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Headers to add to every request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Hosts to which the plugin may redirect a request, in addition to the Notify URL's own.
    #[serde(default)]
    pub url_hosts: Vec<String>,
    /// Allows the plugin to choose an `http` URL although the Notify URL is `https`. Without it, such a request is refused.
    #[serde(default)]
    pub url_allow_http: bool,
    /// Forward proxy, certificate authorities and client certificate for requests to this receiver.
    #[serde(default)]
    pub transport: Transport,
    /// Retry schedule.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// Limits of a plugin call.
    #[serde(default)]
    pub limits: Limits,
    /// Reuse of plugin instances. Absent: each call has a fresh one.
    #[serde(default)]
    pub reuse: Option<Reuse>,
    /// Treatment of a delivery whose plugin fails.
    #[serde(default)]
    pub on_plugin_fault: OnPluginFault,
    /// The deadline of one POST with its answer, in milliseconds: 1,000 to 30,000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Maximum number of requests in progress at once: 1 to 256.
    #[serde(default = "default_concurrency")]
    pub concurrency: u32,
    /// Maximum number of requests that begin in a second: 1 to 10,000. Absent: no limit.
    #[serde(default)]
    pub rate_per_s: Option<u32>,
    /// Order of the events of one contact or deal: they are delivered one after the other, as they were accepted. Absent: they
    /// may overtake each other. Holds for events that are accepted from then on.
    #[serde(default)]
    pub ordering: Option<Ordering>,
    /// After how many seconds of nothing but failures the subscription is disabled: up to 90 days; 0 is never.
    #[serde(default = "default_disable_after_s")]
    pub disable_after_s: u64,
    /// Sends `traceparent` (W3C Trace Context) with requests: the trace is the event's id, the span the attempt.
    #[serde(default)]
    pub traceparent: bool,
}

/// Transport to the receiver: forward proxy, certificate authorities, client certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Transport {
    /// A forward proxy, as `http://proxy.example:3128`. Its address is vetted like a Notify URL's.
    pub proxy: Option<String>,
    /// Value of `Proxy-Authorization` for the proxy; `{{secret:NAME}}` stands for a secret.
    pub proxy_authorization: Option<String>,
    /// The certificate authorities to trust instead of the system's, as PEM.
    pub authorities: Option<String>,
    /// The name of the secret that holds the client's certificate chain and its private key, as PEM.
    pub client_certificate: Option<String>,
}

impl Transport {
    /// Returns true if every setting is the default.
    pub fn is_default(&self) -> bool {
        *self == Transport::default()
    }
}

/// Treatment of the later events of a contact or deal when one fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "on_failure", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ordering {
    /// They wait until it is delivered or given up.
    Block,
    /// They wait for this number of its attempts and are then sent; the failed one may arrive after them.
    SkipAfter {
        /// 1 to 100.
        attempts: u32,
    },
}

/// As long as the default schedule goes on, and a little longer.
fn default_disable_after_s() -> u64 {
    5 * 86_400
}

/// The lower end of what Standard Webhooks recommends (15 to 30 s).
fn default_timeout_ms() -> u64 {
    15_000
}

fn default_concurrency() -> u32 {
    32
}

/// State of a subscription: active, paused (events wait) or disabled (it gets none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum SubscriptionState {
    /// Events match and are sent.
    Active,
    /// Events match and wait.
    Paused,
    /// Events do not match; what was pending is dead.
    Disabled,
}

impl SubscriptionState {
    /// Every state, in the order of their stored numbers.
    pub const ALL: [SubscriptionState; 3] =
        [SubscriptionState::Active, SubscriptionState::Paused, SubscriptionState::Disabled];
}

/// Checks the name of a secret, which headers hold as `{{secret:NAME}}` and lists show.
///
/// # Errors
/// A sentence with the name and the rule.
pub fn check_secret_name(name: &str) -> Result<(), String> {
    if (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    {
        return Ok(());
    }
    Err(format!("{name:?} is not a name for a secret, which has 1 to 128 of A-Z, a-z, 0-9, -, _ and ."))
}

/// Bytes that are used and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Subscription {
    /// Returns true if the subscription gets events of this module: it is not disabled and has the module's box ticked. A paused one
    /// gets them: its deliveries wait.
    pub fn receives(&self, module: Module) -> bool {
        self.state != SubscriptionState::Disabled && self.settings.modules.contains(&module)
    }

    /// One that exists for single calls of plugins and is never stored: for dry runs and an author's commands.
    pub fn passing(tenant: TenantId, settings: CallSettings) -> Self {
        let CallSettings { plugin, config, secrets, limits, reuse } = settings;
        let nowhere = serde_json::json!({"notify_url": "https://dry-run.invalid/", "modules": []});
        let blank: Settings = serde_json::from_value(nowhere).expect("the two fields without a default are there");
        Subscription {
            id: SubscriptionId(uuid::Uuid::nil()),
            tenant,
            settings: Settings { plugin, config, limits, reuse, ..blank },
            state: SubscriptionState::Active,
            state_reason: None,
            failing_since_ms: None,
            pauses: Pauses::default(),
            generation: 0,
            signing: Vec::new(),
            secrets,
            created_at_ms: 0,
        }
    }
}

/// Settings of a subscription that a plugin call depends on.
#[derive(Clone, Debug, Default)]
pub struct CallSettings {
    /// Plugins that judge, in order.
    pub plugin: Chain,
    /// Values that they read through `config`.
    pub config: BTreeMap<String, String>,
    /// Secrets that they may use by name.
    pub secrets: BTreeMap<String, Secret>,
    /// Resource limits of a call.
    pub limits: Limits,
    /// Reuse of instances. Absent: each call has a fresh one.
    pub reuse: Option<Reuse>,
}

/// A subscription as the host works with it.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// Its owner.
    pub tenant: TenantId,
    /// Settings as the owner wrote them.
    pub settings: Settings,
    /// Current state.
    pub state: SubscriptionState,
    /// Reason for a state other than active.
    pub state_reason: Option<String>,
    /// Since when its receiver fails, in milliseconds since the epoch, if it has failed for a while.
    pub failing_since_ms: Option<i64>,
    /// Earlier pauses, which do not count as the age of its deliveries.
    pub pauses: Pauses,
    /// Grows with every edit of settings or secrets.
    pub generation: u64,
    /// The keys that sign its webhooks, the current one first.
    pub signing: Vec<SigningKey>,
    /// Secrets that its plugins may use by name.
    pub secrets: BTreeMap<String, Secret>,
    /// Time of creation, in milliseconds since the epoch.
    pub created_at_ms: i64,
}

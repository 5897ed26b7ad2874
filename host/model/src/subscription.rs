//! Tenants and subscriptions.
//!
//! Pure data. The settings of a subscription are written by its owner. Its secrets are separate, so that settings can be shown.
//! Does not know how they are stored, and never prints a secret.

use crate::address::Egress;
use crate::alerts::AlertSettings;
use crate::chain::Chain;
use crate::event::Module;
use crate::event_type::EventTypes;
use crate::filter::Filter;
use crate::headers::{HeaderAuthor, check_header, fill_secrets};
pub use crate::ids::{DEFAULT_TENANT, SubscriptionId, TenantId, is_slug};
use crate::limits::Limits;
use crate::pauses::Pauses;
use crate::retry::RetryPolicy;
pub use crate::reuse::Reuse;
pub use crate::secret::{Secret, check_secret_name};
use crate::settle::Settle;
use crate::signature::SigningKey;
use crate::target::Target;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Deref;
use url::Url;

/// Tenant: an account that owns subscriptions, plugins, keys, events and bins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Id of the tenant.
    pub id: TenantId,
    /// Event types of the tenant's own.
    pub event_types: EventTypes,
    /// Limits of plugin calls, lower than the host's maxima.
    pub limits_max: BTreeMap<String, u64>,
    /// Address ranges that the tenant may call, within those of the host.
    pub egress: Egress,
    /// Settings of the tenant's alerts.
    pub alerts: AlertSettings,
    /// Time of creation, in milliseconds since the epoch.
    pub created_at_ms: i64,
}

/// Policy for a delivery whose plugin traps, runs out of memory or returns invalid output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnPluginFault {
    /// Sends nothing: the delivery waits for another version or config, up to its age limit.
    #[default]
    Hold,
    /// Sends the original payload.
    Pass,
}

/// Settings of a subscription, written by its owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Notify URL: http or https, without credentials in it.
    pub notify_url: String,
    /// Modules whose events are delivered: at least one.
    pub modules: Vec<Module>,
    /// Names of the events that are delivered, such as `Contact is Created`. Empty: all of the modules.
    #[serde(default)]
    pub events: Vec<String>,
    /// Conditions that an event must meet to be delivered. Absent: none.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub filter: Option<Filter>,
    /// Name for people.
    #[serde(default)]
    pub description: String,
    /// Plugin that judges each event, as `name` or, pinned to a version, `name@sha256`; or a list of up to 8 plugins, each of which
    /// judges the output of the one before. Absent: everything passes.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = crate::chain::ChainText))]
    pub plugin: Chain,
    /// Configuration that the plugin reads through `config`.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Headers to add to every request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Hosts to which the plugin may redirect a request, besides the host of the Notify URL.
    #[serde(default)]
    pub url_hosts: Vec<String>,
    /// Allows the plugin to choose an `http` URL if the Notify URL is `https`. Otherwise such a request is refused.
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
    /// Deadline of a POST with its answer, in milliseconds: 1,000 to 30,000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Maximum number of requests in progress at once: 1 to 256.
    #[serde(default = "default_concurrency")]
    pub concurrency: u32,
    /// Maximum number of requests that begin in a second: 1 to 10,000. Absent: no limit.
    #[serde(default)]
    pub rate_per_s: Option<u32>,
    /// Order of the events of one contact or deal: they are delivered one after the other, in the order of acceptance. Absent: they
    /// may overtake each other. Applies to events that are accepted from then on.
    #[serde(default)]
    pub ordering: Option<Ordering>,
    /// Quiet time of a contact or deal: its events that follow each other within it are delivered once, with the latest state. Absent:
    /// each event is delivered. Applies to events that are accepted from then on.
    #[serde(default)]
    pub settle: Option<Settle>,
    /// Duration of nothing but failures after which the subscription is disabled, in seconds: up to 90 days. 0: never.
    #[serde(default = "default_disable_after_s")]
    pub disable_after_s: u64,
    /// Sends `traceparent` (W3C Trace Context) with requests. The trace id is the event's id, and the span is the attempt.
    #[serde(default)]
    pub traceparent: bool,
}

impl Settings {
    /// Returns the settings of a subscription of which everything else has its default.
    pub fn new(notify_url: String, modules: Vec<Module>) -> Self {
        Settings {
            notify_url,
            modules,
            events: Vec::new(),
            filter: None,
            description: String::new(),
            plugin: Chain::default(),
            config: BTreeMap::new(),
            headers: BTreeMap::new(),
            url_hosts: Vec::new(),
            url_allow_http: false,
            transport: Transport::default(),
            retry: RetryPolicy::default(),
            limits: Limits::default(),
            reuse: None,
            on_plugin_fault: OnPluginFault::default(),
            timeout_ms: default_timeout_ms(),
            concurrency: default_concurrency(),
            rate_per_s: None,
            ordering: None,
            settle: None,
            disable_after_s: default_disable_after_s(),
            traceparent: false,
        }
    }

    /// Returns true if events with this name are delivered, as far as the name decides.
    pub fn lists(&self, event_name: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|name| name == event_name)
    }

    /// Returns true if some events of the modules are not delivered: the settings have event names or a filter.
    pub fn is_selective(&self) -> bool {
        !self.events.is_empty() || self.filter.is_some()
    }

    /// Returns the host of the Notify URL in ASCII, if it was written otherwise. Similar letters differ in that form.
    pub fn ascii_host(&self) -> Option<String> {
        let host = Url::parse(&self.notify_url).ok()?.host_str()?.to_owned();
        (!self.notify_url.to_lowercase().contains(&host)).then_some(host)
    }
}

/// Transport to the receiver: forward proxy, certificate authorities, client certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Transport {
    /// Forward proxy, such as `http://proxy.example:3128`. Its address is vetted like a Notify URL's.
    pub proxy: Option<String>,
    /// Value of `Proxy-Authorization` for the proxy; `{{secret:NAME}}` stands for a secret.
    pub proxy_authorization: Option<String>,
    /// Certificate authorities to trust instead of the system's, as PEM.
    pub authorities: Option<String>,
    /// Name of the secret with the client's certificate chain and its private key, as PEM.
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
    /// Later events wait until the failed one is delivered or given up.
    Block,
    /// Later events wait for this number of attempts of the failed one, and are then sent. The failed event may arrive after them.
    SkipAfter {
        /// 1 to 100.
        attempts: u32,
    },
}

/// Slightly longer than the default schedule.
fn default_disable_after_s() -> u64 {
    5 * 86_400
}

/// Lower end of the recommendation of Standard Webhooks (15 to 30 s).
fn default_timeout_ms() -> u64 {
    15_000
}

fn default_concurrency() -> u32 {
    32
}

/// State of a subscription: active, paused (events wait) or disabled (no events match).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum SubscriptionState {
    /// Events match and are sent.
    Active,
    /// Events match and wait.
    Paused,
    /// Events do not match. Deliveries that were pending are dead.
    Disabled,
}

impl SubscriptionState {
    /// All states, in the order of their stored numbers.
    pub const ALL: [SubscriptionState; 3] =
        [SubscriptionState::Active, SubscriptionState::Paused, SubscriptionState::Disabled];
}

impl Subscription {
    /// Returns true if the subscription gets events of this module that its event names and its filter do not refuse: it is not
    /// disabled and lists the module. A paused subscription matches, and its deliveries wait.
    pub fn matches(&self, module: Module) -> bool {
        self.state != SubscriptionState::Disabled && self.settings.modules.contains(&module)
    }

    /// Creates a subscription for single calls of plugins, which is never stored, for dry runs and the commands of plugin authors.
    pub fn passing(tenant: TenantId, settings: CallSettings) -> Self {
        let CallSettings { plugin, config, secrets, limits, reuse } = settings;
        let nowhere = serde_json::json!({"notify_url": "https://dry-run.invalid/", "modules": []});
        let blank: Settings = serde_json::from_value(nowhere).expect("the two fields without a default are there");
        Subscription {
            id: SubscriptionId(uuid::Uuid::nil()),
            tenant,
            settings: LoadedSettings::new(Settings { plugin, config, limits, reuse, ..blank }, secrets)
                .expect("the URL above can be read"),
            state: SubscriptionState::Active,
            state_reason: None,
            failing_since_ms: None,
            pauses: Pauses::default(),
            generation: 0,
            signing: Vec::new(),
            created_at_ms: 0,
        }
    }
}

/// Settings of a subscription that a plugin call depends on.
#[derive(Clone, Debug, Default)]
pub struct CallSettings {
    /// Plugins that judge, in order.
    pub plugin: Chain,
    /// Values that plugins read through `config`.
    pub config: BTreeMap<String, String>,
    /// Secrets that plugins may use by name.
    pub secrets: BTreeMap<String, Secret>,
    /// Resource limits of a call.
    pub limits: Limits,
    /// Reuse of instances. Absent: each call has a fresh one.
    pub reuse: Option<Reuse>,
}

/// Settings and secrets of a subscription, with what its attempts need of them: parsed once, when they are written or loaded.
#[derive(Clone, Debug)]
pub struct LoadedSettings {
    settings: Settings,
    secrets: BTreeMap<String, Secret>,
    target: Target,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Error of a Notify URL that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("the Notify URL cannot be read: {0}")]
pub struct UnreadableUrl(#[from] url::ParseError);

impl LoadedSettings {
    /// Parses new settings. A header whose secret does not exist is left out.
    pub fn new(settings: Settings, secrets: BTreeMap<String, Secret>) -> Result<Self, UnreadableUrl> {
        let url = Url::parse(&settings.notify_url)?;
        Ok(LoadedSettings::with_url(settings, secrets, url))
    }

    /// Parses stored settings. A Notify URL that cannot be parsed (any more) is returned as an error beside them; requests would go to
    /// a name that never resolves (RFC 2606).
    pub fn stored(settings: Settings, secrets: BTreeMap<String, Secret>) -> (Self, Option<UnreadableUrl>) {
        let parsed = Url::parse(&settings.notify_url);
        let error = parsed.as_ref().err().copied().map(UnreadableUrl);
        let url = parsed.unwrap_or_else(|_| Url::parse("https://unreadable.invalid/").expect("a URL"));
        (LoadedSettings::with_url(settings, secrets, url), error)
    }

    fn with_url(settings: Settings, secrets: BTreeMap<String, Secret>, url: Url) -> Self {
        let filled = |(name, value): (&String, &String)| {
            check_header(name, &fill_secrets(value, &secrets).ok()?, HeaderAuthor::Owner).ok()
        };
        let mut headers: Vec<_> = settings.headers.iter().filter_map(filled).collect();
        // Any of them may hold a credential.
        headers.iter_mut().for_each(|(_, value)| value.set_sensitive(true));
        LoadedSettings { settings, secrets, target: url.into(), headers }
    }

    /// Changes the plugins, the limits or the reuse of instances. Nothing that was parsed depends on them.
    pub fn change_calls(&mut self, change: impl FnOnce(&mut Chain, &mut Limits, &mut Option<Reuse>)) {
        change(&mut self.settings.plugin, &mut self.settings.limits, &mut self.settings.reuse);
    }

    /// Notify URL.
    pub fn url(&self) -> &Url {
        self.target.url()
    }

    /// Short name for lists and messages: the description, or else the host of the Notify URL.
    pub fn short_name(&self) -> String {
        if self.settings.description.is_empty() {
            self.url().host_str().unwrap_or_default().to_owned()
        } else {
            self.settings.description.clone()
        }
    }

    /// Notify URL, as the target of requests.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Headers that the owner adds to every request, with the values of secrets in their places.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Secrets by name, for plugins and headers.
    pub fn secrets(&self) -> &BTreeMap<String, Secret> {
        &self.secrets
    }
}

impl Deref for LoadedSettings {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

/// Subscription with its state and secrets.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Id of the subscription.
    pub id: SubscriptionId,
    /// Tenant of the subscription.
    pub tenant: TenantId,
    /// Settings of the owner, and secrets.
    pub settings: LoadedSettings,
    /// Current state.
    pub state: SubscriptionState,
    /// Reason for a state other than active.
    pub state_reason: Option<String>,
    /// Time since which the receiver fails, in milliseconds since the epoch, if it has failed for a while.
    pub failing_since_ms: Option<i64>,
    /// Ended pauses, which do not count as the age of deliveries.
    pub pauses: Pauses,
    /// Number that grows with every edit of settings or secrets.
    pub generation: u64,
    /// Keys that sign the webhooks, current one first.
    pub signing: Vec<SigningKey>,
    /// Time of creation, in milliseconds since the epoch.
    pub created_at_ms: i64,
}

//! Validation of the settings of a subscription. Each fault has its position.

use super::selection::{EventSelection, read_body, read_filter, regex_fault, selection_faults};
use crate::address::{AddressError, check_host, check_url};
use crate::chain::Step;
use crate::headers::{HeaderAuthor, check_header, fill_secrets};
use crate::limits::shortened;
use crate::operations::{FieldFault, Operations, Problem, ReadOnly, fault, merge_patch};
use crate::settle::SettleFault;
use crate::signature::{SigningKey, SigningSecret};
use crate::store::NewSubscription;
use crate::subscription::{LoadedSettings, Ordering, Secret, Settings, Subscription, TenantId, check_secret_name};
use hookloom_egress::transport;
use http::StatusCode;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use utoipa::ToSchema;

/// Settings of a subscription in a request.
#[derive(ToSchema)]
pub(crate) struct SubscriptionWrite {
    #[schema(inline)]
    #[serde(flatten)]
    settings: Settings,
    /// Secrets to set (text) or to delete (null). Secrets that are not named stay.
    #[schema(required = false)]
    secrets: SecretsWrite,
    /// Signing secret chosen by the owner (`whsec_…` or `whsk_…`). Absent: the host creates one, or the present one stays.
    signing_secret: Option<String>,
    #[schema(ignore)]
    pub(crate) read_only: ReadOnly,
}

/// Changes of a subscription: a JSON merge patch (RFC 7396).
#[derive(ToSchema)]
#[allow(dead_code, reason = "the schema's shape; a patch is applied to the settings that are there")]
pub(crate) struct SubscriptionPatch {
    #[serde(flatten)]
    write: SubscriptionWrite,
}

/// Secrets of a subscription in a request.
#[derive(Clone, Debug, ToSchema)]
#[serde(untagged)]
pub(crate) enum SecretsWrite {
    /// Secrets to set (text) or to delete (null).
    Values(BTreeMap<String, Option<String>>),
    /// Names of all existing secrets, as `GET` returns them. Nothing changes.
    Names(Vec<String>),
}

/// Fields of a subscription that only the host changes.
pub(crate) const READ_ONLY: &[&str] = &[
    "id",
    "ascii_host",
    "signing_keys",
    "state",
    "state_reason",
    "failing_since_ms",
    "lane",
    "config_generation",
    "created_at_ms",
    "warnings",
];

impl SubscriptionWrite {
    /// Returns a write that sets no secrets.
    pub(crate) fn of(settings: Settings) -> Self {
        SubscriptionWrite {
            settings,
            secrets: SecretsWrite::Values(BTreeMap::new()),
            signing_secret: None,
            read_only: ReadOnly::default(),
        }
    }

    /// Returns the write with secrets to set or, without a value, to delete, and with a signing secret of the owner's own.
    pub(crate) fn with_secrets(
        self,
        secrets: BTreeMap<String, Option<String>>,
        signing_secret: Option<String>,
    ) -> Self {
        SubscriptionWrite { secrets: SecretsWrite::Values(secrets), signing_secret, ..self }
    }

    /// Parses a new subscription.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Problem> {
        SubscriptionWrite::split(read_body(body)?, ReadOnly::default())
    }

    /// Parses a subscription that may have been read before, with the fields that only the host changes.
    pub(crate) fn read_back(body: &[u8]) -> Result<Self, Problem> {
        let mut object = read_body(body)?;
        let read_only = ReadOnly::split_off(&mut object, READ_ONLY);
        SubscriptionWrite::split(object, read_only)
    }

    /// Parses a merge patch and applies it to the present settings.
    pub(crate) fn patched(patch: &[u8], settings: &Settings) -> Result<Self, Problem> {
        let mut patch = read_body(patch)?;
        let read_only = ReadOnly::split_off(&mut patch, READ_ONLY);
        if patch.get("signing_secret").is_some_and(Value::is_null) {
            let detail = "cannot be removed: POST …/rotate-secret makes a new one";
            return Err(Problem::field("/signing_secret", detail));
        }
        let secret_fields = SECRET_FIELDS.map(|name| patch.remove_entry(name));
        // Not merged: null and absent members have a meaning in a filter.
        let filter = patch.remove_entry("filter");
        let mut whole = serde_json::to_value(settings).map_err(Problem::invalid_body)?;
        merge_patch::apply(&mut whole, Value::Object(patch));
        let mut whole = whole.as_object().cloned().unwrap_or_default();
        whole.extend(secret_fields.into_iter().flatten().chain(filter));
        SubscriptionWrite::split(whole, read_only)
    }

    /// Splits the object, because settings refuse unknown fields and cannot be flattened.
    fn split(mut object: Map<String, Value>, read_only: ReadOnly) -> Result<Self, Problem> {
        let [secrets, signing_secret] = SECRET_FIELDS.map(|name| object.remove(name));
        let secrets = match secrets {
            None => SecretsWrite::Values(BTreeMap::new()),
            Some(names @ Value::Array(_)) => {
                SecretsWrite::Names(serde_json::from_value(names).map_err(|error| invalid_field("secrets", &error))?)
            }
            Some(values) => {
                SecretsWrite::Values(serde_json::from_value(values).map_err(|error| invalid_field("secrets", &error))?)
            }
        };
        let signing_secret = serde_json::from_value(signing_secret.unwrap_or_default());
        let signing_secret = signing_secret.map_err(|error| invalid_field("signing_secret", &error))?;
        let filter = read_filter(object.remove("filter").unwrap_or_default())?;
        let settings: Settings = serde_json::from_value(Value::Object(object)).map_err(Problem::invalid_body)?;
        Ok(SubscriptionWrite { settings: Settings { filter, ..settings }, secrets, signing_secret, read_only })
    }

    /// Checks everything and combines it with the previous subscription.
    pub(crate) async fn check(
        self,
        operations: &Operations,
        tenant: &TenantId,
        old: Option<&Subscription>,
    ) -> Result<NewSubscription, Problem> {
        let mut settings = self.settings;
        settings.modules.sort_unstable();
        settings.modules.dedup();
        let mut secrets = old.map(|old| old.settings.secrets().clone()).unwrap_or_default();
        let new_secrets = match self.secrets {
            SecretsWrite::Values(values) => values,
            SecretsWrite::Names(names) => {
                check_names(names, &secrets)?;
                BTreeMap::new()
            }
        };
        // Existing secrets may have names from before the rule.
        let new_names = new_secrets.iter().filter(|(name, value)| value.is_some() && !secrets.contains_key(*name));
        let bad_names: Vec<_> = new_names.filter_map(|(name, _)| check_secret_name(name).err()).collect();
        for (name, value) in new_secrets {
            match value {
                Some(value) => secrets.insert(name, value.into()),
                None => secrets.remove(&name),
            };
        }
        let mut faults = settings_faults(&settings, &secrets, operations, tenant);
        let earlier = old.map_or(&[][..], |old| &old.settings.events);
        let selection = EventSelection { modules: &settings.modules, events: &settings.events, earlier };
        faults.extend(selection_faults(&selection, operations, tenant));
        let filter = settings.filter.as_ref();
        faults.extend(filter.and_then(|filter| regex_fault(filter, operations, tenant, old.map(|old| old.id))));
        faults.extend(bad_names.into_iter().map(|detail| fault("/secrets", detail)));
        faults.extend(plugin_faults(&settings, operations, tenant).await);
        faults.extend(operations.config_faults(tenant, &settings).await?);
        let signing = match (self.signing_secret, old) {
            (Some(text), _) => match SigningSecret::parse(&text) {
                Ok(secret) => vec![SigningKey::current(secret)],
                Err(error) => {
                    faults.push(fault("/signing_secret", error.to_string()));
                    Vec::new()
                }
            },
            (None, Some(old)) => old.signing.clone(),
            (None, None) => vec![SigningKey::current(SigningSecret::generate())],
        };
        if !faults.is_empty() {
            return Err(Problem::fields(faults));
        }
        let settings = LoadedSettings::new(settings, secrets);
        let settings = settings.map_err(|error| Problem::field("/notify_url", error.to_string()))?;
        Ok(NewSubscription { settings, signing })
    }
}

/// Fields of a body that are not settings.
const SECRET_FIELDS: [&str; 2] = ["secrets", "signing_secret"];

fn invalid_field(name: &str, error: &serde_json::Error) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body", format!("the body does not fit: {name}: {error}"))
        .remedy("GET /openapi.json shows the shape")
}

/// Refuses a list of names that differs from the existing one, because a list can neither set nor delete a secret.
fn check_names(names: Vec<String>, secrets: &BTreeMap<String, Secret>) -> Result<(), Problem> {
    if names.into_iter().collect::<BTreeSet<_>>().iter().eq(secrets.keys()) {
        return Ok(());
    }
    let detail = "a list of names can only repeat the names that are there; write {\"NAME\": \"value\"} to set a secret and {\"NAME\": null} to delete one";
    Err(Problem::field("/secrets", detail))
}

/// Maximum length of a text for people, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 1_000;

/// Maximum number of config entries, and of secrets. Enough for any plugin, and too few to fill a disk.
const CONFIG_ENTRIES_MAX: usize = 256;
const CONFIG_BYTES_MAX: usize = 64 << 10;

fn settings_faults(
    settings: &Settings,
    secrets: &BTreeMap<String, Secret>,
    operations: &Operations,
    tenant: &TenantId,
) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    let egress = operations.store.catalog().tenant(tenant).map(|tenant| tenant.egress.clone()).unwrap_or_default();
    let policy = operations.config.address_policy().narrowed(&egress);
    if let Err(error) = check_url(&settings.notify_url, &policy) {
        faults.push(fault("/notify_url", error.to_string()));
    }
    let transport = transport::ready(&settings.transport, secrets, &policy).err().unwrap_or_default();
    faults.extend(transport.into_iter().map(|(field, detail)| fault(&format!("/transport/{field}"), detail)));
    if let Err(detail) = settings.retry.check() {
        faults.push(fault("/retry", detail));
    }
    if let Err(detail) = settings.limits.check(&operations.plugins.limits_max(tenant)) {
        faults.push(fault("/limits", detail));
    }
    if let Some(Err(detail)) = settings.reuse.map(|reuse| reuse.check()) {
        faults.push(fault("/reuse", detail));
    }
    if !(1_000..=30_000).contains(&settings.timeout_ms) {
        faults.push(fault("/timeout_ms", "a deadline is 1000 to 30000 ms"));
    }
    faults.extend(rate_faults(settings));
    faults.extend(url_host_faults(settings));
    if settings.description.len() > TEXT_BYTES_MAX {
        faults.push(fault("/description", format!("at most {TEXT_BYTES_MAX} bytes")));
    }
    let config_bytes: usize = settings.config.iter().map(|(key, value)| key.len() + value.len()).sum();
    if settings.config.len() > CONFIG_ENTRIES_MAX || config_bytes > CONFIG_BYTES_MAX {
        faults.push(fault(
            "/config",
            format!("at most {CONFIG_ENTRIES_MAX} entries of {CONFIG_BYTES_MAX} bytes together"),
        ));
    }
    let secret_bytes: usize = secrets.iter().map(|(name, secret)| name.len() + secret.expose().len()).sum();
    if secrets.len() > CONFIG_ENTRIES_MAX || secret_bytes > CONFIG_BYTES_MAX {
        faults.push(fault(
            "/secrets",
            format!("at most {CONFIG_ENTRIES_MAX} secrets of {CONFIG_BYTES_MAX} bytes together"),
        ));
    }
    faults.extend(header_faults(settings, secrets));
    faults.extend(transport_size_faults(settings));
    faults
}

/// Maximum number of hosts that a plugin may send to.
const URL_HOSTS_MAX: usize = 32;

fn url_host_faults(settings: &Settings) -> Vec<FieldFault> {
    if settings.url_hosts.len() > URL_HOSTS_MAX {
        return vec![fault("/url_hosts", format!("at most {URL_HOSTS_MAX} host names"))];
    }
    fn check((index, host): (usize, &String)) -> Option<FieldFault> {
        let error = check_host(host).err()?;
        let reason = match error {
            AddressError::Unreadable(reason) => reason.to_string(),
            other => other.to_string(),
        };
        let shown = shortened(host, 253);
        let detail = format!(
            "{shown:?} is not a host name ({reason}): write it without scheme and port, as in hooks.example.com"
        );
        Some(fault(&format!("/url_hosts/{index}"), detail))
    }
    // An empty entry, which forms send, is the host of no URL.
    settings.url_hosts.iter().enumerate().filter(|(_, host)| !host.is_empty()).filter_map(check).collect()
}

/// Maximum size of a subscription's headers, names and values together, in bytes.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// Maximum sizes of the transport's fields, in bytes. A certificate authority has some kilobytes.
const AUTHORITIES_BYTES_MAX: usize = 64 << 10;
const PROXY_BYTES_MAX: usize = 4 << 10;

fn transport_size_faults(settings: &Settings) -> Vec<FieldFault> {
    let transport = &settings.transport;
    let fields = [
        ("proxy", &transport.proxy, PROXY_BYTES_MAX),
        ("proxy_authorization", &transport.proxy_authorization, PROXY_BYTES_MAX),
        ("authorities", &transport.authorities, AUTHORITIES_BYTES_MAX),
        ("client_certificate", &transport.client_certificate, TEXT_BYTES_MAX),
    ];
    let too_long = fields.into_iter().filter(|(_, text, most)| text.as_ref().is_some_and(|text| text.len() > *most));
    too_long.map(|(field, _, most)| fault(&format!("/transport/{field}"), format!("at most {most} bytes"))).collect()
}

/// Returns the settings of concurrency, rate, order and settling that are out of range.
fn rate_faults(settings: &Settings) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    if settings.rate_per_s.is_some_and(|rate| !(1..=10_000).contains(&rate)) {
        faults.push(fault("/rate_per_s", "1 to 10000 requests may begin in a second"));
    }
    if matches!(settings.ordering, Some(Ordering::SkipAfter { attempts }) if !(1..=100).contains(&attempts)) {
        faults.push(fault("/ordering/attempts", "events wait for 1 to 100 attempts of one that fails"));
    }
    if let Some(settle) = settings.settle {
        if let Err(SettleFault { field, detail }) = settle.check() {
            faults.push(fault(&format!("/settle/{field}"), detail));
        }
        if settings.retry.first_wait_ms() > 0 {
            let detail = "the quiet time stands in the place of an initial delay: begin retry.schedule_s with 0";
            faults.push(fault("/settle", detail));
        }
    }
    if settings.disable_after_s > 90 * 86_400 {
        faults.push(fault("/disable_after_s", "at most 7776000 (90 days); 0 means never"));
    }
    if !(1..=256).contains(&settings.concurrency) {
        faults.push(fault("/concurrency", "1 to 256 requests may be under way at once"));
    }
    faults
}

async fn plugin_faults(settings: &Settings, operations: &Operations, tenant: &TenantId) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    for step in &settings.plugin.0 {
        let Step { plugin, pin } = step;
        if operations.plugins.can_judge(tenant, step).await {
            continue;
        }
        faults.push(fault("/plugin", match pin {
            Some(pin) => format!("the plugin {plugin:?} has no version {pin}: GET /v1/tenants/{tenant}/plugins/{plugin}/versions lists them"),
            None => format!("there is no plugin {plugin:?}: PUT /v1/tenants/{tenant}/plugins/{plugin} first"),
        }));
    }
    faults
}

fn header_faults(settings: &Settings, secrets: &BTreeMap<String, Secret>) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    if settings.headers.len() > 32 {
        faults.push(fault("/headers", "at most 32 headers"));
    }
    let bytes: usize = settings.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > HEADER_BYTES_MAX {
        faults.push(fault("/headers", format!("at most {HEADER_BYTES_MAX} bytes, names and values together")));
        return faults;
    }
    let mut names = HashSet::new();
    for (name, value) in &settings.headers {
        if !names.insert(name.to_lowercase()) {
            faults.push(fault(&format!("/headers/{name}"), "the name occurs twice, in upper and lower case"));
        }
        let checked = fill_secrets(value, secrets).and_then(|filled| check_header(name, &filled, HeaderAuthor::Owner));
        if let Err(detail) = checked {
            faults.push(fault(&format!("/headers/{name}"), detail));
        }
    }
    faults
}

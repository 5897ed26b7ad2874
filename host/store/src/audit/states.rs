//! States of changed things in the log of changes: the fields that may be shown.
//!
//! # Guarantees
//! - A struct lists its fields, and takes them from a value without `..`. A field that is added to settings does not compile until
//!   somebody has decided here whether it may be shown.
//! - Secrets and texts of keys are not reachable from a state: a subscription shows the names of its secrets and the public half of
//!   its signing keys.

use crate::usage::TenantContents;
use hookloom_model::access::{ApiKey, IntakeToken, Scope};
use hookloom_model::address::Egress;
use hookloom_model::alerts::AlertSettings;
use hookloom_model::chain::Chain;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::DeliveryState;
use hookloom_model::event::Module;
use hookloom_model::event_type::EventTypes;
use hookloom_model::filter::Filter;
use hookloom_model::inspector::BinSettings;
use hookloom_model::limits::Limits;
use hookloom_model::portal::{EndedPortal, PortalLink};
use hookloom_model::retry::RetryPolicy;
use hookloom_model::settle::Settle;
use hookloom_model::signature::SigningKey;
use hookloom_model::subscription::{
    OnPluginFault, Ordering, Reuse, Settings, Subscription, SubscriptionState, Tenant, TenantId, Transport,
};
use serde::Serialize;
use std::collections::BTreeMap;
use uuid::Uuid;

/// State in an entry.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum AuditState<'a> {
    Alerts(&'a AlertSettings),
    Bin(&'a BinSettings),
    Contents(&'a TenantContents),
    Key(KeyAudit<'a>),
    Plugin { versions: &'a [String] },
    PortalEnd(PortalEndAudit),
    PortalLink(PortalLinkAudit<'a>),
    Rollout(&'a RolloutAudit<'a>),
    Selection(&'a SelectionAudit),
    Sha256(&'a str),
    Subscription(Box<SubscriptionAudit<'a>>),
    SubscriptionState(SubscriptionState),
    Tenant(TenantAudit<'a>),
    Token(TokenAudit<'a>),
}

/// Key, without its text and hash.
#[derive(Serialize)]
pub(crate) struct KeyAudit<'a> {
    id: Uuid,
    hint: &'a str,
    scopes: &'a [Scope],
    label: &'a str,
    created_at_ms: i64,
}

impl<'a> KeyAudit<'a> {
    pub(super) fn of(key: &'a ApiKey) -> Self {
        let ApiKey { id, tenant: _, scopes, hint, label, created_at_ms } = key;
        KeyAudit { id: *id, hint, scopes, label, created_at_ms: *created_at_ms }
    }
}

impl<'a> From<KeyAudit<'a>> for AuditState<'a> {
    fn from(key: KeyAudit<'a>) -> Self {
        AuditState::Key(key)
    }
}

/// Intake token, without its text and hash.
#[derive(Serialize)]
pub(crate) struct TokenAudit<'a> {
    id: Uuid,
    hint: &'a str,
    label: &'a str,
    created_at_ms: i64,
}

impl<'a> TokenAudit<'a> {
    pub(super) fn of(token: &'a IntakeToken) -> Self {
        let IntakeToken { id, tenant: _, hint, label, created_at_ms } = token;
        TokenAudit { id: *id, hint, label, created_at_ms: *created_at_ms }
    }
}

impl<'a> From<TokenAudit<'a>> for AuditState<'a> {
    fn from(token: TokenAudit<'a>) -> Self {
        AuditState::Token(token)
    }
}

/// Link to the portal, without its token.
#[derive(Serialize)]
pub(crate) struct PortalLinkAudit<'a> {
    id: Uuid,
    expires_at_ms: i64,
    session_s: u32,
    read_only: bool,
    return_url: Option<&'a str>,
}

impl<'a> PortalLinkAudit<'a> {
    pub(super) fn of(link: &'a PortalLink) -> Self {
        let PortalLink { id, tenant: _, session_s, is_read_only, return_url, created_at_ms: _, expires_at_ms } = link;
        PortalLinkAudit {
            id: *id,
            expires_at_ms: *expires_at_ms,
            session_s: *session_s,
            read_only: *is_read_only,
            return_url: return_url.as_deref(),
        }
    }
}

impl<'a> From<PortalLinkAudit<'a>> for AuditState<'a> {
    fn from(link: PortalLinkAudit<'a>) -> Self {
        AuditState::PortalLink(link)
    }
}

/// Links and sessions of the portal that were ended.
#[derive(Serialize)]
pub(crate) struct PortalEndAudit {
    links: u64,
    sessions: u64,
}

impl PortalEndAudit {
    pub(super) fn of(ended: EndedPortal) -> Self {
        let EndedPortal { links, sessions } = ended;
        PortalEndAudit { links, sessions }
    }
}

impl From<PortalEndAudit> for AuditState<'_> {
    fn from(ended: PortalEndAudit) -> Self {
        AuditState::PortalEnd(ended)
    }
}

/// Tenant with its settings.
#[derive(Serialize)]
pub(crate) struct TenantAudit<'a> {
    id: &'a TenantId,
    event_types: &'a EventTypes,
    limits_max: &'a BTreeMap<String, u64>,
    egress: &'a Egress,
    created_at_ms: i64,
}

impl<'a> TenantAudit<'a> {
    pub(super) fn of(tenant: &'a Tenant) -> Self {
        let Tenant { id, event_types, limits_max, egress, alerts: _, created_at_ms } = tenant;
        TenantAudit { id, event_types, limits_max, egress, created_at_ms: *created_at_ms }
    }
}

impl<'a> From<TenantAudit<'a>> for AuditState<'a> {
    fn from(tenant: TenantAudit<'a>) -> Self {
        AuditState::Tenant(tenant)
    }
}

/// Version of a rollout that begins.
#[derive(Serialize)]
pub(crate) struct RolloutAudit<'a> {
    /// `canary` or `shadow`.
    pub(crate) kind: &'static str,
    pub(crate) sha256: &'a str,
    /// None for a shadow.
    pub(crate) percent: Option<f64>,
}

/// Deliveries that a redrive selects, or events that a replay selects.
#[derive(Clone, Serialize)]
pub(crate) struct SelectionAudit {
    /// States in which the deliveries had ended, for a redrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) states: Option<Vec<DeliveryState>>,
    /// Beginning of the time span, in milliseconds since the epoch, inclusive.
    pub(crate) from_ms: i64,
    /// End of the time span, exclusive. None: until the redrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to_ms: Option<i64>,
    /// Number of deliveries, if one transaction made all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deliveries: Option<u64>,
}

/// Subscription with its settings, the names of its secrets, and the public half of its signing keys.
#[derive(Serialize)]
pub(crate) struct SubscriptionAudit<'a> {
    id: Uuid,
    #[serde(flatten)]
    settings: SettingsAudit<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ascii_host: Option<String>,
    /// Names of the secrets.
    secrets: Vec<&'a str>,
    signing_keys: Vec<SigningKeyAudit>,
    state: SubscriptionState,
    state_reason: Option<&'a str>,
    failing_since_ms: Option<i64>,
    config_generation: u64,
    created_at_ms: i64,
}

impl<'a> SubscriptionAudit<'a> {
    pub(super) fn of(subscription: &'a Subscription) -> Self {
        let Subscription {
            id,
            tenant: _,
            settings,
            state,
            state_reason,
            failing_since_ms,
            pauses: _,
            generation,
            signing,
            created_at_ms,
        } = subscription;
        SubscriptionAudit {
            id: id.0,
            ascii_host: settings.ascii_host(),
            secrets: settings.secrets().keys().map(String::as_str).collect(),
            settings: SettingsAudit::of(settings),
            signing_keys: signing.iter().filter(|key| key.signs_at(now_ms())).map(SigningKeyAudit::of).collect(),
            state: *state,
            state_reason: state_reason.as_deref(),
            failing_since_ms: *failing_since_ms,
            config_generation: *generation,
            created_at_ms: *created_at_ms,
        }
    }
}

impl<'a> From<SubscriptionAudit<'a>> for AuditState<'a> {
    fn from(subscription: SubscriptionAudit<'a>) -> Self {
        AuditState::Subscription(Box::new(subscription))
    }
}

/// Settings of a subscription. Headers show a secret by its name: `{{secret:NAME}}`.
#[derive(Serialize)]
struct SettingsAudit<'a> {
    notify_url: &'a str,
    modules: &'a [Module],
    events: &'a [String],
    filter: Option<&'a Filter>,
    description: &'a str,
    plugin: &'a Chain,
    config: &'a BTreeMap<String, String>,
    headers: &'a BTreeMap<String, String>,
    url_hosts: &'a [String],
    url_allow_http: bool,
    transport: TransportAudit<'a>,
    retry: &'a RetryPolicy,
    limits: &'a Limits,
    reuse: Option<Reuse>,
    on_plugin_fault: OnPluginFault,
    timeout_ms: u64,
    concurrency: u32,
    rate_per_s: Option<u32>,
    ordering: Option<Ordering>,
    settle: Option<Settle>,
    disable_after_s: u64,
    traceparent: bool,
}

impl<'a> SettingsAudit<'a> {
    fn of(settings: &'a Settings) -> Self {
        let Settings {
            notify_url,
            modules,
            events,
            filter,
            description,
            plugin,
            config,
            headers,
            url_hosts,
            url_allow_http,
            transport,
            retry,
            limits,
            reuse,
            on_plugin_fault,
            timeout_ms,
            concurrency,
            rate_per_s,
            ordering,
            settle,
            disable_after_s,
            traceparent,
        } = settings;
        SettingsAudit {
            notify_url,
            modules,
            events,
            filter: filter.as_ref(),
            description,
            plugin,
            config,
            headers,
            url_hosts,
            url_allow_http: *url_allow_http,
            transport: TransportAudit::of(transport),
            retry,
            limits,
            reuse: *reuse,
            on_plugin_fault: *on_plugin_fault,
            timeout_ms: *timeout_ms,
            concurrency: *concurrency,
            rate_per_s: *rate_per_s,
            ordering: *ordering,
            settle: *settle,
            disable_after_s: *disable_after_s,
            traceparent: *traceparent,
        }
    }
}

/// Transport of a subscription. The client certificate is the name of a secret.
#[derive(Serialize)]
struct TransportAudit<'a> {
    proxy: Option<&'a str>,
    proxy_authorization: Option<&'a str>,
    authorities: Option<&'a str>,
    client_certificate: Option<&'a str>,
}

impl<'a> TransportAudit<'a> {
    fn of(transport: &'a Transport) -> Self {
        let Transport { proxy, proxy_authorization, authorities, client_certificate } = transport;
        TransportAudit {
            proxy: proxy.as_deref(),
            proxy_authorization: proxy_authorization.as_deref(),
            authorities: authorities.as_deref(),
            client_certificate: client_certificate.as_deref(),
        }
    }
}

/// Signing key, without its secret.
#[derive(Serialize)]
struct SigningKeyAudit {
    scheme: &'static str,
    public_key: Option<String>,
    until_ms: Option<i64>,
}

impl SigningKeyAudit {
    fn of(key: &SigningKey) -> Self {
        let SigningKey { secret, until_ms } = key;
        SigningKeyAudit { scheme: secret.scheme(), public_key: secret.public_key(), until_ms: *until_ms }
    }
}

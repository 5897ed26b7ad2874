//! Actors and actions of the log of changes.
//!
//! # Guarantees
//! - An action has the things that it was done to, so that its entry cannot have another subject or state.
//! - A state in an entry is a struct of [`states`], which lists the fields that may be shown. No struct has a field for a secret.
//!
//! # Limits
//! Does not know how entries are stored ([`changes`](crate::backend::changes)). Texts of actions are stored and shown: they never change.

mod states;

pub(crate) use states::{AuditState, RolloutAudit, SelectionAudit};

use crate::usage::TenantContents;
use hookloom_model::access::{ApiKey, IntakeToken};
use hookloom_model::alerts::AlertSettings;
use hookloom_model::delivery::DeliveryId;
use hookloom_model::ids::BinId;
use hookloom_model::inspector::{Bin, BinSettings};
use hookloom_model::portal::{EndedPortal, PortalLink};
use hookloom_model::subscription::{Subscription, SubscriptionId, SubscriptionState, Tenant};
use states::{KeyAudit, PortalEndAudit, PortalLinkAudit, SubscriptionAudit, TenantAudit, TokenAudit};
use std::net::IpAddr;
use uuid::Uuid;

/// Author of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Key of an operator or a tenant, by its label and first characters.
    Key(String),
    /// File in the plugins folder. Its changes have no entry: the version names the folder.
    PluginsFolder,
    /// The host itself. Its changes have no entry.
    Host,
}

impl From<&ApiKey> for Actor {
    fn from(key: &ApiKey) -> Self {
        Actor::Key(key.shown())
    }
}

impl Actor {
    /// Returns the text by which people recognise the author.
    pub fn shown(&self) -> &str {
        match self {
            Actor::Key(shown) => shown,
            Actor::PluginsFolder => "plugins folder",
            Actor::Host => "host",
        }
    }
}

/// Action of an entry, with the things that it was done to.
pub(crate) enum AuditAction<'a> {
    AlertsUpdate {
        before: &'a AlertSettings,
        after: &'a AlertSettings,
    },
    AdminKeyCreate(&'a ApiKey),
    AdminKeyRevoke(&'a ApiKey),
    BinClear(&'a BinId),
    BinCreate(&'a Bin),
    BinDelete(&'a BinId),
    BinForget {
        bin: &'a BinId,
        request: Uuid,
    },
    BinReplay {
        request: Uuid,
        host: &'a str,
    },
    BinUpdate {
        id: &'a BinId,
        before: &'a BinSettings,
        after: &'a BinSettings,
    },
    DeliveryCancel(DeliveryId),
    DeliveryRetry(DeliveryId),
    IntakeTokenCreate(&'a IntakeToken),
    IntakeTokenRevoke(Uuid),
    IntakeTokenRotate {
        before: &'a IntakeToken,
        after: &'a IntakeToken,
    },
    KeyCreate(&'a ApiKey),
    KeyRevoke(&'a ApiKey),
    PluginActivate {
        name: &'a str,
        sha256: &'a str,
    },
    PluginAddVersion {
        name: &'a str,
        sha256: &'a str,
    },
    PluginBeginRollout {
        name: &'a str,
        rollout: RolloutAudit<'a>,
    },
    PluginDelete {
        name: &'a str,
        versions: &'a [String],
    },
    PluginDeleteVersion {
        name: &'a str,
        sha256: &'a str,
    },
    PluginEndRollout(&'a str),
    PluginUpload {
        name: &'a str,
        sha256: &'a str,
    },
    /// End of all links and sessions of the portal.
    PortalEnd(EndedPortal),
    PortalLinkCreate(&'a PortalLink),
    /// With the address that the session was opened from.
    PortalSessionOpen(IpAddr),
    RejectedRequestDelete(Uuid),
    RejectedRequestResubmit(Uuid),
    ShardMove {
        shard: u8,
        /// None: to any host.
        to: Option<i16>,
    },
    /// With the address that the session was opened from.
    SessionSignIn(IpAddr),
    SignInLinkCreate(&'a ApiKey),
    SubscriptionCreate(&'a Subscription),
    SubscriptionDelete(&'a Subscription),
    SubscriptionRedrive {
        id: SubscriptionId,
        selection: SelectionAudit,
    },
    SubscriptionReplay {
        id: SubscriptionId,
        selection: SelectionAudit,
    },
    SubscriptionRotateSecret(SubscriptionId),
    SubscriptionState {
        id: SubscriptionId,
        before: SubscriptionState,
        after: SubscriptionState,
    },
    SubscriptionTest(SubscriptionId),
    SubscriptionUpdate {
        before: &'a Subscription,
        after: &'a Subscription,
    },
    TenantCreate(&'a Tenant),
    TenantDelete(&'a TenantContents),
    TenantUpdate {
        before: &'a Tenant,
        after: &'a Tenant,
    },
}

impl AuditAction<'_> {
    /// Returns the stored text.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            AuditAction::AlertsUpdate { .. } => "alerts.update",
            AuditAction::AdminKeyCreate(_) => "admin-key.create",
            AuditAction::AdminKeyRevoke(_) => "admin-key.revoke",
            AuditAction::BinClear(_) => "bin.clear",
            AuditAction::BinCreate(_) => "bin.create",
            AuditAction::BinDelete(_) => "bin.delete",
            AuditAction::BinForget { .. } => "bin.forget",
            AuditAction::BinReplay { .. } => "bin.replay",
            AuditAction::BinUpdate { .. } => "bin.update",
            AuditAction::DeliveryCancel(_) => "delivery.cancel",
            AuditAction::DeliveryRetry(_) => "delivery.retry",
            AuditAction::IntakeTokenCreate(_) => "intake-token.create",
            AuditAction::IntakeTokenRevoke(_) => "intake-token.revoke",
            AuditAction::IntakeTokenRotate { .. } => "intake-token.rotate",
            AuditAction::KeyCreate(_) => "key.create",
            AuditAction::KeyRevoke(_) => "key.revoke",
            AuditAction::PluginActivate { .. } => "plugin.activate",
            AuditAction::PluginAddVersion { .. } => "plugin.add-version",
            AuditAction::PluginBeginRollout { .. } => "plugin.begin-rollout",
            AuditAction::PluginDelete { .. } => "plugin.delete",
            AuditAction::PluginDeleteVersion { .. } => "plugin.delete-version",
            AuditAction::PluginEndRollout(_) => "plugin.end-rollout",
            AuditAction::PluginUpload { .. } => "plugin.upload",
            AuditAction::PortalEnd(_) => "portal.end",
            AuditAction::PortalLinkCreate(_) => "portal-link.create",
            AuditAction::PortalSessionOpen(_) => "portal-session.open",
            AuditAction::RejectedRequestDelete(_) => "rejected-request.delete",
            AuditAction::RejectedRequestResubmit(_) => "rejected-request.resubmit",
            AuditAction::SessionSignIn(_) => "session.sign-in",
            AuditAction::ShardMove { .. } => "shard.move",
            AuditAction::SignInLinkCreate(_) => "sign-in-link.create",
            AuditAction::SubscriptionCreate(_) => "subscription.create",
            AuditAction::SubscriptionDelete(_) => "subscription.delete",
            AuditAction::SubscriptionRedrive { .. } => "subscription.redrive",
            AuditAction::SubscriptionReplay { .. } => "subscription.replay",
            AuditAction::SubscriptionRotateSecret(_) => "subscription.rotate-secret",
            AuditAction::SubscriptionState { .. } => "subscription.state",
            AuditAction::SubscriptionTest(_) => "subscription.test",
            AuditAction::SubscriptionUpdate { .. } => "subscription.update",
            AuditAction::TenantCreate(_) => "tenant.create",
            AuditAction::TenantDelete(_) => "tenant.delete",
            AuditAction::TenantUpdate { .. } => "tenant.update",
        }
    }

    /// Returns the name or id of the changed thing.
    pub(crate) fn subject(&self) -> String {
        match self {
            AuditAction::AlertsUpdate { .. } => "alerts".to_owned(),
            AuditAction::AdminKeyCreate(key)
            | AuditAction::AdminKeyRevoke(key)
            | AuditAction::KeyCreate(key)
            | AuditAction::KeyRevoke(key)
            | AuditAction::SignInLinkCreate(key) => key.shown(),
            AuditAction::BinClear(id) | AuditAction::BinDelete(id) | AuditAction::BinUpdate { id, .. } => {
                id.to_string()
            }
            AuditAction::BinCreate(bin) => bin.id.to_string(),
            AuditAction::BinForget { bin, request } => format!("{bin}/{request}"),
            AuditAction::BinReplay { request, host } => format!("{request} to {host}"),
            AuditAction::DeliveryCancel(id) | AuditAction::DeliveryRetry(id) => id.to_string(),
            AuditAction::IntakeTokenCreate(token) | AuditAction::IntakeTokenRotate { before: token, .. } => {
                token.id.to_string()
            }
            AuditAction::IntakeTokenRevoke(id)
            | AuditAction::RejectedRequestDelete(id)
            | AuditAction::RejectedRequestResubmit(id) => id.to_string(),
            AuditAction::PluginActivate { name, .. }
            | AuditAction::PluginAddVersion { name, .. }
            | AuditAction::PluginBeginRollout { name, .. }
            | AuditAction::PluginDelete { name, .. }
            | AuditAction::PluginDeleteVersion { name, .. }
            | AuditAction::PluginEndRollout(name)
            | AuditAction::PluginUpload { name, .. } => (*name).to_owned(),
            AuditAction::PortalEnd(_) => "portal".to_owned(),
            AuditAction::PortalLinkCreate(link) => link.shown(),
            AuditAction::PortalSessionOpen(address) | AuditAction::SessionSignIn(address) => address.to_string(),
            AuditAction::ShardMove { shard, to: Some(host) } => format!("{shard} to host {host}"),
            AuditAction::ShardMove { shard, to: None } => format!("{shard} to any host"),
            AuditAction::SubscriptionCreate(subscription)
            | AuditAction::SubscriptionDelete(subscription)
            | AuditAction::SubscriptionUpdate { after: subscription, .. } => subscription.id.to_string(),
            AuditAction::SubscriptionRedrive { id, .. }
            | AuditAction::SubscriptionReplay { id, .. }
            | AuditAction::SubscriptionRotateSecret(id)
            | AuditAction::SubscriptionState { id, .. }
            | AuditAction::SubscriptionTest(id) => id.to_string(),
            AuditAction::TenantCreate(tenant) | AuditAction::TenantUpdate { after: tenant, .. } => {
                tenant.id.to_string()
            }
            AuditAction::TenantDelete(contents) => contents.tenant.clone(),
        }
    }

    /// Returns the states before and after the action. None: there was none, or it is not recorded.
    pub(crate) fn states(&self) -> [Option<AuditState<'_>>; 2] {
        match self {
            AuditAction::AlertsUpdate { before, after } => {
                [*before, *after].map(|settings| Some(AuditState::Alerts(settings)))
            }
            AuditAction::AdminKeyCreate(key) | AuditAction::KeyCreate(key) => [None, Some(KeyAudit::of(key).into())],
            AuditAction::BinCreate(bin) => [None, Some(AuditState::Bin(&bin.settings))],
            AuditAction::BinUpdate { before, after, .. } => [*before, *after].map(|bin| Some(AuditState::Bin(bin))),
            AuditAction::IntakeTokenCreate(token) => [None, Some(TokenAudit::of(token).into())],
            AuditAction::IntakeTokenRotate { before, after } => {
                [*before, *after].map(|token| Some(TokenAudit::of(token).into()))
            }
            AuditAction::PluginActivate { sha256, .. }
            | AuditAction::PluginAddVersion { sha256, .. }
            | AuditAction::PluginUpload { sha256, .. } => [None, Some(AuditState::Sha256(sha256))],
            AuditAction::PluginBeginRollout { rollout, .. } => [None, Some(AuditState::Rollout(rollout))],
            AuditAction::PluginDelete { versions, .. } => [Some(AuditState::Plugin { versions }), None],
            AuditAction::PluginDeleteVersion { sha256, .. } => [Some(AuditState::Sha256(sha256)), None],
            AuditAction::PortalEnd(ended) => [Some(PortalEndAudit::of(*ended).into()), None],
            AuditAction::PortalLinkCreate(link) => [None, Some(PortalLinkAudit::of(link).into())],
            AuditAction::SubscriptionCreate(after) => [None, Some(SubscriptionAudit::of(after).into())],
            AuditAction::SubscriptionDelete(before) => [Some(SubscriptionAudit::of(before).into()), None],
            AuditAction::SubscriptionUpdate { before, after } => {
                [*before, *after].map(|subscription| Some(SubscriptionAudit::of(subscription).into()))
            }
            AuditAction::SubscriptionRedrive { selection, .. } | AuditAction::SubscriptionReplay { selection, .. } => {
                [None, Some(AuditState::Selection(selection))]
            }
            AuditAction::SubscriptionState { before, after, .. } => {
                [*before, *after].map(|state| Some(AuditState::SubscriptionState(state)))
            }
            AuditAction::TenantCreate(tenant) => [None, Some(TenantAudit::of(tenant).into())],
            AuditAction::TenantUpdate { before, after } => {
                [*before, *after].map(|tenant| Some(TenantAudit::of(tenant).into()))
            }
            AuditAction::TenantDelete(contents) => [Some(AuditState::Contents(contents)), None],
            AuditAction::AdminKeyRevoke(_)
            | AuditAction::BinClear(_)
            | AuditAction::BinDelete(_)
            | AuditAction::BinForget { .. }
            | AuditAction::BinReplay { .. }
            | AuditAction::DeliveryCancel(_)
            | AuditAction::DeliveryRetry(_)
            | AuditAction::IntakeTokenRevoke(_)
            | AuditAction::KeyRevoke(_)
            | AuditAction::PluginEndRollout(_)
            | AuditAction::PortalSessionOpen(_)
            | AuditAction::RejectedRequestDelete(_)
            | AuditAction::RejectedRequestResubmit(_)
            | AuditAction::SessionSignIn(_)
            | AuditAction::ShardMove { .. }
            | AuditAction::SignInLinkCreate(_)
            | AuditAction::SubscriptionRotateSecret(_)
            | AuditAction::SubscriptionTest(_) => [None, None],
        }
    }
}

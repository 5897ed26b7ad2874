//! MemoryTables of the backend in memory.

use super::fleet_tables::FleetTables;
use super::sorted_table::SortedTable;
use crate::backend::access::CredentialHash;
use crate::backend::alerts::AlertEmail;
use crate::backend::changes::Change;
use crate::backend::deliveries::Pruned;
use crate::backend::inspector::RejectedRequest;
use crate::backend::intake::Accepted;
use crate::backend::plugins::{PluginVersion, StoredPlugin};
use crate::backend::rollouts::{Quarantine, StoredRollout};
use crate::catalog::Catalog;
use crate::settling::Settling;
use bytes::Bytes;
use hookloom_model::access::{ApiKey, IntakeToken, Session};
use hookloom_model::alerts::Incident;
use hookloom_model::delivery::{Attempt, DeliveryId, DeliveryKind, DeliveryState, Reason};
use hookloom_model::event::{Event, EventId};
use hookloom_model::figures::Figures;
use hookloom_model::ids::{AlertEmailId, BinId, IncidentId};
use hookloom_model::inspector::{Bin, BinRequest};
use hookloom_model::portal::{PortalLink, PortalSession};
use hookloom_model::settle::SettledEvents;
use hookloom_model::subscription::{Subscription, SubscriptionId, Tenant, TenantId};
use std::sync::Arc;
use uuid::Uuid;

/// All tables.
#[derive(Clone, Default)]
pub(super) struct MemoryTables {
    pub(super) tenants: SortedTable<TenantId, TenantRow>,
    pub(super) subscriptions: SortedTable<SubscriptionId, SubscriptionRow>,
    pub(super) keys: SortedTable<Uuid, KeyRow>,
    pub(super) tokens: SortedTable<Uuid, TokenRow>,
    pub(super) sessions: SortedTable<CredentialHash, SessionRow>,
    pub(super) links: SortedTable<CredentialHash, LinkRow>,
    /// Links of the portal by the hash of their token, and its sessions by that of their cookie.
    pub(super) portal: SortedTable<CredentialHash, PortalRow>,
    pub(super) events: SortedTable<(TenantId, EventId), StoredEvent>,
    pub(super) deliveries: SortedTable<(TenantId, DeliveryId), StoredDelivery>,
    /// By delivery and number.
    pub(super) attempts: SortedTable<(TenantId, DeliveryId, u32), Arc<Attempt>>,
    pub(super) answers: SortedTable<(TenantId, String), AnswerRow>,
    pub(super) fan_outs: SortedTable<(TenantId, Uuid), FanOutRow>,
    /// Time of the change, by plugin or subscription. The other one is empty.
    pub(super) sweeps: SortedTable<(TenantId, String, Option<SubscriptionId>), i64>,
    /// By tenant, or none for the host, and id.
    pub(super) changes: SortedTable<(Option<TenantId>, Uuid), Change>,
    /// By tenant, length of the span, its beginning, subscription and plugins.
    pub(super) figures: SortedTable<(TenantId, i64, i64, SubscriptionId, String), Figures>,
    pub(super) plugins: SortedTable<(TenantId, String), StoredPlugin>,
    /// By tenant, plugin and sha256. The number is the order of the uploads.
    pub(super) versions: SortedTable<(TenantId, String, String), VersionRow>,
    pub(super) components: SortedTable<String, Bytes>,
    pub(super) plugin_files: SortedTable<(TenantId, String), String>,
    pub(super) rollouts: SortedTable<(TenantId, String), StoredRollout>,
    pub(super) quarantine: SortedTable<(TenantId, String), Quarantine>,
    pub(super) bins: SortedTable<BinId, StoredBin>,
    pub(super) bin_requests: SortedTable<(BinId, Uuid), BinRequest>,
    pub(super) rejected: SortedTable<(TenantId, Uuid), RejectedRequest>,
    pub(super) incidents: SortedTable<(TenantId, IncidentId), Incident>,
    pub(super) alert_emails: SortedTable<(TenantId, AlertEmailId), AlertEmailRow>,
    pub(super) fleet: FleetTables,
    /// Subscriptions with deliveries that the transaction under way has changed for an operator.
    pub(super) changed_lanes: Vec<SubscriptionId>,
    /// Number of the last event or version, which is their order.
    pub(super) sequence: u64,
}

/// Row of an e-mail.
#[derive(Clone)]
pub(super) struct AlertEmailRow {
    pub(super) email: AlertEmail,
    /// None: it was sent, or given up.
    pub(super) due_at_ms: Option<i64>,
}

/// Row of a tenant, with its ledger.
#[derive(Clone)]
pub(super) struct TenantRow {
    pub(super) tenant: Arc<Tenant>,
    pub(super) deleting_since_ms: Option<i64>,
    pub(super) replayed: u64,
    pub(super) tests: u64,
    /// Sum of the fan-outs of pruned events.
    pub(super) fan_out_pruned: u64,
    pub(super) pruned: Pruned,
}

/// Row of a subscription.
#[derive(Clone)]
pub(super) struct SubscriptionRow {
    pub(super) subscription: Arc<Subscription>,
    /// Beginning of the present pause, in milliseconds since the epoch.
    pub(super) paused_at_ms: Option<i64>,
}

/// Row of a key.
#[derive(Clone)]
pub(super) struct KeyRow {
    pub(super) hash: CredentialHash,
    pub(super) key: ApiKey,
    pub(super) used_at_ms: Option<i64>,
}

/// Row of an intake token.
#[derive(Clone)]
pub(super) struct TokenRow {
    pub(super) hash: CredentialHash,
    pub(super) token: IntakeToken,
}

/// Row of a session.
#[derive(Clone)]
pub(super) struct SessionRow {
    pub(super) session: Session,
    pub(super) created_at_ms: i64,
}

/// Row of a sign-in link.
#[derive(Clone)]
pub(super) struct LinkRow {
    pub(super) key: Uuid,
    pub(super) expires_at_ms: i64,
}

/// Link or session of the portal.
#[derive(Clone)]
pub(super) enum PortalRow {
    Link(PortalLink),
    Session(PortalSession),
}

impl PortalRow {
    pub(super) fn tenant(&self) -> &TenantId {
        match self {
            PortalRow::Link(link) => &link.tenant,
            PortalRow::Session(session) => &session.tenant,
        }
    }

    /// Returns the time of the link, or of the beginning of the session, in milliseconds since the epoch.
    pub(super) fn since_ms(&self) -> i64 {
        match self {
            PortalRow::Link(link) => link.created_at_ms,
            PortalRow::Session(session) => session.began_at_ms,
        }
    }

    pub(super) fn expires_at_ms(&self) -> i64 {
        match self {
            PortalRow::Link(link) => link.expires_at_ms,
            PortalRow::Session(session) => session.expires_at_ms,
        }
    }

    pub(super) fn return_url(&self) -> Option<&str> {
        match self {
            PortalRow::Link(link) => link.return_url.as_deref(),
            PortalRow::Session(session) => session.return_url.as_deref(),
        }
    }
}

/// Row of an event.
#[derive(Clone)]
pub(super) struct StoredEvent {
    pub(super) event: Arc<Event>,
    pub(super) fan_out: usize,
    /// Place in the order of acceptance.
    pub(super) sequence: u64,
}

/// Row of a delivery.
#[derive(Clone, Debug)]
pub(super) struct StoredDelivery {
    pub(super) event: EventId,
    pub(super) subscription: SubscriptionId,
    pub(super) kind: DeliveryKind,
    /// Entity of an ordered delivery: module and id.
    pub(super) order_key: Option<(&'static str, String)>,
    pub(super) state: DeliveryState,
    pub(super) due_at_ms: i64,
    pub(super) awaiting_plugin: bool,
    pub(super) attempts_made: u32,
    pub(super) budget_spent: u32,
    pub(super) reason: Option<Reason>,
    pub(super) age_from_ms: i64,
    pub(super) created_at_ms: i64,
    pub(super) updated_at_ms: i64,
    /// None: no other delivery supersedes it (any more).
    pub(super) settling: Option<Settling>,
    pub(super) settled: Option<SettledEvents>,
    pub(super) superseded_by: Option<DeliveryId>,
}

/// Row of an idempotency key.
#[derive(Clone)]
pub(super) struct AnswerRow {
    pub(super) body_sha256: [u8; 32],
    pub(super) answer: Vec<Accepted>,
    pub(super) received_at_ms: i64,
}

/// Row of a fan-out in steps.
#[derive(Clone)]
pub(super) struct FanOutRow {
    /// Events whose deliveries are not complete, in their order.
    pub(super) events: Vec<EventId>,
    /// Last subscription that has got a delivery of the first of these events.
    pub(super) after: Option<SubscriptionId>,
    /// Number of deliveries of the first of these events.
    pub(super) made: usize,
    /// Number of promised deliveries that have not been made.
    pub(super) lacks: usize,
}

/// Row of a version.
#[derive(Clone)]
pub(super) struct VersionRow {
    pub(super) version: PluginVersion,
    pub(super) sequence: u64,
}

/// Row of a bin.
#[derive(Clone)]
pub(super) struct StoredBin {
    pub(super) tenant: TenantId,
    pub(super) bin: Bin,
}

impl MemoryTables {
    /// Returns the next number in the order of acceptance.
    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Returns a tenant's events, in the order of their ids.
    pub(super) fn events_of<'t>(
        &'t self,
        tenant: &TenantId,
    ) -> impl DoubleEndedIterator<Item = (EventId, &'t StoredEvent)> + use<'t> {
        let [first, last] = [Uuid::nil(), Uuid::max()].map(|id| (tenant.clone(), EventId(id)));
        self.events.range(first..=last).map(|((_, id), row)| (*id, row))
    }

    /// Returns a tenant's deliveries, in the order of their ids.
    pub(super) fn deliveries_of<'t>(
        &'t self,
        tenant: &TenantId,
    ) -> impl DoubleEndedIterator<Item = (DeliveryId, &'t StoredDelivery)> + use<'t> {
        let [first, last] = [Uuid::nil(), Uuid::max()].map(|id| (tenant.clone(), DeliveryId(id)));
        self.deliveries.range(first..=last).map(|((_, id), row)| (*id, row))
    }

    /// Returns the attempts of a delivery, in the order of their numbers.
    pub(super) fn attempts_of<'t>(
        &'t self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> impl Iterator<Item = (u32, &'t Arc<Attempt>)> + use<'t> {
        let [first, last] = [0, u32::MAX].map(|number| (tenant.clone(), delivery, number));
        self.attempts.range(first..=last).map(|((_, _, number), attempt)| (*number, attempt))
    }

    /// Puts tenants, keys and subscriptions into the catalog, when the store opens. Those of a tenant that is being deleted still have
    /// rows, and are left out.
    pub(super) fn show_in(&self, catalog: &Catalog) {
        let tenants = self.tenants.values().filter(|row| row.deleting_since_ms.is_none());
        tenants.for_each(|row| catalog.put_tenant(Tenant::clone(&row.tenant)));
        for row in self
            .keys
            .values()
            .filter(|row| row.key.tenant.as_ref().is_none_or(|tenant| catalog.tenant(tenant).is_some()))
        {
            catalog.put_key(row.hash, row.key.clone());
        }
        for row in self.tokens.values().filter(|row| catalog.tenant(&row.token.tenant).is_some()) {
            catalog.put_token(row.hash, row.token.clone());
        }
        for (hash, row) in &self.sessions {
            catalog.put_session(*hash, row.session.clone());
        }
        let subscriptions = self.subscriptions.values().map(|row| row.subscription.clone());
        catalog.put_subscriptions(subscriptions.filter(|one| catalog.tenant(&one.tenant).is_some()).collect());
    }
}

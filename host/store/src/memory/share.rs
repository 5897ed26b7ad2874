//! Share of a tenant: its usage, computed from its rows, and the entries that its changes add to the log.
//!
//! Sizes are those of the texts of a row, and a constant for its other values.

use super::tables::{MemoryTables, StoredDelivery, StoredEvent, SubscriptionRow};
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::changes::{BYTES_MAX, Change, EntryTexts, KEPT_MAX, OLDEST};
use crate::backend::rollouts::StoredRollout;
use crate::caps::Caps;
use crate::usage::{BytesByKind, Usage, UsageKind};
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{Attempt, Reason};
use hookloom_model::ids;
use hookloom_model::inspector::RequestHead;
use hookloom_model::subscription::TenantId;
use serde_json::Value;
use uuid::Uuid;

/// Fixed size of a link or session of the portal, in bytes.
const PORTAL_SESSION_BYTES: usize = 320;

/// Number of entries of all logs up to which no log is too large, because the size of an entry is bounded.
const FEW_CHANGES: usize = 256;

/// Returns the usage of a tenant.
///
/// # Errors
/// [`StoreError::NotFound`]: the tenant does not exist, or it is being deleted.
pub(super) fn usage(tables: &MemoryTables, tenant: &TenantId, share: Caps) -> Result<Usage, StoreError> {
    require_tenant(tables, tenant)?;
    Ok(share.of((tables.events_of(tenant).count() as u64, bytes_by_kind(tables, tenant))))
}

/// Returns an error if the tenant's share is used up. For changes that make attempts, and so rows, later.
pub(super) fn require_room(tables: &MemoryTables, tenant: &TenantId, share: Caps) -> Result<(), StoreError> {
    if share.is_unbounded() {
        return require_tenant(tables, tenant);
    }
    let usage = usage(tables, tenant, share)?;
    if usage.bytes < share.bytes { Ok(()) } else { Err(StoreError::TenantFull(Box::new(usage))) }
}

/// Runs a write, and returns an error if the tenant exceeds its share afterwards. A write that does not add to the usage is
/// allowed, so that a tenant over its share can make things smaller.
pub(super) fn within_share<T>(
    tables: &mut MemoryTables,
    tenant: &TenantId,
    share: Caps,
    write: impl FnOnce(&mut MemoryTables) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    if share.is_unbounded() {
        require_tenant(tables, tenant)?;
        return write(tables);
    }
    let before = usage(tables, tenant, share)?;
    let value = write(tables)?;
    let after = usage(tables, tenant, share)?;
    if share.is_outgrown(before.amounts(), after.amounts()) {
        return Err(StoreError::TenantFull(Box::new(before)));
    }
    Ok(value)
}

/// Returns an error if a tenant exceeds its share with the events that were added since `before`.
pub(super) fn require_share_for_events(
    before: &MemoryTables,
    after: &MemoryTables,
    tenant: &TenantId,
    share: Caps,
) -> Result<(), StoreError> {
    if share.is_unbounded() {
        return require_tenant(after, tenant);
    }
    let usage_after = usage(after, tenant, share)?;
    if !share.is_exceeded_by(usage_after.events, usage_after.bytes) {
        return Ok(());
    }
    Err(StoreError::TenantFull(Box::new(usage(before, tenant, share)?)))
}

/// Adds the entry of a change to a tenant's log. None: to the host's log. Changes by the host itself have no entry.
pub(super) fn record(
    tables: &mut MemoryTables,
    actor: &Actor,
    tenant: Option<&TenantId>,
    action: &AuditAction<'_>,
    share: Caps,
) -> Result<(), StoreError> {
    let Actor::Key(who) = actor else { return Ok(()) };
    let mut with_states = true;
    if let Some(tenant) = tenant {
        match require_room(tables, tenant, share) {
            // The tenant is being deleted, with its log.
            Err(StoreError::NotFound(_)) => return Ok(()),
            // The entry is written even if the share is used up, without its states, which take the space.
            room => with_states = room.is_ok(),
        }
        if tables.changes.size() > FEW_CHANGES && bytes_of(tables, tenant, UsageKind::Changes) > BYTES_MAX {
            forget_oldest(tables, Some(tenant), OLDEST);
        }
    }
    let EntryTexts { who, action, subject, before, after } = EntryTexts::of(who, action, with_states)?;
    let id = ids::new_uuid();
    let [before, after] = [before, after].map(|text| text.and_then(|text| serde_json::from_str(&text).ok()));
    let change = Change { id, at_ms: now_ms(), who, action: action.to_owned(), subject, before, after };
    tables.changes.insert_mut((tenant.cloned(), id), change);
    if tables.changes.size() > KEPT_MAX {
        let over = log_of(tables, tenant).count().saturating_sub(KEPT_MAX);
        forget_oldest(tables, tenant, over);
    }
    Ok(())
}

/// Returns the size of a tenant's data by kind. The tenant may be being deleted.
pub(super) fn bytes_by_kind(tables: &MemoryTables, tenant: &TenantId) -> BytesByKind {
    UsageKind::ALL.map(|kind| bytes_of(tables, tenant, kind))
}

fn require_tenant(tables: &MemoryTables, tenant: &TenantId) -> Result<(), StoreError> {
    let is_there = tables.tenants.get(tenant).is_some_and(|row| row.deleting_since_ms.is_none());
    if is_there { Ok(()) } else { Err(StoreError::NotFound("tenant")) }
}

/// Returns the entries of a log, oldest first.
fn log_of<'t>(
    tables: &'t MemoryTables,
    owner: Option<&TenantId>,
) -> impl Iterator<Item = (Uuid, &'t Change)> + use<'t> {
    let [first, last] = [Uuid::nil(), Uuid::max()].map(|id| (owner.cloned(), id));
    tables.changes.range(first..=last).map(|((_, id), change)| (*id, change))
}

/// Deletes the oldest entries of a log.
fn forget_oldest(tables: &mut MemoryTables, owner: Option<&TenantId>, many: usize) {
    let oldest: Vec<Uuid> = log_of(tables, owner).take(many).map(|(id, _)| id).collect();
    for id in oldest {
        tables.changes.remove_mut(&(owner.cloned(), id));
    }
}

/// Returns the size of a tenant's data of one kind.
fn bytes_of(tables: &MemoryTables, tenant: &TenantId, kind: UsageKind) -> u64 {
    let bytes: usize = match kind {
        UsageKind::Events => tables.events_of(tenant).map(|(_, row)| event_bytes(row)).sum(),
        UsageKind::Deliveries => tables.deliveries_of(tenant).map(|(_, row)| delivery_bytes(row)).sum(),
        UsageKind::Attempts => {
            let attempts = tables.attempts.iter().filter(|((owner, ..), _)| owner == tenant);
            attempts.map(|(_, attempt)| attempt_bytes(attempt)).sum()
        }
        UsageKind::Plugins => plugin_bytes(tables, tenant),
        UsageKind::Subscriptions => {
            let rows = tables.subscriptions.values().filter(|row| row.subscription.tenant == *tenant);
            rows.map(subscription_bytes).sum()
        }
        UsageKind::Bins => bin_bytes(tables, tenant),
        UsageKind::RejectedRequests => {
            let rejected = tables.rejected.iter().filter(|((owner, _), _)| owner == tenant);
            rejected.map(|(_, request)| 96 + request.reason.len() + request.body.len()).sum()
        }
        UsageKind::IdempotencyKeys => {
            let answers = tables.answers.iter().filter(|((owner, _), _)| owner == tenant);
            answers.map(|((_, key), row)| 192 + key.len() + 42 * row.answer.len()).sum()
        }
        UsageKind::Changes => log_of(tables, Some(tenant)).map(|(_, change)| change_bytes(change)).sum(),
        UsageKind::Access => access_bytes(tables, tenant),
        UsageKind::Statistics => {
            let figures = tables.figures.keys().filter(|(owner, ..)| owner == tenant);
            let incidents = tables.incidents.iter().filter(|((owner, _), _)| owner == tenant);
            let emails = tables.alert_emails.iter().filter(|((owner, _), _)| owner == tenant);
            figures.map(|(.., plugin)| 96 + 64 + plugin.len()).sum::<usize>()
                + incidents.map(|(_, one)| 384 + one.subject.len() + one.name.len() + one.reason.len()).sum::<usize>()
                + emails.map(|(_, row)| 384 + row.email.title.len() + row.email.next_step.len()).sum::<usize>()
        }
    };
    bytes as u64
}

fn event_bytes(row: &StoredEvent) -> usize {
    160 + row.event.name.len() + text_bytes(row.event.entity_id.as_deref()) + row.event.payload.len()
}

fn delivery_bytes(row: &StoredDelivery) -> usize {
    320 + row.order_key.as_ref().map_or(0, |_| 16) + row.reason.as_ref().map_or(0, reason_bytes)
}

fn reason_bytes(reason: &Reason) -> usize {
    25 + reason.code.len() + reason.message.len()
}

fn attempt_bytes(attempt: &Attempt) -> usize {
    let lines = [attempt.request.as_deref(), attempt.response_headers.as_deref(), Some(&attempt.log[..])];
    let lines: usize = lines.into_iter().flatten().flatten().map(|line| line.len() + 3).sum();
    96 + 512 + lines + text_bytes(attempt.response.as_deref()) + 256 * attempt.steps.len()
}

fn plugin_bytes(tables: &MemoryTables, tenant: &TenantId) -> usize {
    let versions = tables.versions.iter().filter(|((owner, ..), _)| owner == tenant);
    let versions = versions.map(|(_, row)| {
        let size = usize::try_from(row.version.size).unwrap_or(usize::MAX);
        size.saturating_add(256 + row.version.report.len() + row.version.created_by.len())
    });
    let plugins = tables.plugins.values().filter(|plugin| plugin.tenant == *tenant);
    let quarantined = tables.quarantine.values().filter(|quarantine| quarantine.tenant == *tenant);
    let rollouts = tables.rollouts.values().filter(|rollout| rollout.tenant == *tenant);
    versions.fold(0, usize::saturating_add)
        + plugins.map(|plugin| 192 + plugin.activated_by.len()).sum::<usize>()
        + quarantined.map(|quarantine| 160 + quarantine.reason.len()).sum::<usize>()
        + rollouts.map(rollout_bytes).sum::<usize>()
}

fn rollout_bytes(rollout: &StoredRollout) -> usize {
    192 + rollout.counts.len() + 20 * rollout.earlier.len() + text_bytes(rollout.ended_reason.as_deref())
}

fn subscription_bytes(row: &SubscriptionRow) -> usize {
    let subscription = &*row.subscription;
    let settings = serde_json::to_vec(&*subscription.settings).map_or(0, |text| text.len());
    let secrets = subscription.settings.secrets().iter();
    let secrets: usize = secrets.map(|(name, secret)| name.len() + secret.expose().len() * 4 / 3).sum();
    128 + settings + secrets + 80 * subscription.signing.len() + text_bytes(subscription.state_reason.as_deref())
}

fn bin_bytes(tables: &MemoryTables, tenant: &TenantId) -> usize {
    let bins = tables.bins.values().filter(|row| row.tenant == *tenant);
    let bins = bins.map(|row| 160 + serde_json::to_vec(&row.bin.settings).map_or(0, |text| text.len()));
    let is_of_tenant = |bin| tables.bins.get(bin).is_some_and(|row| row.tenant == *tenant);
    let requests = tables.bin_requests.iter().filter(|((bin, _), _)| is_of_tenant(bin));
    let requests = requests.map(|(_, request)| 160 + head_bytes(&request.head) + request.body.len());
    bins.sum::<usize>() + requests.sum::<usize>()
}

fn head_bytes(head: &RequestHead) -> usize {
    let headers: usize = head.headers.iter().map(|(name, value)| name.len() + value.len() + 7).sum();
    96 + head.method.len() + head.path.len() + head.query.len() + head.remote.len() + headers
}

fn access_bytes(tables: &MemoryTables, tenant: &TenantId) -> usize {
    let is_of_tenant = |key: &Uuid| tables.keys.get(key).is_some_and(|row| row.key.tenant.as_ref() == Some(tenant));
    let keys = tables.keys.values().filter(|row| row.key.tenant.as_ref() == Some(tenant));
    let keys = keys.map(|row| 256 + row.key.hint.len() + row.key.label.len() + 9 * row.key.scopes.len());
    let tokens = tables.tokens.values().filter(|row| row.token.tenant == *tenant);
    let tokens = tokens.map(|row| 256 + row.token.hint.len() + row.token.label.len());
    let sessions = tables.sessions.values().filter(|row| is_of_tenant(&row.session.key)).count();
    let links = tables.links.values().filter(|row| is_of_tenant(&row.key)).count();
    let portal = tables.portal.values().filter(|row| row.tenant() == tenant);
    let portal = portal.map(|row| PORTAL_SESSION_BYTES + text_bytes(row.return_url()));
    keys.sum::<usize>() + tokens.sum::<usize>() + 256 * sessions + 160 * links + portal.sum::<usize>()
}

fn change_bytes(change: &Change) -> usize {
    let states: usize = [&change.before, &change.after].into_iter().flatten().map(json_bytes).sum();
    128 + change.who.len() + change.action.len() + change.subject.len() + states
}

/// Returns the approximate length of a JSON text, without making the text.
fn json_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 5,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| 1 + json_bytes(item)).sum::<usize>(),
        Value::Object(items) => 2 + items.iter().map(|(name, item)| name.len() + 4 + json_bytes(item)).sum::<usize>(),
    }
}

fn text_bytes(text: Option<&str>) -> usize {
    text.map_or(0, str::len)
}

//! Log of changes: the author, the action, and the states before and after.
//!
//! # Guarantees of every backend
//! - An entry is written in the transaction of its change: both are committed, or neither. Where a change takes several
//!   transactions, the entry is part of the first one.
//! - Entries are never altered, and have no secrets ([`audit`](crate::audit)).

use crate::StoreError;
use crate::audit::{AuditAction, AuditState};
use async_trait::async_trait;
use hookloom_model::limits::shortened;
use hookloom_model::subscription::TenantId;
use serde_json::{Value, json};
use uuid::Uuid;

/// Maximum number of entries of a tenant. Some hundred more can exist until they are pruned.
pub(crate) const KEPT_MAX: usize = 10_000;

/// Maximum size of `who` and of `subject`, in bytes.
const SUBJECT_BYTES_MAX: usize = 1_000;

/// Maximum size of a state before or after a change, in bytes. Many times the usual size of settings.
const STATE_BYTES_MAX: usize = 64 << 10;

/// Size of the states on a page, in bytes, at which the page ends. A network thread writes that much JSON in about a millisecond.
pub(crate) const PAGE_BYTES_MAX: usize = 256 << 10;

/// Counted size of a tenant's log, in bytes, above which its oldest entries are deleted.
pub(crate) const BYTES_MAX: u64 = 64 << 20;

/// Number of entries that are deleted at once when the log is too large.
pub(crate) const OLDEST: usize = 256;

/// Texts of an entry, as they are stored.
pub(crate) struct EntryTexts {
    /// Author of the change.
    pub(crate) who: String,
    /// Kind of the change.
    pub(crate) action: &'static str,
    /// Thing that was changed.
    pub(crate) subject: String,
    /// JSON of the state before the change.
    pub(crate) before: Option<String>,
    /// JSON of the state after the change.
    pub(crate) after: Option<String>,
}

impl EntryTexts {
    /// Returns the texts of an action, within their limits. `with_states` is false for a tenant whose share is used up.
    pub(crate) fn of(who: &str, action: &AuditAction<'_>, with_states: bool) -> Result<Self, StoreError> {
        let [before, after] = if with_states { action.states() } else { [None, None] };
        Ok(EntryTexts {
            who: shortened(who, SUBJECT_BYTES_MAX),
            action: action.as_str(),
            subject: shortened(&action.subject(), SUBJECT_BYTES_MAX),
            before: before.as_ref().map(state_text).transpose()?,
            after: after.as_ref().map(state_text).transpose()?,
        })
    }
}

/// Returns the stored text of a state. A text that is too long is replaced by its length.
fn state_text(state: &AuditState<'_>) -> Result<String, StoreError> {
    let text = serde_json::to_string(state)?;
    Ok(if text.len() <= STATE_BYTES_MAX { text } else { json!({ "omitted_bytes": text.len() }).to_string() })
}

/// Entry of the log of changes.
#[derive(Clone, Debug)]
pub struct Change {
    /// Id of the entry. Ids grow.
    pub id: Uuid,
    /// Time of the change, in milliseconds since the epoch.
    pub at_ms: i64,
    /// Label and hint of the key that made the change.
    pub who: String,
    /// Kind of the change, such as `subscription.update`.
    pub action: String,
    /// Thing that was changed.
    pub subject: String,
    /// State before the change. None: there was none, or it is not recorded.
    pub before: Option<Value>,
    /// State after the change.
    pub after: Option<Value>,
}

/// Search of a log of changes. The default selects all entries.
#[derive(Clone, Debug, Default)]
pub struct ChangeSearch {
    /// Part of the author's text. Letters of ASCII are equal in upper and lower case. Empty: every author.
    pub who: String,
    /// Kinds of things: the part of the action before its dot, such as `subscription`. Empty: all kinds.
    pub kinds: Vec<String>,
    /// Beginning of the time span, in milliseconds since the epoch, inclusive.
    pub from_ms: Option<i64>,
    /// End of the time span, exclusive.
    pub to_ms: Option<i64>,
}

impl ChangeSearch {
    /// Returns true if the search selects an entry.
    pub(crate) fn selects(&self, change: &Change) -> bool {
        let kind = change.action.split('.').next().unwrap_or_default();
        change.who.to_ascii_lowercase().contains(&self.who.to_ascii_lowercase())
            && (self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind))
            && self.from_ms.is_none_or(|from_ms| change.at_ms >= from_ms)
            && self.to_ms.is_none_or(|to_ms| change.at_ms < to_ms)
    }
}

/// Log of changes.
#[async_trait]
pub trait ChangeBackend: Send + Sync {
    /// Returns at most `limit` entries of a search that are older than `before`, newest first, and whether there are more. Returns
    /// at least one entry, of any size, if there is one. None: the host's log.
    async fn changes(
        &self,
        tenant: Option<TenantId>,
        search: ChangeSearch,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<(Vec<Change>, bool), StoreError>;

    /// Returns true if any log has an entry.
    async fn has_changes(&self) -> Result<bool, StoreError>;
}

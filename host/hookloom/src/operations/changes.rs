//! Log of changes. The store adds the entries, in the transactions of the changes.

use super::{Access, Admin, Operations, Problem, ToManage};
use crate::store::{Change, ChangeSearch};
use crate::subscription::TenantId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

/// Kind of a changed thing: the part of an action before its dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChangeKind {
    AdminKey,
    Alerts,
    Bin,
    Delivery,
    IntakeToken,
    Key,
    Plugin,
    RejectedRequest,
    Session,
    Shard,
    SignInLink,
    Subscription,
    Tenant,
}

impl ChangeKind {
    /// Returns the name of the kind in actions.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ChangeKind::AdminKey => "admin-key",
            ChangeKind::Alerts => "alerts",
            ChangeKind::Bin => "bin",
            ChangeKind::Delivery => "delivery",
            ChangeKind::IntakeToken => "intake-token",
            ChangeKind::Key => "key",
            ChangeKind::Plugin => "plugin",
            ChangeKind::RejectedRequest => "rejected-request",
            ChangeKind::Session => "session",
            ChangeKind::Shard => "shard",
            ChangeKind::SignInLink => "sign-in-link",
            ChangeKind::Subscription => "subscription",
            ChangeKind::Tenant => "tenant",
        }
    }
}

/// Entry of the log of changes.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChangeBody {
    id: Uuid,
    at_ms: i64,
    /// Key of the author: its label and first characters.
    who: String,
    /// Kind of change, such as `subscription.update`.
    action: String,
    /// Name or id of the changed thing.
    subject: String,
    /// State before the change, without secrets.
    before: Option<Value>,
    /// State after the change, without secrets.
    after: Option<Value>,
}

/// Page of changes.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChangePage {
    /// Changes, newest first.
    changes: Vec<ChangeBody>,
    /// Value of `cursor` in the request for the next page. Absent on the last one.
    cursor: Option<Uuid>,
}

impl Operations {
    /// Lists changes of the tenant that a search selects, newest first.
    pub(crate) async fn list_changes(
        &self,
        access: &Access<ToManage>,
        search: ChangeSearch,
        cursor: Option<Uuid>,
        limit: usize,
    ) -> Result<ChangePage, Problem> {
        self.changes(Some(access.tenant.clone()), search, cursor, limit).await
    }

    /// Lists changes of the host itself (tenants, admin keys and shards) that a search selects, newest first.
    pub(crate) async fn list_host_changes(
        &self,
        _: &Admin,
        search: ChangeSearch,
        cursor: Option<Uuid>,
        limit: usize,
    ) -> Result<ChangePage, Problem> {
        self.changes(None, search, cursor, limit).await
    }

    async fn changes(
        &self,
        tenant: Option<TenantId>,
        search: ChangeSearch,
        cursor: Option<Uuid>,
        limit: usize,
    ) -> Result<ChangePage, Problem> {
        let (changes, more) = self.store.search_changes(tenant, search, cursor, limit).await?;
        let cursor = changes.last().filter(|_| more).map(|change| change.id);
        fn body(Change { id, at_ms, who, action, subject, before, after }: Change) -> ChangeBody {
            ChangeBody { id, at_ms, who, action, subject, before, after }
        }
        Ok(ChangePage { changes: changes.into_iter().map(body).collect(), cursor })
    }
}

//! Log of changes. The store adds the entries, in the transactions of the changes.

use super::{Access, Admin, Operations, Problem, ToManage};
use crate::store::Change;
use crate::subscription::TenantId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

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
    /// Lists changes of the tenant, newest first.
    pub(crate) async fn list_changes(
        &self,
        access: &Access<ToManage>,
        cursor: Option<Uuid>,
        limit: usize,
    ) -> Result<ChangePage, Problem> {
        self.changes(Some(access.tenant.clone()), cursor, limit).await
    }

    /// Lists changes of the host itself (tenants, admin keys and shards), newest first.
    pub(crate) async fn list_host_changes(
        &self,
        _: &Admin,
        cursor: Option<Uuid>,
        limit: usize,
    ) -> Result<ChangePage, Problem> {
        self.changes(None, cursor, limit).await
    }

    async fn changes(
        &self,
        tenant: Option<TenantId>,
        cursor: Option<Uuid>,
        limit: usize,
    ) -> Result<ChangePage, Problem> {
        let (changes, more) = self.store.changes(tenant, cursor, limit).await?;
        let cursor = changes.last().filter(|_| more).map(|change| change.id);
        fn body(Change { id, at_ms, who, action, subject, before, after }: Change) -> ChangeBody {
            ChangeBody { id, at_ms, who, action, subject, before, after }
        }
        Ok(ChangePage { changes: changes.into_iter().map(body).collect(), cursor })
    }
}

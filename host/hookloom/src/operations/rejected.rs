//! Rejected requests to `/in`, which are kept to be edited and submitted again.

use super::text_or_base64::text_or_base64;
use super::{AcceptedBody, Access, Operations, Problem, ToManage, ToRead};
use crate::store::{RejectedEntry, RejectedRequest};
use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Rejected request.
#[derive(Serialize, ToSchema)]
pub(crate) struct RejectedBody {
    id: Uuid,
    received_at_ms: i64,
    /// Reason for the rejection.
    reason: String,
    /// Size of the kept part, in bytes.
    bytes: usize,
    /// True if the body was longer than the kept part, or incomplete.
    truncated: bool,
    /// Kept part as text, if it is text. Only in the answer for one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// Kept part in base64, if it is not text. Only in the answer for one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl From<RejectedEntry> for RejectedBody {
    fn from(entry: RejectedEntry) -> Self {
        let RejectedEntry { id, received_at_ms, reason, truncated, bytes } = entry;
        RejectedBody { id, received_at_ms, reason, bytes, truncated, body: None, body_base64: None }
    }
}

impl From<RejectedRequest> for RejectedBody {
    fn from(rejected: RejectedRequest) -> Self {
        let RejectedRequest { id, received_at_ms, reason, truncated, body } = rejected;
        let (text, body_base64) = text_or_base64(&body);
        RejectedBody { id, received_at_ms, reason, bytes: body.len(), truncated, body: text, body_base64 }
    }
}

impl Operations {
    /// Lists rejected requests, newest first. They are kept for 7 days, and at most 1,000 of them.
    pub(crate) async fn list_rejected_requests(
        &self,
        access: &Access<ToRead>,
        cursor: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<RejectedEntry>, Problem> {
        Ok(self.store.rejected_requests(access.tenant.clone(), cursor, limit).await?)
    }

    /// Returns a rejected request with its kept part.
    pub(crate) async fn get_rejected_request(
        &self,
        access: &Access<ToRead>,
        id: Uuid,
    ) -> Result<RejectedRequest, Problem> {
        Ok(self.store.rejected_request(access.tenant.clone(), id).await?)
    }

    /// Returns a rejected request for another submission.
    pub(crate) async fn kept_request(&self, access: &Access<ToManage>, id: Uuid) -> Result<RejectedRequest, Problem> {
        Ok(self.store.rejected_request(access.tenant.clone(), id).await?)
    }

    /// Accepts the event of a rejected request, which is deleted with that.
    pub(crate) async fn resubmit_rejected_request(
        &self,
        access: &Access<ToManage>,
        id: Uuid,
        event: &Bytes,
    ) -> Result<AcceptedBody, Problem> {
        let accepted = self.intake().accept_again(access.actor(), &access.tenant, id, event).await?;
        Ok(vec![accepted].into())
    }

    /// Deletes a rejected request.
    pub(crate) async fn delete_rejected_request(&self, access: &Access<ToManage>, id: Uuid) -> Result<(), Problem> {
        Ok(self.store.forget_rejected_request(access.actor(), access.tenant.clone(), id).await?)
    }
}

/// Returns the bytes of a rejected request as they came, maybe compressed, if all of them were kept.
pub(crate) fn whole(rejected: RejectedRequest) -> Result<Bytes, Problem> {
    if rejected.truncated {
        let detail = "only the beginning of this request was kept, so it cannot be submitted unchanged";
        return Err(Problem::new(StatusCode::CONFLICT, "truncated", detail)
            .remedy("send the whole event as the body of this request"));
    }
    Ok(rejected.body)
}

//! Test deliveries of a webhook, and their results for its page.

use crate::api::ApiState;
use crate::api::pages::forms::Form;
use crate::api::pages::user::TenantUser;
use crate::delivery::DeliveryState;
use crate::operations::{DeliveryDetail, Problem};
use bytes::Bytes;
use std::sync::Arc;
use uuid::Uuid;

/// Result of a test delivery.
pub(in crate::api::pages) struct Tested {
    pub(in crate::api::pages) delivered: bool,
    pub(in crate::api::pages) summary: String,
    pub(in crate::api::pages) answer: String,
    pub(in crate::api::pages) delivery: String,
}

/// Sends a test delivery if the form wants one. The form is saved, and its answer may show a secret once, so that a problem of the test is only a
/// part of the answer.
pub(super) async fn test_if_wanted(user: &TenantUser, state: &Arc<ApiState>, id: Uuid, form: &Form) -> Option<Tested> {
    if !form.has("test") {
        return None;
    }
    Some(test(user, state, id).await.unwrap_or_else(|problem| Tested {
        delivered: false,
        summary: format!("Nothing was sent: {}.", problem.detail),
        delivery: String::new(),
        answer: String::new(),
    }))
}

/// Sends a test delivery, and waits for its end.
pub(super) async fn test(user: &TenantUser, state: &Arc<ApiState>, id: Uuid) -> Result<Tested, Problem> {
    let tested = state.operations.test_subscription(&user.access(state)?, id, Bytes::new()).await?;
    let DeliveryDetail { delivery, attempts } = tested;
    let attempt = attempts.into_iter().next();
    let status = attempt.as_ref().and_then(|attempt| attempt.status);
    let reason = attempt.as_ref().and_then(|attempt| attempt.reason.as_ref()).map_or("", |reason| &reason.message);
    let delivered = delivery.state == DeliveryState::Delivered;
    let summary = match (status, delivered) {
        (Some(status), true) => format!("Your endpoint is configured properly: it answered {status}."),
        (Some(status), false) => {
            format!("Your endpoint answered {status}; a webhook is delivered when it answers 2xx.")
        }
        (None, _) if delivery.state == DeliveryState::Dropped => format!("The plugin let nothing through: {reason}"),
        (None, _) => format!("No answer: {reason}"),
    };
    Ok(Tested {
        delivered,
        summary,
        delivery: delivery.id.to_string(),
        answer: attempt.and_then(|attempt| attempt.response).unwrap_or_default(),
    })
}

//! Sample events that a person sends by a click, for a first look without an account of Agile CRM.
//!
//! # Guarantees
//! - A sample is accepted by the operation of `POST …/events`, so it is an event like others: durable, matched, delivered and counted.

use super::user::Posted;
use super::{PageError, go_to};
use crate::api::ApiState;
use crate::operations::{Problem, SAMPLE_EVENTS};
use crate::url_path::UrlPath;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use std::sync::Arc;

/// Sends the chosen sample, and shows the event.
pub(super) async fn send(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let wanted = form.get("event");
    let sample = SAMPLE_EVENTS.iter().find(|sample| sample.name == wanted);
    let sample = sample.ok_or_else(|| Problem::not_found("sample event"))?;
    let body = Bytes::from_static(sample.payload.as_bytes());
    let accepted = state.operations.send_events(&user.access(&state)?, &body, None).await?;
    let event = accepted.events.first().ok_or_else(|| Problem::not_found("accepted event"))?;
    let page = UrlPath::pages_of(&user.tenant).then("events").then(&event.accepted.event);
    Ok(go_to(&page, "The sample event was accepted."))
}

/// Returns the names of the samples, for their buttons.
pub(super) fn names() -> [&'static str; 4] {
    SAMPLE_EVENTS.map(|sample| sample.name)
}

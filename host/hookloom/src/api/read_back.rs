//! Bodies that can be written as they were read: the answer of `GET` can be edited and sent back.
//!
//! An answer has fields that only the host changes ([`ReadBack::READ_ONLY`]). They are removed from a body before it is parsed.

use super::ApiState;
use super::body::{Body, Json};
use crate::operations::{Problem, ReadOnly};
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// Body that clients write, and the additional fields of its answers.
pub(super) trait ReadBack: DeserializeOwned {
    /// Names of the fields that only the host changes.
    const READ_ONLY: &'static [&'static str];
}

/// JSON body that may contain fields that only the host changes.
pub(super) struct Rewrite<T> {
    pub(super) new: T,
    pub(super) read_only: ReadOnly,
}

impl<T> From<Json<T>> for Rewrite<T> {
    fn from(Json(new): Json<T>) -> Self {
        Rewrite { new, read_only: ReadOnly::default() }
    }
}

impl<T: ReadBack> FromRequest<Arc<ApiState>> for Rewrite<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Arc<ApiState>) -> Result<Self, Problem> {
        let Body(body) = Body::from_request(request, state).await?;
        let mut object = serde_json::from_slice(&body).map_err(Problem::invalid_body)?;
        let read_only = ReadOnly::split_off(&mut object, T::READ_ONLY);
        let new = serde_json::from_value(Value::Object(object)).map_err(Problem::invalid_body)?;
        Ok(Rewrite { new, read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::super::document;
    use super::*;
    use crate::event_type::EventType;
    use crate::operations::subscriptions::READ_ONLY;
    use crate::operations::{RolloutWrite, TenantWrite};
    use std::collections::BTreeSet;

    /// Checks that a body lists every additional field of its answer.
    #[track_caller]
    fn check(write: &str, answer: &str, read_only: &[&str]) {
        let schemas = &document::document()["components"]["schemas"];
        let fields = |name: &str| -> BTreeSet<String> {
            schemas[name]["properties"].as_object().expect(name).keys().cloned().collect()
        };
        let written: BTreeSet<String> =
            fields(write).into_iter().filter(|name| schemas[write]["properties"][name]["readOnly"] != true).collect();
        let additional: BTreeSet<String> = fields(answer).difference(&written).cloned().collect();
        assert_eq!(additional, read_only.iter().map(ToString::to_string).collect(), "{write} and {answer}");
    }

    #[test]
    fn every_field_of_an_answer_can_be_sent_back() {
        check("BinSettings", "BinBody", crate::inspector::BinSettings::READ_ONLY);
        check("RolloutWrite", "RolloutBody", RolloutWrite::READ_ONLY);
        check("EventType", "EventTypeBody", EventType::READ_ONLY);
        check("TenantWrite", "TenantBody", TenantWrite::READ_ONLY);
        check("SubscriptionWrite", "SubscriptionBody", READ_ONLY);
    }
}

//! Bodies that can be written as they were read: the answer of `GET` can be edited and sent back.
//!
//! An answer has fields that only the host changes ([`ReadBack::READ_ONLY`]). They are removed from a body before it is parsed.
//! Most of them change by themselves, so their values do not matter. A field that a client may want to change by writing it must be
//! unchanged ([`ReadOnly::check_unchanged`]).

use super::ApiState;
use super::body::{Body, Json, invalid_body};
use super::problem::Problem;
use axum::extract::{FromRequest, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Body that clients write, and the additional fields of its answers.
pub(super) trait ReadBack: DeserializeOwned {
    /// Names of the fields that only the host changes.
    const READ_ONLY: &'static [&'static str];
}

/// Fields of a body that only the host changes, as the client sent them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ReadOnly(Map<String, Value>);

impl ReadOnly {
    /// Removes the fields with these names from a body.
    pub(super) fn split_off(body: &mut Map<String, Value>, names: &[&str]) -> Self {
        ReadOnly(names.iter().filter_map(|name| body.remove_entry(*name)).collect())
    }

    /// Refuses a field that differs from its present value. `how` says how to change it.
    pub(super) fn check_unchanged(&self, name: &str, now: &impl Serialize, how: &str) -> Result<(), Problem> {
        let Some(sent) = self.0.get(name) else { return Ok(()) };
        if serde_json::to_value(now).is_ok_and(|now| now == *sent) {
            return Ok(());
        }
        Err(Problem::field(&format!("/{name}"), format!("cannot be changed here: {how}")))
    }

    /// Refuses an id that differs from the one in the path.
    pub(super) fn check_id(&self, now: &impl Serialize) -> Result<(), Problem> {
        self.check_unchanged("id", now, "it is not the id in the path")
    }
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
        let mut object = serde_json::from_slice(&body).map_err(invalid_body)?;
        let read_only = ReadOnly::split_off(&mut object, T::READ_ONLY);
        let new = serde_json::from_value(Value::Object(object)).map_err(invalid_body)?;
        Ok(Rewrite { new, read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::super::document;
    use super::*;
    use crate::api::{rollouts, subscriptions, tenants};
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn a_field_that_is_as_it_is_may_be_sent() {
        let mut body = json!({"id": "a", "received": 5, "name": "x"}).as_object().cloned().unwrap_or_default();
        let read_only = ReadOnly::split_off(&mut body, &["id", "received", "path"]);
        assert_eq!(Value::Object(body), json!({"name": "x"}));
        assert!(read_only.check_id(&"a").is_ok() && read_only.check_unchanged("path", &"p", "").is_ok());
        let problem = read_only.check_id(&"b").expect_err("another id");
        assert_eq!(problem.detail, "/id: cannot be changed here: it is not the id in the path");
    }

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
        check("RolloutWrite", "RolloutBody", rollouts::RolloutWrite::READ_ONLY);
        check("TenantWrite", "TenantBody", tenants::TenantWrite::READ_ONLY);
        check("SubscriptionWrite", "SubscriptionBody", subscriptions::READ_ONLY);
    }
}

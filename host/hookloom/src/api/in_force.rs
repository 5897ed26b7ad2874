//! Wait after a change until it is in force at every host that shares the database.
//!
//! # Guarantees
//! - A request that changed something is answered when every other host has loaded the change, so that no attempt begins anywhere after
//!   a pause was answered, and a key that was made at one host works at another.
//! - A host that does not load it within some seconds delays the answer by as long and no more, and is named in a header of the answer.
//! - Intake never waits for other hosts.

use super::ApiState;
use axum::response::Response;
use http::{HeaderName, HeaderValue, Method};

/// Header of an answer with the names of hosts in which the change is not in force.
const LAGGING: HeaderName = HeaderName::from_static("hookloom-lagging-hosts");

/// Returns true if a request may change what other hosts have in memory: it is not a read, nor intake.
pub(super) fn may_change(method: &Method, path: &str) -> bool {
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let segments: Vec<&str> = path.split('/').skip(1).take(5).collect();
    let is_intake = match segments[..] {
        ["in" | "bins", ..] => true,
        ["tenants", _, "events"] | ["tenants", _, "events", "batch"] => *method == Method::POST,
        _ => false,
    };
    !method.is_safe() && !is_intake
}

/// Waits until the changes of this host are in force everywhere.
pub(super) async fn wait(state: &ApiState, answer: &mut Response) {
    if answer.status().is_client_error() || answer.status().is_server_error() {
        return;
    }
    let lagging = match state.operations.store.in_force().await {
        Ok(lagging) if lagging.is_empty() => return,
        Ok(lagging) => lagging.join(", "),
        // The change is durable, and this host has it.
        Err(error) => {
            tracing::warn!(error = %hookloom_model::describe(&error), "the other hosts cannot be asked whether a change is in force");
            "unknown".to_owned()
        }
    };
    tracing::warn!(hosts = %lagging, "a change is not in force at all hosts yet");
    if let Ok(names) = HeaderValue::from_str(&lagging) {
        answer.headers_mut().insert(LAGGING, names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &Method, path: &str, expected: bool) {
        assert_eq!(may_change(method, path), expected, "{method} {path}");
    }

    #[test]
    fn intake_and_reads_do_not_wait_for_other_hosts() {
        check(&Method::POST, "/in/abc", false);
        check(&Method::POST, "/v1/tenants/default/events", false);
        check(&Method::POST, "/v1/tenants/default/events/batch", false);
        check(&Method::DELETE, "/v1/tenants/events", true);
        check(&Method::PUT, "/v1/tenants/default/plugins/events", true);
        check(&Method::POST, "/v1/tenants/default/events/1/replay", true);
        check(&Method::POST, "/bins/abc", false);
        check(&Method::GET, "/tenants/default/subscriptions", false);
        check(&Method::POST, "/tenants/default/subscriptions", true);
        check(&Method::DELETE, "/tenants/default/bins/abc", true);
        check(&Method::PUT, "/tenants/default/plugins/p", true);
        check(&Method::POST, "/sign-in", true);
    }
}

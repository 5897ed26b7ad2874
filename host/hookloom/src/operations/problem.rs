//! Problem documents (RFC 9457), for every error that a client gets.
//!
//! A problem says what is wrong (`detail`), where (`offset` or `errors`), and what to do (`remedy`). It never contains a secret, a
//! payload, a path of a file, or an error of the database.

use crate::cpu_pool::CpuPoolError;
use crate::event::EnvelopeError;
use crate::event_type::EventTypeError;
use crate::plugin::{CompileError, PLUGINS_MAX, PluginError};
use crate::plural::counted;
use crate::request_id;
use crate::store::{MachineFault, StoreError};
use crate::subscription::SubscriptionId;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// Fault of a field.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FieldFault {
    /// Position of the fault in the body: a JSON Pointer (RFC 6901).
    pub pointer: String,
    /// Description of the fault.
    pub detail: String,
}

/// Returns the fault of the field at a position.
pub(crate) fn fault(pointer: &str, detail: impl Into<String>) -> FieldFault {
    FieldFault { pointer: pointer.to_owned(), detail: detail.into() }
}

/// Problem document.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// `urn:hookloom:problem:` and a constant word.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Title of the kind of problem.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Description of this occurrence of the problem.
    pub detail: String,
    /// Suggested remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Offset of the fault in the body, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<usize>,
    /// Faults of fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldFault>,
    /// Id under which a rejected request was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected_request: Option<uuid::Uuid>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Problem {
            kind: format!("urn:hookloom:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            remedy: None,
            offset: None,
            errors: Vec::new(),
            rejected_request: None,
        }
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "not-found", format!("there is no such {what} in this tenant"))
    }

    pub(crate) fn conflict(detail: &str) -> Self {
        Problem::new(StatusCode::CONFLICT, "conflict", detail)
    }

    pub(crate) fn too_many(what: &str, most: usize) -> Self {
        Problem::new(StatusCode::CONFLICT, "too-many", format!("a tenant has at most {most} {what}"))
            .remedy("delete or revoke those that are not needed")
    }

    pub(crate) fn field(pointer: &str, detail: impl Into<String>) -> Self {
        Problem::fields(vec![fault(pointer, detail)])
    }

    /// Returns the answer to a JSON body that does not match the schema of the operation.
    pub(crate) fn invalid_body(error: serde_json::Error) -> Self {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body", format!("the body does not fit: {error}"))
            .remedy("GET /openapi.json shows the shape")
    }

    pub(crate) fn fields(errors: Vec<FieldFault>) -> Self {
        let detail =
            errors.iter().map(|fault| format!("{}: {}", fault.pointer, fault.detail)).collect::<Vec<_>>().join("; ");
        Problem { errors, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields", detail) }
    }
}

impl From<EnvelopeError> for Problem {
    fn from(error: EnvelopeError) -> Self {
        let problem = Problem::new(StatusCode::BAD_REQUEST, "not-an-event", error.to_string());
        let remedy =
            "send {\"eventName\": \"Contact is Created\", \"eventData\": {…}}: exactly these two keys, as UTF-8 JSON";
        Problem { offset: Some(error.offset()), ..problem.remedy(remedy) }
    }
}

impl From<CpuPoolError> for Problem {
    fn from(error: CpuPoolError) -> Self {
        tracing::error!(request = request_id::current(), %error, "a request failed in a computation");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "computation-failed", format!("nothing was changed: {error}"))
            .remedy("try again; the host's log names the cause")
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::KeyReused => Problem::new(StatusCode::CONFLICT, "idempotency-key-reused", error.to_string())
                .remedy("use a new key for a new request; the same key may only repeat the same body"),
            StoreError::TenantFull(_) => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, "tenant-full", error.to_string()).remedy(
                    "delete what is not needed (plugin versions, bins, subscriptions: GET /v1/tenants/{t}/usage shows all kinds), \
                     wait until old events are pruned, or let the operator raise tenant_events_max or tenant_bytes_max",
                )
            }
            StoreError::TooManyDeliveries { events, deliveries, most } => {
                let fit = (most.saturating_mul(events as u64) / deliveries.max(1)).max(1);
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-many-deliveries", error.to_string()).remedy(format!(
                    "send about {fit} of these events at once (one is always accepted), or let the operator raise request_deliveries_max"
                ))
            }
            StoreError::QueryTooSlow { .. } => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "query-too-slow", error.to_string())
                    .remedy("narrow the time span or the filter, or let the operator raise query_ms_max")
            }
            StoreError::DamagedComponent { .. } => {
                tracing::error!(error = %crate::describe(&error), "a component cannot be used");
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "component-damaged", error.to_string())
                    .remedy("upload the same file again, or another version")
            }
            StoreError::NotFound(what) => Problem::not_found(what),
            StoreError::EventTypes(error) => event_type_problem("", &error),
            StoreError::InUse { what, by } => in_use(&what, &by),
            StoreError::Edited => Problem::new(StatusCode::CONFLICT, "edited", error.to_string())
                .remedy("read it again and apply your change to the current version"),
            StoreError::Conflict(what) => Problem::new(StatusCode::CONFLICT, "conflict", what),
            damaged if damaged.is_damage() => {
                tracing::error!(error = %crate::describe(&damaged), "a request needs a part of the database that is damaged");
                let what = "nothing was changed: a part of the database that this needs is damaged";
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "database-damaged", what)
                    .remedy("the operator finds what is damaged at /readyz and by `hookloom check`, and keeps the rest by `hookloom rescue`")
            }
            other => {
                let request = request_id::current();
                if !other.is_outage() {
                    tracing::error!(request, error = %crate::describe(&other), "a request failed in the store");
                }
                let MachineFault { what, remedy } = other.machine_fault().unwrap_or(MachineFault {
                    what: "the store cannot write or read now",
                    remedy: "try again; the host's log names the cause",
                });
                Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "store-unavailable",
                    format!("nothing was changed: {what}"),
                )
                .remedy(remedy)
            }
        }
    }
}

/// Returns the answer to event types that do not fit. `all`: pointer to the map of all, or empty for the body of one.
pub(super) fn event_type_problem(all: &str, error: &EventTypeError) -> Problem {
    let pointer = match error.place() {
        None => all.to_owned(),
        Some((name, field)) => {
            let one = if all.is_empty() { String::new() } else { format!("{all}/{}", pointer_token(name)) };
            field.map_or(one.clone(), |field| format!("{one}/{field}"))
        }
    };
    Problem::fields(vec![FieldFault { pointer, detail: error.to_string() }])
}

/// Escapes a member name for a JSON Pointer (RFC 6901, section 3).
fn pointer_token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Maximum number of subscriptions that a refusal names.
const USERS_NAMED_MAX: usize = 20;

fn in_use(what: &str, by: &[SubscriptionId]) -> Problem {
    let named: Vec<String> = by.iter().take(USERS_NAMED_MAX).map(ToString::to_string).collect();
    let more = by.len().saturating_sub(USERS_NAMED_MAX);
    let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let users = counted(by.len() as u64, "subscription", "subscriptions");
    let detail = format!("{what} is used by {users}: {}{and_more}", named.join(", "));
    let users = by.iter().map(|id| FieldFault {
        pointer: format!("/subscriptions/{id}"),
        detail: "uses it; change it to another one, or delete it".into(),
    });
    let errors = users.take(USERS_NAMED_MAX).collect();
    Problem { errors, ..Problem::new(StatusCode::CONFLICT, "in-use", detail) }
        .remedy("change these subscriptions to another plugin or version, or delete them, and try again")
}

impl From<PluginError> for Problem {
    fn from(error: PluginError) -> Self {
        match error {
            PluginError::Store(error) => error.into(),
            PluginError::TooMany => Problem::too_many("plugins", PLUGINS_MAX),
            PluginError::Stopping => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "nothing was changed: the host is stopping")
                    .remedy("try again when it has restarted")
            }
            PluginError::Compile(CompileError::Refused(refusal)) => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, &format!("plugin-{}", refusal.code), refusal.what)
                    .remedy(refusal.remedy)
            }
            other => {
                let request = request_id::current();
                tracing::error!(request, error = %crate::describe(&other), "a plugin could not be compiled");
                let detail = match crate::plugin::no_executable_memory() {
                    Some(fault) => format!("nothing was changed: {fault}"),
                    None => "nothing was changed: the compiler could not be run to its end; this says nothing about the component".into(),
                };
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "compiler-unavailable", detail)
                    .remedy("try again; the host's log names the cause")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Module;

    #[track_caller]
    fn check(all: &str, error: &EventTypeError, expected: &str) {
        assert_eq!(event_type_problem(all, error).errors[0].pointer, expected);
    }

    #[test]
    fn the_fault_of_an_event_type_has_its_position() {
        let module = EventTypeError::Module { name: "a/b~c".to_owned(), module: Module::Subscription };
        check("", &module, "/module");
        check("/event_types", &module, "/event_types/a~1b~0c/module");
        let taken = EventTypeError::Taken { name: "x".to_owned(), is_hosts: true };
        check("", &taken, "");
        check("/event_types", &taken, "/event_types/x");
        check("/event_types", &EventTypeError::TooMany, "/event_types");
    }
}

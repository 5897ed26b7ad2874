//! Examples of the OpenAPI document: parameters, bodies and answers. Tests send the bodies to a running host.

use serde_json::{Value, json};

/// Id in paths and answers.
const ID: &str = "019a2136-faad-7301-9607-05cad38ff3d4";

/// The sha256 of a component.
const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A moment in milliseconds since the epoch.
const AT_MS: i64 = 1_772_360_945_000;

/// Returns the example of a parameter, by its name and the format of its schema.
pub(super) fn parameter(name: &str, format: &str) -> Option<Value> {
    Some(match (name, format) {
        ("t" | "confirm", _) => json!("default"),
        ("token", _) => json!("hlt_5Yx0mJt4wA9cK2uQ7nB1eG8hS3dF6vZ0"),
        ("name", "plugin") | ("name", "") => json!("flatten"),
        ("sha256", _) => json!(SHA256),
        ("limit" | "gate", _) => json!(50),
        ("from_ms" | "to_ms", _) => json!(AT_MS),
        ("idempotency-key", _) => json!("order-5721670354468864-1"),
        ("entity_id", _) => json!("5721670354468864"),
        ("search", _) => json!("won"),
        ("activate", _) => json!(false),
        ("state", _) => json!("dead"),
        ("module", _) => json!("Deal"),
        ("shard", _) => json!(47),
        ("who", _) => json!("Anna"),
        ("kind", _) => json!("subscription"),
        (_, "uuid") | ("cursor", _) => json!(ID),
        ("id", _) => json!("q1W2e3R4t5Y6u7I8o9P0aS"),
        _ => return None,
    })
}

/// Returns the example of an operation's body. None: the operation has no JSON body.
pub(super) fn body(operation: &str) -> Option<Value> {
    let event = json!({
        "eventName": "Opportunity is Created",
        "eventData": {"id": 5_721_670_354_468_864_i64, "name": "deal plane", "expected_value": 12_000, "probability": 97},
    });
    let subscription = json!({
        "notify_url": "https://hooks.example.com/crm",
        "modules": ["Contact", "Deal"],
        "events": ["Contact is Created", "Opportunity is Updated"],
        "filter": {"$or": [{"eventName": "Contact is Created"}, {"fields": {"milestone": {"$changed": true}}}]},
        "description": "Data warehouse",
        "headers": {"x-team": "sales"},
        "timeout_ms": 15_000,
    });
    Some(match operation {
        "send_events" | "receive_event" | "resubmit_rejected_request" | "test_subscription" => event,
        "create_subscription" | "replace_subscription" => subscription,
        "update_subscription" => {
            json!({"description": "Data warehouse, EU", "headers": {"x-team": null}, "concurrency": 8})
        }
        "try_filter" => json!({"modules": ["Deal"], "filter": {"fields": {"probability": {"$gte": 75}}}}),
        "create_portal_link" => json!({"expires_in_s": 600, "session_s": 3_600, "read_only": true}),
        "pause_subscription" => json!({"reason": "maintenance of the receiver"}),
        "redrive_subscription" => json!({"states": ["dead"], "from_ms": AT_MS, "preview": true}),
        "replay_to_subscription" => json!({"from_ms": AT_MS, "to_ms": AT_MS + 3_600_000, "preview": true}),
        "rotate_signing_secret" => json!({"overlap_s": 86_400}),
        "create_tenant" => json!({"id": "acme", "event_types": {"Task is Created": {"module": "Contact"}}}),
        "put_event_type" => json!({
            "module": "Deal", "description": "A support ticket was opened.",
            "schema": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}},
        }),
        "put_alerts" => json!({
            "webhook_failing": {"failed_percent": 30}, "intake_silent": {"after_hours": 12},
            "quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin"},
        }),
        "update_tenant" => json!({"limits_max": {"cpu_ms": 20}}),
        "create_key" => json!({"scopes": ["send"], "label": "billing service"}),
        "create_admin_key" => json!({"label": "on-call"}),
        "create_intake_token" => json!({"label": "Agile CRM"}),
        "create_bin" | "replace_bin" => json!({"name": "first try", "reply": {"statuses": [500, 500, 200]}}),
        "replay_bin_request" => json!({"url": "https://hooks.example.com/crm"}),
        "add_library_plugin" => json!({"library": "redact"}),
        "dry_run_plugin" => json!({"event": event, "config": {}}),
        "try_script" => json!({
            "source": "export function transform(event) {\n  return event.module === \"Deal\" ? pass() : drop(\"no-deal\");\n}\n",
            "event": event, "config": {},
        }),
        "begin_rollout" => json!({"kind": "canary", "sha256": SHA256, "percent": 5.0}),
        "compare_plugin_versions" => json!({"events": 50}),
        "move_shard" => json!({"host": 2}),
        _ => return None,
    })
}

/// Returns the example of a schema, which is shown for answers with this schema.
pub(super) fn schema(name: &str) -> Option<Value> {
    Some(match name {
        "Problem" => json!({
            "type": "urn:hookloom:problem:invalid-fields",
            "title": "Unprocessable Entity",
            "status": 422,
            "detail": "/modules: Please select at least one option.",
            "errors": [{"pointer": "/modules", "detail": "Please select at least one option."}],
        }),
        "AcceptedBody" => json!({"events": [{"id": ID, "deliveries": 2}]}),
        "EventPage" => json!({
            "events": [{
                "id": ID, "name": "Opportunity is Created", "module": "Deal", "entity_id": "5721670354468864",
                "received_at_ms": AT_MS, "fan_out": 2, "bytes": 431,
            }],
            "cursor": null,
        }),
        "DeliveryPage" => json!({
            "deliveries": [{
                "id": ID, "event": ID, "subscription": ID, "kind": "usual", "state": "delivered", "awaiting_plugin": false,
                "due_at_ms": null, "attempts_made": 1, "reason": null, "created_at_ms": AT_MS, "updated_at_ms": AT_MS + 40,
                "settled": {"events": 3, "first_event": ID, "since_ms": AT_MS - 4_000}, "settling": false, "superseded_by": null,
            }],
            "cursor": null,
        }),
        "FilterTrialBody" => filter_trial(),
        "LibraryPluginBody" => json!({
            "name": "flatten", "title": "Flat object", "description": "Sends a contact or a deal as one flat object.",
            "sha256": SHA256, "size": 238_081,
            "added": [{"plugin": "flatten", "active_sha256": SHA256, "update_available": false}],
        }),
        "TokenBody" => json!({"id": ID, "hint": "hlt_5Yx0", "label": "Agile CRM", "created_at_ms": AT_MS}),
        "KeyBody" => json!({
            "id": ID, "hint": "hlk_8sQ2", "scopes": ["send"], "label": "billing service", "created_at_ms": AT_MS,
            "used_at_ms": null,
        }),
        "TenantBody" => json!({
            "id": "acme", "event_types": {}, "limits_max": {}, "egress": {"deny": [], "only": []},
            "created_at_ms": AT_MS,
        }),
        "Manifest" => json!({
            "title": "Deal filter",
            "description": "Passes only deals that are likely, large or advanced enough.",
            "config": {
                "type": "object",
                "properties": {
                    "min_probability": {"type": "number", "minimum": 0, "maximum": 100, "description": "Least probability of a deal, in per cent."},
                },
            },
            "sample_event": {"eventName": "Opportunity is Created", "eventData": {"id": 5_721_670_354_468_864_i64, "probability": 97}},
        }),
        "Counted" => json!({"deliveries": 17, "preview": true}),
        _ => return None,
    })
}

/// Example of the answer to a trial of a filter.
fn filter_trial() -> Value {
    json!({
        "events": 2, "has_more": false, "matching": 1, "matching_ids": [ID],
        "newest_matching": [{
            "id": ID, "name": "Opportunity is Created", "module": "Deal", "entity_id": "5721670354468864",
            "received_at_ms": AT_MS,
        }],
        "refused": [{
            "id": "019a2136-faad-7301-9607-05cad38ff3d4", "name": "Opportunity is Created", "module": "Deal",
            "entity_id": "56676497", "received_at_ms": AT_MS - 900, "why": "/fields/probability/$gte 75 met 20",
        }],
        "fields": ["expected_value", "id", "name", "probability"],
    })
}

//! Completion of the OpenAPI document (OAS 3.1): adds what the descriptions of routes leave out, for all routes alike.
//!
//! # Guarantees
//! - The document is valid, and client generators can read it: operation ids are distinct, each answer has a description, optional
//!   parameters are not nullable, tuples are arrays of a fixed length, and components are binary (`tests/e2e/openapi.rs`).
//! - The described query parameters of a route are those that it accepts, because requests are checked with [`query_parameters`].

use super::{examples, refusals, surface};
use http::Method;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::LazyLock;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

/// Returns the document, for programs (`/openapi.json`) and people (`/api`).
pub(super) fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| completed(surface(0, 0).into_openapi()));
    &DOCUMENT
}

/// Returns the text of the document with the address of its host: an absolute URL, or `/` for the address of the request.
pub(super) fn text(server: &str) -> String {
    of_server(server).to_string()
}

/// Returns the document of a host without a public address.
pub fn of_any_host() -> Value {
    of_server("/")
}

fn of_server(server: &str) -> Value {
    let mut document = document().clone();
    document["servers"] = json!([{"url": server, "description": "this host"}]);
    document
}

/// Returns the query parameters of a route. None: the document does not describe the route.
pub(super) fn query_parameters(method: &Method, route: &str) -> Option<&'static [String]> {
    static KNOWN: LazyLock<HashMap<(String, String), Vec<String>>> = LazyLock::new(|| {
        fn of(path: &str, method: &str, operation: &Value) -> ((String, String), Vec<String>) {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let query = parameters.filter(|one| one["in"] == "query").filter_map(|one| one["name"].as_str());
            ((method.to_uppercase(), path.to_owned()), query.map(str::to_owned).collect())
        }
        let paths = document()["paths"].as_object().into_iter().flatten();
        let operations = paths.flat_map(|(path, methods)| {
            methods.as_object().into_iter().flatten().map(move |(method, operation)| of(path, method, operation))
        });
        operations.collect()
    });
    let method = if method == Method::HEAD { &Method::GET } else { method };
    KNOWN.get(&(method.to_string(), route.to_owned())).map(Vec::as_slice)
}

fn completed(mut document: OpenApi) -> Value {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key: `hlk_…`")).build();
    document.components.get_or_insert_default().add_security_scheme("key", SecurityScheme::Http(scheme));
    let mut document = refusals::flat(&refusals::describe(document));
    spell_out(&mut document);
    let schemas = complete_schemas(document["components"]["schemas"].as_object().cloned().unwrap_or_default());
    for (_, methods) in members(&mut document, "/paths") {
        for (_, operation) in members(methods, "") {
            complete_operation(operation, &schemas);
        }
    }
    document["components"]["schemas"] = schemas.into();
    document["components"]["headers"] = headers();
    document
}

/// Rewrites schemas that generators misunderstand. Pairs of texts become arrays of two texts, because several generators do not
/// know `prefixItems`, and an object without a schema gets any members, where some generators would give it none.
fn spell_out(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let says_nothing =
                ["properties", "additionalProperties", "allOf"].iter().all(|name| !object.contains_key(*name));
            if object.get("type").is_some_and(|kind| kind == "object") && says_nothing {
                object.insert("additionalProperties".to_owned(), true.into());
            }
            let parts = object.get("prefixItems").and_then(Value::as_array).cloned().unwrap_or_default();
            if let Some(first) = parts.first().filter(|first| parts.iter().all(|part| part == *first)) {
                object.remove("prefixItems");
                object.insert("items".to_owned(), first.clone());
                object.insert("minItems".to_owned(), parts.len().into());
                object.insert("maxItems".to_owned(), parts.len().into());
            }
            object.values_mut().for_each(spell_out);
        }
        Value::Array(array) => array.iter_mut().for_each(spell_out),
        _ => {}
    }
}

/// Bodies that may be sent as they were read, and the schemas of their answers.
const READ_BACK: [(&str, &str); 5] = [
    ("SubscriptionWrite", "SubscriptionBody"),
    ("BinSettings", "BinBody"),
    ("RolloutWrite", "RolloutBody"),
    ("TenantWrite", "TenantBody"),
    ("EventType", "EventTypeBody"),
];

fn complete_schemas(mut schemas: Map<String, Value>) -> Map<String, Value> {
    for (name, schema) in &mut schemas {
        if name.ends_with("Patch") {
            make_patch(schema);
        }
        if let Some(example) = examples::schema(name) {
            schema["examples"] = json!([example]);
        }
    }
    for (write, answer) in READ_BACK {
        let fields = schemas[answer]["properties"].as_object().cloned().unwrap_or_default();
        let Some(properties) = schemas[write]["properties"].as_object_mut() else { continue };
        for (name, mut field) in fields {
            field["readOnly"] = true.into();
            properties.entry(name).or_insert(field);
        }
    }
    schemas
}

/// Makes a body schema that of a merge patch (RFC 7396): nothing is required, and null removes.
fn make_patch(schema: &mut Value) {
    fn nullable(field: &mut Value) {
        let is_nullable = field["type"].as_array().is_some_and(|types| types.contains(&json!("null")))
            || field["oneOf"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["type"] == "null"));
        if !is_nullable {
            let mut whole = json!({"anyOf": [field.take(), {"type": "null"}]});
            if let Some(description) = whole["anyOf"][0].as_object_mut().and_then(|field| field.remove("description")) {
                whole["description"] = description;
            }
            *field = whole;
        }
    }
    schema.as_object_mut().into_iter().for_each(|schema| drop(schema.remove("required")));
    for (_, field) in members(schema, "/properties") {
        if field["additionalProperties"]["type"] == "string" {
            nullable(&mut field["additionalProperties"]);
        }
        nullable(field);
    }
}

fn complete_operation(operation: &mut Value, schemas: &Map<String, Value>) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    let is_keyed = operation.get("security").is_none();
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        complete_parameter(parameter);
    }
    for (kind, content) in members(operation, "/requestBody/content") {
        if let Some(example) = examples::body(&id).filter(|_| is_json(kind)) {
            content["examples"] = json!({"typical": {"value": example}});
        }
    }
    make_components_binary(operation);
    for (status, answer) in members(operation, "/responses") {
        if answer["description"].as_str().is_none_or(str::is_empty) {
            answer["description"] = description(status, answer, schemas).into();
        }
        let mut names = vec!["X-Request-Id"];
        if is_keyed {
            names.extend(["RateLimit", "RateLimit-Policy"]);
        }
        if matches!(status.as_str(), "429" | "503") {
            names.push("Retry-After");
        }
        if id == "send_events" && status == "202" {
            names.push("Idempotent-Replayed");
        }
        for name in names {
            answer["headers"][name] = json!({"$ref": format!("#/components/headers/{name}")});
        }
    }
}

/// Returns true if a content type is one JSON text.
fn is_json(kind: &str) -> bool {
    kind.ends_with("/json") || kind.ends_with("+json")
}

/// Returns the members of the object at a JSON Pointer. Empty if there is no object.
fn members<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a mut Value)> {
    value.pointer_mut(pointer).and_then(Value::as_object_mut).into_iter().flatten()
}

fn complete_parameter(parameter: &mut Value) {
    let name = parameter["name"].clone();
    let place = parameter["in"].clone();
    if place != "path" {
        // A parameter may be absent, but is never null.
        let schema = &mut parameter["schema"];
        if let Some(kind) = schema["type"].as_array().and_then(|kinds| kinds.iter().find(|kind| **kind != "null")) {
            schema["type"] = kind.clone();
        }
        if let Some(kind) =
            schema["oneOf"].as_array().and_then(|kinds| kinds.iter().find(|kind| kind["type"] != "null"))
        {
            *schema = json!({"$ref": kind["$ref"]});
        }
    }
    let name = name.as_str().unwrap_or_default();
    let format = parameter["schema"]["format"].as_str().unwrap_or_default();
    if let Some(example) = examples::parameter(name, format) {
        parameter["example"] = example;
    }
    if name == "t" {
        parameter["description"] = "The tenant's id".into();
    }
}

/// Describes components as bytes, without a content type for uploads, which some generators do not support.
fn make_components_binary(operation: &mut Value) {
    const WASM: &str = "application/wasm";
    let bytes = json!({"schema": {"type": "string", "format": "binary"}});
    let content = operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut);
    if let Some(content) = content.filter(|content| content.contains_key(WASM)) {
        content.insert(WASM.to_owned(), bytes.clone());
        content.insert("application/octet-stream".to_owned(), bytes.clone());
    }
    for (_, answer) in members(operation, "/responses") {
        if let Some(component) = answer.pointer_mut("/content").and_then(|content| content.get_mut(WASM)) {
            *component = bytes.clone();
        }
    }
}

/// Returns the description of a success that has none: the one of the answer's schema.
fn description(status: &str, answer: &Value, schemas: &Map<String, Value>) -> String {
    let content = answer["content"].as_object().and_then(|content| content.values().next());
    let schema = content.map(|content| &content["schema"]);
    let named = |schema: &Value| {
        let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
        let text = name.and_then(|name| schemas.get(name)?["description"].as_str());
        text.and_then(|text| text.lines().next()).map(|line| line.trim_end_matches('.').to_owned())
    };
    let held = schema.and_then(|schema| named(schema).or_else(|| Some(format!("List: {}", named(&schema["items"])?))));
    held.unwrap_or_else(|| if status == "204" { "Done; there is no body".to_owned() } else { "Success".to_owned() })
}

fn headers() -> Value {
    fn text(description: &str) -> Value {
        json!({"description": description, "schema": {"type": "string"}})
    }
    json!({
        "X-Request-Id": text("The request's id: the client's own, if it sent one, or a new one"),
        "Retry-After": text("When to ask again, in seconds"),
        "RateLimit": text("How many more requests can be under way at once now (draft-ietf-httpapi-ratelimit-headers)"),
        "RateLimit-Policy": text("The limit of requests under way at once (draft-ietf-httpapi-ratelimit-headers)"),
        "Idempotent-Replayed": text("`true` if an earlier request with the same Idempotency-Key was answered with this"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Returns path, method and operation of every route.
    fn operations() -> Vec<(&'static String, &'static String, &'static Value)> {
        let paths = document()["paths"].as_object().expect("paths");
        let all = paths.iter().flat_map(|(path, methods)| {
            methods.as_object().expect("methods").iter().map(move |(method, operation)| (path, method, operation))
        });
        all.collect()
    }

    #[test]
    fn operation_ids_are_distinct_and_bodies_have_examples() {
        let mut ids = BTreeSet::new();
        for (path, method, operation) in operations() {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id), "{method} {path}: {id} names another route too");
            let content = operation["requestBody"]["content"].as_object();
            let has_json = content.is_some_and(|content| content.keys().any(|kind| is_json(kind)));
            assert_eq!(has_json, examples::body(id).is_some(), "{id}: an example of its body in examples.rs");
        }
    }

    #[test]
    fn parameters_are_where_they_belong() {
        for (path, method, operation) in operations() {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().expect("a name");
                let in_path = path.contains(&format!("{{{name}}}"));
                assert_eq!(parameter["in"] == "path", in_path, "{method} {path}: {name}");
                assert!(parameter["required"] != true || in_path, "{method} {path}: {name}");
            }
        }
    }

    #[test]
    fn a_query_is_known_by_the_document() {
        fn known(method: Method, route: &str) -> Option<Vec<String>> {
            query_parameters(&method, route).map(<[String]>::to_vec)
        }
        let deliveries = ["subscription", "state", "event", "cursor", "limit"].map(str::to_owned).to_vec();
        assert_eq!(known(Method::GET, "/v1/tenants/{t}/deliveries"), Some(deliveries.clone()));
        assert_eq!(known(Method::HEAD, "/v1/tenants/{t}/deliveries"), Some(deliveries));
        assert_eq!(known(Method::GET, "/v1/tenants/{t}/bins"), Some(Vec::new()));
        assert_eq!(known(Method::GET, "/t/{t}"), None);
    }
}

//! Refusals that every route can return, added to the OpenAPI document in one place; handlers describe only particular ones.
//! Composed schemas are merged.

use serde_json::{Map, Value};
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response, ResponseBuilder};

/// Media type of problem documents (RFC 9457 §3).
const PROBLEM: &str = "application/problem+json";

/// Adds the answers of the guards before the handlers, and marks every problem as such.
pub(super) fn describe(mut document: OpenApi) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        let has_params = path.contains('{');
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            describe_operation(operation, has_params);
        }
    }
    document
}

fn describe_operation(operation: &mut Operation, has_params: bool) {
    let is_public = operation.security.as_ref().is_some_and(|all| !all.is_empty());
    let mut refusals: Vec<(&str, &str)> =
        vec![("503", "The store cannot commit now, or there is no memory; `Retry-After` says when to ask again")];
    if !is_public {
        refusals.extend([
            ("401", "No key, or one that is unknown"),
            ("403", "A key without the tenant or scope that this needs"),
            ("429", "Too many requests of the tenant are under way; `Retry-After` says when to ask again"),
        ]);
    }
    if has_params {
        refusals.push(("404", "There is no such thing"));
    }
    if operation.parameters.as_ref().is_some_and(|all| !all.is_empty()) {
        refusals.push(("400", "The query does not fit"));
    }
    if operation.request_body.is_some() {
        refusals.extend([
            ("400", "The body cannot be read"),
            ("408", "The body did not arrive in time"),
            ("409", "It cannot be done as things are now"),
            ("413", "The body is too large"),
            ("422", "The body does not fit"),
        ]);
    }
    let responses = &mut operation.responses.responses;
    for (status, description) in refusals {
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(description)));
    }
    for (status, response) in responses.iter_mut().filter(|(status, _)| status.starts_with(['4', '5'])) {
        if let RefOr::T(response) = response {
            let description =
                if response.description.is_empty() { usual_description(status) } else { &response.description };
            *response = problem(description);
        }
    }
}

fn usual_description(status: &str) -> &str {
    match status {
        "404" => "There is no such thing",
        "409" => "It cannot be done as things are now",
        "413" => "The body is too large",
        "422" => "The body does not fit",
        _ => "Refused",
    }
}

fn problem(description: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(description).content(PROBLEM, content).build()
}

/// Merges every `allOf` of objects into one object: if unknown fields are refused, no part of an `allOf` may know the fields of the
/// others.
pub(super) fn flat(document: &OpenApi) -> Value {
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let schemas = document["components"]["schemas"].clone();
    for (_, schema) in document["components"]["schemas"].as_object_mut().into_iter().flatten() {
        if schema["allOf"].is_array() {
            *schema = merged(schema, &schemas);
        }
    }
    document
}

fn merged(schema: &Value, schemas: &Value) -> Value {
    let mut whole = Map::from_iter([("type".to_owned(), Value::from("object"))]);
    whole.extend(schema.get("description").map(|text| ("description".to_owned(), text.clone())));
    let mut properties = Map::new();
    let mut required = Vec::new();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let name = part["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
        let part = match name.map(|name| &schemas[name]) {
            Some(named) if named["allOf"].is_array() => merged(named, schemas),
            Some(named) => named.clone(),
            None => part.clone(),
        };
        properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
        required.extend(part["required"].as_array().cloned().unwrap_or_default());
        whole.extend(part.get("additionalProperties").map(|rule| ("additionalProperties".to_owned(), rule.clone())));
    }
    whole.insert("properties".to_owned(), properties.into());
    if !required.is_empty() {
        whole.insert("required".to_owned(), required.into());
    }
    whole.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_become_one_object() {
        let schemas = json!({
            "A": {"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": false},
            "B": {"description": "both", "allOf": [{"$ref": "#/components/schemas/A"}, {"properties": {"b": {}}, "required": ["b"]}]},
        });
        let whole = json!({"type": "object", "description": "both", "additionalProperties": false, "properties": {"a": {}, "b": {}}, "required": ["a", "b"]});
        assert_eq!(merged(&schemas["B"], &schemas), whole);
    }
}

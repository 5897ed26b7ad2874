//! The OpenAPI document as the page shows it: operations by group, with their parameters, bodies and answers, and the shapes.
//!
//! # Guarantees
//! - It is made once, from the document that `/openapi.json` serves. A test compares their routes.

use crate::api::document::document;
use crate::api::pages::prose::Prose;
use serde_json::Value;
use std::sync::LazyLock;

/// Document in the form of the page.
pub(super) struct Reference {
    pub(super) groups: Vec<ApiGroup>,
    pub(super) shapes: Vec<ApiShape>,
}

/// Operations with the same tag.
pub(super) struct ApiGroup {
    pub(super) name: String,
    pub(super) operations: Vec<ApiOperation>,
}

/// Operation of the API.
pub(super) struct ApiOperation {
    pub(super) id: String,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) summary: String,
    pub(super) description: Prose,
    pub(super) parameters: Vec<ApiParameter>,
    pub(super) body: Option<ApiBody>,
    pub(super) answers: Vec<ApiAnswer>,
    pub(super) caller: Caller,
}

/// Callers of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Everybody: the operation needs no key.
    Anybody,
    /// Keys of the tenant in the path, and admin keys.
    Tenant,
    /// Admin keys only.
    Admin,
}

/// Parameter of an operation.
pub(super) struct ApiParameter {
    pub(super) name: String,
    /// `path`, `query` or `header`.
    pub(super) place: String,
    pub(super) kind: String,
    pub(super) description: Prose,
    pub(super) example: String,
}

/// Body of a request.
pub(super) struct ApiBody {
    pub(super) description: Prose,
    /// Content types, separated by commas.
    pub(super) kinds: String,
    /// Content type of the body that the page can send: a text. Empty: all of them are files.
    pub(super) text_kind: String,
    pub(super) shape: ShapeName,
    pub(super) example: String,
}

/// Answer to a request.
pub(super) struct ApiAnswer {
    pub(super) status: String,
    pub(super) description: Prose,
    pub(super) shape: ShapeName,
    pub(super) example: String,
}

/// Type of a value: its words, and the shape that they name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ShapeName {
    pub(super) text: String,
    /// Name of the shape. Empty: it is a plain type.
    pub(super) name: String,
}

/// Object of requests or answers.
pub(super) struct ApiShape {
    pub(super) name: String,
    pub(super) description: Prose,
    pub(super) fields: Vec<ApiField>,
    /// Values of a shape that is one of some texts.
    pub(super) choices: String,
}

/// Field of a shape.
pub(super) struct ApiField {
    pub(super) name: String,
    pub(super) kind: ShapeName,
    pub(super) is_required: bool,
    pub(super) description: Prose,
}

/// Operations below a tenant that need an admin key nevertheless. A test calls every operation with a tenant's key.
const ADMIN_ONLY: [&str; 5] =
    ["update_tenant", "delete_tenant", "get_tenant_deletion", "create_portal_link", "end_portal_sessions"];

/// Methods in the order of the page.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Returns the document.
pub(super) fn reference() -> &'static Reference {
    static REFERENCE: LazyLock<Reference> = LazyLock::new(|| Reference::of(document()));
    &REFERENCE
}

impl Reference {
    fn of(document: &Value) -> Reference {
        let mut groups: Vec<ApiGroup> = Vec::new();
        for (path, methods) in document["paths"].as_object().into_iter().flatten() {
            for method in METHODS {
                let Some(operation) = methods.get(method) else { continue };
                let tag = text(&operation["tags"][0]);
                let view = ApiOperation::of(document, path, method, operation);
                match groups.iter_mut().find(|group| group.name == tag) {
                    Some(group) => group.operations.push(view),
                    None => groups.push(ApiGroup { name: tag, operations: vec![view] }),
                }
            }
        }
        groups.sort_by(|one, other| one.name.cmp(&other.name));
        let shapes = document["components"]["schemas"].as_object().into_iter().flatten();
        Reference { groups, shapes: shapes.map(|(name, schema)| ApiShape::of(name, schema)).collect() }
    }

    /// Returns the operation with this id.
    pub(super) fn operation(&self, id: &str) -> Option<&ApiOperation> {
        self.groups.iter().flat_map(|group| &group.operations).find(|operation| operation.id == id)
    }

    /// Returns the shape with this name.
    pub(super) fn shape(&self, name: &str) -> Option<&ApiShape> {
        self.shapes.iter().find(|shape| shape.name == name)
    }
}

impl ApiOperation {
    fn of(document: &Value, path: &str, method: &str, operation: &Value) -> ApiOperation {
        let id = text(&operation["operationId"]);
        let is_public = operation["security"].is_array();
        let caller = if is_public {
            Caller::Anybody
        } else if path.contains("{t}") && !ADMIN_ONLY.contains(&id.as_str()) {
            Caller::Tenant
        } else {
            Caller::Admin
        };
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let answers = operation["responses"].as_object().into_iter().flatten();
        ApiOperation {
            id,
            method: method.to_uppercase(),
            path: path.to_owned(),
            summary: text(&operation["summary"]),
            description: Prose::parse(&text(&operation["description"])),
            parameters: parameters.map(ApiParameter::of).collect(),
            body: operation.get("requestBody").map(|body| ApiBody::of(document, body)),
            answers: answers.map(|(status, answer)| ApiAnswer::of(document, status, answer)).collect(),
            caller,
        }
    }

    /// Returns true if each word of a search is in the operation.
    pub(super) fn is_found(&self, search: &str) -> bool {
        let words = self.words();
        search.to_lowercase().split_whitespace().all(|word| words.contains(word))
    }

    /// Returns the text that a search looks into, in small letters.
    pub(super) fn words(&self) -> String {
        let ApiOperation { id, method, path, summary, description, .. } = self;
        format!("{method} {path} {id} {} {summary} {}", id.replace('_', " "), description.plain()).to_lowercase()
    }

    /// Returns the answers to requests that were carried out.
    pub(super) fn successes(&self) -> impl Iterator<Item = &ApiAnswer> {
        self.answers.iter().filter(|answer| answer.status.starts_with('2'))
    }

    /// Returns the errors.
    pub(super) fn errors(&self) -> impl Iterator<Item = &ApiAnswer> {
        self.answers.iter().filter(|answer| !answer.status.starts_with('2'))
    }
}

impl ApiParameter {
    fn of(parameter: &Value) -> ApiParameter {
        let example = &parameter["example"];
        ApiParameter {
            name: text(&parameter["name"]),
            place: text(&parameter["in"]),
            kind: ShapeName::of(&parameter["schema"]).text,
            description: Prose::parse(&text(&parameter["description"])),
            example: example.as_str().map_or_else(|| json_text(example), str::to_owned),
        }
    }
}

impl ApiBody {
    fn of(document: &Value, body: &Value) -> ApiBody {
        let content = body["content"].as_object();
        let kinds: Vec<&String> = content.into_iter().flatten().map(|(kind, _)| kind).collect();
        let json = kinds.iter().find(|kind| kind.ends_with("/json") || kind.ends_with("+json"));
        let text_kind = json.or_else(|| kinds.iter().find(|kind| kind.starts_with("text/")));
        let shown = text_kind.or(kinds.first()).map_or(&Value::Null, |kind| &body["content"][kind.as_str()]);
        let example = &shown["examples"]["typical"]["value"];
        let shape = ShapeName::of(&shown["schema"]);
        let example = if example.is_null() { example_of(document, &shape) } else { json_text(example) };
        ApiBody {
            description: Prose::parse(&text(&body["description"])),
            text_kind: text_kind.map(|kind| (*kind).clone()).unwrap_or_default(),
            kinds: kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", "),
            shape,
            example,
        }
    }
}

impl ApiAnswer {
    fn of(document: &Value, status: &str, answer: &Value) -> ApiAnswer {
        let content = answer["content"].as_object().and_then(|content| content.iter().next());
        let mut shape = content.map(|(_, content)| ShapeName::of(&content["schema"])).unwrap_or_default();
        if let Some((kind, _)) = content.filter(|(kind, _)| !kind.ends_with("json")) {
            shape.text.clone_from(kind);
        }
        let is_list = shape.text.starts_with("list of ");
        let example = example_of(document, &shape);
        let example = if is_list && !example.is_empty() { format!("[{example}]") } else { example };
        ApiAnswer {
            status: status.to_owned(),
            description: Prose::parse(&text(&answer["description"])),
            example: crate::diff::pretty(&example),
            shape,
        }
    }
}

impl ShapeName {
    /// Returns the words for a schema.
    fn of(schema: &Value) -> ShapeName {
        if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
            return ShapeName { text: name.to_owned(), name: name.to_owned() };
        }
        for kind in ["oneOf", "anyOf", "allOf"] {
            let parts = schema[kind].as_array().into_iter().flatten().map(ShapeName::of);
            let mut parts = parts.filter(|part| part.text != "null" && !part.text.is_empty());
            if let Some(first) = parts.next() {
                return first;
            }
        }
        if let Some(choices) = choices(schema) {
            return ShapeName { text: choices, name: String::new() };
        }
        let kinds = schema["type"].as_array().map(Vec::as_slice).unwrap_or(std::slice::from_ref(&schema["type"]));
        let kind = kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or_default();
        match kind {
            "array" => {
                let item = ShapeName::of(&schema["items"]);
                ShapeName { text: format!("list of {}", item.text), name: item.name }
            }
            "object" => {
                let value = ShapeName::of(&schema["additionalProperties"]);
                let text = if value.text.is_empty() { "object".to_owned() } else { format!("map to {}", value.text) };
                ShapeName { text, name: value.name }
            }
            kind => ShapeName { text: kind.to_owned(), name: String::new() },
        }
    }
}

impl ApiShape {
    fn of(name: &str, schema: &Value) -> ApiShape {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let field = |(name, schema): (&String, &Value)| ApiField {
            name: name.clone(),
            kind: ShapeName::of(schema),
            is_required: required.contains(&name.as_str()),
            description: Prose::parse(&text(&schema["description"])),
        };
        let properties = schema["properties"].as_object().into_iter().flatten();
        ApiShape {
            name: name.to_owned(),
            description: Prose::parse(&text(&schema["description"])),
            fields: properties.map(field).collect(),
            choices: choices(schema).unwrap_or_default(),
        }
    }
}

/// Returns the texts of a closed set.
fn choices(schema: &Value) -> Option<String> {
    let choices = schema["enum"].as_array()?;
    Some(choices.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
}

/// Returns the example of a shape. Empty: it has none.
fn example_of(document: &Value, shape: &ShapeName) -> String {
    json_text(&document["components"]["schemas"][&shape.name]["examples"][0])
}

/// Returns JSON for people. Empty: there is no value.
fn json_text(value: &Value) -> String {
    if value.is_null() { String::new() } else { format!("{value:#}") }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_route_and_shape_is_on_the_page() {
        let methods = document()["paths"].as_object().expect("paths").values();
        let all: usize =
            methods.map(|item| item.as_object().expect("an item").values().filter(|v| v.is_object()).count()).sum();
        let reference = reference();
        assert_eq!(reference.groups.iter().map(|group| group.operations.len()).sum::<usize>(), all);
        assert!(reference.groups.iter().all(|group| !group.name.is_empty()), "every route has a tag");
        assert!(reference.shape("Problem").is_some_and(|shape| !shape.fields.is_empty()));
        for id in ADMIN_ONLY {
            assert_eq!(reference.operation(id).map(|operation| operation.caller), Some(Caller::Admin), "{id}");
        }
        assert_eq!(reference.operation("get_health").map(|operation| operation.caller), Some(Caller::Anybody));
        assert_eq!(reference.operation("list_events").map(|operation| operation.caller), Some(Caller::Tenant));
    }

    #[test]
    fn a_search_finds_each_word() {
        let operation = reference().operation("rotate_signing_secret").expect("an operation");
        for found in ["", "ROTATE", "post secret", "subscriptions/{id}/rotate", "signing rotate"] {
            assert!(operation.is_found(found), "{found}");
        }
        assert!(!operation.is_found("rotate bins"));
    }

    #[test]
    fn a_schema_has_words() {
        #[track_caller]
        fn check(schema: Value, text: &str, name: &str) {
            assert_eq!(ShapeName::of(&schema), ShapeName { text: text.to_owned(), name: name.to_owned() });
        }
        check(json!({"type": "string"}), "string", "");
        check(json!({"type": ["integer", "null"]}), "integer", "");
        check(json!({"$ref": "#/components/schemas/Limits"}), "Limits", "Limits");
        check(json!({"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Reuse"}]}), "Reuse", "Reuse");
        check(
            json!({"type": "array", "items": {"$ref": "#/components/schemas/KeyBody"}}),
            "list of KeyBody",
            "KeyBody",
        );
        check(json!({"type": "object", "additionalProperties": {"type": "string"}}), "map to string", "");
        check(json!({"type": "object", "additionalProperties": true}), "object", "");
        check(json!({"type": "string", "enum": ["a", "b"]}), "a, b", "");
        check(json!({}), "", "");
    }
}

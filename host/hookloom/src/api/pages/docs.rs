//! Page of the REST API, rendered from the document that `/openapi.json` serves.

use super::{HtmlPage, PageError, render};
use crate::api::ApiState;
use crate::api::document::document;
use askama::Template;
use axum::extract::State;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Part of an OpenAPI document that the page shows (OpenAPI 3.1 §4.8).
#[derive(Deserialize)]
struct OpenApiDocument {
    paths: BTreeMap<String, PathItem>,
    components: SchemaComponents,
}

#[derive(Deserialize)]
struct PathItem {
    get: Option<Operation>,
    post: Option<Operation>,
    put: Option<Operation>,
    patch: Option<Operation>,
    delete: Option<Operation>,
}

impl PathItem {
    /// Returns the operations with their methods.
    fn into_operations(self) -> impl Iterator<Item = (&'static str, Operation)> {
        let PathItem { get, post, put, patch, delete } = self;
        let all = [("GET", get), ("POST", post), ("PUT", put), ("PATCH", patch), ("DELETE", delete)];
        all.into_iter().filter_map(|(method, operation)| Some((method, operation?)))
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Operation {
    tags: Vec<String>,
    summary: String,
    description: String,
    parameters: Vec<Parameter>,
    request_body: Content,
    responses: BTreeMap<String, Content>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Parameter {
    name: String,
    r#in: String,
    description: String,
}

/// Body of a request or an answer.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Content {
    description: String,
    content: BTreeMap<String, MediaType>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MediaType {
    schema: Schema,
}

#[derive(Deserialize)]
struct SchemaComponents {
    schemas: BTreeMap<String, Schema>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Schema {
    #[serde(rename = "$ref")]
    reference: Option<String>,
    one_of: Vec<Schema>,
    all_of: Vec<Schema>,
    r#type: Option<SchemaType>,
    items: Option<Box<Schema>>,
    description: String,
    properties: BTreeMap<String, Schema>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SchemaType {
    One(String),
    Several(Vec<String>),
}

#[derive(Template)]
#[template(path = "docs.html")]
struct Docs {
    groups: Vec<(String, Vec<RouteView>)>,
    shapes: Vec<Shape>,
}

/// Name, description, and each field with its type and description.
type Shape = (String, String, Vec<(String, String, String)>);

struct RouteView {
    method: &'static str,
    path: String,
    summary: String,
    description: String,
    parameters: Vec<(String, String, String)>,
    body: String,
    answers: String,
}

pub(super) async fn page(State(state): State<Arc<ApiState>>) -> Result<HtmlPage, PageError> {
    let document = OpenApiDocument::deserialize(document()).expect("the document is one of OpenAPI");
    render(&state, None, Docs { groups: groups(document.paths), shapes: shapes(document.components) }).await
}

fn groups(paths: BTreeMap<String, PathItem>) -> Vec<(String, Vec<RouteView>)> {
    let mut groups: Vec<(String, Vec<RouteView>)> = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.into_operations() {
            let tag = operation.tags.into_iter().next().unwrap_or_default();
            let answers = operation.responses.iter();
            let answers = answers.map(|(status, answer)| format!("{status} {}", described(answer)).trim().to_owned());
            let view = RouteView {
                method,
                path: path.clone(),
                summary: operation.summary,
                description: operation.description,
                body: described(&operation.request_body),
                answers: answers.collect::<Vec<_>>().join(", "),
                parameters: operation.parameters.into_iter().map(|one| (one.name, one.r#in, one.description)).collect(),
            };
            match groups.iter_mut().find(|(name, _)| *name == tag) {
                Some((_, routes)) => routes.push(view),
                None => groups.push((tag, vec![view])),
            }
        }
    }
    groups
}

/// Describes a body or an answer: the names of its schemas, and its description.
fn described(part: &Content) -> String {
    let shapes = part.content.iter().map(|(kind, content)| match shape(&content.schema) {
        shape if shape.is_empty() => kind.clone(),
        shape => shape,
    });
    let shapes = shapes.collect::<Vec<_>>().join(" or ");
    [shapes.as_str(), &part.description].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

/// Returns the name of a schema, or a description of its type.
fn shape(schema: &Schema) -> String {
    if let Some(reference) = &schema.reference {
        return reference.rsplit('/').next().unwrap_or_default().to_owned();
    }
    let alternatives = schema.one_of.iter().chain(&schema.all_of).map(shape);
    if let Some(one) = alternatives.into_iter().find(|name| name != "null" && !name.is_empty()) {
        return one;
    }
    match (&schema.r#type, &schema.items) {
        (Some(SchemaType::One(kind)), Some(items)) if kind == "array" => format!("list of {}", shape(items)),
        (Some(SchemaType::One(kind)), _) => kind.clone(),
        (Some(SchemaType::Several(kinds)), _) => kinds.join(" or "),
        (None, _) => String::new(),
    }
}

fn shapes(components: SchemaComponents) -> Vec<Shape> {
    fn field((name, schema): (String, Schema)) -> (String, String, String) {
        (name, shape(&schema), schema.description)
    }
    let schemas = components.schemas.into_iter();
    schemas
        .map(|(name, schema)| (name, schema.description, schema.properties.into_iter().map(field).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_and_shape_is_on_the_page() {
        let methods = document()["paths"].as_object().expect("paths").values();
        let all: usize =
            methods.map(|item| item.as_object().expect("an item").values().filter(|v| v.is_object()).count()).sum();
        let document = OpenApiDocument::deserialize(document()).expect("a document");
        let groups = groups(document.paths);
        let shapes = shapes(document.components);
        assert_eq!(groups.iter().map(|(_, routes)| routes.len()).sum::<usize>(), all);
        assert!(groups.iter().all(|(tag, _)| !tag.is_empty()), "every route has a tag");
        assert!(shapes.iter().any(|(name, _, fields)| name == "Problem" && !fields.is_empty()));
    }
}

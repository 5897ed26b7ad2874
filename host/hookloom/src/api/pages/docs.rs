//! Page of the REST API, rendered from the document that `/openapi.json` serves.

use super::{HtmlPage, PageError, render};
use crate::api::ApiState;
use crate::api::document::document;
use askama::Template;
use axum::extract::State;
use serde_json::Value;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "docs.html")]
struct Docs {
    groups: Vec<(String, Vec<RouteView>)>,
    shapes: Vec<Shape>,
}

/// Name, description, and each field with its type and description.
type Shape = (String, String, Vec<(String, String, String)>);

struct RouteView {
    method: String,
    path: String,
    summary: String,
    description: String,
    parameters: Vec<(String, String, String)>,
    body: String,
    answers: String,
}

pub(super) async fn page(State(state): State<Arc<ApiState>>) -> Result<HtmlPage, PageError> {
    let document = document();
    render(&state, None, Docs { groups: groups(document), shapes: shapes(document) }).await
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn groups(document: &Value) -> Vec<(String, Vec<RouteView>)> {
    let mut groups: Vec<(String, Vec<RouteView>)> = Vec::new();
    for (path, methods) in entries(&document["paths"]) {
        for (method, route) in entries(methods).filter(|(_, route)| route.is_object()) {
            let tag = text(&route["tags"][0]);
            let view = RouteView {
                method: method.to_uppercase(),
                path: path.clone(),
                summary: text(&route["summary"]),
                description: text(&route["description"]),
                parameters: items(&route["parameters"])
                    .map(|one| (text(&one["name"]), text(&one["in"]), text(&one["description"])))
                    .collect(),
                body: content(&route["requestBody"]),
                answers: entries(&route["responses"])
                    .map(|(status, answer)| format!("{status} {}", content(answer)).trim().to_owned())
                    .collect::<Vec<_>>()
                    .join(", "),
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
fn content(part: &Value) -> String {
    let shapes: Vec<String> = entries(&part["content"])
        .map(|(kind, content)| match shape(&content["schema"]).as_str() {
            "" => kind.clone(),
            shape => shape.to_owned(),
        })
        .collect();
    let description = text(&part["description"]);
    [shapes.join(" or "), description].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

/// Returns the name of a schema, or a description of its type.
fn shape(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return reference.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(one) = items(&schema["oneOf"])
        .chain(items(&schema["allOf"]))
        .map(shape)
        .find(|name| name != "null" && !name.is_empty())
    {
        return one;
    }
    match &schema["type"] {
        Value::String(kind) if kind == "array" => format!("list of {}", shape(&schema["items"])),
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        _ => String::new(),
    }
}

fn shapes(document: &Value) -> Vec<Shape> {
    entries(&document["components"]["schemas"])
        .map(|(name, schema)| {
            let fields = entries(&schema["properties"]);
            let fields =
                fields.map(|(name, field)| (name.clone(), shape(field), text(&field["description"]))).collect();
            (name.clone(), text(&schema["description"]), fields)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_and_shape_is_on_the_page() {
        let document = document();
        let groups = groups(document);
        let shapes = shapes(document);
        let routes: usize = groups.iter().map(|(_, routes)| routes.len()).sum();
        let all = entries(&document["paths"])
            .flat_map(|(_, methods)| entries(methods))
            .filter(|(_, route)| route.is_object());
        assert_eq!(routes, all.count());
        assert!(groups.iter().all(|(tag, _)| !tag.is_empty()), "every route has a tag");
        assert!(shapes.iter().any(|(name, _, fields)| name == "Problem" && !fields.is_empty()));
    }
}

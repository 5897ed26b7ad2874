//! Tests of the fields: the HTML of one field of each kind.

use super::*;
use crate::manifest::Manifest;
use crate::operations::FieldFault;
use serde_json::{Value, json};

/// Returns the key with this schema.
fn key(name: &str, schema: &Value, required: bool) -> ConfigKey {
    let required = if required { json!([name]) } else { json!([]) };
    let config = json!({"type": "object", "properties": {name: schema}, "required": required});
    let manifest = json!({"title": "T", "description": "D", "config": config});
    let manifest = Manifest::parse(manifest.to_string().as_bytes()).expect("a manifest");
    manifest.schema().expect("a schema").keys.remove(0)
}

#[track_caller]
fn check_field(field: &ConfigField, expected: &[&str]) {
    let html = field.render().expect("rendered");
    let lines: Vec<&str> = html.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(lines, expected);
}

#[track_caller]
fn check(schema: Value, value: Option<&str>, expected: &[&str]) {
    check_field(&ConfigField::new(key("min_value", &schema, false), 1, value.map(str::to_owned), None), expected);
}

const LABEL: &str =
    r#"<p class="named"><label for="config-1">Min value</label> <code class="quiet">min_value</code></p>"#;

#[test]
fn a_text_shows_its_default_and_marks_an_example() {
    let title = r#"<p class="named"><label for="config-1">Place</label> <code class="quiet">min_value</code></p>"#;
    check(
        json!({"type": "string", "title": "Place", "description": "Key of `eventData`.", "default": "enriched"}),
        None,
        &[
            title,
            r#"<input id="config-1" name="config.min_value" aria-describedby="config-1-hint" class="fits" size="36" spellcheck="false" value="" placeholder="enriched">"#,
            r#"<p class="hint" id="config-1-hint">Key of <code>eventData</code>. Default: <code>enriched</code>.</p>"#,
        ],
    );
    check(
        json!({"type": "string", "examples": ["<44>"]}),
        Some("a \"b\""),
        &[
            LABEL,
            r#"<input id="config-1" name="config.min_value" class="fits" size="36" spellcheck="false" value="a &#34;b&#34;" placeholder="Example: &#60;44&#62;">"#,
        ],
    );
}

#[test]
fn a_number_is_as_wide_as_it_needs() {
    check(
        json!({"type": "number", "description": "Per cent.", "minimum": 0, "maximum": 100, "examples": [75]}),
        Some("80"),
        &[
            LABEL,
            r#"<input id="config-1" name="config.min_value" aria-describedby="config-1-hint" class="fits" size="13" inputmode="decimal" value="80" placeholder="Example: 75">"#,
            r#"<p class="hint" id="config-1-hint">Per cent. From 0 to 100.</p>"#,
        ],
    );
}

#[test]
fn a_list_has_a_line_for_each_item_and_says_so_once() {
    let list =
        json!({"type": "array", "items": {"type": "string"}, "description": "Names.", "default": ["a", "b", "c", "d"]});
    check(
        list.clone(),
        None,
        &[
            LABEL,
            r#"<textarea id="config-1" name="config.min_value" aria-describedby="config-1-hint" class="fits" rows="4" cols="36" spellcheck="false" placeholder="a"#,
            "b",
            "c",
            r#"d">"#,
            "</textarea>",
            r#"<p class="hint" id="config-1-hint">Names. One a line. Default: <code>a</code>, <code>b</code>, <code>c</code>, <code>d</code>.</p>"#,
        ],
    );
    let described = json!({"type": "array", "items": {"type": "string"}, "description": "Rules, one a line.", "x-separator": "line"});
    check(
        described,
        Some("x, y"),
        &[
            LABEL,
            r#"<textarea id="config-1" name="config.min_value" aria-describedby="config-1-hint" class="fits" rows="3" cols="36" spellcheck="false" placeholder="">"#,
            "x, y</textarea>",
            r#"<p class="hint" id="config-1-hint">Rules, one a line.</p>"#,
        ],
    );
}

#[test]
fn a_closed_set_has_no_empty_choice_beside_a_default() {
    let set =
        json!({"oneOf": [{"const": "drop", "description": "Drop `them`."}, {"const": "pass"}], "default": "drop"});
    let select = r#"<select id="config-1" name="config.min_value">"#;
    check(
        set.clone(),
        None,
        &[
            LABEL,
            &format!(
                r#"{select}<option value="" selected>Drop them (default)</option><option value="pass">pass</option></select>"#
            ),
        ],
    );
    check(
        set,
        Some("drop"),
        &[
            LABEL,
            &format!(
                r#"{select}<option value="drop" selected>Drop them (default)</option><option value="pass">pass</option></select>"#
            ),
        ],
    );
    check(
        json!({"enum": ["lower"]}),
        Some("earlier"),
        &[
            LABEL,
            &format!(
                r#"{select}<option value="">Not set</option><option value="lower">lower</option><option value="earlier" selected>earlier</option></select>"#
            ),
        ],
    );
    check(
        json!({"type": "boolean", "default": false}),
        Some("true"),
        &[
            LABEL,
            &format!(
                r#"{select}<option value="true" selected>Yes</option><option value="false">No (default)</option></select>"#
            ),
        ],
    );
}

#[test]
fn a_required_key_is_marked_and_its_fault_stands_at_the_field() {
    let fault = FieldFault { pointer: "/config/min_value".to_owned(), detail: "is required".to_owned() };
    let problem = Problem::fields(vec![fault]);
    let required = key("min_value", &json!({"enum": ["a"], "description": "One."}), true);
    check_field(
        &ConfigField::new(required, 1, None, Some(&problem)),
        &[
            r#"<p class="named"><label for="config-1">Min value <span aria-hidden="true">*</span></label> <code class="quiet">min_value</code></p>"#,
            r#"<select id="config-1" name="config.min_value" required aria-describedby="config-1-hint config-1-error" aria-invalid="true" autofocus><option value="" selected>Choose one</option><option value="a">a</option></select>"#,
            r#"<p class="field-error" id="config-1-error">is required</p>"#,
            r#"<p class="hint" id="config-1-hint">One.</p>"#,
        ],
    );
}

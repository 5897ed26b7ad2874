//! Manifest of the plugin: the type of its config, and the test that keeps `manifest.json` equal to it.

use hookloom_sdk::manifest::Manifest;
use hookloom_sdk::schemars::JsonSchema;

/// Config of the plugin.
#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars")]
#[allow(dead_code, reason = "only its schema is used")]
struct Config {
    /// Fields to keep, as paths with dots. Absent: all.
    #[schemars(extend("examples" = [["eventName", "eventData.id"]]))]
    keep: Option<Vec<String>>,
    /// Fields to leave out, as paths with dots.
    #[schemars(extend("examples" = [["eventData.owner"]]))]
    leave_out: Option<Vec<String>>,
    /// Leaves out fields that are null, or an empty text, list or object.
    #[schemars(extend("default" = false))]
    drop_nulls: Option<bool>,
    /// Fields to rename or move, one a line: `from: to`.
    #[schemars(inner(regex(pattern = r"^[^:]*\S\s*:")), extend("x-separator" = "line", "examples" = [["eventData.id: crm_id"]]))]
    rename: Option<Vec<String>>,
    /// Texts to add, one a line: `path: text`.
    #[schemars(inner(regex(pattern = r"^[^:]*\S\s*:")), extend("x-separator" = "line", "examples" = [["source: agile-crm"]]))]
    add: Option<Vec<String>>,
}

#[test]
fn the_manifest_is_that_of_the_type() {
    let description = "Keeps, leaves out, renames and adds fields, for a receiver with its own schema.";
    let sample = include_str!("../../../tests/fixtures/contact_created_person_minimal.json");
    Manifest::of::<Config>("Reshape", description).sample_event(sample).check(env!("CARGO_MANIFEST_DIR"));
}

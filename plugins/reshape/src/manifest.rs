//! Manifest of the plugin: the type of its config, and the test that keeps `manifest.json` equal to it.

use hookloom_sdk::manifest::Manifest;
use hookloom_sdk::schemars::JsonSchema;

/// Config of the plugin.
#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars")]
#[allow(dead_code, reason = "only its schema is used")]
struct Config {
    /// Paths with dots. Blank: all.
    #[schemars(title = "Fields to keep", extend("examples" = [["eventName", "eventData.id"]]))]
    keep: Option<Vec<String>>,
    /// Paths with dots.
    #[schemars(title = "Fields to leave out", extend("examples" = [["eventData.owner"]]))]
    leave_out: Option<Vec<String>>,
    /// Leaves out fields that are null, or an empty text, list or object.
    #[schemars(title = "Leave out empty fields", extend("default" = false))]
    drop_nulls: Option<bool>,
    /// Written as `from: to`.
    #[schemars(title = "Fields to rename or move", inner(regex(pattern = r"^[^:]*\S\s*:")), extend("x-separator" = "line", "examples" = [["eventData.id: crm_id"]]))]
    rename: Option<Vec<String>>,
    /// Written as `path: text`.
    #[schemars(title = "Texts to add", inner(regex(pattern = r"^[^:]*\S\s*:")), extend("x-separator" = "line", "examples" = [["source: agile-crm"]]))]
    add: Option<Vec<String>>,
}

#[test]
fn the_manifest_is_that_of_the_type() {
    let description = "Keeps, leaves out, renames and adds fields, for a receiver with its own schema.";
    let sample = include_str!("../../../tests/fixtures/contact_created_person_minimal.json");
    Manifest::of::<Config>("Reshape", description).sample_event(sample).check(env!("CARGO_MANIFEST_DIR"));
}

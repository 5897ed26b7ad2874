//! Manifest of the plugin: the type of its config, and the test that keeps `manifest.json` equal to it.

use hookloom_sdk::manifest::Manifest;
use hookloom_sdk::schemars::JsonSchema;

/// Config of the plugin.
#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars")]
#[allow(dead_code, reason = "only its schema is used")]
struct Config {
    /// Blank: all except the vendor's bookkeeping. Custom fields are `custom.NAME`.
    #[schemars(title = "Fields that count", extend("examples" = [["milestone", "expected_value"]]))]
    watch: Option<Vec<String>>,
    /// Changes of these fields alone are dropped.
    #[schemars(title = "Fields that do not count", extend("examples" = [["lead_score"]]))]
    ignore: Option<Vec<String>>,
    /// Adds `changed_fields` and `previous`. Otherwise, the original event is sent.
    #[schemars(title = "Add the changes", extend("default" = true))]
    add: Option<bool>,
    /// Adds `derived_events`: names of the kinds of change, such as `tag.added`.
    #[schemars(title = "Add the kinds of change", extend("default" = false))]
    derive: Option<bool>,
    /// Events of a contact or deal without a previous one.
    #[schemars(title = "First events", extend("default" = "pass"))]
    without_previous: Option<PassOrDrop>,
}

#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars", rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used")]
enum PassOrDrop {
    /// Pass them without a change.
    Pass,
    /// Drop them.
    Drop,
}

#[test]
fn the_manifest_is_that_of_the_type() {
    let description =
        "Passes an update only if something changed, and adds the changed fields and their earlier values.";
    let sample = include_str!("../../../tests/fixtures/contact_updated_tag_added.json");
    Manifest::of::<Config>("Only changes", description).sample_event(sample).check(env!("CARGO_MANIFEST_DIR"));
}

//! Manifest of the plugin: the type of its config, and the test that keeps `manifest.json` equal to it.

use hookloom_sdk::manifest::Manifest;
use hookloom_sdk::schemars::JsonSchema;

/// Config of the plugin.
#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars")]
#[allow(dead_code, reason = "only its schema is used")]
struct Config {
    /// Events with the same name and data as the previous one.
    #[schemars(title = "Duplicates", extend("default" = "drop"))]
    duplicates: Option<DropOrPass>,
    /// Events that are older than the previous one.
    #[schemars(title = "Late events", extend("default" = "drop"))]
    late: Option<DropOrPass>,
    /// Events with one of these tags are echoes of your own changes, and are dropped.
    #[schemars(title = "Tags of your synchronisation", extend("examples" = [["from-erp"]]))]
    own_tags: Option<Vec<String>>,
    /// E-mail addresses or ids of the users as which it works.
    #[schemars(title = "Users of your synchronisation", extend("examples" = [["sync@example.com"]]))]
    own_owners: Option<Vec<String>>,
    /// Custom properties that it sets, as `name = value`.
    #[schemars(title = "Properties of your synchronisation", inner(regex(pattern = "=")), extend("examples" = [["sync_origin = hookloom"]]))]
    own_fields: Option<Vec<String>>,
}

#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars", rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used")]
enum DropOrPass {
    /// Drop them.
    Drop,
    /// Pass them without a change.
    Pass,
}

#[test]
fn the_manifest_is_that_of_the_type() {
    let description =
        "Drops duplicates, late events, and echoes of your own synchronisation. Other events pass without a change.";
    let sample = include_str!("../../../tests/fixtures/contact_updated_tag_added.json");
    Manifest::of::<Config>("Guard", description).sample_event(sample).check(env!("CARGO_MANIFEST_DIR"));
}

//! Manifest of the plugin: the type of its config, and the test that keeps `manifest.json` equal to it.

use hookloom_sdk::manifest::Manifest;
use hookloom_sdk::schemars::JsonSchema;

/// Config of the plugin.
#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars")]
#[allow(dead_code, reason = "only its schema is used")]
struct Config {
    /// Key of the event under which the facts are added.
    #[schemars(title = "Place of the facts", extend("default" = "enriched"))]
    under: Option<String>,
    /// Least score of each grade, as `A = 80`.
    #[schemars(title = "Lead grades", inner(regex(pattern = "=")), extend("examples" = [["A = 80", "B = 50", "C = 0"]]))]
    grades: Option<Vec<String>>,
    /// Texts for values, as `field: value = text`. The field is one of the event, `tag` or `country`.
    #[schemars(title = "Lookups", inner(regex(pattern = ":.*=")), extend("x-separator" = "line", "examples" = [["milestone: Won = closed"]]))]
    lookups: Option<Vec<String>>,
    /// Texts that every event gets, as `name = text`.
    #[schemars(title = "Constants", inner(regex(pattern = "=")), extend("x-separator" = "line", "examples" = [["region = EMEA"]]))]
    constants: Option<Vec<String>>,
}

#[test]
fn the_manifest_is_that_of_the_type() {
    let description =
        "Adds facts derived from the data, such as e-mail domain, lead grade or weighted value, under one key.";
    let sample = include_str!("../../../tests/fixtures/contact_created_person_full.json");
    Manifest::of::<Config>("Enrich", description).sample_event(sample).check(env!("CARGO_MANIFEST_DIR"));
}

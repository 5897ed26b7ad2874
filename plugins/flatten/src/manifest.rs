//! Manifest of the plugin: the type of its config, and the test that keeps `manifest.json` equal to it.

use hookloom_sdk::manifest::Manifest;
use hookloom_sdk::schemars::JsonSchema;

/// Config of the plugin.
#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars")]
#[allow(dead_code, reason = "only its schema is used")]
struct Config {}

#[test]
fn the_manifest_is_that_of_the_type() {
    let description =
        "Sends a contact or a deal as one flat object, with plain keys, texts for ids and RFC 3339 times.";
    let sample = include_str!("../../../tests/fixtures/contact_created_person_full.json");
    Manifest::of::<Config>("Flat object", description).sample_event(sample).check(env!("CARGO_MANIFEST_DIR"));
}

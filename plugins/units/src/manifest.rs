//! Manifest of the plugin: the type of its config, and the test that keeps `manifest.json` equal to it.

use hookloom_sdk::manifest::Manifest;
use hookloom_sdk::schemars::JsonSchema;

/// Config of the plugin.
#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars")]
#[allow(dead_code, reason = "only its schema is used")]
struct Config {
    /// An IANA name, or `UTC`.
    #[schemars(title = "Time zone", extend("default" = "UTC", "examples" = ["Europe/Berlin"]))]
    zone: Option<String>,
    /// ISO 4217 code.
    #[schemars(title = "Currency of the account", regex(pattern = r"^\s*[A-Z]{3}\s*$"), extend("examples" = ["USD"]))]
    currency: Option<String>,
    /// Properties that hold seconds since 1970.
    #[schemars(title = "Custom properties with times", extend("examples" = [["Date of Joining"]]))]
    custom_times: Option<Vec<String>>,
}

#[test]
fn the_manifest_is_that_of_the_type() {
    let description = "Writes times as RFC 3339 in your zone, and adds money in minor units, weighted, and as text.";
    let sample = include_str!("../../../tests/fixtures/opportunity_updated_won.json");
    Manifest::of::<Config>("Times and money", description).sample_event(sample).check(env!("CARGO_MANIFEST_DIR"));
}

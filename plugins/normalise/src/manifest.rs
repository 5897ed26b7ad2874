//! Manifest of the plugin: the type of its config, and the test that keeps `manifest.json` equal to it.

use hookloom_sdk::manifest::Manifest;
use hookloom_sdk::schemars::JsonSchema;

/// Config of the plugin.
#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars")]
#[allow(dead_code, reason = "only its schema is used")]
struct Config {
    /// Calling code of national numbers, without `+`. Blank: only international numbers are changed.
    #[schemars(title = "Country of phone numbers", regex(pattern = r"^\s*\+?[1-9][0-9]{0,2}\s*$"), extend("examples" = ["44"]))]
    calling_code: Option<String>,
    /// Spelling of first and last names.
    #[schemars(title = "Names of people")]
    names: Option<Names>,
    /// Spelling of tags.
    #[schemars(title = "Tags")]
    tags: Option<Tags>,
}

#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars", rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used")]
enum Names {
    /// Each word begins with a capital.
    Title,
}

#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars", rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used")]
enum Tags {
    /// In lower case.
    Lower,
}

#[test]
fn the_manifest_is_that_of_the_type() {
    let description = "Brings e-mail addresses, phone numbers, and if wished names and tags, into one spelling.";
    let sample = include_str!("../../../tests/fixtures/contact_edge_cases.json");
    Manifest::of::<Config>("One spelling", description).sample_event(sample).check(env!("CARGO_MANIFEST_DIR"));
}

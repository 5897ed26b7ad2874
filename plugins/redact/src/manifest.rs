//! Manifest of the plugin: the type of its config, and the test that keeps `manifest.json` equal to it.

use hookloom_sdk::manifest::Manifest;
use hookloom_sdk::schemars::JsonSchema;

/// Config of the plugin.
#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars")]
#[allow(dead_code, reason = "only its schema is used")]
struct Config {
    /// Properties of contacts, as `name:how`. How: `mask`, `initial`, `hmac` or `remove`.
    #[schemars(
        title = "Fields to hide",
        inner(regex(pattern = r"^[^:]+(:\s*(mask|initial|hmac|remove))?$")),
        extend("default" = ["email:mask", "last_name:initial", "phone:mask", "address:remove"])
    )]
    properties: Option<Vec<String>>,
    /// Name of the secret with which `hmac` makes pseudonyms.
    #[schemars(title = "Secret for pseudonyms", extend("default" = "pseudonym"))]
    key: Option<String>,
    /// Regular expressions. What matches in any text becomes `***`.
    #[schemars(title = "Texts to hide", extend("x-separator" = "line", "examples" = [[r"\b\d{3}-\d{2}-\d{4}\b"]]))]
    patterns: Option<Vec<String>>,
    /// In notes, for example.
    #[schemars(title = "E-mail addresses in other texts", extend("default" = "mask"))]
    emails: Option<Emails>,
}

#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars", rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used")]
enum Emails {
    /// Mask them.
    Mask,
    /// Keep them.
    Keep,
}

#[test]
fn the_manifest_is_that_of_the_type() {
    let description = "Masks or removes personal data, by property and by pattern, and changes nothing else.";
    let sample = include_str!("../../../tests/fixtures/contact_created_person_full.json");
    Manifest::of::<Config>("Personal data", description).sample_event(sample).check(env!("CARGO_MANIFEST_DIR"));
}

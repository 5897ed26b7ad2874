//! Manifest of the plugin: the type of its config, and the test that keeps `manifest.json` equal to it.

use hookloom_sdk::manifest::Manifest;
use hookloom_sdk::schemars::JsonSchema;

/// Config of the plugin.
#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars")]
#[allow(dead_code, reason = "only its schema is used")]
struct Config {
    /// Written as `what = value -> where`; the first rule that fits wins. What: `tag`, `owner`, `type`, `pipeline`, `milestone`,
    /// `event` or `field.PATH`. Where: a URL, `pass` or `drop`.
    #[schemars(
        title = "Rules",
        inner(regex(pattern = r"^\s*(tag|owner|type|pipeline|milestone|event|field\..*)\s*=.*->\s*(pass|drop|https?://.*)$")),
        extend("x-separator" = "line", "examples" = [["milestone = Lost -> drop", "tag = vip -> https://vip.example.com/hook"]])
    )]
    rules: Option<Vec<String>>,
    /// A URL, `pass` or `drop`.
    #[schemars(title = "If no rule fits", regex(pattern = r"^\s*(pass|drop|https?://.*)$"), extend("default" = "pass"))]
    otherwise: Option<String>,
}

#[test]
fn the_manifest_is_that_of_the_type() {
    let description = "Sends an event elsewhere, or not at all, by tag, owner, type, pipeline, milestone or any field.";
    let sample = include_str!("../../../tests/fixtures/opportunity_updated_won.json");
    Manifest::of::<Config>("Route", description).sample_event(sample).check(env!("CARGO_MANIFEST_DIR"));
}

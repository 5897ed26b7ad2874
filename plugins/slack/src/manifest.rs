//! Manifest of the plugin: the type of its config, and the test that keeps `manifest.json` equal to it.

use hookloom_sdk::manifest::Manifest;
use hookloom_sdk::schemars::JsonSchema;

/// Config of the plugin.
#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars")]
#[allow(dead_code, reason = "only its schema is used")]
struct Config {
    /// Deals in these milestones become a message.
    #[schemars(title = "Milestones", extend("default" = ["Won"]))]
    milestones: Option<Vec<String>>,
    /// Text before the value of the deal.
    #[schemars(title = "Sign of the currency", extend("default" = "$"))]
    currency: Option<String>,
    /// Blank: `Deal won`, or `Deal: ` and the milestone.
    #[schemars(title = "Title of the message", extend("examples" = ["New customer"]))]
    title: Option<String>,
}

#[test]
fn the_manifest_is_that_of_the_type() {
    let description =
        "Sends a won deal or an incident as a message for a Slack incoming webhook, and drops everything else.";
    let sample = include_str!("../../../tests/fixtures/opportunity_updated_won.json");
    Manifest::of::<Config>("Slack message", description).sample_event(sample).check(env!("CARGO_MANIFEST_DIR"));
}

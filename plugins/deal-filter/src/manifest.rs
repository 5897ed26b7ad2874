//! Manifest of the plugin: the type of its config, and the test that keeps `manifest.json` equal to it.

use hookloom_sdk::manifest::Manifest;
use hookloom_sdk::schemars::JsonSchema;

/// Config of the plugin.
#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars")]
#[allow(dead_code, reason = "only its schema is used")]
struct Config {
    /// Deals that are less likely are dropped.
    #[schemars(title = "Least probability (%)", range(min = 0, max = 100), extend("examples" = [75]))]
    min_probability: Option<f64>,
    /// Deals of a smaller value are dropped. In the account's currency.
    #[schemars(title = "Least value", extend("examples" = [10000]))]
    min_value: Option<f64>,
    /// Deals in other milestones are dropped. Blank: all pass.
    #[schemars(title = "Milestones", extend("examples" = [["Proposal", "Won"]]))]
    milestones: Option<Vec<String>>,
    /// Ids of the tracks (pipelines) that pass. Blank: all pass.
    #[schemars(title = "Pipelines", extend("examples" = [["5749641410838528"]]))]
    pipelines: Option<Vec<String>>,
}

#[test]
fn the_manifest_is_that_of_the_type() {
    let description = "Passes only deals that are likely, large or advanced enough, without a change. Contacts pass.";
    let sample = include_str!("../../../tests/fixtures/opportunity_updated_won.json");
    Manifest::of::<Config>("Deal filter", description).sample_event(sample).check(env!("CARGO_MANIFEST_DIR"));
}

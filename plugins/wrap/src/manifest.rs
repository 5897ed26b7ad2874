//! Manifest of the plugin: the type of its config, and the test that keeps `manifest.json` equal to it.

use hookloom_sdk::manifest::Manifest;
use hookloom_sdk::schemars::JsonSchema;

/// Config of the plugin.
#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars")]
#[allow(dead_code, reason = "only its schema is used")]
struct Config {
    /// Envelope or encoding of the payload.
    #[schemars(title = "Envelope", extend("default" = "json"))]
    r#as: Option<As>,
    /// Fields of a form or CSV, as paths with dots. CSV needs them.
    #[schemars(title = "Fields", extend("examples" = [["eventName", "eventData.id"]]))]
    fields: Option<Vec<String>>,
    /// Header for the HMAC-SHA256 of the body, in hex. Blank: there is none.
    #[schemars(title = "Header of the HMAC", regex(pattern = r"^\s*[A-Za-z0-9-]+\s*$"), extend("examples" = ["x-signature"]))]
    hmac_header: Option<String>,
    /// Name of the secret. Needed with `hmac_header`.
    #[schemars(title = "Secret of the HMAC", extend("examples" = ["hmac"]))]
    hmac_secret: Option<String>,
    /// Some receivers want `sha256=`.
    #[schemars(title = "Text before the HMAC", extend("examples" = ["sha256="]))]
    hmac_prefix: Option<String>,
    /// Header for an id that every attempt repeats. Blank: there is none.
    #[schemars(title = "Header of the idempotency key", regex(pattern = r"^\s*[A-Za-z0-9-]+\s*$"), extend("examples" = ["idempotency-key"]))]
    idempotency_header: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(crate = "hookloom_sdk::schemars", rename_all = "kebab-case")]
#[allow(dead_code, reason = "only its schema is used")]
enum As {
    /// The payload itself.
    Json,
    /// CloudEvents 1.0.2, structured JSON.
    #[schemars(rename = "cloudevents")]
    CloudEvents,
    /// Standard Webhooks: type, timestamp, data.
    StandardWebhooks,
    /// A form, as browsers encode it.
    Form,
    /// One line of CSV (RFC 4180).
    Csv,
    /// One XML document.
    Xml,
}

#[test]
fn the_manifest_is_that_of_the_type() {
    let description =
        "Sends the payload in another envelope or encoding, with an HMAC or an idempotency header if wished.";
    let sample = include_str!("../../../tests/fixtures/contact_created_person_minimal.json");
    Manifest::of::<Config>("Envelope", description).sample_event(sample).check(env!("CARGO_MANIFEST_DIR"));
}

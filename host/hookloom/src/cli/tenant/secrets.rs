//! Secrets of an import, from a separate file or standard input, because an export has none.
//!
//! ```json
//! {
//!   "secrets": {"token": "for every webhook that uses this name"},
//!   "webhooks": [{"notify_url": "https://…", "secrets": {"token": "for this one"}, "signing_secret": "whsec_…"}]
//! }
//! ```
//!
//! Secrets for a Notify URL override those for every webhook. A secret that no webhook of the export uses is an error, because it
//! is often a misspelt name. No value is printed.

use super::super::Failure;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

/// Secrets for the webhooks of an export.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ImportSecrets {
    secrets: BTreeMap<String, String>,
    webhooks: Vec<WebhookSecrets>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookSecrets {
    notify_url: String,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    signing_secret: Option<String>,
}

impl ImportSecrets {
    /// Reads a file, or standard input for `-`.
    pub(super) fn read(file: &Path) -> Result<Self, Failure> {
        let name = file.display();
        let mut text = Vec::new();
        let read = if file.as_os_str() == "-" {
            std::io::stdin().lock().read_to_end(&mut text)
        } else {
            std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut text))
        };
        read.map_err(|error| format!("{name}: {error}"))?;
        // An error of serde quotes the value, which may be a secret, so only the position is reported.
        serde_json::from_slice(&text).map_err(|error| {
            format!(
                "{name}: line {}, column {}: this is not a file of secrets; write {{\"secrets\": {{\"name\": \"…\"}}, \"webhooks\": [{{\"notify_url\": \"…\", \"secrets\": {{}}}}]}}",
                error.line(),
                error.column()
            )
            .into()
        })
    }

    /// Adds the secrets to the webhooks of an export. Missing ones stay names, which the import then reports.
    ///
    /// # Errors
    /// Every secret and every Notify URL that the export does not use.
    pub(super) fn fill(&self, export: &mut Value) -> Result<(), Vec<String>> {
        let mut used = BTreeSet::new();
        let mut urls = BTreeSet::new();
        let webhooks = export["subscriptions"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
        for webhook in webhooks {
            let url = webhook["notify_url"].as_str().unwrap_or_default().to_owned();
            let matching: Vec<&WebhookSecrets> = self.webhooks.iter().filter(|one| one.notify_url == url).collect();
            urls.extend(matching.iter().map(|one| one.notify_url.as_str()));
            if let Some(signing) = matching.iter().find_map(|one| one.signing_secret.as_ref()) {
                webhook["signing_secret"] = signing.as_str().into();
            }
            let Value::Array(names) = &webhook["secrets"] else { continue };
            let mut given = Map::new();
            let mut missing = Vec::new();
            for name in names.iter().filter_map(Value::as_str) {
                let for_webhook = matching.iter().find_map(|one| one.secrets.get_key_value(name));
                match for_webhook.or_else(|| self.secrets.get_key_value(name)) {
                    Some((name, value)) => {
                        used.insert(name.as_str());
                        given.insert(name.clone(), value.as_str().into());
                    }
                    None => missing.push(Value::from(name)),
                }
            }
            webhook["secrets"] = if missing.is_empty() { Value::Object(given) } else { Value::Array(missing) };
        }
        let given = self.secrets.keys().chain(self.webhooks.iter().flat_map(|one| one.secrets.keys()));
        let mut faults: Vec<String> = given
            .filter(|name| !used.contains(name.as_str()))
            .map(|name| format!("no webhook of the export uses the secret {name:?}"))
            .collect();
        let unknown = self.webhooks.iter().filter(|one| !urls.contains(one.notify_url.as_str()));
        faults.extend(unknown.map(|one| format!("the export has no webhook to {}", one.notify_url)));
        faults.dedup();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn export() -> Value {
        json!({"subscriptions": [
            {"notify_url": "https://a.example/", "secrets": ["token", "key"]},
            {"notify_url": "https://b.example/", "secrets": ["token"]},
            {"notify_url": "https://c.example/", "secrets": []},
        ]})
    }

    fn secrets(text: Value) -> ImportSecrets {
        serde_json::from_value(text).expect("a file of secrets")
    }

    #[test]
    fn secrets_of_a_webhook_override_those_of_all() {
        let given = secrets(json!({
            "secrets": {"token": "t", "key": "k"},
            "webhooks": [{"notify_url": "https://b.example/", "secrets": {"token": "own"}, "signing_secret": "whsec_x"}],
        }));
        let mut all = export();
        given.fill(&mut all).expect("every secret is used");
        let one = |index: usize| &all["subscriptions"][index];
        assert_eq!(one(0)["secrets"], json!({"token": "t", "key": "k"}));
        assert_eq!((&one(1)["secrets"], &one(1)["signing_secret"]), (&json!({"token": "own"}), &json!("whsec_x")));
        assert_eq!(one(2)["secrets"], json!({}));
    }

    #[test]
    fn missing_secrets_stay_names_and_unused_ones_are_errors() {
        let mut all = export();
        secrets(json!({"secrets": {"token": "t"}})).fill(&mut all).expect("used");
        assert_eq!(
            (&all["subscriptions"][0]["secrets"], &all["subscriptions"][1]["secrets"]),
            (&json!(["key"]), &json!({"token": "t"}))
        );
        let given = secrets(json!({"secrets": {"tokn": "hidden"}, "webhooks": [{"notify_url": "https://d.example/"}]}));
        let faults = given.fill(&mut export()).expect_err("two faults");
        assert_eq!(
            faults,
            ["no webhook of the export uses the secret \"tokn\"", "the export has no webhook to https://d.example/"]
        );
    }

    #[test]
    fn an_invalid_file_is_reported_without_its_content() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "{\"secrets\": {\"token\": [\"s3cr3t\"]}}").expect("written");
        let error = ImportSecrets::read(file.path()).expect_err("no text").to_string();
        assert!(error.contains("line 1") && !error.contains("s3cr3t"), "{error}");
    }
}

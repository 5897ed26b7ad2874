//! The secrets of an import: a file of its own, or standard input, because an export holds none.
//!
//! ```json
//! {
//!   "secrets": {"token": "for every webhook that uses this name"},
//!   "webhooks": [{"notify_url": "https://…", "secrets": {"token": "for this one"}, "signing_secret": "whsec_…"}]
//! }
//! ```
//!
//! What a webhook is given by its Notify URL comes before what every webhook is given. A secret that no webhook of the export uses is
//! an error, because it is often a misspelt name. No value is printed.

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
    /// Reads a file; `-` is standard input.
    pub(super) fn read(file: &Path) -> Result<Self, Failure> {
        let name = file.display();
        let mut text = Vec::new();
        let read = if file.as_os_str() == "-" {
            std::io::stdin().lock().read_to_end(&mut text)
        } else {
            std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut text))
        };
        read.map_err(|error| format!("{name}: {error}"))?;
        // serde's words quote what does not fit, which may be a secret: only the place is told.
        serde_json::from_slice(&text).map_err(|error| {
            format!(
                "{name}: line {}, column {}: this is not a file of secrets; write {{\"secrets\": {{\"name\": \"…\"}}, \"webhooks\": [{{\"notify_url\": \"…\", \"secrets\": {{}}}}]}}",
                error.line(),
                error.column()
            )
            .into()
        })
    }

    /// Gives the webhooks of an export their secrets. Those that are missing stay names, which the import then reports.
    ///
    /// # Errors
    /// Every secret and every Notify URL that the export does not use.
    pub(super) fn fill(&self, export: &mut Value) -> Result<(), Vec<String>> {
        let mut used = BTreeSet::new();
        let mut urls = BTreeSet::new();
        let webhooks = export["subscriptions"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
        for webhook in webhooks {
            let url = webhook["notify_url"].as_str().unwrap_or_default().to_owned();
            let own: Vec<&WebhookSecrets> = self.webhooks.iter().filter(|one| one.notify_url == url).collect();
            urls.extend(own.iter().map(|one| one.notify_url.as_str()));
            if let Some(signing) = own.iter().find_map(|one| one.signing_secret.as_ref()) {
                webhook["signing_secret"] = signing.as_str().into();
            }
            let Value::Array(names) = &webhook["secrets"] else { continue };
            let mut given = Map::new();
            let mut missing = Vec::new();
            for name in names.iter().filter_map(Value::as_str) {
                let of_its_own = own.iter().find_map(|one| one.secrets.get_key_value(name));
                match of_its_own.or_else(|| self.secrets.get_key_value(name)) {
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
    fn a_webhook_gets_its_own_before_what_all_get() {
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
    fn what_is_missing_stays_a_name_and_what_is_too_much_is_told() {
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
    fn a_file_that_does_not_fit_is_told_without_its_content() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "{\"secrets\": {\"token\": [\"s3cr3t\"]}}").expect("written");
        let error = ImportSecrets::read(file.path()).expect_err("no text").to_string();
        assert!(error.contains("line 1") && !error.contains("s3cr3t"), "{error}");
    }
}

//! Masks or removes personal data before it leaves, and touches nothing else.
//!
//! Two nets. By list: named properties of contacts (also of the contacts inside a deal) are masked, shortened or removed.
//! By pattern: whatever looks like personal data in any other text is masked, such as an e-mail address in a note.
//!
//! Config, all optional:
//! - `properties`: a list of `name:how`, where how is `mask`, `initial` or `remove`. Default:
//!   `email:mask, last_name:initial, phone:mask, address:remove`.
//! - `patterns`: regular expressions, one a line, of which every match becomes `***`. Default: none.
//! - `emails`: `keep` switches the mask for e-mail addresses in other texts off.

use hookloom_sdk::json::{Map, Value};
use hookloom_sdk::{Event, Failure, Plugin, Verdict, config, export};
use regex_lite::Regex;

struct Redact;

impl Plugin for Redact {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let rules = Rules::read()?;
        event.edit(|data| rules.redact_object(data)).map(Verdict::Replace)
    }
}

export!(Redact);

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Mask,
    Initial,
    Remove,
}

struct Rules {
    properties: Vec<(String, How)>,
    email: Option<Regex>,
    patterns: Vec<Regex>,
}

const DEFAULT_PROPERTIES: [(&str, How); 4] =
    [("email", How::Mask), ("last_name", How::Initial), ("phone", How::Mask), ("address", How::Remove)];

impl Rules {
    fn read() -> Result<Self, Failure> {
        let listed: Vec<_> =
            config::list("properties").iter().map(|item| property_rule(item)).collect::<Result<_, _>>()?;
        let default = || DEFAULT_PROPERTIES.iter().map(|(name, how)| ((*name).to_owned(), *how)).collect();
        let keeps_emails = config::get("emails").as_deref() == Some("keep");
        let patterns = config::get("patterns").unwrap_or_default();
        let patterns = patterns.lines().map(str::trim).filter(|line| !line.is_empty()).map(pattern);
        Ok(Rules {
            properties: if listed.is_empty() { default() } else { listed },
            email: if keeps_emails { None } else { Some(pattern(r"[A-Za-z0-9._%+'-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")?) },
            patterns: patterns.collect::<Result<_, _>>()?,
        })
    }

    /// Walks the whole entity; `properties` and `contacts[].properties` are met on the way.
    fn redact_object(&self, object: &mut Map<String, Value>) {
        for (key, value) in object.iter_mut() {
            match value {
                Value::Array(list) if key == "properties" => self.redact_properties(list),
                other => self.redact_value(other),
            }
        }
    }

    fn redact_properties(&self, list: &mut Vec<Value>) {
        let how = |property: &Value| {
            let (kind, name) = (property["type"].as_str(), property["name"].as_str()?);
            let ours = |(listed, _): &&(String, How)| listed == name && kind != Some("CUSTOM");
            self.properties.iter().find(ours).map(|(_, how)| *how)
        };
        list.retain_mut(|property| match (how(property), property.get_mut("value")) {
            (Some(How::Remove), _) => false,
            (Some(how), Some(Value::String(text))) => {
                *text = shortened(text.trim(), how);
                true
            }
            (Some(_), Some(value)) if !value.is_null() => {
                *value = "***".into();
                true
            }
            _ => {
                self.redact_value(property);
                true
            }
        });
    }

    fn redact_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.redact_text(text),
            Value::Array(list) => list.iter_mut().for_each(|item| self.redact_value(item)),
            Value::Object(object) => self.redact_object(object),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn redact_text(&self, text: &mut String) {
        if let Some(email) = self.email.as_ref().filter(|email| email.is_match(text)) {
            *text = email.replace_all(text, |found: &regex_lite::Captures<'_>| masked_email(&found[0])).into_owned();
        }
        for pattern in self.patterns.iter().filter(|pattern| pattern.is_match(text)).collect::<Vec<_>>() {
            *text = pattern.replace_all(text, "***").into_owned();
        }
    }
}

fn property_rule(item: &str) -> Result<(String, How), Failure> {
    let (name, how) = item.split_once(':').unwrap_or((item, "mask"));
    let how = match how.trim() {
        "mask" => How::Mask,
        "initial" => How::Initial,
        "remove" => How::Remove,
        other => {
            return Err(Failure::bad_config(
                "unknown-way",
                format!("config \"properties\": {other:?} is not mask, initial or remove"),
            ));
        }
    };
    Ok((name.trim().to_owned(), how))
}

fn pattern(text: &str) -> Result<Regex, Failure> {
    Regex::new(text).map_err(|error| Failure::bad_config("bad-pattern", format!("config \"patterns\": {error}")))
}

fn shortened(text: &str, how: How) -> String {
    match how {
        _ if text.is_empty() => String::new(),
        How::Initial => text.chars().take(1).chain(['.']).collect(),
        How::Mask if text.contains('@') => masked_email(text),
        How::Mask => masked_tail(text),
        How::Remove => String::new(),
    }
}

/// The first character and the domain stay: `d***@example.com`.
fn masked_email(text: &str) -> String {
    let (local, domain) = text.rsplit_once('@').unwrap_or((text, ""));
    format!("{}***@{domain}", local.chars().take(1).collect::<String>())
}

/// The last two characters stay: `***42`.
fn masked_tail(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let tail = if chars.len() > 4 { &chars[chars.len() - 2..] } else { &[] };
    format!("***{}", tail.iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_sdk::{Body, json, testing};

    fn redacted(payload: &str, config: &[(&str, &str)]) -> String {
        match testing::run::<Redact>(payload, config) {
            Ok(Verdict::Replace(outgoing)) => match outgoing.body {
                Body::Text(text) => text,
                Body::Binary(_) => panic!("a text is sent"),
            },
            other => panic!("nothing is sent: {other:?}"),
        }
    }

    #[test]
    fn a_contact_is_the_documented_one() {
        let expected: Value =
            json::from_str(include_str!("../../../tests/fixtures/expected/redact_contact.json")).expect("JSON");
        let redacted = redacted(include_str!("../../../tests/fixtures/contact_created_person_minimal.json"), &[]);
        assert_eq!(redacted, expected["expected"].to_string());
    }

    #[test]
    fn no_personal_data_is_left_and_the_rest_is_as_it_was() {
        let payload = include_str!("../../../tests/fixtures/contact_created_person_full.json");
        let redacted = redacted(payload, &[]);
        for leaked in ["Whitfield", "dana.whitfield", "dana.w@", "555-01", "Harbour Road", "maria.lopez"] {
            assert!(!redacted.contains(leaked), "{leaked} is in {redacted}");
        }
        for kept in
            ["\"Dana\"", "Cobalt Freight Ltd", "m***@northwind.example", "***77", "5701666712059904", "1709254800118"]
        {
            assert!(redacted.contains(kept), "{kept} is not in {redacted}");
        }
    }

    #[test]
    fn the_contacts_of_a_deal_are_met_too() {
        let redacted = redacted(include_str!("../../../tests/fixtures/opportunity_updated_won.json"), &[]);
        assert!(!redacted.contains("whitfield") && redacted.contains("\"w.\""), "{redacted}");
        assert!(redacted.contains("\"expected_value\":50000.0"), "the digits stay");
    }

    #[test]
    fn config_chooses() {
        let payload = r#"{"eventName":"Contact is Created","eventData":{"note":"call +44 20 7946 0018 or a@b.example","properties":[{"name":"title","value":"Head of X"},{"name":"email","value":7},{"name":"phone","value":null}]}}"#;
        let kept = redacted(
            payload,
            &[("properties", "title:initial, phone:remove"), ("emails", "keep"), ("patterns", r"\+[0-9 ]{8,}[0-9]")],
        );
        assert_eq!(
            kept,
            r#"{"eventName":"Contact is Created","eventData":{"note":"call *** or a@b.example","properties":[{"name":"title","value":"H."},{"name":"email","value":7}]}}"#
        );
        assert!(redacted(payload, &[]).contains(r#"{"name":"email","value":"***"},{"name":"phone","value":null}"#));
        let refused = |config: &[(&str, &str)]| testing::run::<Redact>(payload, config).expect_err("a bad config");
        assert!(matches!(refused(&[("properties", "email:shred")]), Failure::BadConfig(_)));
        assert!(matches!(refused(&[("patterns", "(")]), Failure::BadConfig(_)));
    }
}

//! Masks or removes personal data before it leaves, and touches nothing else.
//!
//! Two nets. By list: named properties of contacts (also of the contacts inside a deal) are masked, shortened or removed.
//! By pattern: whatever looks like personal data in any other text is masked, such as an e-mail address in a note.
//!
//! Config, all optional:
//! - `properties`: a list of `name:how`, where how is `mask`, `initial`, `hmac` or `remove`. Default:
//!   `email:mask, last_name:initial, phone:mask, address:remove`.
//! - `key`: the name of the secret that `hmac` uses, `pseudonym` if absent. The same value has the same pseudonym in every
//!   event, and nobody without the secret can tell whose it is.
//! - `patterns`: regular expressions, one a line, of which every match becomes `***`. Default: none.
//! - `emails`: `keep` switches the mask for e-mail addresses in other texts off.

#[cfg(test)]
mod manifest;

use hookloom_sdk::json::{Map, Value};
use hookloom_sdk::{Event, Failure, Plugin, Verdict, config, export, secrets};
use regex_lite::Regex;

struct Redact;

impl Plugin for Redact {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let rules = Rules::read()?;
        let mut fault = None;
        let outgoing = event.edit(|data| fault = rules.redact_object(data).err())?;
        fault.map_or(Ok(Verdict::Replace(outgoing)), Err)
    }
}

export!(Redact, manifest: "manifest.json");

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Mask,
    Initial,
    Hmac,
    Remove,
}

struct Rules {
    properties: Vec<(String, How)>,
    masks_emails: bool,
    key: String,
    patterns: Vec<Regex>,
}

const DEFAULT_PROPERTIES: [(&str, How); 4] =
    [("email", How::Mask), ("last_name", How::Initial), ("phone", How::Mask), ("address", How::Remove)];

impl Rules {
    fn read() -> Result<Self, Failure> {
        let listed: Vec<_> =
            config::list("properties").iter().map(|item| property_rule(item)).collect::<Result<_, _>>()?;
        fn default() -> Vec<(String, How)> {
            DEFAULT_PROPERTIES.iter().map(|(name, how)| ((*name).to_owned(), *how)).collect()
        }
        let keeps_emails = config::get("emails").as_deref() == Some("keep");
        let patterns = config::get("patterns").unwrap_or_default();
        let patterns = patterns.lines().map(str::trim).filter(|line| !line.is_empty()).map(pattern);
        Ok(Rules {
            properties: if listed.is_empty() { default() } else { listed },
            masks_emails: !keeps_emails,
            key: config::get("key").unwrap_or_else(|| "pseudonym".to_owned()),
            patterns: patterns.collect::<Result<_, _>>()?,
        })
    }

    /// Walks the whole entity; `properties` and `contacts[].properties` are met on the way.
    fn redact_object(&self, object: &mut Map<String, Value>) -> Result<(), Failure> {
        object.iter_mut().try_for_each(|(key, value)| match value {
            Value::Array(list) if key == "properties" => self.redact_properties(list),
            other => self.redact_value(other),
        })
    }

    fn redact_properties(&self, list: &mut Vec<Value>) -> Result<(), Failure> {
        let how = |property: &Value| {
            let kind = property["type"].as_str();
            let name = property["name"].as_str()?;
            let ours = |(listed, _): &&(String, How)| listed == name && kind != Some("CUSTOM");
            self.properties.iter().find(ours).map(|(_, how)| *how)
        };
        list.retain(|property| how(property) != Some(How::Remove));
        for property in list {
            match (how(property), property.get_mut("value")) {
                (Some(how), Some(Value::String(text))) => *text = self.shortened(text.trim(), how)?,
                (Some(_), Some(value)) if !value.is_null() => *value = "***".into(),
                _ => self.redact_value(property)?,
            }
        }
        Ok(())
    }

    fn redact_value(&self, value: &mut Value) -> Result<(), Failure> {
        match value {
            Value::String(text) => self.redact_text(text),
            Value::Array(list) => return list.iter_mut().try_for_each(|item| self.redact_value(item)),
            Value::Object(object) => return self.redact_object(object),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        Ok(())
    }

    fn redact_text(&self, text: &mut String) {
        if self.masks_emails && text.contains('@') {
            *text = without_emails(text);
        }
        for pattern in self.patterns.iter().filter(|pattern| pattern.is_match(text)).collect::<Vec<_>>() {
            *text = pattern.replace_all(text, "***").into_owned();
        }
    }

    fn shortened(&self, text: &str, how: How) -> Result<String, Failure> {
        Ok(match how {
            _ if text.is_empty() => String::new(),
            How::Initial => text.chars().take(1).chain(['.']).collect(),
            How::Mask if text.contains('@') => masked_email(text),
            How::Mask => masked_tail(text),
            // Half of the hash is enough to tell people apart.
            How::Hmac => {
                let hash = secrets::hmac_sha256(&self.key, text.to_lowercase().as_bytes())?;
                hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
            }
            How::Remove => String::new(),
        })
    }
}

/// Masks what looks like an e-mail address: letters, digits and `._%+'-` before the `@`, a name with a dot and two letters
/// or more behind it. By hand, because a regular expression takes hundred times as long over a long note.
fn without_emails(text: &str) -> String {
    fn is_local(byte: &u8) -> bool {
        byte.is_ascii_alphanumeric() || b"._%+'-".contains(byte)
    }
    let bytes = text.as_bytes();
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for (at, _) in text.match_indices('@') {
        let start = at - bytes[done..at].iter().rev().take_while(|byte| is_local(byte)).count();
        let Some(end) = end_of_domain(bytes, at + 1).filter(|_| start < at && start >= done) else { continue };
        masked.push_str(&text[done..start]);
        masked.push_str(&masked_email(&text[start..end]));
        done = end;
    }
    masked + &text[done..]
}

/// Returns the end of the domain that begins here: behind the letters after its last dot. None: this is not a domain.
fn end_of_domain(bytes: &[u8], begin: usize) -> Option<usize> {
    let run = &bytes[begin
        ..begin
            + bytes[begin..]
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
                .count()];
    let letters = |dot: usize| run[dot + 1..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let dot = (1..run.len()).rev().find(|dot| run[*dot] == b'.' && letters(*dot) >= 2)?;
    Some(begin + dot + 1 + letters(dot))
}

fn property_rule(item: &str) -> Result<(String, How), Failure> {
    let (name, how) = item.split_once(':').unwrap_or((item, "mask"));
    let how = match how.trim() {
        "mask" => How::Mask,
        "initial" => How::Initial,
        "hmac" => How::Hmac,
        "remove" => How::Remove,
        other => {
            return Err(Failure::bad_config(
                "unknown-way",
                format!("config \"properties\": {other:?} is not mask, initial, hmac or remove"),
            ));
        }
    };
    Ok((name.trim().to_owned(), how))
}

fn pattern(text: &str) -> Result<Regex, Failure> {
    Regex::new(text).map_err(|error| Failure::bad_config("bad-pattern", format!("config \"patterns\": {error}")))
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
    fn emails_are_found_in_every_text() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(without_emails(text), expected);
        }
        check("a.b+c@x.example.", "a***@x.example.");
        check(
            "mail <dana@cobalt-freight.example>, or kim@x.co.uk!",
            "mail <d***@cobalt-freight.example>, or k***@x.co.uk!",
        );
        check("a@b@c.example", "a@b***@c.example");
        check("a@b.cd.e1 x", "a***@b.cd.e1 x");
        for kept in ["@handle", "5 @ 3", "a@localhost", "a@b.c", "é@", "a@.example", "@x.example"] {
            check(kept, kept);
        }
        check("über@x.example", "üb***@x.example");
    }

    #[test]
    fn a_pseudonym_is_the_same_everywhere_and_needs_its_key() {
        fn payload(email: &str) -> String {
            format!(
                r#"{{"eventName":"Contact is Created","eventData":{{"properties":[{{"name":"email","value":"{email}"}}]}}}}"#
            )
        }
        let config = [("properties", "email:hmac")];
        assert!(matches!(testing::run::<Redact>(&payload("a@b.example"), &config), Err(Failure::BadConfig(_))));
        testing::set_secret("pseudonym", b"a key of the owner");
        let one = "Kim@x.example ";
        let same = "kim@x.example";
        let other = "lee@x.example";
        let [one, same, other] = [one, same, other].map(|email| redacted(&payload(email), &config));
        assert_eq!(one, same);
        assert!(one != other && !one.contains("@x.example"), "{one}");
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

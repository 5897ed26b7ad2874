//! Brings e-mail addresses, phone numbers, and if wished names and tags, into one spelling. All else stays as it came.
//!
//! E-mail addresses are trimmed and in lower case. Phone numbers become E.164 (`+442079460018`), if they can be read: full
//! width digits count, `00` is `+`, and a national number needs config `calling_code` (such as `44`). Config `names`:
//! `title` for capitals at the beginning of each word. Config `tags`: `lower`. An event in which nothing changes passes.

#[cfg(test)]
mod manifest;

use hookloom_sdk::json::{Map, Value};
use hookloom_sdk::{Event, Failure, Plugin, Verdict, config, export};

struct Normalise;

impl Plugin for Normalise {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let rules = Rules::read()?;
        let mut changed = false;
        let outgoing = event.edit(|data| {
            let before = data.clone();
            rules.entity(data);
            changed = *data != before;
        })?;
        Ok(if changed { Verdict::Replace(outgoing) } else { Verdict::Pass })
    }
}

export!(Normalise, manifest: "manifest.json");

struct Rules {
    calling_code: Option<String>,
    title_names: bool,
    lower_tags: bool,
}

impl Rules {
    fn read() -> Result<Self, Failure> {
        let calling_code = config::get("calling_code").map(|code| code.trim_start_matches('+').to_owned());
        if let Some(code) = calling_code.as_ref().filter(|code| !is_calling_code(code)) {
            return Err(Failure::bad_config("no-calling-code", format!("{code:?} is no calling code; write 44 or 1")));
        }
        fn chosen(key: &str, value: &str) -> Result<bool, Failure> {
            match config::get(key).as_deref() {
                None => Ok(false),
                Some(found) if found == value => Ok(true),
                Some(found) => {
                    Err(Failure::bad_config("no-choice", format!("config {key:?} is {found:?}; it can be {value:?}")))
                }
            }
        }
        Ok(Rules { calling_code, title_names: chosen("names", "title")?, lower_tags: chosen("tags", "lower")? })
    }

    /// A contact, a deal, or a contact inside a deal.
    fn entity(&self, data: &mut Map<String, Value>) {
        for property in objects(data, "properties") {
            let name = property.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let is_custom = property.get("type").and_then(Value::as_str) == Some("CUSTOM");
            if let Some(Value::String(value)) = property.get_mut("value").filter(|_| !is_custom) {
                self.property(&name, value);
            }
        }
        if let Some(Value::Object(owner)) = data.get_mut("owner")
            && let Some(Value::String(email)) = owner.get_mut("email")
        {
            *email = email.trim().to_lowercase();
        }
        if let (Some(Value::Array(tags)), true) = (data.get_mut("tags"), self.lower_tags) {
            for tag in tags {
                if let Value::String(tag) = tag {
                    *tag = tag.trim().to_lowercase();
                }
            }
        }
        for contact in objects(data, "contacts") {
            self.entity(contact);
        }
    }

    fn property(&self, name: &str, value: &mut String) {
        match name {
            "email" => *value = value.trim().to_lowercase(),
            "phone" => {
                if let Some(number) = e164(value, self.calling_code.as_deref()) {
                    *value = number;
                }
            }
            "first_name" | "last_name" if self.title_names => *value = title(value),
            _ => {}
        }
    }
}

fn objects<'a>(data: &'a mut Map<String, Value>, key: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let list = data.get_mut(key).and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default();
    list.iter_mut().filter_map(Value::as_object_mut)
}

fn is_calling_code(code: &str) -> bool {
    (1..=3).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_digit()) && !code.starts_with('0')
}

/// ITU-T E.164: `+` and at most 15 digits. None if the number cannot be read as one.
fn e164(text: &str, calling_code: Option<&str>) -> Option<String> {
    let mut plain = String::new();
    for sign in text.trim().chars() {
        match sign {
            '0'..='9' => plain.push(sign),
            // Full-width forms, as some keyboards write them.
            '\u{ff10}'..='\u{ff19}' => plain.push(char::from_digit(sign as u32 - 0xff10, 10)?),
            '+' | '\u{ff0b}' if plain.is_empty() => plain.push('+'),
            ' ' | '\u{a0}' | '\u{3000}' | '-' | '.' | '(' | ')' | '/' => {}
            _ => return None,
        }
    }
    let international = plain.strip_prefix('+').or_else(|| plain.strip_prefix("00")).map(str::to_owned);
    let digits = match (international, calling_code) {
        (Some(digits), _) => digits,
        (None, Some(code)) => format!("{code}{}", plain.strip_prefix('0').unwrap_or(&plain)),
        (None, None) => return None,
    };
    let fits = (8..=15).contains(&digits.len()) && !digits.starts_with('0');
    fits.then(|| format!("+{digits}"))
}

/// Capitals at the beginning of words; the rest of a word stays, for it may be `McDonald`.
fn title(text: &str) -> String {
    let mut begins = true;
    let mut titled = String::with_capacity(text.len());
    for sign in text.trim().chars() {
        if begins {
            titled.extend(sign.to_uppercase());
        } else {
            titled.push(sign);
        }
        begins = !sign.is_alphanumeric() && sign != '\'';
    }
    titled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phone_numbers() {
        #[track_caller]
        fn check(text: &str, calling_code: Option<&str>, expected: Option<&str>) {
            assert_eq!(e164(text, calling_code).as_deref(), expected, "{text:?}");
        }
        check("+1 503-555-0142", None, Some("+15035550142"));
        check("\u{ff10}\u{ff10}\u{ff14}\u{ff14} 20 7946 0018", None, Some("+442079460018"));
        check("(020) 7946 0018", Some("44"), Some("+442079460018"));
        check("(020) 7946 0018", None, None);
        check("+1 503-555-0142 ext. 3", None, None);
        check("12+34567890", None, None);
        check("+123", None, None);
        check("", Some("44"), None);
    }

    #[test]
    fn names() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(title(text), expected);
        }
        check(" dana ", "Dana");
        check("anne-marie o'neill", "Anne-Marie O'neill");
        check("McDonald", "McDonald");
        check("\u{e9}lise", "\u{c9}lise");
    }
}

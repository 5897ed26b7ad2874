//! Encodings of JSON: form, line of CSV, XML.

use hookloom_sdk::json::Value;
use hookloom_sdk::{at, text_of};
use std::fmt::Write as _;

/// Encodes some fields, or every field with a text, as `application/x-www-form-urlencoded`.
pub(crate) fn form(value: &Value, fields: &[String]) -> String {
    let mut pairs = Vec::new();
    if fields.is_empty() {
        leaves(value, "", &mut pairs);
    } else {
        pairs.extend(fields.iter().map(|path| (path.clone(), text_at(value, path))));
    }
    let pairs: Vec<String> = pairs.iter().map(|(name, text)| format!("{}={}", percent(name), percent(text))).collect();
    pairs.join("&")
}

/// Collects every text below a value, with its path. The items of a list are numbered.
fn leaves(value: &Value, path: &str, pairs: &mut Vec<(String, String)>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| leaves(value, &below(key), pairs)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| leaves(value, &below(&index.to_string()), pairs));
        }
        leaf => pairs.extend(text_of(leaf).map(|text| (path.to_owned(), text.into_owned()))),
    }
}

/// Returns the text at a path; an object or a list as JSON; an empty text if there is nothing.
fn text_at(value: &Value, path: &str) -> String {
    match at(value, path) {
        Some(nested @ (Value::Object(_) | Value::Array(_))) => nested.to_string(),
        Some(leaf) => text_of(leaf).map(String::from).unwrap_or_default(),
        None => String::new(),
    }
}

/// The application/x-www-form-urlencoded percent-encode set of the WHATWG URL standard.
fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => encoded.push(char::from(byte)),
            b' ' => encoded.push('+'),
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// Encodes one line of CSV (RFC 4180). A cell that a spreadsheet would run as a formula is quoted text.
pub(crate) fn csv(value: &Value, fields: &[String]) -> String {
    let cell = |path: &String| {
        let text = text_at(value, path);
        let text = if text.starts_with(['=', '@', '\t', '\r']) { format!("'{text}") } else { text };
        if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
    };
    let cells: Vec<String> = fields.iter().map(cell).collect();
    cells.join(",") + "\r\n"
}

/// Encodes one element for each key, and `item` for each value of a list, below `event`.
pub(crate) fn xml(value: &Value) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    element("event", value, &mut text);
    text
}

fn element(name: &str, value: &Value, text: &mut String) {
    let name = element_name(name);
    let _ = write!(text, "<{name}>");
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| element(key, value, text)),
        Value::Array(list) => list.iter().for_each(|value| element("item", value, text)),
        Value::String(string) => escape(string, text),
        Value::Null => {}
        other => escape(&other.to_string(), text),
    }
    let _ = write!(text, "</{name}>");
}

/// Returns a name that XML 1.0 allows. Other characters become `_`.
fn element_name(name: &str) -> String {
    let mut safe: String = name
        .chars()
        .map(|sign| if sign.is_ascii_alphanumeric() || "_-.".contains(sign) { sign } else { '_' })
        .collect();
    if !safe.starts_with(|sign: char| sign.is_ascii_alphabetic() || sign == '_') {
        safe.insert(0, '_');
    }
    safe
}

/// Escapes a text for XML 1.0, without the control characters that it does not allow.
fn escape(from: &str, text: &mut String) {
    for sign in from.chars() {
        match sign {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '\t' | '\n' | ' '.. if sign != '\u{fffe}' && sign != '\u{ffff}' => text.push(sign),
            '\r' => text.push_str("&#13;"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_sdk::json::json;

    #[test]
    fn forms() {
        let value = json!({"a": "x y&z", "b": {"c": [1, null, true]}, "ü": ""});
        assert_eq!(form(&value, &[]), "a=x+y%26z&b.c.0=1&b.c.2=true");
        assert_eq!(
            form(&value, &["b.c".into(), "none".into(), "a".into()]),
            "b.c=%5B1%2Cnull%2Ctrue%5D&none=&a=x+y%26z"
        );
    }

    #[test]
    fn lines() {
        let value = json!({"a": "say \"hi\", you", "b": "=1+1", "c": "two\nlines"});
        assert_eq!(
            csv(&value, &["a".into(), "b".into(), "c".into(), "d".into()]),
            "\"say \"\"hi\"\", you\",'=1+1,\"two\nlines\",\r\n"
        );
    }

    #[test]
    fn elements() {
        let value = json!({"eventName": "a<b>&c\u{1}", "list": [1, {"2 x": null}]});
        let expected = "<event><eventName>a&lt;b&gt;&amp;c</eventName><list><item>1</item><item><_2_x></_2_x></item></list></event>";
        assert_eq!(xml(&value).lines().nth(1), Some(expected));
    }
}

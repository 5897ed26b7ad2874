//! Forms of browsers: fields by name, and at most one file.

use crate::api::body::Body;
use crate::api::exchange::charged;
use crate::api::exchange::{Exchange, over_budget};
use crate::operations::{FieldFault, Problem};
use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, header};
use multer::Multipart;
use std::collections::BTreeMap;
use std::convert::Infallible;

/// Submitted form.
#[derive(Default)]
pub(super) struct Form {
    fields: Vec<(String, String)>,
    pub(super) file: Bytes,
}

impl Form {
    pub(super) fn urlencoded(body: &[u8]) -> Form {
        let pairs = url::form_urlencoded::parse(body);
        let fields = pairs.map(|(name, value)| (name.into_owned(), value.replace("\r\n", "\n"))).collect();
        Form { fields, file: Bytes::new() }
    }

    /// Reads the form of the request with this head.
    pub(super) async fn read(parts: &Parts) -> Result<Form, Problem> {
        let Body(body) = Body::of(parts).await?;
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("multipart/form-data") {
            return Ok(Form::urlencoded(&body));
        }
        let boundary = multer::parse_boundary(kind).map_err(|error| broken(&error))?;
        Form::multipart(body, boundary, &Exchange::of(parts)?).await
    }

    async fn multipart(body: Bytes, boundary: String, exchange: &Exchange) -> Result<Form, Problem> {
        // The parts are slices of a copy, which is charged like the body, and kept by the file.
        let copy = exchange.shares().bodies.try_acquire(&exchange.payer(), body.len() as u64);
        let copy = copy.ok_or_else(over_budget)?;
        let whole = futures_util::stream::iter([Ok::<_, Infallible>(body)]);
        let mut multipart = Multipart::new(whole, boundary);
        let mut form = Form::default();
        let mut file = Bytes::new();
        while let Some(mut field) = multipart.next_field().await.map_err(|error| broken(&error))? {
            let name = field.name().unwrap_or_default().to_owned();
            if field.file_name().is_none() {
                form.fields.push((name, field.text().await.map_err(|error| broken(&error))?));
                continue;
            }
            // The form is in memory, so the first chunk is the whole file, without a further copy.
            file = field.chunk().await.map_err(|error| broken(&error))?.unwrap_or_default();
            if field.chunk().await.map_err(|error| broken(&error))?.is_some() {
                return Err(broken(&"the file ends without its boundary"));
            }
        }
        form.file = charged(file, copy);
        Ok(form)
    }

    /// Returns a field, trimmed. Empty if there is none.
    pub(super) fn get(&self, wanted: &str) -> &str {
        self.fields.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value.trim())
    }

    /// Returns all values of a field.
    pub(super) fn all(&self, wanted: &str) -> Vec<&str> {
        self.fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).collect()
    }

    /// Returns the fields whose names begin so, by the rest of their names.
    pub(super) fn beginning_with(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    /// Returns true if the form has a field, also an empty one.
    pub(super) fn contains(&self, wanted: &str) -> bool {
        self.fields.iter().any(|(name, _)| name == wanted)
    }

    /// Returns true if a field is not empty.
    pub(super) fn has(&self, wanted: &str) -> bool {
        !self.get(wanted).is_empty()
    }
}

fn broken(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "broken-form", format!("the form cannot be read: {error}"))
}

/// Parses lines of `key = value` (or `key: value`).
pub(super) fn pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    fn pair(line: &str) -> Result<(String, String), String> {
        let (key, value) =
            line.split_once(['=', ':']).ok_or_else(|| format!("{line:?} is not a pair: write key = value"))?;
        // A value of several lines is written with \n.
        Ok((key.trim().to_owned(), value.trim().replace("\\n", "\n")))
    }
    lines.map(pair).collect()
}

/// Formats pairs as lines of `key = value`.
pub(super) fn as_lines(pairs: &BTreeMap<String, String>) -> String {
    pairs.iter().map(|(key, value)| format!("{key} = {}\n", value.replace('\n', "\\n"))).collect()
}

impl Problem {
    /// Returns the faults of the fields of a form, in the order of the fields: the name of each and a message.
    pub(super) fn of_fields(&self, fields: &[&'static str]) -> Vec<(&'static str, String)> {
        let of = |field: &&'static str| {
            let of_field = |fault: &&FieldFault| fault.pointer.split('/').nth(1) == Some(field);
            let details: Vec<&str> = self.errors.iter().filter(of_field).map(|fault| fault.detail.as_str()).collect();
            (!details.is_empty()).then(|| (*field, details.join(" · ")))
        };
        fields.iter().filter_map(of).collect()
    }

    /// Returns the problem with its remedy as text.
    pub(super) fn in_words_with_remedy(&self) -> String {
        let remedy = self.remedy.as_ref().map(|remedy| format!(" — {remedy}")).unwrap_or_default();
        format!("{}{remedy}", self.in_words())
    }

    /// Returns the problem as text for the top of a form. For the vendor's message, only that message.
    pub(super) fn in_words(&self) -> String {
        fn fault(fault: &FieldFault) -> String {
            match fault.pointer.as_str() {
                "/modules" => fault.detail.clone(),
                "/notify_url" => format!("Notify URL: {}", fault.detail),
                pointer => format!("{}: {}", pointer.trim_start_matches('/'), fault.detail),
            }
        }
        if self.errors.is_empty() {
            self.detail.clone()
        } else {
            self.errors.iter().map(fault).collect::<Vec<_>>().join(" · ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_as_they_were_written() {
        let map = pairs("a = 1\n\n b: x=y \npatterns = one\\ntwo").expect("pairs");
        assert_eq!(as_lines(&map), "a = 1\nb = x=y\npatterns = one\\ntwo\n");
        assert_eq!(pairs("nonsense"), Err("\"nonsense\" is not a pair: write key = value".into()));
    }

    #[test]
    fn faults_are_found_by_their_fields() {
        fn fault(pointer: &str, detail: &str) -> FieldFault {
            FieldFault { pointer: pointer.into(), detail: detail.into() }
        }
        let problem =
            Problem::fields(vec![fault("/config/a", "long"), fault("/limits", "low"), fault("/config", "many")]);
        assert_eq!(problem.of_fields(&["plugin", "config"]), [("config", "long · many".to_owned())]);
    }

    #[test]
    fn a_form_has_fields_by_name() {
        let form = Form::urlencoded(b"a=1&b=+x+&a=2&text=one%0D%0Atwo");
        assert_eq!((form.get("a"), form.get("b"), form.get("c"), form.get("text")), ("1", "x", "", "one\ntwo"));
        assert_eq!(form.all("a"), ["1", "2"]);
    }
}

//! What browsers send: fields by name, and at most one file.

use crate::api::ApiState;
use crate::api::problem::{FieldFault, Problem};
use axum::extract::{FromRequest as _, Multipart, Request};
use bytes::Bytes;
use http::StatusCode;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A form as it came.
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

    pub(super) async fn multipart(request: Request, state: &Arc<ApiState>) -> Result<Form, Problem> {
        let unfit = |error: &dyn std::fmt::Display| {
            Problem::new(StatusCode::BAD_REQUEST, "broken-form", format!("the form cannot be read: {error}"))
        };
        let mut multipart = Multipart::from_request(request, state).await.map_err(|error| unfit(&error))?;
        let mut form = Form::default();
        while let Some(field) = multipart.next_field().await.map_err(|error| unfit(&error))? {
            let name = field.name().unwrap_or_default().to_owned();
            match field.file_name() {
                Some(_) => form.file = field.bytes().await.map_err(|error| unfit(&error))?,
                None => form.fields.push((name, field.text().await.map_err(|error| unfit(&error))?)),
            }
        }
        Ok(form)
    }

    /// A field, trimmed; empty if there is none.
    pub(super) fn get(&self, wanted: &str) -> &str {
        self.fields.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value.trim())
    }

    /// Every value of a field.
    pub(super) fn all(&self, wanted: &str) -> Vec<&str> {
        self.fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).collect()
    }

    pub(super) fn has(&self, wanted: &str) -> bool {
        !self.get(wanted).is_empty()
    }
}

/// Lines of `key = value` (or `key: value`), as people write configuration into a box.
pub(super) fn pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let pair = |line: &str| {
        let (key, value) =
            line.split_once(['=', ':']).ok_or_else(|| format!("{line:?} is no pair; write key = value"))?;
        // A value of several lines is written with \n in it.
        Ok((key.trim().to_owned(), value.trim().replace("\\n", "\n")))
    };
    lines.map(pair).collect()
}

/// The same back again.
pub(super) fn as_lines(pairs: &BTreeMap<String, String>) -> String {
    pairs.iter().map(|(key, value)| format!("{key} = {}\n", value.replace('\n', "\\n"))).collect()
}

impl Problem {
    /// What is wrong, as it stands over a form: of the vendor's own message nothing but that.
    pub(super) fn in_words(&self) -> String {
        let fault = |fault: &FieldFault| match fault.pointer.as_str() {
            "/modules" => fault.detail.clone(),
            "/notify_url" => format!("Notify URL: {}", fault.detail),
            pointer => format!("{}: {}", pointer.trim_start_matches('/'), fault.detail),
        };
        match self.errors.is_empty() {
            true => self.detail.clone(),
            false => self.errors.iter().map(fault).collect::<Vec<_>>().join(" · "),
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
        assert_eq!(pairs("nonsense"), Err("\"nonsense\" is no pair; write key = value".into()));
    }

    #[test]
    fn a_form_has_fields_by_name() {
        let form = Form::urlencoded(b"a=1&b=+x+&a=2&text=one%0D%0Atwo");
        assert_eq!((form.get("a"), form.get("b"), form.get("c"), form.get("text")), ("1", "x", "", "one\ntwo"));
        assert_eq!(form.all("a"), ["1", "2"]);
    }
}

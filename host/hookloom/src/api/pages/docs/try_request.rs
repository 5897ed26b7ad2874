//! Request of an operation, made of the fields of its form. Pure.
//!
//! # Guarantees
//! - The path is that of a documented operation: each parameter is one encoded segment, so that no value can lead elsewhere.
//! - A user of a tenant asks about that tenant only.

use super::reference::{ApiOperation, ApiParameter, Caller};
use crate::api::pages::curl;
use crate::api::pages::forms::Form;
use http::{HeaderName, HeaderValue, Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters that RFC 3986 does not call unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Name of the field with the body.
pub(super) const BODY: &str = "body";

/// Name of the box that confirms a request that changes something.
pub(super) const CONFIRM: &str = "confirm-request";

/// Operations with another method than GET that change nothing.
const READING: [&str; 4] = ["try_filter", "try_script", "dry_run_plugin", "compare_plugin_versions"];

/// Values of the fields of an operation's form.
pub(super) struct TryValues {
    /// Values of the parameters, in their order.
    pub(super) parameters: Vec<String>,
    pub(super) body: String,
    pub(super) is_confirmed: bool,
}

/// Fault of a field: its name in the form, and a sentence.
pub(super) type TryFault = (String, String);

/// Request to an operation of this host.
#[derive(Debug)]
pub(super) struct TryRequest {
    pub(super) method: Method,
    pub(super) target: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Option<String>,
}

/// Returns true if an operation changes something, so that it is confirmed first.
pub(super) fn is_changing(operation: &ApiOperation) -> bool {
    operation.method != "GET" && !READING.contains(&operation.id.as_str())
}

/// Returns the name of a parameter's field.
pub(super) fn field_name(parameter: &ApiParameter) -> String {
    format!("p-{}", parameter.name)
}

/// Returns the tenant to which an operation is bound for a user with one tenant, if it has one.
fn is_tenant(parameter: &ApiParameter) -> bool {
    parameter.place == "path" && parameter.name == "t"
}

impl TryValues {
    /// Returns the values of an empty form: the tenant, and the example of the body.
    pub(super) fn of_page(operation: &ApiOperation, tenant: &str) -> Self {
        let value = |parameter: &ApiParameter| if is_tenant(parameter) { tenant.to_owned() } else { String::new() };
        let body = operation.body.as_ref().filter(|body| !body.text_kind.is_empty());
        TryValues {
            parameters: operation.parameters.iter().map(value).collect(),
            body: body.map(|body| body.example.clone()).unwrap_or_default(),
            is_confirmed: false,
        }
    }

    /// Returns the submitted values. `own`: the only tenant of the user.
    pub(super) fn submitted(operation: &ApiOperation, form: &Form, own: Option<&str>) -> Self {
        let value = |parameter: &ApiParameter| match own.filter(|_| is_tenant(parameter)) {
            Some(own) => own.to_owned(),
            None => form.get(&field_name(parameter)).to_owned(),
        };
        TryValues {
            parameters: operation.parameters.iter().map(value).collect(),
            body: form.get(BODY).to_owned(),
            is_confirmed: form.has(CONFIRM),
        }
    }

    /// Returns the values with the examples of the document in the place of path parameters that are blank, for a command.
    fn with_examples(&self, operation: &ApiOperation) -> Vec<String> {
        fn value((parameter, value): (&ApiParameter, &String)) -> String {
            if parameter.place == "path" && value.is_empty() { parameter.example.clone() } else { value.clone() }
        }
        operation.parameters.iter().zip(&self.parameters).map(value).collect()
    }

    /// Returns the request.
    ///
    /// # Errors
    /// The faults of the fields.
    pub(super) fn request(&self, operation: &ApiOperation) -> Result<TryRequest, Vec<TryFault>> {
        let mut faults = Vec::new();
        let mut headers = Vec::new();
        for (parameter, value) in operation.parameters.iter().zip(&self.parameters) {
            if let Some(fault) = fault(parameter, value) {
                faults.push((field_name(parameter), fault));
            } else if parameter.place == "header" && !value.is_empty() {
                let name = HeaderName::try_from(&parameter.name).ok();
                headers.extend(name.zip(HeaderValue::try_from(value).ok()));
            }
        }
        if is_changing(operation) && !self.is_confirmed {
            faults.push((CONFIRM.to_owned(), "tick the box: this request changes something".to_owned()));
        }
        let kind = operation.body.as_ref().filter(|_| !self.body.is_empty()).map(|body| &body.text_kind);
        if let Some(kind) = kind.and_then(|kind| HeaderValue::try_from(kind).ok()) {
            headers.push((http::header::CONTENT_TYPE, kind));
        }
        let target = Uri::try_from(target(operation, &self.parameters));
        match (Method::try_from(operation.method.as_str()), target) {
            (Ok(method), Ok(target)) if faults.is_empty() => {
                let body = Some(self.body.clone()).filter(|body| !body.is_empty());
                Ok(TryRequest { method, target, headers, body })
            }
            (_, Err(_)) if faults.is_empty() => {
                Err(vec![(BODY.to_owned(), "the values are too long for a path".to_owned())])
            }
            _ => Err(faults),
        }
    }

    /// Returns the command of curl for the request. `base`: the address of this host.
    pub(super) fn curl(&self, operation: &ApiOperation, base: &str) -> String {
        let values = self.with_examples(operation);
        let url = format!("{}{}", base.trim_end_matches('/'), target(operation, &values));
        let kind = operation.body.as_ref().map(|body| body.text_kind.as_str()).unwrap_or_default();
        let has_body = !self.body.is_empty() && !kind.is_empty();
        let mut headers: Vec<(&str, &str)> = Vec::new();
        for (parameter, value) in operation.parameters.iter().zip(&values) {
            if parameter.place == "header" && !value.is_empty() {
                headers.push((&parameter.name, value));
            }
        }
        if has_body {
            headers.push(("content-type", kind));
        }
        let needs_key = operation.caller != Caller::Anybody;
        curl::of_operation(&operation.method, &url, &headers, has_body.then_some(self.body.as_str()), needs_key)
    }
}

/// Returns the fault of a parameter's value. None: it fits, or the operation itself says what is wrong.
fn fault(parameter: &ApiParameter, value: &str) -> Option<String> {
    let detail = match parameter.place.as_str() {
        "path" if value.is_empty() => "it is a part of the path: fill it in",
        // Encoding does not make these two a segment like others.
        "path" if value == "." || value == ".." => "it cannot be a part of a path",
        "header" if HeaderValue::try_from(value).is_err() => "a header has visible ASCII characters only",
        _ => return None,
    };
    Some(detail.to_owned())
}

/// Returns path and query for the values of the parameters.
fn target(operation: &ApiOperation, values: &[String]) -> String {
    let mut path = operation.path.clone();
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (parameter, value) in operation.parameters.iter().zip(values) {
        match parameter.place.as_str() {
            "path" => {
                let segment = utf8_percent_encode(value, ENCODED).to_string();
                path = path.replace(&format!("{{{}}}", parameter.name), &segment);
            }
            "query" if !value.is_empty() => drop(query.append_pair(&parameter.name, value)),
            _ => {}
        }
    }
    let query = query.finish();
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::super::reference::reference;
    use super::*;

    fn operation(id: &str) -> &'static ApiOperation {
        reference().operation(id).unwrap_or_else(|| panic!("no operation {id}"))
    }

    fn form(fields: &[(&str, &str)]) -> Form {
        Form::urlencoded(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish().as_bytes())
    }

    #[track_caller]
    fn check(id: &str, own: Option<&str>, fields: &[(&str, &str)], expected: Result<&str, &[&str]>) {
        let operation = operation(id);
        let made = TryValues::submitted(operation, &form(fields), own).request(operation);
        let found = made.map(|request| request.target.to_string());
        let found = found.map_err(|faults| faults.into_iter().map(|(field, _)| field).collect::<Vec<_>>());
        assert_eq!(
            found,
            expected.map(str::to_owned).map_err(|names| names.iter().map(|name| (*name).to_owned()).collect())
        );
    }

    #[test]
    fn a_value_stays_one_segment_or_one_parameter() {
        check("get_tenant", None, &[("p-t", "acme")], Ok("/v1/tenants/acme"));
        check("get_tenant", None, &[("p-t", "../../keys?x=1#y")], Ok("/v1/tenants/..%2F..%2Fkeys%3Fx%3D1%23y"));
        check("get_tenant", None, &[("p-t", "..")], Err(&["p-t"]));
        check("get_tenant", None, &[("p-t", "//evil.example/")], Ok("/v1/tenants/%2F%2Fevil.example%2F"));
        check("get_tenant", None, &[], Err(&["p-t"]));
        let search = [("p-t", "a"), ("p-limit", "5"), ("p-name", "a&b=c"), ("p-unknown", "x")];
        check("list_events", None, &search, Ok("/v1/tenants/a/events?name=a%26b%3Dc&limit=5"));
    }

    #[test]
    fn a_user_of_a_tenant_asks_about_no_other() {
        check("list_events", Some("acme"), &[("p-t", "other")], Ok("/v1/tenants/acme/events"));
    }

    #[test]
    fn a_change_is_confirmed_and_a_trial_is_not() {
        let event = ("body", "{}");
        check("send_events", None, &[("p-t", "a"), event], Err(&[CONFIRM]));
        check("send_events", None, &[("p-t", "a"), event, (CONFIRM, "yes")], Ok("/v1/tenants/a/events"));
        check("try_filter", None, &[("p-t", "a"), event], Ok("/v1/tenants/a/filters/try"));
    }

    #[test]
    fn a_request_has_the_kind_of_its_body_and_its_headers() {
        let operation = operation("send_events");
        let fields = [("p-t", "a"), ("p-idempotency-key", "order-1"), ("body", "{}"), (CONFIRM, "yes")];
        let request = TryValues::submitted(operation, &form(&fields), None).request(operation).expect("a request");
        let headers: Vec<_> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
        assert_eq!(headers, [("idempotency-key", "order-1"), ("content-type", "application/json")]);
        assert_eq!((request.method, request.body.as_deref()), (Method::POST, Some("{}")));
    }

    #[test]
    fn a_command_has_examples_where_the_form_is_blank() {
        let operation = operation("get_delivery");
        let curl = TryValues::of_page(operation, "acme").curl(operation, "https://h.example/p/");
        let url = "'https://h.example/p/v1/tenants/acme/deliveries/019a2136-faad-7301-9607-05cad38ff3d4'";
        assert_eq!(curl, format!("curl --globoff {url} \\\n  -H \"Authorization: Bearer $HOOKLOOM_KEY\""));
    }
}

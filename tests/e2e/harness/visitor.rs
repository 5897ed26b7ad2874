//! Visitor of pages without a browser: keeps cookies, submits forms with the session's token, and follows no redirects.

use super::{ADMIN_KEY, Host};
use std::collections::BTreeMap;

/// Visitor of the pages.
pub(crate) struct Visitor<'a> {
    host: &'a Host,
    http: reqwest::Client,
    cookies: BTreeMap<String, String>,
    csrf: String,
}

/// Page, or redirect.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
    /// Target of a redirect. Empty without one.
    pub(crate) location: String,
}

impl<'a> Visitor<'a> {
    /// Returns a visitor without a session.
    pub(crate) fn new(host: &'a Host) -> Self {
        let http = super::client_without_redirects();
        Visitor { host, http, cookies: BTreeMap::new(), csrf: String::new() }
    }

    /// Signs in with the admin key.
    pub(crate) async fn admin(host: &'a Host) -> Self {
        Visitor::with_key(host, ADMIN_KEY).await
    }

    /// Signs in with this key.
    pub(crate) async fn with_key(host: &'a Host, key: &str) -> Self {
        let mut visitor = Visitor::new(host);
        let page = visitor.post("/sign-in", &[("key", key)]).await;
        assert_eq!(page.status, 303, "{}", page.text);
        visitor
    }

    pub(crate) async fn get(&mut self, path: &str) -> Page {
        let request = self.http.get(format!("{}{path}", self.host.url));
        let page = self.exchange(request).await;
        if let Some((_, rest)) = page.text.split_once("name=\"csrf\" value=\"") {
            self.csrf = rest.split('"').next().unwrap().to_owned();
        }
        page
    }

    /// Returns a page, which must not be a redirect or an error.
    pub(crate) async fn see(&mut self, path: &str) -> String {
        let page = self.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        page.text
    }

    /// Submits a form, with the token of the last page.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let form = form_of(&[fields, &[("csrf", &self.csrf)]].concat());
        let request = self.http.post(format!("{}{path}", self.host.url)).body(form);
        self.exchange(request.header("content-type", "application/x-www-form-urlencoded")).await
    }

    /// Submits a form that must be accepted, and returns the page of the redirect.
    pub(crate) async fn follow(&mut self, path: &str, fields: &[(&str, &str)]) -> String {
        let page = self.post(path, fields).await;
        assert_eq!(page.status, 303, "{path}: {}", page.text);
        self.see(&page.location).await
    }

    /// Returns the session's token, which can be replaced.
    pub(crate) fn csrf(&mut self) -> &mut String {
        &mut self.csrf
    }

    /// Opens an answer without an end, and returns it after its head.
    pub(crate) async fn open_stream(&self, path: &str) -> reqwest::Response {
        let request = self.http.get(format!("{}{path}", self.host.url)).header("cookie", self.cookie_line());
        request.send().await.unwrap()
    }

    /// Returns status and content type of an answer without an end.
    pub(crate) async fn stream(&self, path: &str) -> (u16, String) {
        let response = self.open_stream(path).await;
        let kind = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), kind.unwrap_or_default())
    }

    pub(crate) fn cookie_line(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    /// Sends a request like a script on a page: with cookies, and with the token if there is one.
    pub(crate) async fn script(
        &mut self,
        method: reqwest::Method,
        path: &str,
        token: Option<&str>,
        body: Vec<u8>,
    ) -> Page {
        let mut request = self.http.request(method, format!("{}{path}", self.host.url)).body(body);
        if let Some(token) = token {
            request = request.header("x-csrf-token", token);
        }
        self.exchange(request).await
    }

    async fn exchange(&mut self, request: reqwest::RequestBuilder) -> Page {
        let response = request.header("cookie", self.cookie_line()).send().await.unwrap();
        let headers = response.headers().clone();
        for line in headers.get_all("set-cookie") {
            let (name, value) = line.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        self.cookies.retain(|_, value| !value.is_empty());
        let location = headers.get("location").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        Page { status: response.status().as_u16(), headers, location, text: response.text().await.unwrap() }
    }
}

fn form_of(fields: &[(&str, &str)]) -> String {
    fn escaped(text: &str) -> String {
        fn byte(byte: u8) -> String {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            }
        }
        text.bytes().map(byte).collect::<String>()
    }
    fields.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect::<Vec<_>>().join("&")
}

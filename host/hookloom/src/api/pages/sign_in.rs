//! Pages for signing in and out.

use super::forms::Form;
use super::user::SignedIn;
use super::{HtmlPage, PageError, go_to};
use crate::access::{ApiKey, Scope, credential_hash};
use crate::api::ApiState;
use crate::api::cookies;
use crate::api::extract::{Body, Params};
use crate::api::peer::Peer;
use crate::api::throttle::{FailedAttempt, WINDOW};
use crate::clock;
use crate::limits::shortened;
use crate::operations::Problem;
use crate::store::SESSION_LASTS;
use crate::subscription::TenantId;
use crate::url_path::{PublicUrl, UrlPath};
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use url::{Host, Url};

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    message: Option<String>,
    token: Option<String>,
    next: String,
}

#[derive(Deserialize)]
pub(super) struct SignInParams {
    token: Option<String>,
    next: Option<String>,
}

/// Redirects to the first page after a sign-in.
pub(super) async fn home(user: SignedIn, State(state): State<Arc<ApiState>>) -> Redirect {
    match user.home(&state) {
        Some(tenant) => Redirect::to(UrlPath::pages_of(&tenant).as_str()),
        None => Redirect::to("/tenants"),
    }
}

#[derive(Deserialize)]
pub(super) struct GoParams {
    t: TenantId,
}

/// Redirects to the first page of another tenant.
pub(super) async fn go(_: SignedIn, Params(GoParams { t }): Params<GoParams>) -> Redirect {
    Redirect::to(UrlPath::pages_of(&t).as_str())
}

/// Shows the sign-in form. The token of a link is used by the button and not by opening the page, because mail programs open links.
pub(super) async fn form(Params(params): Params<SignInParams>) -> Result<HtmlPage, PageError> {
    let page = SignInPage { message: None, token: params.token, next: params.next.unwrap_or_default() };
    Ok(HtmlPage::of(&page)?)
}

/// Signs in with a key or with the token of a link.
pub(super) async fn sign_in(
    Peer(address): Peer,
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, PageError> {
    let form = Form::urlencoded(&body);
    if is_from_elsewhere(&headers, state.operations.config.public_url.as_ref()) {
        return Err(foreign_form(&headers, &state).into());
    }
    // The credential is looked up first, so that a right one signs in regardless of failed attempts.
    let key = if form.has("token") {
        let key = state.operations.store.use_sign_in_link(form.get("token")).await?;
        key.and_then(|key| state.operations.store.catalog().key_by_id(key))
    } else {
        state.operations.store.catalog().key(&credential_hash(form.get("key")))
    };
    let Some(key) = key.filter(|key| may_manage(key)) else {
        return refused(&state, address, &form);
    };
    let text = state.operations.store.sign_in(key, address).await?;
    // The path leads to a page of this host, never to another site.
    let next = UrlPath::local(form.get("next")).unwrap_or_else(UrlPath::root);
    let mut response = go_to(&next, "");
    cookies::set_session(response.headers_mut(), &text, SESSION_LASTS, state.operations.config.is_behind_tls());
    Ok(response)
}

/// Shows the form again after a wrong credential.
fn refused(state: &ApiState, address: IpAddr, form: &Form) -> Result<Response, PageError> {
    let is_link = form.has("token");
    let credential = form.get(if is_link { "token" } else { "key" });
    let counted = state.sign_ins.note_failure(address, credential, clock::instant());
    let (message, status) = match counted.failure {
        FailedAttempt::OverLimit => (
            "This key is wrong too. There were too many failed attempts: wait five minutes.",
            StatusCode::TOO_MANY_REQUESTS,
        ),
        FailedAttempt::WithinLimit if is_link => {
            ("This link was used already or is too old. Sign in with a key.", StatusCode::UNAUTHORIZED)
        }
        FailedAttempt::WithinLimit => {
            ("This key is wrong, or it does not have the scope manage.", StatusCode::UNAUTHORIZED)
        }
    };
    let page = SignInPage { message: Some(message.to_owned()), token: None, next: form.get("next").to_owned() };
    let mut response = HtmlPage::of(&page)?.with(status).into_response();
    counted.limit.write(response.headers_mut());
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, WINDOW.as_secs().into());
    }
    Ok(response)
}

/// Returns true if a form was submitted from a page of another site, so that nobody is signed in as somebody else without knowing.
///
/// `Sec-Fetch-Site` is set by the browser and not changed by proxies; it exists if the pages are reached by TLS or on loopback.
/// `Origin` is compared with the public address. If no public address is set, `Origin` decides only without `Sec-Fetch-Site`, and
/// is compared with `Host`, which a proxy may have replaced.
pub(super) fn is_from_elsewhere(headers: &HeaderMap, public_url: Option<&PublicUrl>) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let site = text("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return true;
    }
    let Some(origin) = text("origin") else { return false };
    let is_host = || origin.split_once("://").is_some_and(|(_, host)| Some(host) == text("host"));
    match public_url {
        // The operator may bypass the proxy, by a tunnel to this machine. No other site has such an origin.
        Some(public_url) => !(public_url.is_origin(origin) || is_host() && is_loopback(origin)),
        None => site.is_none() && !is_host(),
    }
}

/// Returns true if an origin is on the browser's machine.
fn is_loopback(origin: &str) -> bool {
    let host = Url::parse(origin).ok().and_then(|url| url.host().map(|host| host.to_owned()));
    match host {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn foreign_form(headers: &HeaderMap, state: &ApiState) -> Problem {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("(none)");
    let (detail, remedy) = match &state.operations.config.public_url {
        Some(public_url) => {
            let detail =
                format!("this form came from {}, and this host is {public_url}", shortened(text("origin"), 200));
            (detail, format!("sign in at {}", public_url.link(&UrlPath::root().then("sign-in"))))
        }
        None => {
            let origin = shortened(text("origin"), 200);
            let host = shortened(text("host"), 200);
            let detail = format!("this form came from {origin}, and the request's Host header is {host}");
            (
                detail,
                "open the sign-in page of this host; behind a proxy that changes the Host header, set public_url"
                    .to_owned(),
            )
        }
    };
    Problem::new(StatusCode::FORBIDDEN, "foreign-form", detail).remedy(remedy)
}

/// Returns true if a key may use the pages, which are for changes. A key that only sends or reads has the REST routes.
fn may_manage(key: &ApiKey) -> bool {
    key.is_admin() || key.scopes.contains(&Scope::Manage)
}

/// Ends the session.
pub(super) async fn sign_out(
    user: SignedIn,
    State(state): State<Arc<ApiState>>,
    Body(body): Body,
) -> Result<Response, PageError> {
    // Without the session's token, the form comes from another site and is ignored.
    if Form::urlencoded(&body).get("csrf") == user.session.csrf {
        state.operations.store.sign_out(&user.cookie).await?;
    }
    Ok(go_to(&UrlPath::root().then("sign-in"), ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    /// Checks whether a request with these headers comes from another site than a host with this public address.
    #[track_caller]
    fn check(public_url: &str, pairs: &[(&str, &str)], is_foreign: bool) {
        fn pair((name, value): &(&str, &str)) -> (http::HeaderName, HeaderValue) {
            (name.parse().expect("a name"), value.parse().expect("a value"))
        }
        let public_url = PublicUrl::parse(public_url).ok();
        let headers = pairs.iter().map(pair).collect();
        assert_eq!(is_from_elsewhere(&headers, public_url.as_ref()), is_foreign, "{pairs:?}");
    }

    #[test]
    fn a_form_of_another_site_is_known() {
        check("", &[("host", "h:1")], false);
        check("", &[("host", "h:1"), ("origin", "http://h:1"), ("sec-fetch-site", "same-origin")], false);
        check("", &[("host", "h:1"), ("origin", "http://h:1")], false);
        check("", &[("host", "h:1"), ("origin", "https://evil.example")], true);
        check("", &[("host", "h:1"), ("sec-fetch-site", "cross-site")], true);
        check("", &[("host", "h:1"), ("origin", "http://h:1"), ("sec-fetch-site", "same-site")], true);
        check("", &[("host", "h:1"), ("origin", "null")], true);
        // Behind a proxy that replaces the Host header, the browser's header decides.
        check("", &[("host", "upstream:1"), ("origin", "https://h"), ("sec-fetch-site", "same-origin")], false);
        check("", &[("host", "upstream:1"), ("origin", "https://h")], true);
    }

    #[test]
    fn the_public_address_decides_where_it_is_set() {
        let public_url = "https://hooks.example.com/hookloom";
        check(public_url, &[("host", "127.0.0.1:8420"), ("origin", "https://hooks.example.com")], false);
        check(public_url, &[("host", "127.0.0.1:8420")], false);
        check(public_url, &[("host", "evil.example"), ("origin", "https://evil.example")], true);
        check(public_url, &[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")], true);
        check(public_url, &[("origin", "https://hooks.example.com"), ("sec-fetch-site", "cross-site")], true);
        check(public_url, &[("host", "127.0.0.1:8420"), ("origin", "null")], true);
        check(public_url, &[("host", "127.0.0.1:8420"), ("origin", "http://127.0.0.1:8420")], false);
        check(public_url, &[("host", "localhost:8420"), ("origin", "http://localhost:8420")], false);
        check(public_url, &[("host", "127.0.0.1:8420"), ("origin", "http://127.0.0.1:3000")], true);
    }
}

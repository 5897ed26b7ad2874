//! Signing in and out.

use super::forms::Form;
use super::user::SignedIn;
use super::{Page, Refused, go_to};
use crate::access::{ApiKey, Scope, credential_hash};
use crate::api::ApiState;
use crate::api::extract::{Body, COOKIE, Params};
use crate::api::peer::Peer;
use crate::api::problem::Problem;
use crate::api::throttle::{Failure, WINDOW};
use crate::store::SESSION_LASTS;
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

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

/// The first page of whoever is signed in.
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

/// Another tenant's first page.
pub(super) async fn go(_: SignedIn, Params(GoParams { t }): Params<GoParams>) -> Redirect {
    Redirect::to(UrlPath::pages_of(&t).as_str())
}

/// The form. A link's token is used up by the button, not by looking: mail programs look at links.
pub(super) async fn form(Params(params): Params<SignInParams>) -> Result<Page, Refused> {
    let page = SignInPage { message: None, token: params.token, next: params.next.unwrap_or_default() };
    Ok(Page::of(&page)?)
}

/// Signs in with a key or with a link's token.
pub(super) async fn sign_in(
    Peer(address): Peer,
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Refused> {
    let form = Form::urlencoded(&body);
    if is_from_elsewhere(&headers) {
        let detail = "this form came from another site";
        return Err(Problem::new(StatusCode::FORBIDDEN, "foreign-form", detail)
            .remedy("sign in on the page itself")
            .into());
    }
    // The credential is looked up first: whatever others tried before, a right one signs in.
    let key = if form.has("token") {
        let key = state.store.use_sign_in_link(form.get("token")).await?;
        key.and_then(|key| state.store.catalog().key_by_id(key))
    } else {
        state.store.catalog().key(&credential_hash(form.get("key")))
    };
    let Some(key) = key.filter(|key| may_manage(key)) else {
        return refused(&state, address, &form);
    };
    let text = state.store.sign_in(key.id).await?;
    state.changed(&key, key.tenant.as_ref(), "session.sign-in", address, [None, None]).await;
    // A way back leads to a page of this host, never elsewhere.
    let next = UrlPath::local(form.get("next")).unwrap_or_else(UrlPath::root);
    let mut response = go_to(&next, "");
    // What a proxy ends is TLS, so the cookie must not travel without it.
    let secure = if state.config.behind_proxy.is_empty() { "" } else { "; Secure" };
    let lasts = SESSION_LASTS.as_secs();
    let cookie = format!("{COOKIE}={text}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Lax{secure}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// The form once more, after a credential that is wrong.
fn refused(state: &ApiState, address: IpAddr, form: &Form) -> Result<Response, Refused> {
    let is_link = form.has("token");
    let credential = form.get(if is_link { "token" } else { "key" });
    let counted = state.sign_ins.note_failure(address, credential, Instant::now());
    let (message, status) = match counted.failure {
        Failure::OverLimit => {
            ("That is no key either. After too many failed attempts, wait five minutes.", StatusCode::TOO_MANY_REQUESTS)
        }
        Failure::WithinLimit if is_link => {
            ("This link was used already or is too old. Sign in with a key.", StatusCode::UNAUTHORIZED)
        }
        Failure::WithinLimit => ("No key that may manage is this one.", StatusCode::UNAUTHORIZED),
    };
    let page = SignInPage { message: Some(message.to_owned()), token: None, next: form.get("next").to_owned() };
    let mut response = Page::of(&page)?.with(status).into_response();
    counted.limit.write(response.headers_mut());
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, WINDOW.as_secs().into());
    }
    Ok(response)
}

/// Whether a form came from a page of another site: nobody shall be signed in as somebody else without knowing.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (site, origin, host) = (text("sec-fetch-site"), text("origin"), text("host").unwrap_or_default());
    site.is_some_and(|site| site != "same-origin" && site != "none")
        || origin.is_some_and(|origin| origin.split_once("://").is_none_or(|(_, own)| own != host))
}

/// The pages are for those who change things; a key that only sends or reads has the REST routes.
fn may_manage(key: &ApiKey) -> bool {
    key.is_admin() || key.scopes.contains(&Scope::Manage)
}

/// Ends the session.
pub(super) async fn sign_out(
    user: SignedIn,
    State(state): State<Arc<ApiState>>,
    Body(body): Body,
) -> Result<Response, Refused> {
    // Without the session's token it is another site that wants it: harmless, and still not its business.
    if Form::urlencoded(&body).get("csrf") == user.session.csrf {
        state.store.sign_out(&user.cookie).await?;
    }
    Ok(go_to(&UrlPath::root().then("sign-in"), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_of_another_site_is_known() {
        let from = |pairs: &[(&str, &str)]| {
            let pair = |(name, value): &(&str, &str)| {
                (name.parse::<http::HeaderName>().expect("a name"), value.parse().expect("a value"))
            };
            is_from_elsewhere(&pairs.iter().map(pair).collect())
        };
        assert!(!from(&[("host", "h:1")]));
        assert!(!from(&[("host", "h:1"), ("origin", "http://h:1"), ("sec-fetch-site", "same-origin")]));
        assert!(from(&[("host", "h:1"), ("origin", "https://evil.example")]));
        assert!(from(&[("host", "h:1"), ("sec-fetch-site", "cross-site")]));
        assert!(from(&[("host", "h:1"), ("origin", "null")]));
    }
}

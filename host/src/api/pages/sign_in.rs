//! Signing in and out.

use super::forms::Form;
use super::user::SignedIn;
use super::{Page, Refused, go_to};
use crate::access::{ApiKey, Scope, credential_hash};
use crate::api::ApiState;
use crate::api::extract::{Body, COOKIE, Params, Peer};
use crate::store::SESSION_LASTS;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
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
pub(super) async fn home(user: SignedIn) -> Redirect {
    Redirect::to(&format!("/t/{}", user.home()))
}

#[derive(Deserialize)]
pub(super) struct GoParams {
    t: String,
}

/// Another tenant's first page.
pub(super) async fn go(_: SignedIn, Params(GoParams { t }): Params<GoParams>) -> Redirect {
    let t: String = url::form_urlencoded::byte_serialize(t.as_bytes()).collect();
    Redirect::to(&format!("/t/{t}"))
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
    Body(body): Body,
) -> Result<Response, Refused> {
    let form = Form::urlencoded(&body);
    let again = |message: &str, status: StatusCode| {
        let page = SignInPage { message: Some(message.to_owned()), token: None, next: form.get("next").to_owned() };
        Ok(Page::of(&page)?.with(status).into_response())
    };
    if !state.sign_ins.allows(address, Instant::now()) {
        return again("Too many vain tries from your address; wait five minutes.", StatusCode::TOO_MANY_REQUESTS);
    }
    let key = match form.has("token") {
        true => {
            let key = state.store.use_sign_in_link(form.get("token")).await?;
            key.and_then(|key| state.store.catalog().key_by_id(key))
        }
        false => state.store.catalog().key(&credential_hash(form.get("key"))),
    };
    let Some(key) = key.filter(|key| may_manage(key)) else {
        state.sign_ins.note_failure(address, Instant::now());
        return match form.has("token") {
            true => again("This link was used already or is too old. Sign in with a key.", StatusCode::UNAUTHORIZED),
            false => again("No key that may manage is this one.", StatusCode::UNAUTHORIZED),
        };
    };
    state.sign_ins.forget(address);
    let text = state.store.sign_in(key.id).await?;
    state.changed(&key, key.tenant.as_ref(), "session.sign-in", address, [None, None]).await;
    // A way back leads to a page of ours, never elsewhere.
    let next = form.get("next");
    let next = if next.starts_with('/') && !next.starts_with("//") && !next.contains('\\') { next } else { "/" };
    let mut response = go_to(next, "");
    // What a proxy ends is TLS, so the cookie must not travel without it.
    let secure = if state.config.behind_proxy.is_empty() { "" } else { "; Secure" };
    let lasts = SESSION_LASTS.as_secs();
    let cookie = format!("{COOKIE}={text}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Lax{secure}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
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
    Ok(go_to("/sign-in", ""))
}

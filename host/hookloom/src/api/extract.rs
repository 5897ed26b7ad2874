//! Extractors: proof of access with its tenant, paths, query parameters and JSON. Failures are problem documents.
//!
//! A handler with an [`Access`] argument cannot be reached without a key for that tenant and scope: the type is the guard.

use super::ApiState;
pub(super) use super::body::{Body, Json};
use super::exchange::{Exchange, Payer};
use super::{cookies, document};
use crate::access::{ApiKey, credential_hash};
use crate::limits::shortened;
use crate::operations::{Access, Admin, Problem, RequiredScope};
use axum::extract::{FromRequestParts, MatchedPath, Query, RawPathParams};
use http::request::Parts;
use http::{StatusCode, header};
use serde::de::DeserializeOwned;
use std::str::FromStr;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use url::form_urlencoded;

impl<W: RequiredScope> FromRequestParts<Arc<ApiState>> for Access<W> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ApiState>) -> Result<Self, Problem> {
        let key = key(parts, state)?;
        check_query(parts)?;
        let path = PathParams::from_request_parts(parts, state).await?;
        let access = Access::of(key, path.get("t"), &state.operations)?;
        Exchange::of(parts)?.admit(Payer::Tenant(access.tenant.clone())).await?;
        Ok(access)
    }
}

impl FromRequestParts<Arc<ApiState>> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ApiState>) -> Result<Self, Problem> {
        let admin = Admin::of(&key(parts, state)?)?;
        check_query(parts)?;
        Exchange::of(parts)?.admit(Payer::Operator).await?;
        Ok(admin)
    }
}

fn key(parts: &Parts, state: &ApiState) -> Result<Arc<ApiKey>, Problem> {
    let key = match parts.headers.get(header::AUTHORIZATION) {
        None => cookie_key(parts, state).transpose(),
        Some(_) => None,
    };
    let key = key.unwrap_or_else(|| bearer_key(parts, state))?;
    state.operations.store.catalog().note_used(key.id);
    Ok(key)
}

/// Header with the session's token in requests of the pages' scripts.
pub(super) const CSRF_HEADER: &str = "x-csrf-token";

/// Returns the key of the signed-in user. A request that changes something must have the session's token as well, which other sites
/// cannot know.
fn cookie_key(parts: &Parts, state: &ApiState) -> Result<Option<Arc<ApiKey>>, Problem> {
    let secret = cookies::session(&parts.headers);
    let session = secret.and_then(|secret| state.operations.store.catalog().session(&credential_hash(secret)));
    let Some((session, key)) = session else { return Ok(None) };
    let brought = parts.headers.get(CSRF_HEADER).map(http::HeaderValue::as_bytes).unwrap_or_default();
    if parts.method.is_safe() || bool::from(brought.ct_eq(session.csrf.as_bytes())) {
        Ok(Some(key))
    } else {
        Err(Problem::new(StatusCode::FORBIDDEN, "no-csrf-token", "the session's token is missing or wrong")
            .remedy("send it in X-CSRF-Token, or use a key: `Authorization: Bearer hlk_…`"))
    }
}

fn bearer_key(parts: &Parts, state: &ApiState) -> Result<Arc<ApiKey>, Problem> {
    let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, token) = header.split_once(' ').unwrap_or_default();
    let found = scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| state.operations.store.catalog().key(&credential_hash(token.trim())))
        .flatten();
    found.ok_or_else(|| {
        let detail = if header.is_empty() { "the request has no key" } else { "the key is unknown or revoked" };
        Problem::new(StatusCode::UNAUTHORIZED, "no-key", detail).remedy("send `Authorization: Bearer hlk_…`")
    })
}

/// Last parameter of the path: the subject of the route. A value that cannot be parsed is answered as not found.
pub(super) struct Item<T>(pub(super) T);

impl<T: FromStr + Send> FromRequestParts<Arc<ApiState>> for Item<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ApiState>) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| Problem::not_found("item"))?;
        let item = params.iter().last().and_then(|(_, value)| value.parse().ok());
        item.map(Item).ok_or_else(|| Problem::not_found("item"))
    }
}

/// Parameters of a path, by name.
pub(super) struct PathParams(pub(super) Vec<(String, String)>);

impl PathParams {
    /// Parses a parameter. A value that cannot be parsed is answered as not found.
    pub(super) fn parse<T: FromStr>(&self, wanted: &str, what: &str) -> Result<T, Problem> {
        self.get(wanted).parse().map_err(|_| Problem::not_found(what))
    }

    /// Returns a parameter. Empty if there is none.
    pub(super) fn get(&self, wanted: &str) -> &str {
        self.0.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value)
    }
}

impl FromRequestParts<Arc<ApiState>> for PathParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ApiState>) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| Problem::not_found("path"))?;
        Ok(PathParams(params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

/// Refuses query parameters that the document does not describe for the route. Otherwise a client with a misspelt parameter would
/// get the answer to another question. Pages are not in the document and have other rules.
fn check_query(parts: &Parts) -> Result<(), Problem> {
    let (Some(query), Some(route)) = (parts.uri.query(), parts.extensions.get::<MatchedPath>()) else { return Ok(()) };
    let Some(known) = document::query_parameters(&parts.method, route.as_str()) else { return Ok(()) };
    let unknown = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| !known.iter().any(|one| one == name));
    let Some((name, _)) = unknown else { return Ok(()) };
    let known = match known {
        [] => "this route has no parameters".to_owned(),
        known => format!("this route has {}", known.join(", ")),
    };
    Err(invalid_query(format!("the parameter {:?} is unknown: {known}", shortened(&name, NAME_BYTES_MAX))))
}

/// Maximum length of an unknown parameter's name in an error, in bytes.
const NAME_BYTES_MAX: usize = 100;

fn invalid_query(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid-query", detail).remedy("GET /openapi.json shows the parameters")
}

/// Query parameters.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<ApiState>> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ApiState>) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(params)| Params(params)).map_err(|rejection| {
            // The library's message begins with a general sentence, which the reason follows.
            let text = rejection.body_text();
            let wrong = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            invalid_query(format!("the query does not fit: {wrong}"))
        })
    }
}

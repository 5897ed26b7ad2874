//! Pages of the lists that are in memory anyway: a JSON array, and the way to the next page in a header.
//!
//! # Rules
//! - A list is in the order of its key. A `cursor` is the key of the last item that was seen, so what is made or removed
//!   between two pages makes nobody see an item twice or miss one that stays.
//! - `Link: <?cursor=…>; rel="next"` (RFC 8288) is there when there is more; the reference is relative to the request.
//! - The lists that grow with the events (deliveries, changes) are paged by the database, with the same two parameters.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

/// Which page of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PageParams {
    /// The `cursor` of the `Link` header of the page before.
    cursor: Option<String>,
    /// How many: 1 to 500, 500 if absent.
    limit: Option<usize>,
}

/// How many items a page has at the most.
const LIMIT_MAX: usize = 500;

/// One page.
pub(super) struct Page<T> {
    items: Vec<T>,
    /// The key of the last item, if there is more.
    cursor: Option<String>,
    limit: usize,
}

impl PageParams {
    /// The page of a list whose items have these keys.
    pub(super) fn of<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> String) -> Page<T> {
        let limit = self.limit.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
        items.sort_by_cached_key(&key);
        if let Some(cursor) = &self.cursor {
            items.drain(..items.partition_point(|item| key(item) <= *cursor));
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let cursor = items.last().filter(|_| more).map(key);
        Page { items, cursor, limit }
    }
}

impl<T> Page<T> {
    /// The same page as it is shown: what is on no page is never made.
    pub(super) fn shown<S>(self, show: impl Fn(T) -> S) -> Page<S> {
        let Page { items, cursor, limit } = self;
        Page { items: items.into_iter().map(show).collect(), cursor, limit }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let next = self.cursor.map(|cursor| {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("cursor", &cursor)
                .append_pair("limit", &self.limit.to_string())
                .finish();
            HeaderValue::try_from(format!("<?{query}>; rel=\"next\"")).expect("an encoded query is visible ASCII")
        });
        let mut response = Json(self.items).into_response();
        if let Some(next) = next {
            response.headers_mut().insert(header::LINK, next);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cursor: Option<&str>, limit: usize, items: &[&str], next: Option<&str>) {
        let params = PageParams { cursor: cursor.map(str::to_owned), limit: Some(limit) };
        let page = params.of(vec!["c", "a", "d", "b"], ToString::to_string);
        assert_eq!((page.items.as_slice(), page.cursor.as_deref()), (items, next));
    }

    #[test]
    fn pages_follow_one_another() {
        check(None, 2, &["a", "b"], Some("b"));
        check(Some("b"), 2, &["c", "d"], None);
        check(Some("bb"), 1, &["c"], Some("c"));
        check(Some("d"), 2, &[], None);
        check(None, 0, &["a"], Some("a"));
        check(None, usize::MAX, &["a", "b", "c", "d"], None);
    }
}

//! Paging of lists: JSON arrays with a link to the next page in a header.
//!
//! # Rules
//! - A list is in the order of its key, or in the opposite one if the newest items are first. A `cursor` is the key of the last item of a page, so that additions and removals between
//!   two pages cause no item to be seen twice or missed.
//! - The header `Link: <?cursor=…>; rel="next"` (RFC 8288) exists if there are more items. The reference is relative to the
//!   request.
//! - Lists that grow with events (events, deliveries, changes, requests of bins) are paged by the database, with the same two
//!   parameters.
//! - A `limit` outside of its range is refused ([`UpTo`]), because a client that gets fewer items than it asked for would take the
//!   page for the last one.

use crate::operations::UpTo;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use utoipa::IntoParams;

/// Paging of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageParams {
    /// The `cursor` in the `Link` header of the previous page.
    cursor: Option<String>,
    /// Number of items: 1 to 500, 500 if absent.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 500)]
    limit: Option<PageLimit>,
}

/// Maximum number of items of a page.
pub(super) const LIMIT_MAX: usize = 500;

/// Default number of items of a page of a list that grows with events.
const LIMIT: usize = 50;

/// Number of items of a page, as a client asks for it.
pub(super) type PageLimit = UpTo<LIMIT_MAX>;

/// Returns the limit of a list that grows with events.
pub(super) fn limit_of(wanted: Option<PageLimit>) -> usize {
    wanted.map_or(LIMIT, UpTo::get)
}

/// Page of a list.
pub(super) struct Page<T> {
    items: Vec<T>,
    /// Key of the last item, if there are more.
    cursor: Option<String>,
    limit: usize,
}

impl PageParams {
    /// Returns the page of a list whose items have these keys.
    pub(super) fn of<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> String) -> Page<T> {
        let limit = self.limit.map_or(LIMIT_MAX, UpTo::get);
        items.sort_by_cached_key(&key);
        if let Some(cursor) = &self.cursor {
            items.drain(..items.partition_point(|item| key(item) <= *cursor));
        }
        Page::cut(items, limit, key)
    }

    /// Returns the page of a list whose items have these keys, which begin with their times, the newest first.
    pub(super) fn newest_first<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> String) -> Page<T> {
        let limit = self.limit.map_or(LIMIT_MAX, UpTo::get);
        items.sort_by_cached_key(|item| Reverse(key(item)));
        if let Some(cursor) = &self.cursor {
            items.drain(..items.partition_point(|item| key(item) >= *cursor));
        }
        Page::cut(items, limit, key)
    }
}

impl<T> Page<T> {
    /// Returns a page of items in their order, which contain one more item if there is a further page.
    pub(super) fn cut(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let cursor = items.last().filter(|_| more).map(key);
        Page { items, cursor, limit }
    }

    /// Converts the items of the page. Items on other pages are not converted.
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
        let params = PageParams { cursor: cursor.map(str::to_owned), limit: serde_json::from_value(limit.into()).ok() };
        let page = params.of(vec!["c", "a", "d", "b"], ToString::to_string);
        assert_eq!((page.items.as_slice(), page.cursor.as_deref()), (items, next));
    }

    #[test]
    fn a_page_of_the_database_has_one_item_more_if_there_is_another_page() {
        fn page(items: &[&'static str]) -> (Vec<&'static str>, Option<String>) {
            let page = Page::cut(items.to_vec(), 2, ToString::to_string);
            (page.items, page.cursor)
        }
        assert_eq!(page(&["c", "b", "a"]), (vec!["c", "b"], Some("b".to_owned())));
        assert_eq!(page(&["c", "b"]), (vec!["c", "b"], None));
        assert_eq!(page(&[]), (vec![], None));
    }

    #[track_caller]
    fn check_newest_first(cursor: Option<&str>, items: &[&str], next: Option<&str>) {
        let params = PageParams { cursor: cursor.map(str::to_owned), limit: serde_json::from_value(2.into()).ok() };
        let page = params.newest_first(vec!["c", "a", "d", "b"], ToString::to_string);
        assert_eq!((page.items.as_slice(), page.cursor.as_deref()), (items, next));
    }

    #[test]
    fn pages_of_the_newest_follow_one_another() {
        check_newest_first(None, &["d", "c"], Some("c"));
        check_newest_first(Some("c"), &["b", "a"], None);
        check_newest_first(Some("bb"), &["b", "a"], None);
        check_newest_first(Some("a"), &[], None);
    }

    #[test]
    fn pages_follow_one_another() {
        check(None, 2, &["a", "b"], Some("b"));
        check(Some("b"), 2, &["c", "d"], None);
        check(Some("bb"), 1, &["c"], Some("c"));
        check(Some("d"), 2, &[], None);
        check(None, LIMIT_MAX, &["a", "b", "c", "d"], None);
    }
}

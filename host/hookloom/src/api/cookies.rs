//! Cookies of the pages: the session, and a message for the next page.
//!
//! Both are sent with requests of this site only (`SameSite=Lax`), and scripts cannot read them (`HttpOnly`). The prefix `__Host-`
//! would require TLS, which only a proxy may add.

use cookie::time::Duration;
use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue, header};

/// Name of the session's cookie.
const SESSION: &str = "hookloom_session";

/// Name of the cookie with a message for the next page.
const FLASH: &str = "hookloom_flash";

/// Name of the cookie of a session of the portal.
const PORTAL_SESSION: &str = "hookloom_portal";

/// Name of the cookie with a message for the next page of the portal.
const PORTAL_FLASH: &str = "hookloom_portal_flash";

/// Path of the portal.
const PORTAL_PATH: &str = "/portal";

/// Time in which the next page must come to show a message.
const FLASH_LASTS: Duration = Duration::seconds(30);

/// Returns the session's secret from the cookies of a request.
pub(super) fn session(headers: &HeaderMap) -> Option<&str> {
    find(headers, SESSION).and_then(|cookie| cookie.value_raw())
}

/// Returns the message from the cookies of a request.
pub(super) fn flash(headers: &HeaderMap) -> Option<String> {
    message(headers, FLASH)
}

fn message(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = find(headers, name)?.value_raw()?;
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
    (!decoded.is_empty()).then(|| decoded.into_owned())
}

/// Returns the secret of a session of the portal from the cookies of a request.
pub(super) fn portal_session(headers: &HeaderMap) -> Option<&str> {
    find(headers, PORTAL_SESSION).and_then(|cookie| cookie.value_raw())
}

/// Returns the message for a page of the portal from the cookies of a request.
pub(super) fn portal_flash(headers: &HeaderMap) -> Option<String> {
    message(headers, PORTAL_FLASH)
}

fn find<'h>(headers: &'h HeaderMap, name: &str) -> Option<Cookie<'h>> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(Cookie::split_parse).filter_map(Result::ok).find(|cookie| cookie.name() == name)
}

/// Adds the session's cookie to an answer. With `secure`, browsers send it over TLS only.
pub(super) fn set_session(headers: &mut HeaderMap, secret: &str, lasts: std::time::Duration, secure: bool) {
    let lasts = Duration::try_from(lasts).unwrap_or(Duration::MAX);
    add(headers, &own(SESSION, secret, lasts).secure(secure).build());
}

/// Adds the cookie of a session of the portal to an answer, which [`put_in_portal`] completes.
pub(super) fn set_portal_session(headers: &mut HeaderMap, secret: &str, lasts: std::time::Duration) {
    let lasts = Duration::try_from(lasts).unwrap_or(Duration::MAX);
    add(headers, &own(PORTAL_SESSION, secret, lasts).build());
}

/// Makes the cookies of an answer those of the portal: only its paths get them.
///
/// In a frame of another site, browsers send a cookie only with `SameSite=None`, which needs TLS. `Partitioned` binds it to the site
/// around the frame, so that no other site has it.
pub(super) fn put_in_portal(headers: &mut HeaderMap, is_framed: bool, secure: bool) {
    change(headers, |cookie| {
        if cookie.name() == FLASH {
            cookie.set_name(PORTAL_FLASH);
        }
        cookie.set_path(PORTAL_PATH);
        cookie.set_secure(secure);
        if is_framed && secure {
            cookie.set_same_site(SameSite::None);
            cookie.set_partitioned(true);
        }
    });
}

/// Adds a message for the next page to an answer, unless it is empty.
pub(super) fn set_flash(headers: &mut HeaderMap, text: &str) {
    if !text.is_empty() {
        add(headers, &own(FLASH, text, FLASH_LASTS).build());
    }
}

/// Removes the message, because a page has shown it.
pub(super) fn remove_flash(headers: &mut HeaderMap) {
    add(headers, &own(FLASH, "", Duration::ZERO).build());
}

fn own<'c>(name: &'c str, value: &'c str, lasts: Duration) -> cookie::CookieBuilder<'c> {
    Cookie::build((name, value)).path("/").max_age(lasts).http_only(true).same_site(SameSite::Lax)
}

/// Adds a cookie. Only a message has characters to encode; the session's secret is base64url without padding.
fn add(headers: &mut HeaderMap, cookie: &Cookie<'_>) {
    let value = HeaderValue::try_from(cookie.encoded().to_string()).expect("an encoded cookie is visible ASCII");
    headers.append(header::SET_COOKIE, value);
}

/// Puts the cookies of an answer below a path.
pub(super) fn rebase(headers: &mut HeaderMap, prefix: &str) {
    change(headers, |cookie| {
        if let Some(path) = cookie.path().map(|path| format!("{prefix}{path}")) {
            cookie.set_path(path);
        }
    });
}

/// Changes the cookies of an answer.
fn change(headers: &mut HeaderMap, change: impl Fn(&mut Cookie<'_>)) {
    let cookies: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
    headers.remove(header::SET_COOKIE);
    for value in cookies {
        let changed =
            value.to_str().ok().and_then(|text| Cookie::parse(text.to_owned()).ok()).and_then(|mut cookie| {
                change(&mut cookie);
                HeaderValue::try_from(cookie.to_string()).ok()
            });
        headers.append(header::SET_COOKIE, changed.unwrap_or(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(headers: &HeaderMap) -> Vec<&str> {
        headers.get_all(header::SET_COOKIE).iter().map(|line| line.to_str().expect("text")).collect()
    }

    #[test]
    fn cookies_are_set_with_every_attribute_and_rebased() {
        let mut headers = HeaderMap::new();
        set_session(&mut headers, "a1", std::time::Duration::from_secs(60), true);
        set_session(&mut headers, "b2", std::time::Duration::from_secs(60), false);
        set_flash(&mut headers, "");
        set_flash(&mut headers, "saved; \"ü\"");
        remove_flash(&mut headers);
        let session = "HttpOnly; SameSite=Lax";
        let expected = [
            &format!("hookloom_session=a1; {session}; Secure; Path=/; Max-Age=60"),
            &format!("hookloom_session=b2; {session}; Path=/; Max-Age=60"),
            &format!("hookloom_flash=saved%3B%20%22%C3%BC%22; {session}; Path=/; Max-Age=30"),
            &format!("hookloom_flash=; {session}; Path=/; Max-Age=0"),
        ];
        assert_eq!(lines(&headers), expected);
        rebase(&mut headers, "/p");
        let expected: Vec<String> = expected.iter().map(|line| line.replace("Path=/", "Path=/p/")).collect();
        assert_eq!(lines(&headers), expected);
    }

    #[test]
    fn cookies_of_the_portal_are_for_its_paths_and_for_frames_by_tls() {
        #[track_caller]
        fn check(is_framed: bool, secure: bool, expected: &str) {
            let mut headers = HeaderMap::new();
            set_portal_session(&mut headers, "a1", std::time::Duration::from_secs(60));
            set_flash(&mut headers, "saved; \"ü\"");
            put_in_portal(&mut headers, is_framed, secure);
            let session = format!("hookloom_portal=a1; HttpOnly; SameSite={expected}; Path=/portal; Max-Age=60");
            let flash = session.replace("=a1;", "_flash=saved%3B%20%22%C3%BC%22;").replace("=60", "=30");
            assert_eq!(lines(&headers), [session, flash]);
            rebase(&mut headers, "/p");
            assert!(lines(&headers).iter().all(|line| line.contains("; Path=/p/portal;")));
            assert_eq!(lines(&headers)[0].contains("Partitioned"), expected.contains("Partitioned"));
        }
        check(false, false, "Lax");
        check(true, false, "Lax");
        check(false, true, "Lax; Secure");
        check(true, true, "None; Partitioned; Secure");
    }

    #[test]
    fn cookies_are_found_among_those_of_other_programs() {
        #[track_caller]
        fn check(values: &[&str], expected: (Option<&str>, Option<&str>)) {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::COOKIE, HeaderValue::try_from(*value).expect("a value"));
            }
            assert_eq!((session(&headers), flash(&headers).as_deref()), expected, "{values:?}");
        }
        check(&[], (None, None));
        check(&["hookloom_session=a1"], (Some("a1"), None));
        check(&["x=y; hookloom_session=a1;z; hookloom_flash=a%20b"], (Some("a1"), Some("a b")));
        check(&["x=y", "=; hookloom_session=a1"], (Some("a1"), None));
        check(&["hookloom_sessions=a1; hookloom_flash="], (None, None));
        check(&["hookloom_flash=%ff; hookloom_session=a=1"], (Some("a=1"), None));
    }
}

//! Lenient parser for HTTP/1 response heads that hyper rejects.
//!
//! RFC 9112 lets a client discard such a response. But a receiver that has answered 200 has processed the event, and every retry would
//! repeat it. So the status counts, and the readable headers. The body is not read, because its framing is unknown.

use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr_iter;

/// Readable part of a response head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Salvaged {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
}

/// Returns whether the head of a final response is complete. Removes preceding interim responses (1xx) and blank lines (RFC 9112
/// section 2.2). The first `looked_at` bytes were examined by an earlier call.
pub(super) fn is_complete(head: &mut Vec<u8>, looked_at: usize) -> bool {
    let mut start = 0;
    let complete = loop {
        start += head[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let Some(end) = end(head, looked_at.saturating_sub(2).max(start)) else { break false };
        match status_line(&head[start..end]) {
            Some(100 | 102..=199) => start = end,
            _ => break true,
        }
    };
    head.drain(..start);
    complete
}

/// Returns the offset after the first blank line.
fn end(head: &[u8], from: usize) -> Option<usize> {
    memchr_iter(b'\n', &head[from..]).find_map(|at| match &head[from + at + 1..] {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// Returns the status code of a status line: `HTTP/`, a version, blanks, three digits.
fn status_line(head: &[u8]) -> Option<u16> {
    let line = head.trim_ascii_start().split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let version = words.next()?;
    if !version.get(..5)?.eq_ignore_ascii_case(b"HTTP/") || !version.get(5)?.is_ascii_digit() {
        return None;
    }
    let digits = words.next().filter(|digits| digits.len() == 3)?;
    let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (100..=999).contains(&status).then_some(status)
}

/// Parses the status line and the readable headers of a head.
pub(super) fn read(head: &[u8]) -> Option<Salvaged> {
    let status = status_line(head)?;
    let mut headers = HeaderMap::new();
    let lines = head.trim_ascii_start().split(|byte| *byte == b'\n').skip(1);
    for line in lines.take_while(|line| !line.trim_ascii().is_empty()) {
        if let Some((name, value)) = header(line) {
            // Headers beyond the capacity of the map are dropped.
            let _ = headers.try_append(name, value);
        }
    }
    Some(Salvaged { status, headers })
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(line[..colon].trim_ascii_end()).ok()?;
    Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(head: &[u8], expected: Option<(u16, &[(&str, &str)])>) {
        let mut kept = head.to_vec();
        let complete = is_complete(&mut kept, 0);
        let salvaged = if complete { read(&kept) } else { None };
        let expected = expected.map(|(status, headers)| Salvaged {
            status,
            headers: headers
                .iter()
                .map(|(name, value)| (name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value")))
                .collect(),
        });
        assert_eq!(salvaged, expected, "{:?}", String::from_utf8_lossy(head));
    }

    #[test]
    fn a_status_that_came_is_read() {
        check(b"HTTP/1.1 200 OK\r\n\r\n", Some((200, &[])));
        check(b"HTTP/1.1 200\n\n", Some((200, &[])));
        check(b"http/1.0  503   Busy\r\nRetry-After: 7\r\n\r\n", Some((503, &[("retry-after", "7")])));
        check(b"HTTP/2.0 204 \xff\r\nX :\t1 \r\nbad\x01: 2\r\n: 3\r\nno colon\r\n\r\nbody", Some((204, &[("x", "1")])));
        check(b"HTTP/1.1 429 x\r\na: \x00\r\nRetry-After: 1\r\n\r\n", Some((429, &[("retry-after", "1")])));
        check(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            Some((200, &[("content-length", "1"), ("content-length", "2")])),
        );
        check(
            b"\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: <a>\r\n\r\nHTTP/1.1 201 y\r\n\r\n",
            Some((201, &[])),
        );
    }

    #[test]
    fn an_invalid_status_is_none() {
        check(b"HTTP/1.1 200 OK\r\nx: y\r\n", None);
        check(b"HTTP/1.1 100 Continue\r\n\r\n", None);
        check(b"220 mail.example ESMTP\r\n\r\n", None);
        check(b"HTTP/1.1 2000 OK\r\n\r\n", None);
        check(b"HTTP/1.1 099 OK\r\n\r\n", None);
        check(b"HTTP/x 200 OK\r\n\r\n", None);
        check(b"\r\n\r\n", None);
        check(b"", None);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(head in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'x')], 0..40), at in 0usize..60) {
            let answer = [&b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"[..], &head, b"\r\n\r\n"].concat();
            let mut whole = answer.clone();
            prop_assert!(is_complete(&mut whole, 0));
            let at = at.min(answer.len());
            let mut pieces = answer[..at].to_vec();
            if !is_complete(&mut pieces, 0) {
                let looked_at = pieces.len();
                pieces.extend_from_slice(&answer[at..]);
                prop_assert!(is_complete(&mut pieces, looked_at));
            }
            prop_assert_eq!(read(&pieces).map(|one| one.status), read(&whole).map(|one| one.status));
        }
    }
}

//! Client address of a request.
//!
//! The address is the peer of the connection, unless the peer is a proxy of the setting `behind_proxy`. Then it is read from
//! `X-Forwarded-For`, from the right, because each proxy appends the address of its peer: the first entry that is not a trusted
//! proxy is the client. Entries left of it were written by the client and are not read. An entry that cannot be parsed ends the
//! search, and the client is the trusted proxy that wrote it, because the next entry would be a claim of the client.
//!
//! An entry is an IPv4 or IPv6 address, with or without a port, brackets and quotes. IPv4-mapped IPv6 addresses are IPv4 addresses.
//! `Forwarded` (RFC 7239) is not supported: a proxy must be configured to write `X-Forwarded-For`.

use super::ApiState;
use crate::operations::Problem;
use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Client of a connection, set by the accept loop.
#[derive(Clone, Copy)]
pub(super) struct Connection(pub(super) IpAddr);

/// Client address of a request: the peer's, or the one that a trusted proxy names.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

impl FromRequestParts<Arc<ApiState>> for Peer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ApiState>) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Connection>().map_or(IpAddr::from([0, 0, 0, 0]), |connection| connection.0);
        Ok(Peer(client(peer, &parts.headers, &state.operations.config.behind_proxy)))
    }
}

/// Returns the client of a request from `peer`.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut last = peer.to_canonical();
    // Several lines are one list, in their order (RFC 9110, section 5.3).
    let entries = headers.get_all(X_FORWARDED_FOR).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let entries: Vec<&[u8]> = entries.collect();
    for entry in entries.into_iter().rev() {
        if !trusted.iter().any(|range| range.contains(&last)) {
            break;
        }
        let Some(address) = address(entry) else { break };
        last = address;
    }
    last
}

/// Returns the address in an entry. None: the entry has none, such as `unknown`, `_hidden`, a name, or nothing.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::from);
    let plain = text.parse::<IpAddr>().ok().or_else(bracketed);
    let address = plain.or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    /// Compares the client of a request from 10.0.0.1, behind proxies in 10.0.0.0/8 and fd00::/8.
    #[track_caller]
    fn check(lines: &[&[u8]], expected: &str) {
        check_from("10.0.0.1", lines, expected);
    }

    #[track_caller]
    fn check_from(peer: &str, lines: &[&[u8]], expected: &str) {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].map(|range| range.parse().expect(range)).to_vec();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line).expect("a header's value"));
        }
        let found = client(peer.parse().expect(peer), &headers, &trusted);
        let lines: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
        assert_eq!(found.to_string(), expected, "{peer}: {lines:?}");
    }

    #[test]
    fn the_first_entry_from_the_right_that_is_no_proxy_is_the_client() {
        check(&[], "10.0.0.1");
        check(&[b"203.0.113.7"], "203.0.113.7");
        check(&[b"9.9.9.9, 203.0.113.7"], "203.0.113.7");
        check(&[b"9.9.9.9, 203.0.113.7, 10.2.3.4, fd00::1"], "203.0.113.7");
        check(&[b"9.9.9.9", b"203.0.113.7", b"10.2.3.4"], "203.0.113.7");
        check(&[b"10.9.9.9, 10.2.3.4"], "10.9.9.9");
        check_from("198.51.100.1", &[b"9.9.9.9"], "198.51.100.1");
        check_from("::ffff:10.0.0.1", &[b"9.9.9.9"], "9.9.9.9");
        check_from("::ffff:198.51.100.1", &[b"9.9.9.9"], "198.51.100.1");
    }

    #[test]
    fn ports_brackets_and_quotes_are_understood() {
        check(&[b"9.9.9.9, 203.0.113.7:51234"], "203.0.113.7");
        check(&[b"9.9.9.9, [2001:db8::7]:443"], "2001:db8::7");
        check(&[b"9.9.9.9, [2001:db8::7]"], "2001:db8::7");
        check(&[b"9.9.9.9,\t2001:db8::7 "], "2001:db8::7");
        check(&[b"9.9.9.9, \"[2001:db8::7]:443\""], "2001:db8::7");
        check(&[b"9.9.9.9, \"203.0.113.7\""], "203.0.113.7");
        check(&[b"9.9.9.9, ::ffff:203.0.113.7"], "203.0.113.7");
        check(&[b"9.9.9.9, [::ffff:203.0.113.7]:1"], "203.0.113.7");
        check(&[b"9.9.9.9, 203.0.113.7, [::ffff:10.1.1.1]:1, 10.2.2.2:80"], "203.0.113.7");
    }

    #[test]
    fn an_unparsable_entry_is_the_trusted_proxy_that_wrote_it() {
        for unknown in [
            "unknown",
            "_hidden",
            "_SEVKISEK",
            "",
            " ",
            "client.example",
            "203.0.113.7:",
            "203.0.113.7:99999",
            "203.0.113.7:http",
            "[2001:db8::7",
            "2001:db8::7]:443",
            "[203.0.113.7]",
            "203.0.113.07",
            "203.0.113",
            "fe80::1%eth0",
            "for=203.0.113.7",
            "\"203.0.113.7",
            "203.0.113.7 9.9.9.9",
        ] {
            check(&[format!("9.9.9.9, {unknown}").as_bytes()], "10.0.0.1");
            check(&[format!("9.9.9.9, {unknown}, 10.2.3.4").as_bytes()], "10.2.3.4");
            check(&[b"9.9.9.9", unknown.as_bytes()], "10.0.0.1");
        }
        check(&[b"9.9.9.9, \xff"], "10.0.0.1");
        check(&[b"9.9.9.9", b"\xff, 10.2.3.4"], "10.2.3.4");
    }
}

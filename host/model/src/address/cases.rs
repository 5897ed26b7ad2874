//! Cases of a published list of bypasses for guards like this: addresses 1 to 28 and the URL cases. Cases that need a socket or a
//! name server are in `tests/e2e/guard.rs`.

use super::*;

const REFUSED: bool = false;
const ALLOWED: bool = true;

/// Row of the list, host of a URL, and whether it may be called.
const ADDRESSES: [(u8, &str, bool); 69] = [
    (1, "127.0.0.1", REFUSED),
    (1, "127.254.254.254", REFUSED),
    (2, "10.0.0.1", REFUSED),
    (2, "172.16.0.1", REFUSED),
    (2, "172.31.255.255", REFUSED),
    (2, "192.168.0.1", REFUSED),
    (3, "0.0.0.0", REFUSED),
    (4, "0.1.2.3", REFUSED),
    (5, "169.254.169.254", REFUSED),
    (5, "169.254.170.2", REFUSED),
    (6, "100.64.0.1", REFUSED),
    (6, "100.100.100.200", REFUSED),
    (7, "192.0.0.192", REFUSED),
    (8, "198.18.0.1", REFUSED),
    (8, "198.19.255.255", REFUSED),
    (9, "240.0.0.1", REFUSED),
    (9, "255.255.255.255", REFUSED),
    (10, "224.0.0.1", REFUSED),
    (10, "239.255.255.255", REFUSED),
    (11, "192.0.2.1", REFUSED),
    (11, "198.51.100.1", REFUSED),
    (11, "203.0.113.1", REFUSED),
    (12, "192.88.99.1", REFUSED),
    (13, "[::1]", REFUSED),
    (13, "[::]", REFUSED),
    (14, "[::ffff:127.0.0.1]", REFUSED),
    (14, "[0000:0000:0000:0000:0000:ffff:7f00:0001]", REFUSED),
    (14, "[::ffff:8.8.8.8]", REFUSED),
    (15, "[::127.0.0.1]", REFUSED),
    (16, "[::ffff:0:7f00:1]", REFUSED),
    (16, "[::5efe:7f00:1]", REFUSED),
    (16, "[fe80::5efe:a00:1]", REFUSED),
    (17, "[64:ff9b::7f00:1]", REFUSED),
    (18, "[64:ff9b::808:808]", REFUSED),
    (19, "[64:ff9b:1::1]", REFUSED),
    (20, "[2002:7f00:1::]", REFUSED),
    (21, "[2001::1]", REFUSED),
    (21, "[2001:0:7f00:1::]", REFUSED),
    (22, "[fc00::1]", REFUSED),
    (22, "[fd00:ec2::254]", REFUSED),
    (23, "[fe80::1]", REFUSED),
    (23, "[febf:ffff::1]", REFUSED),
    (24, "[fec0::1]", REFUSED),
    (25, "[ff02::1]", REFUSED),
    (25, "[ff0e::1]", REFUSED),
    (26, "[100::1]", REFUSED),
    (26, "[2001:db8::1]", REFUSED),
    (26, "[3fff::1]", REFUSED),
    (26, "[5f00::1]", REFUSED),
    (27, "168.63.129.16", REFUSED),
    (28, "1.1.1.1", ALLOWED),
    (28, "8.8.8.8", ALLOWED),
    (28, "223.255.255.255", ALLOWED),
    (28, "192.88.98.255", ALLOWED),
    (28, "[2606:4700:4700::1111]", ALLOWED),
    (28, "[2001:200::1]", ALLOWED),
    (28, "[3fff:1000::1]", ALLOWED),
    (30, "2130706433", REFUSED),
    (30, "0x7f.1", REFUSED),
    (30, "0177.0.0.1", REFUSED),
    (30, "127.1", REFUSED),
    (30, "①②⑦.0.0.1", REFUSED),
    (31, "[127.0.0.1]", REFUSED),
    (31, "[::1%lo]", REFUSED),
    (31, "::1", REFUSED),
    (33, "localhost", REFUSED),
    (33, "localhost.", REFUSED),
    (33, "LocalHost", REFUSED),
    (33, "a.b.localhost", REFUSED),
];

/// Row, URL, and whether it may be called.
const URLS: [(u8, &str, bool); 25] = [
    (29, "https://[::1]", REFUSED),
    (29, "https://1:2@[::1]:9876", REFUSED),
    (29, "https://@[::1]", REFUSED),
    (29, "http://[0000:0000:0000:0000:0000:ffff:7f00:0001]/", REFUSED),
    (32, "http://public.example@127.0.0.1/", REFUSED),
    (32, "http://user:pw@hooks.example.com/", REFUSED),
    (32, "http://user@hooks.example.com/", REFUSED),
    (32, "http://127.0.0.1\\@hooks.example.com/", REFUSED),
    (32, "http://hooks.example.com#@127.0.0.1/", ALLOWED),
    (32, "http://127.0.0.1#@hooks.example.com/", REFUSED),
    (40, "file:///etc/passwd", REFUSED),
    (40, "gopher://hooks.example.com/", REFUSED),
    (40, "ftp://hooks.example.com/", REFUSED),
    (40, "ws://hooks.example.com/", REFUSED),
    (40, "unix:/run/docker.sock", REFUSED),
    (40, "data:text/plain,x", REFUSED),
    (43, "http://hooks.example.com:22/", REFUSED),
    (43, "http://hooks.example.com:25/", REFUSED),
    (43, "http://hooks.example.com:6379/", REFUSED),
    (43, "http://hooks.example.com:5432/", REFUSED),
    (43, "http://hooks.example.com:11211/", REFUSED),
    (43, "https://hooks.example.com:8443/x", ALLOWED),
    (45, "http://hooks.example.com/\r\nX-Evil: 1", ALLOWED),
    (28, "https://hooks.example.com/in?key=1#x", ALLOWED),
    (52, "https://bücher.example/", ALLOWED),
];

#[test]
fn every_row_is_judged_as_it_should_be() {
    let policy = AddressPolicy::default();
    let addresses = ADDRESSES.map(|(row, host, expected)| (row, format!("http://{host}/"), expected));
    let urls = URLS.map(|(row, url, expected)| (row, url.to_owned(), expected));
    let long = (34, format!("http://{}/", "a.".repeat(130)), REFUSED);
    let cases: Vec<_> = addresses.into_iter().chain(urls).chain([long]).collect();
    let wrong: Vec<_> =
        cases.iter().filter(|(_, url, expected)| check_url(url, &policy).is_ok() != *expected).collect();
    println!("| address guard, a published list | {} cases tried, {} right |", cases.len(), cases.len() - wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Row 45: a line break in a URL is never sent.
#[test]
fn a_url_carries_no_line_break() {
    let url = check_url("http://hooks.example.com/\r\nX-Evil: 1", &AddressPolicy::default()).expect("a path");
    assert_eq!(url.as_str(), "http://hooks.example.com/X-Evil:%201");
}

/// Rows 18 and 47: a range of the operator applies to the reached address.
#[test]
fn a_range_of_the_operator_applies_to_the_reached_address() {
    fn policy(allow: &[&str]) -> AddressPolicy {
        AddressPolicy {
            allow: allow.iter().map(|range| range.parse().expect(range)).collect(),
            ..AddressPolicy::default()
        }
    }
    fn allowed(allow: &[&str], url: &str) -> bool {
        check_url(url, &policy(allow)).is_ok()
    }
    assert!(allowed(&["64:ff9b::/96"], "http://[64:ff9b::808:808]/"), "NAT64 to a public address, by option");
    assert!(!allowed(&["64:ff9b::/96"], "http://[64:ff9b::7f00:1]/"), "NAT64 to loopback");
    assert!(!allowed(&["64:ff9b::/96"], "http://[64:ff9b::a9fe:a9fe]/"), "NAT64 to metadata");
    assert!(allowed(&["64:ff9b::/96", "10.0.0.0/8"], "http://[64:ff9b::a00:1]/"));
    assert!(allowed(&["10.0.0.0/8"], "http://10.1.2.3/") && allowed(&["10.0.0.0/8"], "http://[::ffff:10.1.2.3]/"));
    assert!(!allowed(&["10.0.0.0/8"], "http://11.0.0.0.nip.io:22/"));
    assert!(!allowed(&["fd00::/8"], "http://[fe80::1]/"));
}

//! The rules, one by one; the published list of ways around guards like this one is in [`cases`](super::cases).

use super::*;
use proptest::prelude::*;
use std::net::Ipv6Addr;

fn policy() -> AddressPolicy {
    AddressPolicy::default()
}

#[test]
fn a_refusal_names_its_rule() {
    #[track_caller]
    fn check(address: &str, expected: &str) {
        let verdict = match check_address(address.parse().expect(address), &policy()) {
            Ok(()) => "allowed".to_owned(),
            Err(AddressError::Address { rule, .. }) => rule.to_owned(),
            Err(other) => other.to_string(),
        };
        assert_eq!(verdict, expected, "{address}");
    }
    check("127.0.0.1", "loopback");
    check("169.254.169.254", "link-local, also cloud metadata");
    check("168.63.129.16", "Azure's host service");
    check("::ffff:127.0.0.1", "IPv4-mapped");
    check("2600::200:5efe:a00:1", "ISATAP");
    check("64:ff9b::808:808", "NAT64");
    check("2606:4700:4700::1111", "allowed");
}

#[test]
fn urls() {
    #[track_caller]
    fn check(url: &str, expected: Result<&str, &str>) {
        let verdict = check_url(url, &policy()).map(|url| url.to_string()).map_err(|error| error.to_string());
        assert_eq!(verdict, expected.map(str::to_owned).map_err(str::to_owned), "{url}");
    }
    fn loopback(address: &str) -> String {
        format!("the address {address} is refused: loopback; a host started with --allow-loopback would allow it")
    }
    check("https://hooks.example.com/x?key=1", Ok("https://hooks.example.com/x?key=1"));
    check("https://[2606:4700:4700::1111]/", Ok("https://[2606:4700:4700::1111]/"));
    for same in ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "①②⑦.0.0.1", "127.0.0.1."] {
        check(&format!("http://{same}/"), Err(&loopback("127.0.0.1")));
    }
    check("https://[::1]:9876/", Err(&loopback("::1")));
    check(
        "http://localhost/",
        Err("the name \"localhost\" means this machine; a host started with --allow-loopback would allow it"),
    );
    check(
        "http://a.LOCALHOST./",
        Err("the name \"a.localhost.\" means this machine; a host started with --allow-loopback would allow it"),
    );
    check(
        "http://public.example@127.0.0.1/",
        Err("the URL holds credentials; put them into a header of the subscription"),
    );
    check(
        "https://user:pw@hooks.example.com/",
        Err("the URL holds credentials; put them into a header of the subscription"),
    );
    for scheme in ["file", "gopher", "ftp", "ws", "unix"] {
        check(&format!("{scheme}://host/x"), Err(&format!("the scheme {scheme:?} is not http or https")));
    }
    check(
        "http://db.example.com:6379/",
        Err(
            "port 6379 belongs to an internal service and gets no webhooks; the operator may allow it in `egress_ports_allow`",
        ),
    );
    check(&format!("http://h/{}", "a".repeat(8_000)), Err("the URL has more than 8000 bytes"));
    check(
        "http://a\"b{}`c/",
        Err("the host name \"a\\\"b{}`c\" holds '\"'; letters, digits, hyphens, underscores and dots are allowed"),
    );
    check("http://my_service.test/", Ok("http://my_service.test/"));
    check(
        "https://-foo.example/",
        Err("the host name \"-foo.example\" has a part that begins or ends with a hyphen: \"-foo\""),
    );
    check("hooks.example.com", Err("the URL cannot be read: relative URL without a base"));
    check("http://[127.0.0.1]/", Err("the URL cannot be read: invalid IPv6 address"));
    check("http://[::1%lo]/", Err("the URL cannot be read: invalid IPv6 address"));
    check(&format!("http://{}/", "a.".repeat(130)), Err("the host name has more than 253 characters"));
}

#[test]
fn an_operator_may_allow_and_deny_ranges() {
    fn range(text: &str) -> IpNet {
        text.parse::<IpNet>().expect(text)
    }
    let policy = AddressPolicy {
        allow: vec![range("10.1.0.0/16")],
        deny: vec![range("10.1.2.0/24"), range("8.8.8.8/32")],
        allow_loopback: true,
        ..AddressPolicy::default()
    };
    let allowed = |address: &str| check_address(address.parse().expect(address), &policy).is_ok();
    assert!(allowed("10.1.1.1") && allowed("::ffff:10.1.1.1") && allowed("127.0.0.1") && allowed("::1"));
    assert!(!allowed("10.1.2.3") && !allowed("10.2.0.1") && !allowed("8.8.8.8") && !allowed("::ffff:127.0.0.1"));
    assert!(check_url("http://localhost:8080/", &policy).is_ok());
}

#[test]
fn a_tenant_can_only_be_narrowed() {
    fn range(text: &str) -> IpNet {
        text.parse::<IpNet>().expect(text)
    }
    let host = AddressPolicy { allow: vec![range("10.0.0.0/8")], ..AddressPolicy::default() };
    let by = Egress {
        deny: vec![range("8.8.8.0/24")],
        only: vec![range("8.8.0.0/16"), range("192.168.0.0/16"), range("10.1.0.0/16")],
    };
    let policy = host.narrowed(&by);
    let allowed = |address: &str| check_address(address.parse().expect(address), &policy).is_ok();
    assert!(allowed("8.8.4.4") && allowed("10.1.2.3"));
    assert!(!allowed("8.8.8.8"), "denied");
    assert!(!allowed("1.1.1.1") && !allowed("10.2.0.1"), "outside of its ranges");
    assert!(!allowed("192.168.1.1"), "what the host refuses is not opened");
}

/// A policy of a host that listens here.
fn listening_on(address: &str) -> AddressPolicy {
    AddressPolicy { listen: Some(address.parse().expect(address)), ..AddressPolicy::default() }
}

const ITSELF: &str = "the URL leads back to this host";

/// Checks a URL against the beginning of its refusal, up to the semicolon.
#[track_caller]
fn check_leads_back(url: &str, policy: &AddressPolicy, expected: Result<(), &str>) {
    let result = check_url(url, policy).map(drop).map_err(|error| error.to_string());
    assert_eq!(
        result.as_ref().map_err(|result| result.split(';').next().unwrap_or_default()),
        expected.as_ref().map_err(|result| *result),
        "{url}"
    );
}

#[test]
fn the_host_does_not_call_itself() {
    // Where the host listens, and the addresses by which it is reached there.
    let reached = [
        ("127.0.0.1:8420", vec!["127.0.0.1", "0.0.0.0", "localhost", "[::ffff:127.0.0.1]"]),
        ("127.0.0.2:8420", vec!["127.0.0.2"]),
        ("0.0.0.0:8420", vec!["127.0.0.1", "127.0.0.2", "0.0.0.0", "localhost", "[::ffff:127.0.0.2]"]),
        ("[::1]:8420", vec!["[::1]", "[::]", "localhost", "a.localhost."]),
        ("[::]:8420", vec!["127.0.0.1", "127.0.0.2", "0.0.0.0", "[::1]", "[::]", "localhost"]),
    ];
    for (listens, hosts) in reached {
        let policy = AddressPolicy { allow_loopback: true, ..listening_on(listens) };
        for host in hosts {
            for path in
                ["", "in/hlt_x", "bins", "bins/", "bins//x", "bins/../in/x", "bins/%2e%2e/in/x", "bins/.%2E/in/x"]
            {
                check_leads_back(&format!("http://{host}:8420/{path}"), &policy, Err(ITSELF));
            }
            for path in ["/bins/x", "\\bins\\..\\in\\x", "bins/..%2fin", "bins/%2e%2e%2fin/x", "BINS/x"] {
                check_leads_back(&format!("http://{host}:8420/{path}"), &policy, Err(ITSELF));
            }
            check_leads_back(
                &format!("http://{host}:8421/"),
                &AddressPolicy { allow: everywhere(), ..policy.clone() },
                Ok(()),
            );
        }
    }
    // Another service on another address is a receiver like any other, where loopback is allowed.
    let policy = AddressPolicy { allow_loopback: true, ..listening_on("127.0.0.1:8420") };
    check_leads_back("http://127.0.0.2:8420/in/hlt_x", &policy, Ok(()));
    check_leads_back("http://[::1]:8420/in/hlt_x", &policy, Ok(()));
    check_leads_back("http://localhost:8420/bins/b", &policy, Ok(()));
    check_leads_back("http://8.8.8.8:80/", &listening_on("8.8.8.8:80"), Err(ITSELF));
}

#[test]
fn own_bins_are_called_at_the_very_address_where_the_host_listens() {
    // Its own bins may be called, also where loopback is not allowed: at the very address, and there alone.
    for (listens, host) in [
        ("127.0.0.1:8420", "127.0.0.1"),
        ("127.0.0.2:8420", "127.0.0.2"),
        ("0.0.0.0:8420", "127.0.0.1"),
        ("[::1]:8420", "[::1]"),
        ("[::]:8420", "127.0.0.1"),
        ("[::]:8420", "[::1]"),
    ] {
        check_leads_back(&format!("http://{host}:8420/bins/b"), &listening_on(listens), Ok(()));
        check_leads_back(&format!("http://{host}:8420/bins/b/below?x=%2e"), &listening_on(listens), Ok(()));
        let elsewhere = check_url(&format!("http://{host}:8421/bins/b"), &listening_on(listens));
        assert!(elsewhere.is_err(), "another port is another service");
        assert!(
            check_url(&format!("https://{host}:8420/bins/b"), &listening_on(listens)).is_err(),
            "this host speaks no TLS"
        );
    }
}

#[test]
fn no_other_address_has_bins_of_the_host() {
    for (listens, host) in [
        ("127.0.0.1:8420", "127.0.0.2"),
        ("127.0.0.1:8420", "127.1.1.1"),
        ("127.0.0.2:8420", "127.0.0.1"),
        ("0.0.0.0:8420", "127.0.0.2"),
        ("[::1]:8420", "127.0.0.1"),
        ("[::]:8420", "127.0.0.2"),
    ] {
        check_leads_back(
            &format!("http://{host}:8420/bins/b"),
            &listening_on(listens),
            Err(&format!("the address {host} is refused: loopback")),
        );
    }
    for (listens, host) in [
        ("127.0.0.1:8420", "[::1]"),
        ("127.0.0.1:8420", "localhost"),
        ("127.0.0.1:8420", "0.0.0.0"),
        ("0.0.0.0:8420", "[::1]"),
        ("[::1]:8420", "[::ffff:127.0.0.1]"),
        ("[::]:8420", "[::]"),
    ] {
        assert!(check_url(&format!("http://{host}:8420/bins/b"), &listening_on(listens)).is_err(), "{listens}: {host}");
    }
}

/// Ranges that open what is neither loopback nor denied.
fn everywhere() -> Vec<IpNet> {
    ["0.0.0.0/0", "::/0"].map(|range| range.parse().expect(range)).to_vec()
}

#[test]
fn a_name_leads_back_by_its_addresses() {
    #[track_caller]
    fn check(url: &str, addresses: &[&str], expected: bool) {
        let policy = AddressPolicy { listen: Some("127.0.0.1:8420".parse().expect("an address")), ..policy() };
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().expect(address)).collect();
        let url = Url::parse(url).expect(url);
        assert_eq!(name_leads_back(&url, &addresses, &policy), expected, "{url} at {addresses:?}");
    }
    check("http://hooks.example:8420/in/x", &["127.0.0.1"], true);
    check("http://hooks.example:8420/in/x", &["127.0.0.2", "::ffff:127.0.0.1"], true);
    check("http://hooks.example:8420/in/x", &["127.0.0.2", "::1"], false);
    check("http://hooks.example:8421/in/x", &["127.0.0.1"], false);
    check("http://hooks.example:8420/bins/b", &["127.0.0.1"], false);
}

#[test]
fn an_operator_may_want_tls_and_other_ports() {
    let strict = AddressPolicy { https_only: true, ports_allow: vec![9200], ..AddressPolicy::default() };
    assert!(check_url("https://hooks.example.com:9200/", &strict).is_ok());
    let result = check_url("http://hooks.example.com/", &strict).expect_err("no TLS").to_string();
    assert_eq!(result, "the URL is not https, and this host sends by TLS only (https_only)");
    assert!(check_url("https://hooks.example.com:6379/", &strict).is_err());
}

#[test]
fn a_name_does_not_tell_what_it_resolves_to() {
    let refused = check_address("10.1.2.3".parse().expect("an address"), &policy()).expect_err("private");
    assert!(refused.to_string().contains("10.1.2.3"));
    assert!(!refused.of_a_name().to_string().contains("10.1.2.3"));
}

/// Returns true for a global address, by its octets: an independent reading of the registries, without the tables.
fn is_global(address: Ipv4Addr) -> bool {
    let [a, b, c, d] = address.octets();
    !match a {
        0 | 10 | 127 => true,
        100 => b & 0xc0 == 64,
        168 => (b, c, d) == (63, 129, 16),
        169 => b == 254,
        172 => b & 0xf0 == 16,
        192 => (b, c) == (0, 0) || (b, c) == (0, 2) || (b, c) == (88, 99) || b == 168,
        198 => b & 0xfe == 18 || (b, c) == (51, 100),
        203 => (b, c) == (0, 113),
        _ => a >= 224,
    }
}

proptest! {
    #[test]
    fn an_address_is_judged_as_the_registries_say(bits in any::<u32>(), near in 0usize..16, offset in -2i64..3) {
        let range = ranges::V4_REFUSED[near].0.parse::<ipnet::Ipv4Net>().expect("a range");
        let edges = [range.network(), range.broadcast()].map(|edge| i64::from(edge.to_bits()) + offset);
        let edges = edges.into_iter().filter_map(|edge| u32::try_from(edge).ok());
        for bits in edges.chain([bits]) {
            let address = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(check_address(address.into(), &policy()).is_ok(), is_global(address), "{}", address);
        }
    }

    #[test]
    fn narrowing_never_widens(
        address in any::<u32>(), allow in any::<(u32, u8)>(), deny in any::<(u32, u8)>(), only in proptest::option::of(any::<(u32, u8)>()),
    ) {
        let net = |(bits, length): (u32, u8)| IpNet::from(ipnet::Ipv4Net::new(Ipv4Addr::from_bits(bits), 1 + length % 32).expect("a length"));
        let host = AddressPolicy { allow: vec![net(allow)], ..AddressPolicy::default() };
        let by = Egress { deny: vec![net(deny)], only: only.into_iter().map(net).collect() };
        let address = Ipv4Addr::from_bits(address).into();
        prop_assert!(check_address(address, &host).is_ok() || check_address(address, &host.narrowed(&by)).is_err());
    }

    #[test]
    fn an_address_inside_a_v4_carrier_is_never_allowed(bits in any::<u32>()) {
        let v4 = Ipv4Addr::from_bits(bits);
        let nat64 = Ipv6Addr::from_bits((0x64_ff9b_u128 << 96) | u128::from(bits));
        for carrier in [v4.to_ipv6_mapped(), v4.to_ipv6_compatible(), nat64] {
            prop_assert!(check_address(carrier.into(), &policy()).is_err());
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,80}") {
        let _ = check_url(&text, &policy());
        let _ = check_url(&format!("http://{text}/"), &policy());
    }
}

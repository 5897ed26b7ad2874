//! The address guard's rules: which URLs may be named, and which addresses may be dialled.
//!
//! # Motivation
//! Tenants choose Notify URLs and plugins may change them, so without a guard a tenant could make this host call the
//! cloud's metadata service, a database next door, or the host itself (server-side request forgery).
//!
//! # Theory of operation
//! One parser, the `url` crate's (the WHATWG rules), decides and is what the client dials: `0x7f.1` or `①②⑦.0.0.1` are
//! addresses by then. A URL is checked when it is written and again before each attempt; a literal address is checked
//! there, because a client does not resolve it; a name's addresses are checked in the client's resolver, all of them,
//! and one refused address refuses the name. An address that carries an IPv4 address inside (mapped, compatible,
//! SIIT, ISATAP) is refused as a whole form, NAT64, 6to4 and Teredo likewise.
//!
//! Sources: the IANA special-purpose registries (RFC 6890 and its updates) for IPv4 and IPv6, and the metadata
//! addresses that large clouds put into public ranges. Pure: resolves nothing and dials nothing.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::{Host, Url};
use utoipa::ToSchema;

/// What the operator allows and denies beyond the built-in rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressPolicy {
    /// Ranges that may be dialled although a built-in rule refuses them.
    pub allow: Vec<IpNet>,
    /// Ranges that may not be dialled, whatever else says so.
    pub deny: Vec<IpNet>,
    /// If it holds any: nothing else may be dialled.
    pub only: Vec<IpNet>,
    /// Whether 127.0.0.0/8 and ::1, and the name `localhost`, may be dialled.
    pub allow_loopback: bool,
}

/// How a tenant's requests are narrowed beyond what the host allows: it can only be less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// Ranges that may not be dialled, such as `203.0.113.0/24`.
    #[schema(value_type = Vec<String>)]
    pub deny: Vec<IpNet>,
    /// If it holds any: nothing else may be dialled.
    #[schema(value_type = Vec<String>)]
    pub only: Vec<IpNet>,
}

impl AddressPolicy {
    /// This policy, narrowed for a tenant.
    pub fn narrowed(&self, by: &Egress) -> AddressPolicy {
        let mut policy = self.clone();
        policy.deny.extend(&by.deny);
        policy.only.extend(&by.only);
        policy
    }
}

/// Why a URL or an address is refused, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a URL at all.
    #[error("the URL cannot be read: {0}")]
    Unreadable(url::ParseError),
    /// Longer than any receiver needs.
    #[error("the URL has more than {URL_BYTES_MAX} bytes")]
    Length,
    /// A URL that HTTP cannot carry.
    #[error("the URL holds a character that HTTP cannot carry")]
    NotHttp,
    /// Neither http nor https.
    #[error("the scheme {0:?} is not http or https")]
    Scheme(String),
    /// `user:password@` in the URL.
    #[error("the URL holds credentials; put them into a header of the subscription")]
    Credentials,
    /// No host.
    #[error("the URL names no host")]
    NoHost,
    /// A name longer than DNS allows.
    #[error("the host name has more than 253 characters")]
    NameLength,
    /// A port of a service that expects no webhooks.
    #[error("port {0} belongs to an internal service and gets no webhooks")]
    Port(u16),
    /// A name that always means this machine.
    #[error("the name {0:?} means this machine; a host started with --allow-loopback would allow it")]
    LocalName(String),
    /// A name with an address in a refused range.
    #[error("the name resolves to an address that is refused: {rule}; {remedy}")]
    Resolved {
        /// The range's name.
        rule: &'static str,
        /// How an operator may allow it.
        remedy: &'static str,
    },
    /// An address in a refused range.
    #[error("the address {address} is refused: {rule}; {remedy}")]
    Address {
        /// The address.
        address: IpAddr,
        /// The range's name.
        rule: &'static str,
        /// How an operator may allow it.
        remedy: &'static str,
    },
}

impl AddressError {
    /// The same of an address that a name resolved to. It is left out: whoever may write a Notify URL must not learn
    /// from our refusals what internal names resolve to.
    pub fn of_a_name(self) -> Self {
        match self {
            AddressError::Address { rule, remedy, .. } => AddressError::Resolved { rule, remedy },
            other => other,
        }
    }
}

const REMEDY_LOOPBACK: &str = "a host started with --allow-loopback would allow it";
const REMEDY_ALLOW: &str = "the operator may allow its range in `egress_allow`";
const REMEDY_DENY: &str = "the operator denies its range, in `egress_deny` or for the tenant";
const REMEDY_TENANT: &str = "an admin names the tenant's ranges in its `egress.only`";

/// The longest URL: RFC 9110 §4.1 asks for 8,000 octets at least.
const URL_BYTES_MAX: usize = 8_000;

/// Ports of well-known internal services. A webhook receiver is never behind one of them; a database, a mail server or
/// a cluster's control plane may be.
const PORTS_REFUSED: [u16; 58] = [
    0, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 53, 69, 79, 110, 111, 119, 123, 135, 137, 138, 139, 143, 161, 179,
    389, 445, 465, 512, 513, 514, 515, 587, 636, 873, 993, 995, 1433, 1521, 2049, 2375, 2376, 2379, 2380, 3306, 3389,
    5432, 5672, 5900, 6379, 6443, 9042, 9200, 10250, 11211, 27017,
];

const V4_REFUSED: [(&str, &str); 16] = [
    ("0.0.0.0/8", "\"this network\""),
    ("10.0.0.0/8", "private range"),
    ("100.64.0.0/10", "carrier-grade NAT, also cloud metadata"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "Azure's host service"),
    ("169.254.0.0/16", "link-local, also cloud metadata"),
    ("172.16.0.0/12", "private range"),
    ("192.0.0.0/24", "IETF protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.168.0.0/16", "private range"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved and broadcast"),
];

const V6_REFUSED: [(&str, &str); 16] = [
    ("::1/128", "loopback"),
    ("::/96", "unspecified and IPv4-compatible"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("::ffff:0:0:0/96", "IPv4-translated (SIIT)"),
    ("64:ff9b::/96", "NAT64"),
    ("64:ff9b:1::/48", "local NAT64"),
    ("100::/64", "discard-only"),
    ("2001::/32", "Teredo"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing"),
    ("fc00::/7", "unique local"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
];

/// Reads and checks a URL: scheme, credentials, port, and a literal address. Names are left to [`check_address`], once
/// they are resolved.
pub fn check_url(text: &str, policy: &AddressPolicy) -> Result<Url, AddressError> {
    if text.len() > URL_BYTES_MAX {
        return Err(AddressError::Length);
    }
    let url = Url::parse(text).map_err(AddressError::Unreadable)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(AddressError::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(AddressError::Credentials);
    }
    let port = url.port_or_known_default().expect("http and https have a default port");
    if PORTS_REFUSED.contains(&port) {
        return Err(AddressError::Port(port));
    }
    match url.host().ok_or(AddressError::NoHost)? {
        Host::Ipv4(address) => check_address(address.into(), policy)?,
        Host::Ipv6(address) => check_address(address.into(), policy)?,
        Host::Domain(name) => check_name(name, policy)?,
    }
    // The client hands the URL on in HTTP's own, stricter form.
    url.as_str().parse::<http::Uri>().map_err(|_| AddressError::NotHttp)?;
    Ok(url)
}

fn check_name(name: &str, policy: &AddressPolicy) -> Result<(), AddressError> {
    let bare = name.trim_end_matches('.');
    match bare {
        "" => Err(AddressError::NoHost),
        _ if bare.len() > 253 => Err(AddressError::NameLength),
        _ if !policy.allow_loopback && (bare == "localhost" || bare.ends_with(".localhost")) => {
            Err(AddressError::LocalName(name.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Checks the address that is about to be dialled.
pub fn check_address(address: IpAddr, policy: &AddressPolicy) -> Result<(), AddressError> {
    let refused = |rule, remedy| Err(AddressError::Address { address, rule, remedy });
    // An operator's range speaks of the address that is reached: 10.0.0.0/8 also means ::ffff:10.1.2.3.
    let reached = address.to_canonical();
    if policy.deny.iter().any(|range| range.contains(&reached)) {
        return refused("denied by this host", REMEDY_DENY);
    }
    if !policy.only.is_empty() && !policy.only.iter().any(|range| range.contains(&reached)) {
        return refused("outside of the tenant's ranges", REMEDY_TENANT);
    }
    if policy.allow.iter().any(|range| range.contains(&reached)) {
        // Behind NAT64 is the IPv4 address inside: to allow the one is not to allow every other.
        return nat64(reached).map_or(Ok(()), |inside| check_address(inside.into(), policy));
    }
    match built_in_rule(address) {
        None => Ok(()),
        Some("loopback") if policy.allow_loopback => Ok(()),
        Some("loopback") => refused("loopback", REMEDY_LOOPBACK),
        Some(rule) => refused(rule, REMEDY_ALLOW),
    }
}

/// The name of the range that refuses an address.
fn built_in_rule(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => v4_rule(address),
        IpAddr::V6(address) if is_isatap(address) => Some("ISATAP"),
        IpAddr::V6(address) => v6_rule(address),
    }
}

fn v4_rule(address: Ipv4Addr) -> Option<&'static str> {
    let holds = |range: &str| range.parse::<Ipv4Net>().is_ok_and(|range| range.contains(&address));
    V4_REFUSED.iter().find(|(range, _)| holds(range)).map(|(_, rule)| *rule)
}

fn v6_rule(address: Ipv6Addr) -> Option<&'static str> {
    let holds = |range: &str| range.parse::<Ipv6Net>().is_ok_and(|range| range.contains(&address));
    V6_REFUSED.iter().find(|(range, _)| holds(range)).map(|(_, rule)| *rule)
}

/// RFC 6052: the IPv4 address that the well-known NAT64 prefix leads to.
fn nat64(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() else { return None };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

/// RFC 5214: an interface identifier `[00|02]00:5efe` followed by an IPv4 address, under any prefix.
fn is_isatap(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    segments[5] == 0x5efe && matches!(segments[4], 0 | 0x0200)
}

#[cfg(test)]
mod cases;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> AddressPolicy {
        AddressPolicy::default()
    }

    #[test]
    fn every_range_of_the_tables_is_a_range() {
        for (range, _) in V4_REFUSED {
            range.parse::<Ipv4Net>().expect(range);
        }
        for (range, _) in V6_REFUSED {
            range.parse::<Ipv6Net>().expect(range);
        }
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
        let loopback = |address: &str| {
            format!("the address {address} is refused: loopback; a host started with --allow-loopback would allow it")
        };
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
        check("http://db.example.com:6379/", Err("port 6379 belongs to an internal service and gets no webhooks"));
        check(&format!("http://h/{}", "a".repeat(8_000)), Err("the URL has more than 8000 bytes"));
        check("http://a\"b{}`c/", Err("the URL holds a character that HTTP cannot carry"));
        check("hooks.example.com", Err("the URL cannot be read: relative URL without a base"));
        check("http://[127.0.0.1]/", Err("the URL cannot be read: invalid IPv6 address"));
        check("http://[::1%lo]/", Err("the URL cannot be read: invalid IPv6 address"));
        check(&format!("http://{}/", "a.".repeat(130)), Err("the host name has more than 253 characters"));
    }

    #[test]
    fn an_operator_may_allow_and_deny_ranges() {
        let range = |text: &str| text.parse::<IpNet>().expect(text);
        let policy = AddressPolicy {
            allow: vec![range("10.1.0.0/16")],
            deny: vec![range("10.1.2.0/24"), range("8.8.8.8/32")],
            allow_loopback: true,
            only: Vec::new(),
        };
        let allowed = |address: &str| check_address(address.parse().expect(address), &policy).is_ok();
        assert!(allowed("10.1.1.1") && allowed("::ffff:10.1.1.1") && allowed("127.0.0.1") && allowed("::1"));
        assert!(!allowed("10.1.2.3") && !allowed("10.2.0.1") && !allowed("8.8.8.8") && !allowed("::ffff:127.0.0.1"));
        assert!(check_url("http://localhost:8080/", &policy).is_ok());
    }

    #[test]
    fn a_tenant_can_only_be_narrowed() {
        let range = |text: &str| text.parse::<IpNet>().expect(text);
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

    proptest! {
        #[test]
        fn an_address_inside_a_v4_carrier_is_never_allowed(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from_bits(bits);
            for carrier in [v4.to_ipv6_mapped(), v4.to_ipv6_compatible()] {
                prop_assert!(check_address(carrier.into(), &policy()).is_err());
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            let _ = check_url(&text, &policy());
            let _ = check_url(&format!("http://{text}/"), &policy());
        }
    }
}

//! Address ranges and ports that the address guard refuses, each with its name. Pure data, and its look-up.

use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

/// Ports of well-known internal services, such as databases, mail servers and control planes of clusters, which are never webhook
/// receivers.
pub(super) const PORTS_REFUSED: [u16; 58] = [
    0, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 53, 69, 79, 110, 111, 119, 123, 135, 137, 138, 139, 143, 161, 179,
    389, 445, 465, 512, 513, 514, 515, 587, 636, 873, 993, 995, 1433, 1521, 2049, 2375, 2376, 2379, 2380, 3306, 3389,
    5432, 5672, 5900, 6379, 6443, 9042, 9200, 10250, 11211, 27017,
];

pub(super) const V4_REFUSED: [(&str, &str); 16] = [
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

/// The name of the range that refuses an address.
pub(super) fn built_in_rule(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => v4_rule(address),
        IpAddr::V6(address) if is_isatap(address) => Some("ISATAP"),
        IpAddr::V6(address) => v6_rule(address),
    }
}

static V4: LazyLock<Vec<(Ipv4Net, &str)>> = LazyLock::new(|| {
    V4_REFUSED.iter().map(|(range, rule)| (range.parse().expect("the table holds ranges"), *rule)).collect()
});

static V6: LazyLock<Vec<(Ipv6Net, &str)>> = LazyLock::new(|| {
    V6_REFUSED.iter().map(|(range, rule)| (range.parse().expect("the table holds ranges"), *rule)).collect()
});

fn v4_rule(address: Ipv4Addr) -> Option<&'static str> {
    V4.iter().find(|(range, _)| range.contains(&address)).map(|(_, rule)| *rule)
}

fn v6_rule(address: Ipv6Addr) -> Option<&'static str> {
    V6.iter().find(|(range, _)| range.contains(&address)).map(|(_, rule)| *rule)
}

/// RFC 6052: the IPv4 address that the well-known NAT64 prefix leads to.
pub(super) fn nat64(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() else { return None };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

/// RFC 5214: an interface identifier `[00|02]00:5efe` followed by an IPv4 address, under any prefix.
fn is_isatap(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    segments[5] == 0x5efe && matches!(segments[4], 0 | 0x0200)
}

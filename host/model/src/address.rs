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

mod names;
mod ranges;

pub use names::{NameFault, check_host, is_host};

use ipnet::IpNet;
use ranges::{PORTS_REFUSED, built_in_rule, nat64};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use url::{Host, Url};

/// Rules of the operator that add to the built-in ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressPolicy {
    /// Ranges that may be dialled although a built-in rule refuses them.
    pub allow: Vec<IpNet>,
    /// Ranges that may not be dialled, whatever else says so.
    pub deny: Vec<IpNet>,
    /// If it holds any: nothing else may be dialled.
    pub only: Vec<IpNet>,
    /// Allows 127.0.0.0/8, ::1 and the name `localhost`.
    pub allow_loopback: bool,
    /// Ports that may be called although they belong to internal services.
    pub ports_allow: Vec<u16>,
    /// Refuses URLs that are not https.
    pub https_only: bool,
    /// Address at which this host listens: it does not call itself, except for its bins.
    pub own: Option<SocketAddr>,
}

/// Network ranges of a tenant: they can only narrow the ranges that the host allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// Ranges that may not be dialled, such as `203.0.113.0/24`.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub deny: Vec<IpNet>,
    /// If it holds any: nothing else may be dialled.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub only: Vec<IpNet>,
}

impl AddressPolicy {
    /// For addresses that the operator names, not a tenant: every range, and this machine.
    pub fn everywhere() -> Self {
        let ranges = ["0.0.0.0/0", "::/0"].map(|range| range.parse().expect("a range"));
        AddressPolicy { allow: ranges.to_vec(), allow_loopback: true, ..AddressPolicy::default() }
    }

    /// This policy, narrowed for a tenant.
    pub fn narrowed(&self, by: &Egress) -> AddressPolicy {
        let mut policy = self.clone();
        policy.deny.extend(&by.deny);
        policy.only.extend(&by.only);
        policy
    }
}

/// Reason why a URL or an address is refused, with a remedy.
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
    /// Not https, where the operator wants nothing else.
    #[error("the URL is not https, and this host sends by TLS only (https_only)")]
    NotTls,
    /// This host's own address.
    #[error("the URL leads back to this host; only its bins (/bins/…) may be called")]
    Own,
    /// `user:password@` in the URL.
    #[error("the URL holds credentials; put them into a header of the subscription")]
    Credentials,
    /// No host.
    #[error("the URL names no host")]
    NoHost,
    /// A name longer than DNS allows.
    #[error("the host name has more than 253 characters")]
    NameLength,
    /// A name that cannot be looked up.
    #[error("the host name {name:?} {fault}")]
    Name {
        /// The name.
        name: String,
        /// The fault.
        fault: NameFault,
    },
    /// A port of a service that expects no webhooks.
    #[error(
        "port {0} belongs to an internal service and gets no webhooks; the operator may allow it in `egress_ports_allow`"
    )]
    Port(u16),
    /// A name that always means this machine.
    #[error("the name {0:?} means this machine; a host started with --allow-loopback would allow it")]
    LocalName(String),
    /// A name with an address in a refused range.
    #[error("the name resolves to an address that is refused: {rule}; {remedy}")]
    Resolved {
        /// The range's name.
        rule: &'static str,
        /// Setting by which an operator can allow it.
        remedy: &'static str,
    },
    /// An address in a refused range.
    #[error("the address {address} is refused: {rule}; {remedy}")]
    Address {
        /// The address.
        address: IpAddr,
        /// The range's name.
        rule: &'static str,
        /// Setting by which an operator can allow it.
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
const REMEDY_DENY: &str = "its range is in the operator's `egress_deny` or in the tenant's `egress.deny`";
const REMEDY_TENANT: &str = "an admin names the tenant's ranges in its `egress.only`";

/// The longest URL: RFC 9110 §4.1 asks for 8,000 octets at least.
const URL_BYTES_MAX: usize = 8_000;

/// Reads and checks a URL: scheme, credentials, port, and a literal address. Names are left to [`check_address`], once
/// they are resolved.
pub fn check_url(text: &str, policy: &AddressPolicy) -> Result<Url, AddressError> {
    if text.len() > URL_BYTES_MAX {
        return Err(AddressError::Length);
    }
    let url = Url::parse(text).map_err(AddressError::Unreadable)?;
    check_parsed_url(&url, policy)?;
    Ok(url)
}

/// The same of a URL that was read before.
pub fn check_parsed_url(url: &Url, policy: &AddressPolicy) -> Result<(), AddressError> {
    if url.as_str().len() > URL_BYTES_MAX {
        return Err(AddressError::Length);
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(AddressError::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(AddressError::Credentials);
    }
    let port = url.port_or_known_default().expect("http and https have a default port");
    if PORTS_REFUSED.contains(&port) && !policy.ports_allow.contains(&port) {
        return Err(AddressError::Port(port));
    }
    if leads_back(url, policy) && !is_bin_path(url) {
        return Err(AddressError::Own);
    }
    if is_own_bin(url, policy) {
        return Ok(());
    }
    if policy.https_only && url.scheme() != "https" {
        return Err(AddressError::NotTls);
    }
    match url.host().ok_or(AddressError::NoHost)? {
        Host::Ipv4(address) => check_address(address.into(), policy)?,
        Host::Ipv6(address) => check_address(address.into(), policy)?,
        Host::Domain(name) => check_name(name, policy)?,
    }
    // The client hands the URL on in HTTP's own, stricter form.
    url.as_str().parse::<http::Uri>().map_err(|_| AddressError::NotHttp)?;
    Ok(())
}

/// Path of this host's bins: receivers that it may call.
const OWN_BINS: &str = "/bins/";

/// Returns whether a URL names one of this host's bins at the very address where it is known to listen. Such a URL may be
/// called whatever the policy says of loopback: there is no other service behind it.
///
/// Names are never among them, `localhost` included: their addresses are vetted like any other.
pub fn is_own_bin(url: &Url, policy: &AddressPolicy) -> bool {
    let address = literal_address(url).map(|address| address.to_canonical());
    let own = policy.own.filter(|own| url.port_or_known_default() == Some(own.port()));
    url.scheme() == "http"
        && is_bin_path(url)
        && own.is_some_and(|own| address.is_some_and(|address| own_addresses(own.ip()).contains(&address)))
}

/// The addresses at which nobody but a socket that listens on `listens` can accept a connection. On an unspecified address,
/// those are the loopback addresses that everybody uses; another service cannot listen there at the same port.
fn own_addresses(listens: IpAddr) -> Vec<IpAddr> {
    match listens.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => vec![Ipv4Addr::LOCALHOST.into()],
        // Linux accepts IPv4 on it too, unless told otherwise.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        listens => vec![listens],
    }
}

/// Returns whether a URL's path is below the bins. `..`, also in other spellings, is gone when a URL is parsed; a percent sign or an
/// empty segment after the prefix is no bin's, so no later decoder can make another path of it.
fn is_bin_path(url: &Url) -> bool {
    url.path().strip_prefix(OWN_BINS).is_some_and(|rest| {
        let id = rest.split('/').next().unwrap_or_default();
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

/// Returns whether a URL names this host: by a literal address that reaches it, or by a local name that may.
fn leads_back(url: &Url, policy: &AddressPolicy) -> bool {
    let Some(own) = policy.own.filter(|own| url.port_or_known_default() == Some(own.port())) else { return false };
    match url.host() {
        Some(Host::Domain(name)) => {
            is_local_name(name)
                && [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].iter().any(|address| reaches(own, *address))
        }
        _ => literal_address(url).is_some_and(|address| reaches(own, address)),
    }
}

/// Returns whether the addresses of a URL's name lead back to this host at a path that is no bin's.
pub fn name_leads_back(url: &Url, addresses: &[IpAddr], policy: &AddressPolicy) -> bool {
    let own = policy.own.filter(|own| url.port_or_known_default() == Some(own.port()));
    own.is_some_and(|own| !is_bin_path(url) && addresses.iter().any(|address| reaches(own, *address)))
}

fn literal_address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// Returns whether a connection to this address reaches a socket that listens on `own`. A socket on one address is reached by that
/// address alone: 127.0.0.2 and ::1 are other services when it listens on 127.0.0.1. A socket on an unspecified address is
/// reached by every loopback address of its family, and one on `::` by those of IPv4 too. Connecting to an unspecified
/// address means loopback.
fn reaches(own: SocketAddr, address: IpAddr) -> bool {
    let address = match address.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    match own.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.is_loopback() && address.is_ipv4(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.is_loopback(),
        listens => address == listens,
    }
}

fn is_local_name(name: &str) -> bool {
    let bare = name.trim_end_matches('.');
    bare == "localhost" || bare.ends_with(".localhost")
}

fn check_name(name: &str, policy: &AddressPolicy) -> Result<(), AddressError> {
    names::check(name)?;
    if !policy.allow_loopback && is_local_name(name) {
        return Err(AddressError::LocalName(name.to_owned()));
    }
    Ok(())
}

/// Checks the address that is about to be dialled.
pub fn check_address(address: IpAddr, policy: &AddressPolicy) -> Result<(), AddressError> {
    let refused = |rule, remedy| Err(AddressError::Address { address, rule, remedy });
    // An operator's range speaks of the address that is reached: 10.0.0.0/8 also means ::ffff:10.1.2.3.
    let reached = address.to_canonical();
    if policy.deny.iter().any(|range| range.contains(&reached)) {
        return refused("denied by the operator", REMEDY_DENY);
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

#[cfg(test)]
mod cases;

#[cfg(test)]
mod tests;

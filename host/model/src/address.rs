//! Address guard: rules for URLs and for dialled addresses.
//!
//! # Motivation
//! Tenants choose Notify URLs, and plugins may change them. Without a guard, a tenant could make this host call the cloud's
//! metadata service, an internal database, or the host itself (server-side request forgery).
//!
//! # Theory of operation
//! The parser of the `url` crate (the WHATWG rules) decides, and its result is dialled: `0x7f.1` and `①②⑦.0.0.1` are addresses
//! after it. A URL is checked when it is written and again before each attempt. A literal address is checked then, because a client
//! does not resolve it. The addresses of a name are checked in the client's resolver, all of them, and one refused address refuses
//! the name. An address that contains an IPv4 address (mapped, compatible, SIIT, ISATAP) is refused as a whole form; NAT64, 6to4
//! and Teredo likewise.
//!
//! Sources: the IANA special-purpose registries (RFC 6890 and its updates) for IPv4 and IPv6, and the metadata addresses that large
//! clouds put into public ranges. Pure: resolves nothing and dials nothing.

mod names;
mod ranges;

pub use names::{NameFault, check_host, is_host};

use crate::target::Target;
use ipnet::IpNet;
use ranges::{PORTS_REFUSED, built_in_rule, nat64};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use url::{Host, Url};

/// Rules of the operator that add to the built-in ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressPolicy {
    /// Ranges that may be dialled even if a built-in rule refuses them.
    pub allow: Vec<IpNet>,
    /// Ranges that may not be dialled. Overrides all other rules.
    pub deny: Vec<IpNet>,
    /// If not empty, the only ranges that may be dialled.
    pub only: Vec<IpNet>,
    /// Allows 127.0.0.0/8, ::1 and the name `localhost`.
    pub allow_loopback: bool,
    /// Ports that may be called even if they belong to internal services.
    pub ports_allow: Vec<u16>,
    /// Refuses URLs that are not https.
    pub https_only: bool,
    /// Address at which this host listens. The host does not call itself, except for its bins.
    pub listen: Option<SocketAddr>,
}

/// Address ranges of a tenant, within those of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// Ranges that may not be dialled, such as `203.0.113.0/24`.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub deny: Vec<IpNet>,
    /// If not empty, the only ranges that may be dialled.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub only: Vec<IpNet>,
}

impl AddressPolicy {
    /// Returns the policy for addresses that the operator chooses: every range, and this machine.
    pub fn everywhere() -> Self {
        let ranges = ["0.0.0.0/0", "::/0"].map(|range| range.parse().expect("a range"));
        AddressPolicy { allow: ranges.to_vec(), allow_loopback: true, ..AddressPolicy::default() }
    }

    /// Returns this policy, narrowed for a tenant.
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
    /// The text is not a URL.
    #[error("the URL cannot be read: {0}")]
    Unreadable(url::ParseError),
    /// The URL is too long.
    #[error("the URL has more than {URL_BYTES_MAX} bytes")]
    Length,
    /// HTTP cannot carry the URL.
    #[error("the URL holds a character that HTTP cannot carry")]
    NotHttp,
    /// The scheme is neither http nor https.
    #[error("the scheme {0:?} is not http or https")]
    Scheme(String),
    /// The URL is not https, and the operator requires it.
    #[error("the URL is not https, and this host sends by TLS only (https_only)")]
    NotTls,
    /// The URL leads to this host.
    #[error("the URL leads back to this host; only its bins (/bins/…) may be called")]
    ThisHost,
    /// The URL has credentials, `user:password@`.
    #[error("the URL holds credentials; put them into a header of the subscription")]
    Credentials,
    /// The URL has no host.
    #[error("the URL names no host")]
    NoHost,
    /// The name is longer than DNS allows.
    #[error("the host name has more than 253 characters")]
    NameLength,
    /// The name cannot be resolved.
    #[error("the host name {name:?} {fault}")]
    Name {
        /// Name in the URL.
        name: String,
        /// Fault of the name.
        fault: NameFault,
    },
    /// The port belongs to a service that does not receive webhooks.
    #[error(
        "port {0} belongs to an internal service and gets no webhooks; the operator may allow it in `egress_ports_allow`"
    )]
    Port(u16),
    /// The name always means this machine.
    #[error("the name {0:?} means this machine; a host started with --allow-loopback would allow it")]
    LocalName(String),
    /// The name has an address in a refused range.
    #[error("the name resolves to an address that is refused: {rule}; {remedy}")]
    Resolved {
        /// Name of the range.
        rule: &'static str,
        /// Setting by which an operator can allow it.
        remedy: &'static str,
    },
    /// The address is in a refused range.
    #[error("the address {address} is refused: {rule}; {remedy}")]
    Address {
        /// Refused address.
        address: IpAddr,
        /// Name of the range.
        rule: &'static str,
        /// Setting by which an operator can allow it.
        remedy: &'static str,
    },
}

impl AddressError {
    /// Returns the error for an address that a name resolved to. It does not show the address, because authors of Notify URLs must
    /// not learn what internal names resolve to.
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

/// Maximum length of a URL, in bytes. RFC 9110 §4.1 asks for at least 8,000 octets.
const URL_BYTES_MAX: usize = 8_000;

/// Parses and checks a URL: scheme, credentials, port, and a literal address. The addresses of a name are checked by
/// [`check_address`] after it was resolved.
pub fn check_url(text: &str, policy: &AddressPolicy) -> Result<Url, AddressError> {
    if text.len() > URL_BYTES_MAX {
        return Err(AddressError::Length);
    }
    let target = Target::from(Url::parse(text).map_err(AddressError::Unreadable)?);
    check_target(&target, policy)?;
    Ok(target.url().clone())
}

/// Checks the target of a request.
pub fn check_target(target: &Target, policy: &AddressPolicy) -> Result<(), AddressError> {
    let url = target.url();
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
        return Err(AddressError::ThisHost);
    }
    if is_bin_of_host(url, policy) {
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
    // The client sends the stricter form of HTTP.
    target.uri().map(drop).ok_or(AddressError::NotHttp)
}

/// Path of this host's bins, which it may call.
const BINS_PATH: &str = "/bins/";

/// Returns true if a URL names a bin of this host at the address where it listens. Such a URL may be called even if the policy
/// refuses loopback, because there is no other service at that address.
///
/// URLs with names, including `localhost`, never qualify, because their addresses are vetted.
pub fn is_bin_of_host(url: &Url, policy: &AddressPolicy) -> bool {
    let address = literal_address(url).map(|address| address.to_canonical());
    let listen = policy.listen.filter(|listen| url.port_or_known_default() == Some(listen.port()));
    url.scheme() == "http"
        && is_bin_path(url)
        && listen.is_some_and(|listen| address.is_some_and(|address| listen_addresses(listen.ip()).contains(&address)))
}

/// Returns the addresses at which only the socket that listens on `listens` can accept a connection. For an unspecified address,
/// these are the usual loopback addresses, on which no other service can use the same port.
fn listen_addresses(listens: IpAddr) -> Vec<IpAddr> {
    match listens.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => vec![Ipv4Addr::LOCALHOST.into()],
        // Linux accepts IPv4 on it as well, by default.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        listens => vec![listens],
    }
}

/// Returns true if a URL's path is below the bins. The parser has resolved `..` in any spelling. A percent sign or an empty segment
/// after the prefix is refused, so that no later decoder can make another path of it.
fn is_bin_path(url: &Url) -> bool {
    url.path().strip_prefix(BINS_PATH).is_some_and(|rest| {
        let id = rest.split('/').next().unwrap_or_default();
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

/// Returns true if a URL names this host, by a literal address that reaches it, or by a local name that may.
fn leads_back(url: &Url, policy: &AddressPolicy) -> bool {
    let Some(listen) = policy.listen.filter(|listen| url.port_or_known_default() == Some(listen.port())) else {
        return false;
    };
    match url.host() {
        Some(Host::Domain(name)) => {
            is_local_name(name)
                && [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
                    .iter()
                    .any(|address| reaches(listen, *address))
        }
        _ => literal_address(url).is_some_and(|address| reaches(listen, address)),
    }
}

/// Returns true if the addresses of a URL's name lead back to this host, at a path that is not a bin's.
pub fn name_leads_back(url: &Url, addresses: &[IpAddr], policy: &AddressPolicy) -> bool {
    let listen = policy.listen.filter(|listen| url.port_or_known_default() == Some(listen.port()));
    listen.is_some_and(|listen| !is_bin_path(url) && addresses.iter().any(|address| reaches(listen, *address)))
}

fn literal_address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// Returns true if a connection to this address reaches a socket that listens on `own`. A socket on one address is reached only by
/// that address: if it listens on 127.0.0.1, 127.0.0.2 and ::1 are other services. A socket on an unspecified address is reached by
/// every loopback address of its family, and a socket on `::` also by those of IPv4. A connection to an unspecified address goes to
/// loopback.
fn reaches(listen: SocketAddr, address: IpAddr) -> bool {
    let address = match address.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    match listen.ip().to_canonical() {
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

/// Checks an address before it is dialled.
pub fn check_address(address: IpAddr, policy: &AddressPolicy) -> Result<(), AddressError> {
    let refused = |rule, remedy| Err(AddressError::Address { address, rule, remedy });
    // A range of the operator applies to the reached address: 10.0.0.0/8 includes ::ffff:10.1.2.3.
    let reached = address.to_canonical();
    if policy.deny.iter().any(|range| range.contains(&reached)) {
        return refused("denied by the operator", REMEDY_DENY);
    }
    if !policy.only.is_empty() && !policy.only.iter().any(|range| range.contains(&reached)) {
        return refused("outside of the tenant's ranges", REMEDY_TENANT);
    }
    if policy.allow.iter().any(|range| range.contains(&reached)) {
        // NAT64 reaches the IPv4 address inside. To allow one of them does not allow the others.
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
